//! Which nodes are in reach, and where: what connections and gossip say.
//!
//! **Invariant:** what this node has heard nothing about is unknown for a
//! while, and only then down: whoever begins to look must not take the living
//! for dead. Nothing here is ever written down.

use crate::model::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How long nodes that are not heard of are unknown and not yet down, in
/// milliseconds: they need to find a new leader, and gossip needs two rounds.
const GRACE_MS: u64 = 10_000;

/// What is known of the others.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    own: Option<NodeId>,
    links: BTreeMap<NodeId, SocketAddr>,
    up: BTreeSet<NodeId>,
    /// Said itself that it goes, or was seen to be gone.
    gone: BTreeSet<NodeId>,
    /// Until then, who is not heard of is unknown.
    grace_until: Option<Millis>,
}

impl Reach {
    /// This node is that one, or none.
    pub(crate) fn become_node(&mut self, own: Option<NodeId>) {
        *self = Self {
            up: own.iter().cloned().collect(),
            own,
            ..Self::default()
        };
    }

    /// It begins to matter who is there.
    pub(crate) fn watch(&mut self, now: Millis) {
        self.grace_until = Some(now.plus(GRACE_MS));
    }

    /// A connection to it is up. Returns whether that is news.
    pub(crate) fn link(&mut self, node: NodeId, addr: SocketAddr) -> bool {
        self.gone.remove(&node);
        self.links.insert(node.clone(), addr);
        self.up.insert(node)
    }

    /// The last connection to it is gone. Returns whether that is news.
    pub(crate) fn unlink(&mut self, node: &NodeId) -> bool {
        self.links.remove(node);
        self.leave(node)
    }

    /// It goes on purpose. Returns whether that is news.
    pub(crate) fn leave(&mut self, node: &NodeId) -> bool {
        let is_news = self.own.as_ref() != Some(node) && self.up.remove(node);
        if is_news {
            self.gone.insert(node.clone());
        }
        is_news
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        if self.own.as_ref() != Some(node) {
            self.links.remove(node);
            self.up.remove(node);
            self.gone.remove(node);
        }
    }

    /// The grace may be over. Returns whether it is just now.
    pub(crate) fn wake(&mut self, now: Millis) -> bool {
        let is_over = self.grace_until.is_some_and(|until| until <= now);
        if is_over {
            self.grace_until = None;
        }
        is_over
    }

    pub(crate) fn due(&self) -> Option<Millis> {
        self.grace_until
    }

    pub(crate) fn is_up(&self, node: &NodeId) -> bool {
        self.up.contains(node)
    }
    pub(crate) fn is_down(&self, node: &NodeId) -> bool {
        self.state(node) == NodeState::Down
    }
    /// Where packets of it came from last.
    pub(crate) fn addr(&self, node: &NodeId) -> Option<SocketAddr> {
        self.links.get(node).copied()
    }

    pub(crate) fn state(&self, node: &NodeId) -> NodeState {
        if self.is_up(node) {
            NodeState::Ready
        } else if self.gone.contains(node) || self.grace_until.is_none() {
            NodeState::Down
        } else {
            NodeState::Unknown
        }
    }

    /// What there is to say about that state, for people.
    pub(crate) fn message(&self, node: &NodeId) -> String {
        match self.state(node) {
            NodeState::Down => "heartbeat failure".into(),
            NodeState::Unknown => "node is not heard of yet since this manager leads".into(),
            _ => String::new(),
        }
    }
}
