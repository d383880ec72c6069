//! Running containers that join and leave networks.

use super::attach::{Attach, Sandbox};
use super::conntrack::{self, Flows};
use super::core::{Core, warn};
use super::endpoint;
use super::shape::{Carrier, shape};
use crate::error::{Error, Result};
use skep_control::model::EndpointSettings;

impl Core {
    pub(super) fn connect(
        &mut self,
        network: &str,
        container: &str,
        settings: &EndpointSettings,
    ) -> Result<Sandbox> {
        let record = self.catalog.find(network)?;
        let name = record.spec.name.clone();
        if shape(record).carrier != Carrier::Bridge {
            return Err(Error::invalid(format!(
                "container cannot be connected to network {name}: it has no addresses"
            )));
        }
        let (wish, mut sandbox) = self.joined(container)?;
        if sandbox.endpoints.contains_key(&name) {
            return Err(Error::forbidden(format!(
                "endpoint with name {} already exists in network {name}",
                wish.name
            )));
        }
        let endpoint = self.decide(&name, settings, &wish)?;
        sandbox.endpoints.insert(name.clone(), endpoint.clone());
        match self.change(container, sandbox) {
            Ok(sandbox) => Ok(sandbox),
            Err(e) => {
                if let Some(attached) = self.containers.get_mut(container) {
                    attached.sandbox.endpoints.remove(&name);
                }
                warn("links", self.reconcile_links());
                self.give_back(&endpoint);
                Err(e)
            }
        }
    }

    pub(super) fn disconnect(&mut self, network: &str, container: &str) -> Result<Sandbox> {
        let name = self.catalog.find(network)?.spec.name.clone();
        let (_, mut sandbox) = self.joined(container)?;
        let Some(endpoint) = sandbox.endpoints.remove(&name) else {
            return Err(Error::forbidden(format!(
                "container {container} is not connected to the network {name}"
            )));
        };
        let changed = self.change(container, sandbox);
        let gone = endpoint::addresses(&endpoint);
        let gone = gone.into_iter().map(|prefix| prefix.address).collect();
        warn("flows", conntrack::forget(Flows::Of(&gone, None)));
        self.give_back(&endpoint);
        changed
    }

    /// A container with a namespace of its own.
    fn joined(&self, container: &str) -> Result<(Attach, Sandbox)> {
        let attached = self
            .containers
            .get(container)
            .ok_or_else(|| Error::conflict(format!("container {container} is not running")))?;
        if attached.sandbox.netns.is_none() || attached.sandbox.id.is_empty() {
            return Err(Error::invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        if attached.sandbox.endpoints.contains_key("none") {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        Ok((attached.wish.clone(), attached.sandbox.clone()))
    }

    /// Gives a running container other endpoints.
    fn change(&mut self, container: &str, mut sandbox: Sandbox) -> Result<Sandbox> {
        let Some(attached) = self.containers.get_mut(container) else {
            return Ok(sandbox);
        };
        attached.sandbox = sandbox.clone();
        let wish = attached.wish.clone();
        self.reconcile_links()?;
        self.lead_out(container)?;
        self.refresh_resolver(container)?;
        self.write_texts(&wish, &mut sandbox);
        if let Some(attached) = self.containers.get_mut(container) {
            attached.sandbox = sandbox.clone();
        }
        self.refresh_names();
        self.apply_firewall()?;
        Ok(sandbox)
    }
}
