//! Level, not edge: what is wanted is computed anew, what is there is dumped,
//! and the difference applied.

use super::attach::{Live, Sandbox};
use super::core::{Attached, Core, set_sysctl, warn};
use super::dns::{Asker, Server, Zone};
use super::endpoint::{self, in_order};
use super::links::{Operation, Veth};
use super::nft::Prefix;
use super::plan::{WantedBridge, WantedPort, plan, veth_alias};
use super::rules;
use super::shape::{Carrier, Shape, parse_mac, shape};
use super::{conntrack, inside, netns, publish};
use crate::error::{Error, Result};
use skep_control::model::EndpointSettings;
use skep_control::routes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// An endpoint that wants a veth.
struct Wired {
    container: String,
    netns: PathBuf,
    endpoint: EndpointSettings,
    shape: Shape,
}

impl Core {
    /// Makes bridges and veths what they are to be.
    pub(super) fn reconcile_links(&mut self) -> Result<()> {
        let bridges = self.wanted_bridges();
        let wired = self.wired();
        let ports: Vec<WantedPort> = wired
            .iter()
            .map(|wired| WantedPort {
                name: endpoint::veth_name(&wired.endpoint),
                bridge: wired.shape.bridge.clone(),
            })
            .collect();
        let found = self.links.found()?;
        let mut plan = plan(&bridges, &ports, &found);
        // A network that is not known yet: the cluster's are told later.
        let kept = self.unknown_networks();
        plan.operations.retain(|operation| match operation {
            Operation::Remove { name } => !found
                .link(name)
                .and_then(|link| link.owner())
                .is_some_and(|owner| owner.first().is_some_and(|id| kept.contains(*id))),
            _ => true,
        });
        for operation in &plan.operations {
            self.links.apply(std::slice::from_ref(operation))?;
            if let Operation::AddBridge { name, .. } = operation {
                self.allow_loopback(name, &bridges)?;
            }
        }
        let missing: Vec<&Wired> = wired
            .iter()
            .filter(|wired| plan.missing.contains(&endpoint::veth_name(&wired.endpoint)))
            .collect();
        for wired in &missing {
            self.plug(wired)?;
        }
        for wired in &missing {
            self.links
                .await_carrier(&endpoint::veth_name(&wired.endpoint))?;
        }
        Ok(())
    }

    /// Ports published at 127.0.0.1 lead over the bridge.
    fn allow_loopback(&mut self, bridge: &str, bridges: &[WantedBridge]) -> Result<()> {
        set_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        let has_v6 = bridges
            .iter()
            .any(|b| b.name == bridge && b.addresses.iter().any(|a| a.address.is_ipv6()));
        let disabled = if has_v6 { "0" } else { "1" };
        let set = set_sysctl(&format!("net/ipv6/conf/{bridge}/disable_ipv6"), disabled);
        if has_v6 {
            set?;
            self.enable_forwarding("net/ipv6/conf/all/forwarding");
        }
        Ok(())
    }

    /// Every network of this node has its bridge; the cluster's have one where
    /// a container is on them.
    fn realised(&self) -> Vec<(String, Shape)> {
        let used: BTreeSet<&str> = self
            .containers
            .values()
            .flat_map(|attached| attached.sandbox.endpoints.values())
            .map(|endpoint| endpoint.network_id.as_str())
            .collect();
        self.catalog
            .all()
            .filter(|record| self.catalog.is_local(&record.id) || used.contains(record.id.as_str()))
            .map(|record| (record.id.0.clone(), shape(record)))
            .filter(|(_, shape)| shape.carrier == Carrier::Bridge)
            .collect()
    }

    fn wanted_bridges(&self) -> Vec<WantedBridge> {
        let realised = self.realised().into_iter();
        realised
            .map(|(network, shape)| WantedBridge {
                name: shape.bridge,
                network,
                addresses: shape
                    .subnets
                    .iter()
                    .filter_map(|subnet| {
                        Some(Prefix {
                            address: subnet.gateway?,
                            length: subnet.prefix.length,
                        })
                    })
                    .collect(),
                mac: shape.mac,
                mtu: shape.mtu,
            })
            .collect()
    }

    fn wired(&self) -> Vec<Wired> {
        let mut wired = Vec::new();
        for (container, attached) in &self.containers {
            let Some(netns) = &attached.sandbox.netns else {
                continue;
            };
            for (_, endpoint) in in_order(&attached.sandbox.endpoints, &attached.wish.mode) {
                let Some(record) = self.catalog.get(&endpoint.network_id) else {
                    continue;
                };
                let shape = shape(record);
                if shape.carrier == Carrier::Bridge {
                    wired.push(Wired {
                        container: container.clone(),
                        netns: netns.clone(),
                        endpoint: endpoint.clone(),
                        shape,
                    });
                }
            }
        }
        wired
    }

    fn unknown_networks(&self) -> BTreeSet<String> {
        self.containers
            .values()
            .flat_map(|attached| attached.sandbox.endpoints.values())
            .filter(|endpoint| self.catalog.get(&endpoint.network_id).is_none())
            .map(|endpoint| endpoint.network_id.clone())
            .collect()
    }

