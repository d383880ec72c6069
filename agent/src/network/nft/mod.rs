//! nf_tables: a whole table as data, and the one batch that makes it so.
//!
//! Owns the vocabulary of rules that skep needs and nothing more. Invariant: a
//! table is replaced as a whole and atomically, so that no packet ever sees
//! half a ruleset; and it is replaced only when it differs, which a chain
//! named after the table's content tells. It does not know what the rules are
//! for. Expected bytes of any rule: `nft --debug=netlink`.

mod encode;
mod kernel;

pub(super) use kernel::{Firewall, has_drop_policy};

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of skep's table, in a node's namespace and in a container's.
pub(super) const TABLE: &str = "skep";

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hook {
    Prerouting,
    Forward,
    Output,
    Postrouting,
}

/// What a base chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ChainType {
    Filter,
    Nat,
}

/// A chain at a hook; a smaller priority comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Base {
    pub(super) kind: ChainType,
    pub(super) hook: Hook,
    pub(super) priority: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chain {
    pub(super) name: String,
    /// `None`: only reached by a jump.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// Conditions and, at the end, what happens.
pub(super) type Rule = Vec<Expression>;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Transport protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// IANA's number.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

/// One step of a rule. A condition that does not hold ends the rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Expression {
    /// IPv4 or IPv6 packets only.
    Family(Family),
    /// Needs `Family` before it.
    Source(Prefix),
    /// Needs `Family` before it.
    Destination(Prefix),
    Protocol(Protocol),
    /// Needs `Protocol` before it.
    DestinationPort(u16),
    InputIs(String),
    InputIsNot(String),
    OutputIs(String),
    OutputIsNot(String),
    /// The destination is an address of this namespace.
    ToLocal,
    /// A reply, or belongs to a known flow.
    Established,
    /// The flow's destination was rewritten.
    Redirected,
    Jump(String),
    /// Leaves a chain that was jumped to.
    Return,
    Accept,
    Drop,
    /// Rewrites the destination; needs `Family` before it.
    RedirectTo(IpAddr, u16),
    /// Rewrites the destination to one of several, by chance for each flow;
    /// never empty, all of one family.
    RedirectToAny(Vec<(IpAddr, u16)>),
    /// Rewrites the source to the address of the way out.
    Masquerade,
}

/// A whole table of the `inet` family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
}

/// Network bytes of an address.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::octets(&v4).to_vec(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6).to_vec(),
    }
}
