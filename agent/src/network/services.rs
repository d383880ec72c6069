//! What the cluster's routes mean on this node: ports that lead to backends,
//! and names. Pure.
//!
//! Invariant: it can be written down and read again, so that an agent that
//! restarts keeps what its predecessor was told until it is told anew.

use super::nft::Protocol;
use super::publish::{ANY_V4, ANY_V6};
use super::rules::Published;
use serde::{Deserialize, Serialize};
use skep_control::model::PortConfig;
use skep_control::routes::{Routes, ServiceRoute};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A port of a service on each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServicePort {
    /// Who holds the port: told from containers by its two words.
    pub(super) owner: String,
    pub(super) published: Published,
}

/// A service's name on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServiceName {
    pub(super) network: String,
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Services {
    pub(super) ports: Vec<ServicePort>,
    pub(super) names: Vec<ServiceName>,
}

impl Services {
    pub(super) fn of(routes: &Routes) -> Self {
        let services = routes.services.iter();
        Self {
            ports: services.clone().flat_map(ports).collect(),
            names: services.flat_map(names).collect(),
        }
    }

    /// Addresses that anything is led to.
    pub(super) fn backends(&self) -> BTreeSet<IpAddr> {
        let ports = self.ports.iter().flat_map(|port| &port.published.targets);
        let names = self.names.iter().flat_map(|name| &name.addresses);
        ports
            .map(|(address, _)| *address)
            .chain(names.copied())
            .collect()
    }

    /// Leads to nobody else any more.
    pub(super) fn keep_backends(&mut self, alive: &BTreeSet<IpAddr>) {
        for port in &mut self.ports {
            port.published
                .targets
                .retain(|(address, _)| alive.contains(address));
        }
        for name in &mut self.names {
            name.addresses.retain(|address| alive.contains(address));
        }
    }
}

fn ports(service: &ServiceRoute) -> Vec<ServicePort> {
    let owner = format!("service {}", service.service);
    let published = service
        .ports
        .iter()
        .flat_map(|port| published(service, port));
    published
        .map(|published| ServicePort {
            owner: owner.clone(),
            published,
        })
        .collect()
}

/// One for each family. A backend has several addresses where it has several
/// networks; the first of a family is taken.
fn published(service: &ServiceRoute, port: &PortConfig) -> Vec<Published> {
    let protocol = match port.protocol.as_str() {
        "" => Some(Protocol::Tcp),
        name => Protocol::parse(name),
    };
    let numbers = (
        u16::try_from(port.published_port),
        u16::try_from(port.target_port),
    );
    let (Some(protocol), (Ok(number @ 1..), Ok(target)), false) =
        (protocol, numbers, port.publish_mode == "host")
    else {
        return Vec::new();
    };
    let to_family = |host: IpAddr| {
        let of_backend = |backend: &skep_control::routes::Backend| {
            let mut addresses = backend.addresses.iter().map(|a| a.ip);
            addresses.find(|ip| ip.is_ipv4() == host.is_ipv4())
        };
        let addresses = service.backends.iter().filter_map(of_backend);
        Published {
            host,
            port: number,
            protocol,
            targets: addresses.map(|ip| (ip, target)).collect(),
        }
    };
    [ANY_V4, ANY_V6]
        .map(to_family)
        .into_iter()
        .filter(|published| published.host.is_ipv4() || !published.targets.is_empty())
        .collect()
}

fn names(service: &ServiceRoute) -> Vec<ServiceName> {
    let mut all = Vec::new();
    for names in &service.names {
        let addresses: Vec<IpAddr> = service
            .backends
            .iter()
            .flat_map(|backend| &backend.addresses)
            .filter(|address| address.network == names.network)
            .map(|address| address.ip)
            .collect();
        all.extend(names.names.iter().map(|name| ServiceName {
            network: names.network.0.clone(),
            name: name.clone(),
            addresses: addresses.clone(),
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::Address;
    use skep_control::routes::{Backend, Names};

    fn route() -> ServiceRoute {
        let backend = |ip: &str| Backend {
            task: "t".into(),
            name: String::new(),
            slot: 1,
            node: "n".into(),
            container: "c".into(),
            addresses: vec![Address {
                network: "front".into(),
                ip: ip.parse().unwrap(),
                prefix_len: 24,
            }],
        };
        let port = |mode: &str| PortConfig {
            target_port: 80,
            published_port: 8000,
            publish_mode: mode.into(),
            ..PortConfig::default()
        };
        ServiceRoute {
            service: "s".into(),
            name: "web".into(),
            is_dnsrr: false,
            ports: vec![port(""), port("host")],
            names: vec![Names {
                network: "front".into(),
                names: vec!["web".into(), "w".into()],
            }],
            backends: vec![backend("10.0.0.2"), backend("10.0.0.3")],
        }
    }

    #[test]
    fn a_service_has_its_ingress_ports_and_names() {
        let mut services = Services::of(&Routes {
            services: vec![route()],
        });
        assert_eq!(services.ports.len(), 1, "host mode is the container's own");
        assert_eq!(services.ports[0].published.targets.len(), 2);
        assert_eq!(services.names.len(), 2);
        services.keep_backends(&BTreeSet::from(["10.0.0.3".parse().unwrap()]));
        assert_eq!(services.backends().len(), 1);
        assert_eq!(services.ports[0].published.targets.len(), 1);
    }
}
