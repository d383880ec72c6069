//! What is done inside a container's namespace, each by a thread of its own.

use super::core::set_sysctl;
use super::dns::Sockets;
use super::endpoint::{addresses, gateways};
use super::links::{Found, Links, Operation};
use super::netns::within;
use super::nft::{Firewall, Prefix};
use super::rules;
use crate::error::{Error, Result};
use skep_control::model::EndpointSettings;
use std::net::IpAddr;
use std::path::Path;

/// Interfaces of one container at most: more than anybody has networks.
const INTERFACES_MAX: usize = 256;

/// A new namespace: loopback is up, and interfaces to come have no IPv6 of
/// their own making.
pub(super) fn prepare(netns: &Path) -> Result<()> {
    within(netns, || {
        // A kernel without IPv6 has no such file.
        let _ = set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        Links::open()?.apply(&[Operation::Up { name: "lo".into() }])
    })
}

/// The name of the next interface.
pub(super) fn next_interface(netns: &Path) -> Result<String> {
    let found = within(netns, || Links::open()?.found())?;
    (0..INTERFACES_MAX)
        .map(|number| format!("eth{number}"))
        .find(|name| found.link(name).is_none())
        .ok_or_else(|| {
            Error::forbidden(format!("a container has at most {INTERFACES_MAX} networks"))
        })
}

/// Addresses and state of an interface that was just put there.
pub(super) fn configure(netns: &Path, name: &str, endpoint: &EndpointSettings) -> Result<()> {
    within(netns, || {
        let addresses = addresses(endpoint);
        if addresses.iter().any(|prefix| prefix.address.is_ipv6()) {
            set_sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        let mut operations: Vec<Operation> = addresses
            .into_iter()
            .map(|address| Operation::AddAddress {
                name: name.to_owned(),
                address,
            })
            .collect();
        operations.push(Operation::Up {
            name: name.to_owned(),
        });
        Links::open()?.apply(&operations)
    })
}

/// The default routes, by the first endpoint that has a gateway of each
/// family.
pub(super) fn lead_out(netns: &Path, in_order: &[&EndpointSettings]) -> Result<()> {
    let first_of = |v4: bool| {
        in_order.iter().find_map(|endpoint| {
            let mut gateways = gateways(endpoint).into_iter();
            let gateway = gateways.find(|gateway| gateway.is_ipv4() == v4)?;
            Some((*endpoint, gateway))
        })
    };
    let wanted: Vec<_> = [first_of(true), first_of(false)]
        .into_iter()
        .flatten()
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    within(netns, || {
        let mut links = Links::open()?;
        let found = links.found()?;
        let routes: Vec<Operation> = wanted
            .iter()
            .filter_map(|(endpoint, gateway)| {
                let name = interface_of(&found, endpoint, *gateway)?;
                Some(Operation::DefaultRoute {
                    name,
                    gateway: *gateway,
                })
            })
            .collect();
        links.apply(&routes)
    })
}

fn interface_of(found: &Found, endpoint: &EndpointSettings, gateway: IpAddr) -> Option<String> {
    let own: Prefix = addresses(endpoint)
        .into_iter()
        .find(|own| own.address.is_ipv4() == gateway.is_ipv4())?;
    let (index, _) = found.addresses.iter().find(|(_, has)| *has == own)?;
    let link = found.links.iter().find(|link| link.index == *index)?;
    Some(link.name.clone())
}

/// Sockets at 127.0.0.11, and the rules that lead port 53 to them.
pub(super) fn open_resolver(netns: &Path, container: &str) -> Result<Sockets> {
    within(netns, || {
        let sockets = Sockets::open(container)?;
        let (udp, tcp) = sockets.ports()?;
        Firewall::open()?.apply(&rules::container(udp, tcp))?;
        Ok(sockets)
    })
}
