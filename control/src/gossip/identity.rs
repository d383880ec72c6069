//! Who a member is to SWIM: its key's id, where it is, and how often it had to
//! say so anew.
//!
//! **Invariant:** of two identities of one node every member prefers the same
//! one, in whatever order it hears of them.

use crate::model::NodeId;
use crate::wire::Contact;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One identity of a node. The larger in ([`Identity::incarnation`], leaving,
/// life, address) replaces the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub node: NodeId,
    pub addr: SocketAddr,
    /// Drawn at every start: tells a node's own past from a twin.
    pub life: u32,
    /// Raised by its owner only: when it moves, when it was declared dead,
    /// and when it meets a larger one of its own.
    pub incarnation: u64,
    /// It says goodbye: who hears of it as down knows that it went on purpose.
    pub is_leaving: bool,
}

impl Identity {
    /// Somebody whom we only know how to reach.
    pub(super) fn stranger(contact: &Contact) -> Self {
        Self {
            node: contact.node.clone(),
            addr: contact.addr,
            life: 0,
            incarnation: 0,
            is_leaving: false,
        }
    }

    pub(super) fn contact(&self) -> Contact {
        Contact {
            node: self.node.clone(),
            addr: self.addr,
        }
    }

    /// Whether it replaces `other`, an identity of the same node.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (u64, bool, u32, SocketAddr) {
        (self.incarnation, self.is_leaving, self.life, self.addr)
    }
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    /// Never by the library: [`super::Gossip`] renews, with a limited rate.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        !adversary.replaces(self)
    }
}
