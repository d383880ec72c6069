//! What nodes say to each other: kinds, versions, size limits.
//!
//! A stream begins with a [`Hello`]; frames are length-prefixed postcard of
//! [`Message`]. Variants and fields are only ever added at the end, so that
//! versions can be mixed while a fleet rolls.
//!
//! **Invariant:** whoever sends is proven by the other end's certificate (see
//! [`Peer`]), never by what a message says. This module does not know how
//! bytes travel.

use crate::model::*;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The version that this build speaks. A stream names its sender's; a larger
/// one is refused with both numbers in the error.
pub const VERSION: u16 = 1;

/// Largest payload of a datagram, in bytes: QUIC's and UDP's headers make
/// 1200 of it, which fits through every path.
pub const DATAGRAM_MAX: usize = 1150;

/// Largest frame, in bytes. A snapshot of a hundred thousand assignments is
/// some twenty megabytes.
pub const FRAME_MAX: usize = 64 << 20;

/// A node and where to look for it first. The address is a hint: identity is
/// the key, and a node that is found elsewhere is the same node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    pub node: NodeId,
    pub addr: SocketAddr,
}

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub role: NodeRole,
    /// Where its packets come from now.
    pub addr: SocketAddr,
}

/// What a stream is for; its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One way: messages of one [`Lane`], as many as there are.
    Messages(Lane),
    /// Both ways: HTTP/1.1 to the other node's own API.
    Api,
    /// Both ways: a node without a certificate asks for one. The only kind
    /// that is open to a peer that has proven nothing.
    Join,
}

impl Kind {
    /// Whether a node of that role may open it. `None`: it has proven nothing.
    pub fn may_open(self, role: Option<NodeRole>) -> bool {
        match self {
            Self::Join => true,
            Self::Messages(Lane::Consensus) => role == Some(NodeRole::Manager),
            Self::Messages(_) | Self::Api => role.is_some(),
        }
    }
}

/// The first frame of every stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u16,
    pub kind: Kind,
}

/// Streams beside each other, so that a snapshot holds up no probe. What is
/// sent on one lane to one peer arrives in order, or not at all when the
/// connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Between managers. When its queue is full the newest is dropped: the
    /// library sends again.
    Consensus,
    /// Records and digests. When full, the newest is dropped: anti-entropy
    /// repairs it.
    Gossip,
    /// Assignments and reports. When full, the connection is closed: the
    /// sender begins anew from the whole.
    Control,
}

/// Everything between engines, datagrams apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The consensus library's own bytes.
    Consensus(Vec<u8>),
    /// The gossip organ's own bytes.
    Gossip(Vec<u8>),
    Assign(Box<Assign>),
    Bulletin(Box<Bulletin>),
    Report(Box<Report>),
    Reported(Reported),
    /// Node → leader: the sender leaves the cluster, or its agent ends for
    /// good. Nothing of it is to be waited for.
    Leaving,
}

impl Message {
    pub fn lane(&self) -> Lane {
        match self {
            Self::Consensus(_) => Lane::Consensus,
            Self::Gossip(_) => Lane::Gossip,
            Self::Assign(_)
            | Self::Bulletin(_)
            | Self::Report(_)
            | Self::Reported(_)
            | Self::Leaving => Lane::Control,
        }
    }

    /// Whether a node of that role may say it.
    pub fn may_send(&self, role: NodeRole) -> bool {
        match self {
            Self::Consensus(_) | Self::Assign(_) | Self::Bulletin(_) | Self::Reported(_) => {
                role == NodeRole::Manager
            }
            Self::Gossip(_) | Self::Report(_) | Self::Leaving => true,
        }
    }
}

/// Leader → node: the whole of what it is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The leader's term: of two leaders the later one is right.
    pub term: u64,
    pub set: AssignmentSet,
}

/// Leader → node: what every node must know whatever it runs. Whole, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulletin {
    pub term: u64,
    /// Log index that this was made at; an older one is refused.
    pub version: u64,
    pub cluster: ClusterId,
    /// What the operator wants the addressee to be.
    pub role: NodeRole,
    pub managers: Vec<ManagerEntry>,
    /// Nodes that were removed: nobody talks to them any more.
    pub removed: Vec<NodeId>,
    /// Certificates of the cluster's authorities, PEM: more than one while
    /// they are rotated.
    pub ca_certs_pem: Vec<String>,
    /// Of swarm scope, by id.
    pub networks: Vec<Network>,
    /// What is published and what has a name, by service id.
    pub directory: Vec<DirectoryEntry>,
}

/// A manager as every node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerEntry {
    pub contact: Contact,
    /// The consensus library's number.
    pub raft_id: u64,
}

/// A service as every node must know it to lead its clients to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    pub service: ServiceId,
    pub name: String,
    /// `dnsrr`: no virtual address.
    pub is_dnsrr: bool,
    /// Ports of mode `ingress`.
    pub ports: Vec<PortConfig>,
    /// Network ids with the names there, the service's own first.
    pub names: Vec<(NetworkId, Vec<String>)>,
}

/// Node → leader: what it is and what is seen there. Sent again until the
/// leader has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Counts a node's reports since its start.
    pub number: u64,
    /// Nothing that was said before holds; else `seen` is what changed.
    pub is_whole: bool,
    /// `Some` when whole, or when it changed.
    pub description: Option<NodeDescription>,
    /// The role that its certificate says.
    pub role: NodeRole,
    /// What it was last told.
    pub generation: u64,
    pub bulletin: u64,
    /// `None`: nothing is left of it.
    pub seen: Vec<(AssignmentId, Option<Seen>)>,
    /// The sender's clock as it sent this: what `seen` says of time is on it.
    pub now: Millis,
}

/// Leader → node: a report was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub term: u64,
    pub number: u64,
    /// The leader knows nothing before this: it wants the whole.
    pub wants_whole: bool,
}
