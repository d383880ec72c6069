//! What the packet filter is to hold, from bridges and published ports. Pure.
//!
//! Invariants: a client's address is kept, except where the answer would not
//! find its way back through this node (a container that reaches its own
//! bridge's published port, and loopback); nothing enters a bridge from
//! outside but answers and published ports; nothing leaves an internal one.

use super::nft::{Base, Chain, ChainType, Expression, Family, Hook, Prefix, Protocol, Ruleset};
use super::shape::{Carrier, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where people hard-code their resolver.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS_PORT: u16 = 53;

/// The kernel's own priorities, in nft's words: raw, dstnat, filter, srcnat.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// Name of the chain with all published ports.
const PUBLISHED: &str = "published";

/// A port of this node that leads to containers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Published {
    /// The unspecified address of a family stands for each of this node's.
    pub(super) host: IpAddr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// Of `host`'s family; several are balanced by chance. None: nothing
    /// answers.
    pub(super) targets: Vec<(IpAddr, u16)>,
}

/// The table of the node's own namespace.
pub(super) fn node(shapes: &[&Shape], published: &[Published]) -> Ruleset {
    let bridges: Vec<&Shape> = shapes
        .iter()
        .copied()
        .filter(|shape| shape.carrier == Carrier::Bridge)
        .collect();
    let to_published = || {
        vec![vec![
            Expression::ToLocal,
            Expression::Jump(PUBLISHED.into()),
        ]]
    };
    Ruleset {
        chains: vec![
            Chain {
                name: PUBLISHED.into(),
                base: None,
                rules: published_rules(published),
            },
            base(
                "guard",
                ChainType::Filter,
                Hook::Prerouting,
                PRIORITY_RAW,
                guard(&bridges),
            ),
            base(
                "prerouting",
                ChainType::Nat,
                Hook::Prerouting,
                PRIORITY_DESTINATION_NAT,
                to_published(),
            ),
            base(
                "output",
                ChainType::Nat,
                Hook::Output,
                PRIORITY_DESTINATION_NAT,
                to_published(),
            ),
            base(
                "postrouting",
                ChainType::Nat,
                Hook::Postrouting,
                PRIORITY_SOURCE_NAT,
                postrouting(&bridges),
            ),
            base(
                "forward",
                ChainType::Filter,
                Hook::Forward,
                PRIORITY_FILTER,
                forward(&bridges),
            ),
        ],
    }
}

/// The table of a container's namespace: the resolver that people expect at
/// port 53 listens elsewhere, so that a container may serve DNS itself.
pub(super) fn container(udp_port: u16, tcp_port: u16) -> Ruleset {
    let to_resolver = |protocol, port| {
        vec![
            Expression::Family(Family::V4),
            Expression::Destination(single(IpAddr::V4(RESOLVER))),
            Expression::Protocol(protocol),
            Expression::DestinationPort(DNS_PORT),
            Expression::RedirectTo(IpAddr::V4(RESOLVER), port),
        ]
    };
    Ruleset {
        chains: vec![base(
            "output",
            ChainType::Nat,
            Hook::Output,
            PRIORITY_DESTINATION_NAT,
            vec![
                to_resolver(Protocol::Udp, udp_port),
                to_resolver(Protocol::Tcp, tcp_port),
            ],
        )],
    }
}

fn base(
    name: &str,
    kind: ChainType,
    hook: Hook,
    priority: i32,
    rules: Vec<Vec<Expression>>,
) -> Chain {
    Chain {
        name: name.into(),
        base: Some(Base {
            kind,
            hook,
            priority,
        }),
        rules,
    }
}

fn single(address: IpAddr) -> Prefix {
    Prefix {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    }
}

fn loopback_block() -> Prefix {
    Prefix {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        length: 8,
    }
}

