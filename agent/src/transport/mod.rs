//! Connections between nodes: one QUIC endpoint on one UDP port.
//!
//! Owns: the endpoint, connections, what waits to be sent, dialing. Mutual TLS
//! 1.3 with ALPN `skep/1`; a node's id is its server name.
//!
//! ```text
//!   send ──► queue a lane ──► writer ─┐                 ┌► reader a stream ─► Event::Received
//!   datagram ─────────────────────────┼── connection ───┼► Event::Datagram
//!   open ──► stream both ways ────────┘  one a peer     └► Event::Api, Event::Join
//! ```
//!
//! **Invariants:** who sends is proven by the connection, never by what is
//! said. Nobody waits for a peer: `send` queues or drops, by the lane's policy.
//! What comes is taken as fast as its reader takes events; else QUIC has the
//! sender wait. Memory is bounded whatever a peer does (see [`limits`]), and
//! one that breaks the rules is cut off with a reason in the log.
//!
//! A peer that moves is followed by QUIC itself; when the address that this
//! endpoint is bound to is gone, it binds anew. One that is nowhere to be
//! reached any more is looked for on the local link.
//!
//! A large cluster pays for silence with handshakes: a connection that nobody
//! used for [`limits::IDLE`] is gone, and the next probe makes another.
//!
//! Does not know: what messages mean, who should be a member, Docker.

mod accept;
mod dial;
mod frame;
mod join;
mod limits;
mod link;
mod mdns;
mod peers;
mod queue;
mod socket;
mod stream;
mod tls;
mod watch;

pub(crate) use join::{Admitted, JoinAnswer, JoinAsk, JoinReply};
pub(crate) use stream::Stream;

use crate::error::Result;
use crate::identity::{Clock, Membership, NodeKey, node_id};
use link::{CloseCode, Link, close};
use peers::{Settled, Slot};
use queue::Pushed;
use quinn::Endpoint;
use skep_control::engine::Trust;
use skep_control::model::NodeId;
use skep_control::wire::{Contact, DATAGRAM_MAX, Kind, Message, Peer};
use smol::channel::Sender;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tls::Standing;

/// What the endpoint is made with.
pub(crate) struct Settings {
    /// The one UDP port.
    pub(crate) listen: SocketAddr,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) clock: Arc<Clock>,
}

/// What happened between nodes.
pub(crate) enum Event {
    /// A node is connected, or connected anew: what was sent to it before may
    /// be lost.
    Connected(Peer),
    /// The last connection to it is gone.
    Disconnected(NodeId),
    Received {
        from: Peer,
        message: Message,
    },
    Datagram {
        from: Peer,
        bytes: Vec<u8>,
    },
    /// A node wants to talk HTTP to this node's API.
    Api {
        from: Peer,
        stream: Stream,
    },
    /// Somebody wants to become a member, or to have another certificate.
    Join {
        /// Where the asker's packets come from: its own UDP port.
        from: SocketAddr,
        ask: JoinAsk,
        reply: JoinReply,
    },
}

/// The endpoint. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Transport(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    node: NodeId,
    key: Arc<NodeKey>,
    clock: Arc<Clock>,
    events: Sender<Event>,
    /// Has the local link asked for members.
    lost: Sender<()>,
    members: Mutex<Members>,
    /// Handshakes under way that others began.
    handshakes: AtomicUsize,
    joins: AtomicUsize,
    /// Connections of peers that have proven nothing.
    strangers: AtomicUsize,
}

/// Who this node is to others, and who they are.
#[derive(Default)]
struct Members {
    standing: Option<Arc<Standing>>,
    removed: BTreeSet<NodeId>,
    slots: BTreeMap<NodeId, Arc<Slot>>,
}

impl Transport {
    /// Binds the port and begins. Without a membership nobody gets in, and
    /// only [`Transport::join`] leads out.
    ///
    /// # Errors
    /// When the port is taken, or the certificates cannot be used.
    pub(crate) fn start(
        settings: Settings,
        member: Option<&Membership>,
        events: Sender<Event>,
    ) -> Result<Self> {
        let endpoint = socket::endpoint(settings.listen, &settings.key)?;
        let (lost, losses) = smol::channel::bounded(1);
        let shared = Arc::new(Shared {
            endpoint,
            node: node_id(settings.key.public()),
            key: settings.key,
            clock: settings.clock,
            events,
            lost,
            members: Mutex::default(),
            handshakes: AtomicUsize::new(0),
            joins: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
        });
        let transport = Self(shared.clone());
        transport.present(member)?;
        smol::spawn(accept::run(shared.clone())).detach();
        smol::spawn(watch::run(Arc::downgrade(&shared), settings.listen)).detach();
        let searching = mdns::run(Arc::downgrade(&shared), losses, mdns::interfaces);
        smol::spawn(searching).detach();
        Ok(transport)
    }

