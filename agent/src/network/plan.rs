//! Wanted bridges and endpoints against what the kernel has. Pure.
//!
//! Invariant: planning what was just applied yields nothing.

use super::links::{Found, MARK, Operation};
use super::nft::Prefix;
use std::collections::{BTreeMap, BTreeSet};

/// A bridge that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedBridge {
    pub(super) name: String,
    pub(super) network: String,
    /// The gateway's addresses, with the subnet's length.
    pub(super) addresses: Vec<Prefix>,
    pub(super) mac: [u8; 6],
    /// 0: the kernel's.
    pub(super) mtu: u32,
}

/// An endpoint that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedPort {
    /// The outer end of its veth.
    pub(super) name: String,
    pub(super) bridge: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) operations: Vec<Operation>,
    /// Ports whose veth is gone, and must be made anew.
    pub(super) missing: BTreeSet<String>,
}

/// The alias that marks a network's bridge.
pub(super) fn bridge_alias(network: &str) -> String {
    format!("{MARK} {network}")
}

/// The alias that marks a container's veth.
pub(super) fn veth_alias(network: &str, container: &str) -> String {
    format!("{MARK} {network} {container}")
}

/// What must change in the node's namespace.
pub(super) fn plan(bridges: &[WantedBridge], ports: &[WantedPort], found: &Found) -> Plan {
    let mut plan = Plan::default();
    remove_strangers(bridges, ports, found, &mut plan.operations);
    for bridge in bridges {
        plan_bridge(bridge, found, &mut plan.operations);
    }
    let indices: BTreeMap<&str, u32> = found
        .links
        .iter()
        .map(|link| (link.name.as_str(), link.index))
        .collect();
    for port in ports {
        let Some(link) = found.link(&port.name) else {
            plan.missing.insert(port.name.clone());
            continue;
        };
        let bridge = indices.get(port.bridge.as_str()).copied();
        if bridge.is_none() || link.controller != bridge {
            plan.operations.push(Operation::SetController {
                name: port.name.clone(),
                bridge: port.bridge.clone(),
            });
        }
        if !link.is_up {
            plan.operations.push(Operation::Up {
                name: port.name.clone(),
            });
        }
    }
    plan
}

/// Links that carry our mark and that nobody wants.
fn remove_strangers(
    bridges: &[WantedBridge],
    ports: &[WantedPort],
    found: &Found,
    operations: &mut Vec<Operation>,
) {
    let wanted: BTreeSet<&str> = bridges
        .iter()
        .map(|bridge| bridge.name.as_str())
        .chain(ports.iter().map(|port| port.name.as_str()))
        .collect();
    let strangers = found
        .links
        .iter()
        .filter(|link| link.owner().is_some() && !wanted.contains(link.name.as_str()));
    operations.extend(strangers.map(|link| Operation::Remove {
        name: link.name.clone(),
    }));
}

fn plan_bridge(bridge: &WantedBridge, found: &Found, operations: &mut Vec<Operation>) {
    let name = || bridge.name.clone();
    let add = |address: &Prefix| Operation::AddAddress {
        name: name(),
        address: *address,
    };
    let Some(link) = found.link(&bridge.name) else {
        operations.push(Operation::AddBridge {
            name: name(),
            alias: bridge_alias(&bridge.network),
            mac: bridge.mac,
            mtu: bridge.mtu,
        });
        operations.extend(bridge.addresses.iter().map(add));
        return;
    };
    let has: Vec<Prefix> = found
        .addresses
        .iter()
        .filter(|(index, _)| *index == link.index)
        .map(|(_, address)| *address)
        .collect();
    // A bridge of the operator's that a network was told to use keeps what
    // it has.
    let is_ours = link.owner().is_some();
    let surplus = has
        .iter()
        .filter(|_| is_ours)
        .filter(|address| !is_link_local(address) && !bridge.addresses.contains(address));
    operations.extend(surplus.map(|address| Operation::RemoveAddress {
        name: name(),
        address: *address,
    }));
    let missing = bridge.addresses.iter().filter(|a| !has.contains(a));
    operations.extend(missing.map(add));
    if is_ours && bridge.mtu != 0 && link.mtu != bridge.mtu {
        operations.push(Operation::SetMtu {
            name: name(),
            mtu: bridge.mtu,
        });
    }
    if !link.is_up {
        operations.push(Operation::Up { name: name() });
    }
}

