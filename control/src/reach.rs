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

/// Nodes whose key two boards have: more are a broken batch of cards, which
/// one message is enough for.
const DOUBLES_MAX: usize = 64;

/// What is known of the others.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    own: Option<NodeId>,
    links: BTreeMap<NodeId, SocketAddr>,
    /// Where gossip says that nodes are; it says then, too, who is up.
    heard: BTreeMap<NodeId, SocketAddr>,
    is_gossiping: bool,
    /// Two boards have its key.
    doubles: BTreeMap<NodeId, [SocketAddr; 2]>,
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
        self.links.insert(node.clone(), addr);
        if self.is_gossiping {
            return false;
        }
        self.gone.remove(&node);
        self.up.insert(node)
    }

    /// Gossip says who is there from now on.
    pub(crate) fn gossips(&mut self) {
        self.is_gossiping = true;
    }

    /// Gossip says that it is up, and where. Returns whether that is news.
    pub(crate) fn hear(&mut self, node: NodeId, addr: SocketAddr) -> bool {
        self.gone.remove(&node);
        let is_new = self.up.insert(node.clone());
        self.heard.insert(node, addr) != Some(addr) || is_new
    }

    /// Two boards have its key.
    pub(crate) fn note_double(&mut self, node: NodeId, addrs: [SocketAddr; 2]) {
        if self.doubles.len() < DOUBLES_MAX {
            self.doubles.insert(node, addrs);
        }
    }

    /// Where gossip says that it is.
    pub(crate) fn heard(&self, node: &NodeId) -> Option<SocketAddr> {
        self.heard.get(node).copied()
    }

    /// The last connection to it is gone. Returns whether that is news.
    pub(crate) fn unlink(&mut self, node: &NodeId) -> bool {
        self.links.remove(node);
        !self.is_gossiping && self.leave(node)
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
            self.heard.remove(node);
            self.doubles.remove(node);
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
        let link = self.links.get(node);
        link.or_else(|| self.heard.get(node)).copied()
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
        if let Some([one, other]) = self.doubles.get(node) {
            return format!(
                "two boards have its key, at {one} and {other}: the younger is refused until it gets an identity of its own"
            );
        }
        match self.state(node) {
            NodeState::Down => "heartbeat failure".into(),
            NodeState::Unknown => "node is not heard of yet since this manager leads".into(),
            _ => String::new(),
        }
    }
}