    /// Shows another certificate from now on, or believes other authorities.
    /// Connections made with another certificate are made anew, without a gap.
    /// `None`: the cluster is left, and all connections are closed.
    pub(crate) fn present(&self, member: Option<&Membership>) -> Result<()> {
        let shared = &self.0;
        let mut members = shared.members();
        let Some(member) = member else {
            shared.endpoint.set_server_config(None);
            for slot in std::mem::take(&mut *members).slots.into_values() {
                shared.cut(&slot, CloseCode::Left, "this node left the cluster");
            }
            return Ok(());
        };
        if members
            .standing
            .as_ref()
            .is_some_and(|s| s.cluster != member.cluster)
        {
            members.removed.clear();
        }
        let removed = members.removed.clone();
        let standing = Standing::new(member, removed, &shared.key, &shared.clock)?;
        let leaf = standing.leaf.clone();
        shared.stand(&mut members, standing);
        let slots = members.slots.values().cloned().collect::<Vec<_>>();
        drop(members);
        for slot in slots {
            if slot.link().is_some_and(|link| link.own != leaf) {
                smol::spawn(dial::again(shared.clone(), slot)).detach();
            }
        }
        Ok(())
    }

    /// Whom to believe from now on. Connections that would not be made any
    /// more are closed: those of removed nodes, and those with a certificate of
    /// an authority that is trusted no more. So re-issue before that.
    pub(crate) fn trust(&self, trust: &Trust) -> Result<()> {
        let shared = &self.0;
        let mut members = shared.members();
        members.removed.clone_from(&trust.removed);
        let Some(standing) = members.standing.clone() else {
            return Ok(());
        };
        let (key, clock) = (&shared.key, &shared.clock);
        let changed = standing.with(&trust.ca_certs_pem, &trust.removed, key, clock)?;
        let Some(changed) = changed else {
            return Ok(());
        };
        let judge = changed.judge.clone();
        shared.stand(&mut members, changed);
        let removed = &trust.removed;
        let gone = members
            .slots
            .extract_if(.., |node, _| removed.contains(node));
        for (_, slot) in gone {
            shared.cut(
                &slot,
                CloseCode::Removed,
                "the node was removed from the cluster",
            );
        }
        for slot in members.slots.values() {
            if let Some(link) = slot.link()
                && let Err(error) = judge.still(&link.leaf)
            {
                log::warn!("node {}: {error}; connection closed", link.node);
                close(
                    &link.connection,
                    CloseCode::Violation,
                    "certificate not trusted",
                );
            }
        }
        Ok(())
    }

    /// Queues a message; dials when there is no connection. Never waits. What
    /// cannot be sent is dropped, by the policy of its lane, and nobody is
    /// told: the other end's answer, or [`Event::Connected`], is the proof.
    pub(crate) fn send(&self, to: &Contact, message: &Message) {
        let Some(slot) = self.0.slot(to) else {
            return;
        };
        let Some(frame) = frame::encode(message) else {
            log::error!("node {}: a message larger than any frame", to.node);
            return;
        };
        let lane = message.lane();
        match slot.push(lane, frame) {
            Pushed::Queued => {}
            Pushed::Dropped => log::debug!("node {}: {lane:?} is full, message dropped", to.node),
            Pushed::Overflowed => {
                log::warn!("node {}: {lane:?} is full; connection closed", to.node);
                if let Some(link) = slot.link() {
                    close(&link.connection, CloseCode::Overflow, "too much waits");
                }
            }
        }
        dial::when_needed(&self.0, &slot);
    }

    /// Sends a datagram of at most [`DATAGRAM_MAX`] bytes; dials when there is
    /// no connection, and keeps the newest few meanwhile. It may get lost.
    pub(crate) fn datagram(&self, to: &Contact, bytes: Vec<u8>) {
        if bytes.len() > DATAGRAM_MAX {
            log::error!(
                "node {}: a datagram of {} bytes, where {DATAGRAM_MAX} are allowed",
                to.node,
                bytes.len()
            );
            return;
        }
        let Some(slot) = self.0.slot(to) else {
            return;
        };
        let link = slot.link();
        match link.filter(|link| link.connection.close_reason().is_none()) {
            Some(link) => {
                if let Err(e) = link.connection.send_datagram(bytes.into()) {
                    log::debug!("node {}: datagram: {e}", to.node);
                }
            }
            None => {
                slot.keep(bytes);
                dial::when_needed(&self.0, &slot);
            }
        }
    }

    /// A stream both ways to a node, for one conversation.
    ///
    /// # Errors
    /// When it cannot be reached in time.
    pub(crate) async fn open(&self, to: &Contact, kind: Kind) -> Result<Stream> {
        dial::open(&self.0, to, kind).await
    }