    /// Puts a container on a bridge.
    fn plug(&mut self, wired: &Wired) -> Result<()> {
        let endpoint = &wired.endpoint;
        if !netns::exists(&wired.netns) {
            return Err(Error::internal(format!(
                "network: the namespace {} of container {} is not there",
                wired.netns.display(),
                wired.container
            )));
        }
        let name = inside::next_interface(&wired.netns)?;
        let veth = Veth {
            name: endpoint::veth_name(endpoint),
            alias: veth_alias(&endpoint.network_id, &wired.container),
            bridge: wired.shape.bridge.clone(),
            inside: name.clone(),
            mac: parse_mac(&endpoint.mac_address)
                .ok_or_else(|| Error::internal("network: an endpoint without a MAC address"))?,
            mtu: wired.shape.mtu,
            is_isolated: !wired.shape.between_containers,
        };
        let namespace = std::fs::File::open(&wired.netns)?;
        self.links.add_veth(&veth, namespace.as_raw_fd())?;
        // The bridge's end speaks for nobody.
        let _ = set_sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", veth.name), "1");
        inside::configure(&wired.netns, &name, endpoint)?;
        self.lead_out(&wired.container)
    }

    pub(super) fn lead_out(&self, container: &str) -> Result<()> {
        let Some(attached) = self.containers.get(container) else {
            return Ok(());
        };
        let Some(netns) = &attached.sandbox.netns else {
            return Ok(());
        };
        let ordered: Vec<&EndpointSettings> =
            in_order(&attached.sandbox.endpoints, &attached.wish.mode)
                .into_iter()
                .map(|(_, endpoint)| endpoint)
                .collect();
        inside::lead_out(netns, &ordered)
    }

    /// Makes the packet filter what it is to be, in one step.
    pub(super) fn apply_firewall(&mut self) -> Result<()> {
        if self.is_settling {
            return Ok(());
        }
        let shapes: Vec<Shape> = self.realised().into_iter().map(|(_, s)| s).collect();
        let shapes: Vec<&Shape> = shapes.iter().collect();
        self.firewall
            .apply(&rules::node(&shapes, &self.published()))
    }