fn published_rules(published: &[Published]) -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    if published.iter().any(|p| p.host.is_ipv6()) {
        // IPv6 has no way back to loopback: refused at once is better than
        // packets that vanish, for clients then try 127.0.0.1.
        rules.push(vec![
            Expression::Family(Family::V6),
            Expression::Destination(single(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            Expression::Return,
        ]);
    }
    // A certain address before any: the narrower binding wins.
    let sorted: BTreeSet<(bool, &Published)> = published
        .iter()
        .map(|p| (p.host.is_unspecified(), p))
        .collect();
    for (_, port) in sorted {
        let Some((first, more)) = port.targets.split_first() else {
            continue;
        };
        let mut rule = vec![Expression::Family(Family::of(port.host))];
        if !port.host.is_unspecified() {
            rule.push(Expression::Destination(single(port.host)));
        }
        rule.push(Expression::Protocol(port.protocol));
        rule.push(Expression::DestinationPort(port.port));
        rule.push(if more.is_empty() {
            Expression::RedirectTo(first.0, first.1)
        } else {
            Expression::RedirectToAny(port.targets.clone())
        });
        rules.push(rule);
    }
    rules
}

/// Bridges may carry packets from loopback, for ports published at 127.0.0.1;
/// so what comes *to* loopback over them is a forgery.
fn guard(bridges: &[&Shape]) -> Vec<Vec<Expression>> {
    let forged = |shape: &&Shape| {
        vec![
            Expression::InputIs(shape.bridge.clone()),
            Expression::Family(Family::V4),
            Expression::Destination(loopback_block()),
            Expression::Drop,
        ]
    };
    bridges.iter().map(forged).collect()
}

fn postrouting(bridges: &[&Shape]) -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for shape in bridges {
        let out = || Expression::OutputIs(shape.bridge.clone());
        for subnet in &shape.subnets {
            // Hairpin: the answer would go straight to the asker, from an
            // address that it never spoke to.
            rules.push(vec![
                Expression::Family(Family::of(subnet.prefix.address)),
                Expression::Source(subnet.prefix),
                out(),
                Expression::Redirected,
                Expression::Masquerade,
            ]);
        }
        rules.push(vec![
            Expression::Family(Family::V4),
            Expression::Source(loopback_block()),
            out(),
            Expression::Masquerade,
        ]);
    }
    for shape in bridges {
        rules.push(vec![
            Expression::OutputIs(shape.bridge.clone()),
            Expression::Redirected,
            Expression::Accept,
        ]);
    }
    for shape in bridges.iter().filter(|s| s.masquerade && !s.internal) {
        for subnet in &shape.subnets {
            rules.push(vec![
                Expression::Family(Family::of(subnet.prefix.address)),
                Expression::Source(subnet.prefix),
                Expression::OutputIsNot(shape.bridge.clone()),
                Expression::Masquerade,
            ]);
        }
    }
    rules
}

fn forward(bridges: &[&Shape]) -> Vec<Vec<Expression>> {
    let leaving = |shape: &&Shape| {
        vec![
            Expression::InputIs(shape.bridge.clone()),
            Expression::OutputIsNot(shape.bridge.clone()),
            Expression::Drop,
        ]
    };
    let entering = |shape: &&Shape| {
        vec![
            Expression::OutputIs(shape.bridge.clone()),
            Expression::InputIsNot(shape.bridge.clone()),
            Expression::Drop,
        ]
    };
    let internal = || bridges.iter().filter(|shape| shape.internal);
    let mut rules: Vec<Vec<Expression>> = internal().map(leaving).collect();
    rules.extend(internal().map(entering));
    rules.push(vec![Expression::Established, Expression::Accept]);
    rules.push(vec![Expression::Redirected, Expression::Accept]);
    rules.extend(bridges.iter().filter(|s| !s.internal).map(entering));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::shape::shape;
    use skep_control::model::{IpamConfig, Network as NetworkRecord};

    fn bridge(id: &str, subnet: &str, internal: bool) -> Shape {
        let mut record = NetworkRecord {
            id: id.into(),
            ..NetworkRecord::default()
        };
        record.spec.driver = "bridge".into();
        record.spec.internal = internal;
        record.spec.ipam.config = vec![IpamConfig {
            subnet: subnet.into(),
            ..IpamConfig::default()
        }];
        shape(&record)
    }

    fn chain<'a>(ruleset: &'a Ruleset, name: &str) -> &'a Chain {
        ruleset.chains.iter().find(|c| c.name == name).unwrap()
    }

    fn published(host: &str, targets: &[&str]) -> Published {
        Published {
            host: host.parse().unwrap(),
            port: 8000,
            protocol: Protocol::Tcp,
            targets: targets.iter().map(|t| (t.parse().unwrap(), 80)).collect(),
        }
    }

    #[test]
    fn an_internal_bridge_has_no_way_out() {
        let shapes = [bridge("aaaaaaaaaaaa", "10.0.0.0/24", true)];
        let ruleset = node(&shapes.iter().collect::<Vec<_>>(), &[]);
        let forward = chain(&ruleset, "forward");
        assert_eq!(forward.rules[0].last(), Some(&Expression::Drop));
        assert_eq!(forward.rules[1].last(), Some(&Expression::Drop));
        let leaves = chain(&ruleset, "postrouting")
            .rules
            .iter()
            .any(|rule| rule.contains(&Expression::OutputIsNot("br-aaaaaaaaaaaa".into())));
        assert!(!leaves, "an internal network is never masqueraded");
    }

    #[test]
    fn the_narrower_binding_comes_first_and_a_port_without_backends_is_not_there() {
        let ports = [
            published("0.0.0.0", &["10.0.0.2"]),
            published("192.0.2.1", &["10.0.0.3"]),
            published("0.0.0.0", &[]),
        ];
        let ruleset = node(&[], &ports);
        let rules = &chain(&ruleset, PUBLISHED).rules;
        assert_eq!(rules.len(), 2);
        assert_eq!(
            rules[0].last(),
            Some(&Expression::RedirectTo("10.0.0.3".parse().unwrap(), 80))
        );
    }

    #[test]
    fn several_backends_are_balanced() {
        let ruleset = node(&[], &[published("0.0.0.0", &["10.0.0.2", "10.0.0.3"])]);
        let rule = chain(&ruleset, PUBLISHED).rules[0].clone();
        assert!(matches!(rule.last(), Some(Expression::RedirectToAny(t)) if t.len() == 2));
    }
}
