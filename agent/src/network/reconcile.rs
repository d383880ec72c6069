//! Level, not edge: what is wanted is computed anew, what is there is dumped,
//! and the difference applied.

use super::attach::{Live, Sandbox};
use super::conntrack::Flows;
use super::core::{Attached, Core, set_sysctl, warn};
use super::dns::{Asker, Server, Upstreams, Zone, servers};
use super::endpoint::{self, in_order};
use super::links::{Operation, Veth};
use super::nft::{Firewall, Prefix, Protocol};
use super::plan::{WantedBridge, WantedPort, plan, veth_alias};
use super::rules::{self, Published};
use super::shape::{Carrier, Shape, parse_mac, shape};
use super::{conntrack, inside, netns};
use crate::error::{Error, Result};
use skep_control::model::EndpointSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
        let found = self.links.found()?;
        let ours = found.links.iter().filter(|link| link.is_bridge);
        self.built = ours
            .filter_map(|link| Some((*link.owner()?.first()?).to_owned()))
            .collect();
        let bridges = self.wanted_bridges();
        let wired = self.wired();
        let ports: Vec<WantedPort> = wired
            .iter()
            .map(|wired| WantedPort {
                name: endpoint::veth_name(&wired.endpoint),
                bridge: wired.shape.bridge.clone(),
            })
            .collect();
        let mut plan = plan(&bridges, &ports, &found);
        // A network that is not known yet: the cluster's are told later.
        let kept = self.unknown_networks();
        let network = |name: &str| Some((*found.link(name)?.owner()?.first()?).to_owned());
        plan.operations.retain(|operation| match operation {
            Operation::Remove { name } => {
                !self.is_leaving(name) && !network(name).is_some_and(|id| kept.contains(&id))
            }
            _ => true,
        });
        for operation in &plan.operations {
            self.links.apply(std::slice::from_ref(operation))?;
            if let Operation::AddBridge { name, .. } = operation {
                self.built.extend(network_of(&bridges, name));
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
        let mut awaited: BTreeSet<String> = missing
            .iter()
            .flat_map(|wired| {
                [
                    endpoint::veth_name(&wired.endpoint),
                    wired.shape.bridge.clone(),
                ]
            })
            .collect();
        for operation in plan.operations {
            if let Operation::SetController { name, bridge } = operation {
                awaited.extend([name, bridge]);
            }
        }
        for name in &awaited {
            self.links.await_carrier(name)?;
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

    /// Every network of this node has its bridge; the cluster's have one from
    /// the first container on.
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
        let shapes: Vec<Shape> = self.realised().into_iter().map(|(_, s)| s).collect();
        let shapes: Vec<&Shape> = shapes.iter().collect();
        let published = self.published();
        Firewall::open()?.apply(&rules::node(&shapes, &published))?;
        let leads = |port: &&Published| port.protocol == Protocol::Udp && !port.targets.is_empty();
        let udp_ports: BTreeSet<u16> = published.iter().filter(leads).map(|p| p.port).collect();
        let new: BTreeSet<u16> = udp_ports.difference(&self.udp_ports).copied().collect();
        self.udp_ports = udp_ports;
        // Who sent to such a port before it led anywhere would go on so.
        warn("flows", conntrack::forget(Flows::NotRedirected(&new)));
        Ok(())
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
        for service in &self.services.names {
            zone.add_service(&service.network, &service.name, None);
            let addresses = service.addresses.iter();
            for address in addresses.filter(|address| !self.ended.contains(address)) {
                zone.add_service(&service.network, &service.name, Some(*address));
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
        let resolver = Server::start(
            sockets,
            Arc::clone(&self.zone),
            Arc::clone(&self.node_resolvers),
            asker,
        )?;
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
            upstreams: match (leads_out, attached.wish.dns.as_slice()) {
                (false, _) => Upstreams::Nowhere,
                (true, []) => Upstreams::Node,
                (true, wished) => Upstreams::These(servers(wished)),
            },
        }
    }

    /// Takes over containers that live, after a restart of the agent.
    pub(super) fn adopt(&mut self, live: &[Live]) -> Result<()> {
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
        let alive = self.containers.values();
        let alive = alive.flat_map(|attached| attached.sandbox.endpoints.values());
        let alive = alive
            .flat_map(endpoint::addresses)
            .map(|p| p.address)
            .collect();
        self.services.keep_backends(&alive);
        self.take_service_ports();
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
        if let Err(e) = self.apply_firewall() {
            // The node goes on: containers without a network can run.
            let trouble = format!("WARNING: published ports and ways out do not work: {e}");
            log::error!("network: {trouble}");
            self.troubles.insert(trouble);
        }
        Ok(())
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
}

fn network_of(bridges: &[WantedBridge], name: &str) -> Option<String> {
    let bridge = bridges.iter().find(|bridge| bridge.name == name)?;
    Some(bridge.network.clone())
}