    /// Asks a manager at an address for a certificate. `digests` are of the
    /// authorities that are believed: a token's, or those of the cluster that
    /// this node is in already.
    ///
    /// # Errors
    /// When nobody answers there in time, or it is not that cluster's manager.
    pub(crate) async fn join(
        &self,
        addr: SocketAddr,
        digests: &[String],
        ask: JoinAsk,
    ) -> Result<JoinAnswer> {
        join::ask(&self.0, addr, digests, &ask).await
    }

    /// Says good-bye to all, and lets go of the port.
    pub(crate) async fn stop(&self) {
        let code = quinn::VarInt::from_u32(CloseCode::Stopping as u32);
        self.0.endpoint.close(code, b"the agent stops");
        smol::future::or(self.0.endpoint.wait_idle(), async {
            smol::Timer::after(limits::FAREWELL).await;
        })
        .await;
        socket::release(&self.0.endpoint);
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }

    fn standing(&self) -> Option<Arc<Standing>> {
        self.members().standing.clone()
    }

    fn stand(&self, members: &mut Members, standing: Standing) {
        self.endpoint
            .set_server_config(Some(standing.server.clone()));
        members.standing = Some(Arc::new(standing));
    }

    /// The place of a node that may be talked to.
    fn slot(&self, to: &Contact) -> Option<Arc<Slot>> {
        let mut members = self.members();
        if to.node == self.node || members.standing.is_none() || members.removed.contains(&to.node)
        {
            log::debug!("nothing is sent to node {}", to.node);
            return None;
        }
        let slot = members.slots.entry(to.node.clone());
        let slot = slot.or_insert_with(|| Arc::new(Slot::new(to.node.clone(), to.addr)));
        slot.state().dial.told = to.addr;
        Some(slot.clone())
    }

    fn cut(&self, slot: &Slot, code: CloseCode, why: &str) {
        let mut state = slot.state();
        state.give_up();
        if let Some(link) = &state.link {
            close(&link.connection, code, why);
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more: the agent stops.
        let _ = self.events.send(event).await;
    }

    /// Takes in a connection to a proven peer, and drives it.
    async fn take(self: &Arc<Self>, link: Arc<Link>) {
        let slot = {
            let mut members = self.members();
            let is_welcome = members.standing.is_some() && !members.removed.contains(&link.node);
            if !is_welcome || link.node == self.node {
                drop(members);
                close(&link.connection, CloseCode::Removed, "not welcome");
                return;
            }
            let addr = link.connection.remote_address();
            let slot = members.slots.entry(link.node.clone());
            slot.or_insert_with(|| Arc::new(Slot::new(link.node.clone(), addr)))
                .clone()
        };
        if slot.state().lingering >= limits::LINGERING_MAX {
            close(&link.connection, CloseCode::Busy, "too many connections");
            return;
        }
        if let Some(old) = slot.link()
            && link.is_copy_beside(&old).await
        {
            let (old, new) = (old.connection.remote_address(), link.peer().addr);
            log::warn!(
                "node {} is at {old} and at {new} with the same key, as from a copied card; the one at {new} is refused: erase its data folder to make it another node",
                link.node
            );
            close(
                &link.connection,
                CloseCode::Copy,
                &format!("this node is at {old} already, with the same key"),
            );
            return;
        }
        let _changing = slot.changing.lock().await;
        let peer = link.peer();
        match slot.settle(&self.node, &link) {
            Settled::First => {
                log::info!("node {} connected from {}", peer.node, peer.addr);
                self.tell(Event::Connected(peer)).await;
            }
            Settled::Instead { anew: true } => {
                log::info!("node {} connected anew from {}", peer.node, peer.addr);
                self.tell(Event::Connected(peer)).await;
            }
            Settled::Instead { anew: false } | Settled::Loses => {}
        }
        smol::spawn(link::run(self.clone(), slot.clone(), link)).detach();
    }

    /// A connection is at its end.
    async fn ended(self: &Arc<Self>, slot: &Arc<Slot>, link: &Arc<Link>) {
        let _changing = slot.changing.lock().await;
        let was_current = {
            let mut state = slot.state();
            let is_it = state.link.as_ref().is_some_and(|it| Arc::ptr_eq(it, link));
            if is_it {
                state.link = None;
                match link.since.elapsed() > limits::AT_ONCE {
                    true => state.dial.failures = 0,
                    // One that ends at once is no better than none.
                    false => state.dial.failed(spread()),
                }
            } else {
                state.lingering = state.lingering.saturating_sub(1);
            }
            is_it
        };
        if was_current {
            let why = link.connection.close_reason();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            log::info!("node {} disconnected{why}", link.node);
            self.tell(Event::Disconnected(link.node.clone())).await;
            dial::when_needed(self, slot);
        }
    }
}

/// A lock that a panic elsewhere does not take along.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A byte of chance, to spread what many would do at once.
fn spread() -> u8 {
    let mut byte = [128];
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    byte[0]
}

#[cfg(test)]
mod tests;
