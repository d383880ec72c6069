//! What the cluster tells: its services. Kept in RUN, so that the rules of an
//! agent that restarts are right before the cluster has spoken again.

use super::conntrack::{self, Flows};
use super::core::{Core, warn};
use super::nft::Protocol;
use super::services::Services;
use crate::disk::{self, Durability};
use crate::error::Result;
use serde::Serialize;
use skep_control::model::Network as NetworkRecord;
use skep_control::routes::Routes;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Core {
    /// Services' names, ports and backends, all of them.
    pub(super) fn set_routes(&mut self, routes: &Routes) -> Result<()> {
        self.is_told = true;
        self.set_services(Services::of(routes))
    }

    /// Nobody told of services: there are none.
    pub(super) fn give_services_up(&mut self) -> Result<()> {
        if self.is_told {
            return Ok(());
        }
        self.set_services(Services::default())
    }

    fn set_services(&mut self, services: Services) -> Result<()> {
        if services == self.services {
            // A port that was another's may be free by now.
            self.take_service_ports();
            return self.apply_firewall();
        }
        let before = std::mem::replace(&mut self.services, services).backends();
        let backends = self.services.backends();
        self.ended.retain(|address| backends.contains(address));
        self.take_service_ports();
        self.refresh_names();
        self.apply_firewall()?;
        // UDP clients keep their port, and would be led to who is gone; TCP
        // ends with its connection, and may go on until then.
        let gone: BTreeSet<IpAddr> = before.difference(&backends).copied().collect();
        self.remember("services", &self.services);
        let flows = Flows::Of(&gone, Some(Protocol::Udp));
        warn("flows", conntrack::forget(flows));
        Ok(())
    }

    /// Holds the services' ports; what cannot be held is told, and not led
    /// anywhere.
    pub(super) fn take_service_ports(&mut self) {
        let wanted = &self.services.ports;
        let is_wanted = |owner: &str, protocol: Protocol, number: u16| {
            wanted.iter().any(|port| {
                let published = &port.published;
                port.owner == owner && published.protocol == protocol && published.port == number
            })
        };
        let owners: BTreeSet<&str> = wanted.iter().map(|port| port.owner.as_str()).collect();
        let containers = &self.containers;
        self.ports
            .release_owners(|owner| owners.contains(owner) || containers.contains_key(owner));
        for owner in &owners {
            self.ports
                .release(owner, |protocol, number| is_wanted(owner, protocol, number));
        }
        self.troubles
            .retain(|trouble| !trouble.contains(" of service "));
        for port in wanted {
            let published = &port.published;
            let (protocol, number) = (published.protocol, published.port);
            if self
                .ports
                .holds(&port.owner, protocol, published.host, number)
            {
                continue;
            }
            let range = Some(number..=number);
            let taken = self
                .ports
                .take(&port.owner, protocol, &[published.host], range);
            if let Err(refusal) = taken {
                let trouble = format!(
                    "WARNING: port {number} of {} is not published on this node: {refusal}",
                    port.owner
                );
                log::warn!("network: {trouble}");
                self.troubles.insert(trouble);
            }
        }
    }

    /// Writes down for the next agent; the run folder is memory.
    pub(super) fn remember<T: Serialize>(&self, name: &str, what: &T) {
        let path = self.told.join(name);
        let written = disk::write_record(&path, what, Durability::Cached);
        warn("what the next agent is to know", written);
    }

    /// What the agent before this one was told; a damaged record is none.
    pub(super) fn recall(&mut self) {
        let networks: Result<Option<Vec<NetworkRecord>>> =
            disk::read_record(&self.told.join("networks"));
        if let Ok(Some(networks)) = networks {
            self.catalog.set_cluster(networks);
        }
        if let Ok(Some(services)) = disk::read_record(&self.told.join("services")) {
            self.services = services;
        }
    }
}