/// The kernel gives those by itself.
fn is_link_local(prefix: &Prefix) -> bool {
    match prefix.address {
        std::net::IpAddr::V4(_) => false,
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::links::Link;
    use super::*;

    fn bridge(name: &str, address: &str) -> WantedBridge {
        WantedBridge {
            name: name.into(),
            network: format!("net-{name}"),
            addresses: vec![Prefix::parse(address).unwrap()],
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 0,
        }
    }

    fn port(name: &str, bridge: &str) -> WantedPort {
        WantedPort {
            name: name.into(),
            bridge: bridge.into(),
        }
    }

    /// The kernel's side of an operation, as far as a plan can see it.
    fn apply(found: &mut Found, operation: &Operation) {
        let index = |found: &Found, name: &str| found.link(name).map(|link| link.index);
        match operation {
            Operation::AddBridge {
                name, alias, mtu, ..
            } => {
                let next = found.links.iter().map(|l| l.index).max().unwrap_or(0) + 1;
                found.links.push(Link {
                    index: next,
                    name: name.clone(),
                    is_bridge: true,
                    alias: alias.clone(),
                    mtu: *mtu,
                    is_up: true,
                    controller: None,
                });
            }
            Operation::Remove { name } => found.links.retain(|link| link.name != *name),
            Operation::SetController { name, bridge } => {
                let bridge = index(found, bridge);
                let link = found.links.iter_mut().find(|l| l.name == *name).unwrap();
                link.controller = bridge;
            }
            Operation::Up { name } => {
                let link = found.links.iter_mut().find(|l| l.name == *name).unwrap();
                link.is_up = true;
            }
            Operation::AddAddress { name, address } => {
                let index = index(found, name).unwrap();
                found.addresses.push((index, *address));
            }
            Operation::RemoveAddress { name, address } => {
                let index = index(found, name).unwrap();
                found.addresses.retain(|held| *held != (index, *address));
            }
            other => panic!("{other:?} is no part of a node's plan"),
        }
    }

    #[test]
    fn an_applied_plan_plans_to_nothing() {
        let bridges = [
            bridge("skep0", "172.17.0.1/16"),
            bridge("br-1", "10.0.0.1/24"),
        ];
        let ports = [port("veth1", "br-1")];
        let mut found = Found {
            links: vec![
                Link {
                    index: 1,
                    name: "veth1".into(),
                    alias: veth_alias("net-br-1", "c1"),
                    ..Link::default()
                },
                Link {
                    index: 2,
                    name: "br-old".into(),
                    alias: bridge_alias("gone"),
                    is_bridge: true,
                    ..Link::default()
                },
                Link {
                    index: 3,
                    name: "docker0".into(),
                    is_bridge: true,
                    ..Link::default()
                },
                Link {
                    index: 4,
                    name: "br-1".into(),
                    is_bridge: true,
                    alias: bridge_alias("net-br-1"),
                    ..Link::default()
                },
            ],
            addresses: vec![(4, Prefix::parse("10.9.0.1/24").unwrap())],
        };
        let first = plan(&bridges, &ports, &found);
        assert!(first.missing.is_empty());
        first.operations.iter().for_each(|op| apply(&mut found, op));
        assert!(found.link("docker0").is_some(), "another's bridge stays");
        assert!(found.link("br-old").is_none());
        assert_eq!(plan(&bridges, &ports, &found), Plan::default());
    }

    #[test]
    fn a_port_without_its_veth_is_told() {
        let found = Found::default();
        let plan = plan(&[], &[port("veth1", "br-1")], &found);
        assert_eq!(plan.missing.into_iter().collect::<Vec<_>>(), ["veth1"]);
    }
}