    /// Computes all names anew.
    pub(super) fn refresh_names(&mut self) {
        let mut zone = Zone::default();
        for record in self.catalog.all() {
            let shape = shape(record);
            if shape.has_names && shape.carrier == Carrier::Bridge {
                zone.add_network(record.id.as_str(), &record.spec.name);
            }
        }
        for attached in self.containers.values() {
            for endpoint in attached.sandbox.endpoints.values() {
                for prefix in endpoint::addresses(endpoint) {
                    for name in &endpoint.dns_names {
                        zone.add(&endpoint.network_id, name, Some(prefix.address));
                    }
                }
            }
        }
        for service in &self.routes.services {
            for names in &service.names {
                let network = names.network.as_str();
                for name in &names.names {
                    zone.add_service(network, name, None);
                    let addresses = service.backends.iter().flat_map(|b| &b.addresses);
                    for address in addresses.filter(|a| a.network == names.network) {
                        zone.add_service(network, name, Some(address.ip));
                    }
                }
            }
        }
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// Starts a container's resolver where it wants one, and tells a running
    /// one what has changed.
    pub(super) fn refresh_resolver(&mut self, container: &str) -> Result<()> {
        let Some(attached) = self.containers.get(container) else {
            return Ok(());
        };
        let Some(netns) = attached.sandbox.netns.clone() else {
            return Ok(());
        };
        if attached.sandbox.id.is_empty() || !self.has_names(&attached.sandbox) {
            return Ok(());
        }
        let asker = self.asker(attached);
        if let Some(resolver) = &attached.resolver {
            resolver.set_asker(asker);
            return Ok(());
        }
        let sockets = inside::open_resolver(&netns, container)?;
        let resolver = Server::start(sockets, Arc::clone(&self.zone), asker)?;
        if let Some(attached) = self.containers.get_mut(container) {
            attached.resolver = Some(resolver);
        }
        Ok(())
    }

    fn asker(&self, attached: &Attached) -> Asker {
        let ordered = in_order(&attached.sandbox.endpoints, &attached.wish.mode);
        let links = ordered
            .iter()
            .flat_map(|(_, endpoint)| &endpoint.links)
            .map(|link| {
                // `name:alias`, or the name alone.
                let (name, alias) = link.split_once(':').unwrap_or((link, link));
                (
                    alias.to_lowercase(),
                    name.trim_start_matches('/').to_owned(),
                )
            });
        // Internal networks only: no name leaves the node either.
        let leads_out = ordered
            .iter()
            .any(|(_, endpoint)| !endpoint::gateways(endpoint).is_empty());
        Asker {
            networks: ordered
                .iter()
                .map(|(_, endpoint)| endpoint.network_id.clone())
                .collect(),
            links: links.collect::<BTreeMap<_, _>>(),
            upstreams: if leads_out {
                self.upstreams(&attached.wish.dns)
            } else {
                Vec::new()
            },
        }
    }

    fn upstreams(&self, wished: &[String]) -> Vec<SocketAddr> {
        const DNS_PORT: u16 = 53;
        let text = super::core::read(&self.host_files.resolv_conf);
        let host = super::files::Resolvers::parse(&text).servers;
        let servers = if wished.is_empty() { &host } else { wished };
        let addresses = servers.iter().filter_map(|s| s.parse::<IpAddr>().ok());
        addresses
            .map(|address| SocketAddr::new(address, DNS_PORT))
            .collect()
    }

    /// Services' names, ports and backends, all of them.
    pub(super) fn set_routes(&mut self, routes: Routes) -> Result<()> {
        let gone = gone_backends(&self.routes, &routes);
        self.routes = routes;
        // With services known, what an earlier agent left can be replaced.
        self.is_settling &= self.routes.services.is_empty();
        self.take_service_ports();
        self.refresh_names();
        self.apply_firewall()?;
        // UDP clients keep their port, and would be led to who is gone; TCP
        // ends with its connection, and may go on until then.
        conntrack::forget(&gone, Some(super::nft::Protocol::Udp))
    }

    fn take_service_ports(&mut self) {
        let wanted = publish::service_ports(&self.routes);
        let owners: BTreeSet<&str> = wanted.iter().map(|(owner, _)| owner.as_str()).collect();
        let containers = &self.containers;
        self.ports
            .release_owners(|owner| owners.contains(owner) || containers.contains_key(owner));
        for owner in &owners {
            let ports: BTreeSet<_> = wanted
                .iter()
                .filter(|(of, _)| of == owner)
                .map(|(_, port)| (port.protocol, port.port))
                .collect();
            self.ports
                .release(owner, |protocol, port| ports.contains(&(protocol, port)));
        }
        self.troubles
            .retain(|trouble| !trouble.contains(" of service "));
        let held: BTreeSet<(String, IpAddr, super::nft::Protocol, u16)> = wanted
            .iter()
            .filter(|(owner, port)| self.ports.has(owner, port.protocol, port.port))
            .map(|(owner, port)| (owner.clone(), port.host, port.protocol, port.port))
            .collect();
        for (owner, port) in &wanted {
            if held.contains(&(owner.clone(), port.host, port.protocol, port.port)) {
                continue;
            }
            let range = Some(port.port..=port.port);
            let taken = self.ports.take(owner, port.protocol, &[port.host], range);
            if let Err(refusal) = taken {
                let trouble = format!(
                    "WARNING: port {} of {owner} is not published on this node: {refusal}",
                    port.port
                );
                if self.troubles.insert(trouble.clone()) {
                    log::warn!("network: {trouble}");
                }
            }
        }
    }

    /// Takes over containers that live, after a restart of the agent.
    pub(super) fn adopt(&mut self, live: &[Live]) -> Result<()> {
        self.is_settling = self.firewall.is_ours()?;
        for live in live {
            let (wish, sandbox) = (live.attach.clone(), live.sandbox.clone());
            self.readopt_ports(&wish.container, &sandbox);
            let attached = Attached {
                wish,
                sandbox,
                resolver: None,
            };
            self.containers
                .insert(attached.wish.container.clone(), attached);
        }
        self.hold_addresses();
        warn("bridges and veths", self.reconcile_links());
        self.refresh_names();
        let containers: Vec<String> = self.containers.keys().cloned().collect();
        for container in &containers {
            warn("resolver", self.refresh_resolver(container));
        }
        for name in self.folder.list()? {
            if !self.containers.contains_key(&name) {
                self.folder.remove(&name);
            }
        }
        self.apply_firewall()
    }

    fn readopt_ports(&mut self, container: &str, sandbox: &Sandbox) {
        for (port, bindings) in &sandbox.ports {
            let Some((_, protocol)) = super::ports::parse_port(port) else {
                continue;
            };
            for binding in bindings {
                let (Ok(host), Ok(number)) = (
                    binding.host_ip.parse::<IpAddr>(),
                    binding.host_port.parse::<u16>(),
                ) else {
                    continue;
                };
                let range = Some(number..=number);
                if let Err(refusal) = self.ports.take(container, protocol, &[host], range) {
                    log::warn!("network: container {container} keeps its port {number}: {refusal}");
                }
            }
        }
    }

    /// The services are known, or there are none: this agent's rules count.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.is_settling = false;
        self.apply_firewall()
    }

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
        warn("flows", conntrack::forget(&gone, None));
        self.give_back(&endpoint);
        changed
    }

    /// A container with a namespace of its own.
    fn joined(&self, container: &str) -> Result<(super::Attach, Sandbox)> {
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

/// Addresses that were backends and are none any more.
fn gone_backends(before: &Routes, after: &Routes) -> BTreeSet<IpAddr> {
    let addresses = |routes: &Routes| -> BTreeSet<IpAddr> {
        let backends = routes.services.iter().flat_map(|s| &s.backends);
        backends.flat_map(|b| &b.addresses).map(|a| a.ip).collect()
    };
    addresses(before)
        .difference(&addresses(after))
        .copied()
        .collect()
}
