//! This node among others: how it gets into a swarm, stays in and leaves.
//!
//! Owns the identity and the one port, which is open only while this node is
//! in a swarm or asks to be. Invariants: membership changes one at a time, and
//! is durable before anybody is told of it; the engine's loop is never kept
//! waiting by the network. What nodes say to each other is the engine's.
//!
//! ```text
//!   port     the transport: open, closed, its events to the engine
//!   place    where it listens, where others find it
//!   found    `swarm init`             join     `swarm join`
//!   admit    a manager's answer       certify  certificates of its own
//!   watch    addresses that change    leave    and how a leader stops
//!   dial     streams to others' APIs
//!   rotate   another root certificate    facts   what `info` says, who is where
//! ```

mod admit;
mod certify;
mod dial;
mod facts;
mod found;
mod join;
mod leave;
mod place;
mod port;
mod rotate;
mod watch;

pub(super) use rotate::tls;

use super::Flags;
use super::spine::{Message, Spine};
use crate::backend::Duplex;
use crate::error::{Error, Result};
use crate::identity::{Identity, Membership};
use skep_control::engine::{Input, Trust};
use skep_control::model::NodeDescription;
use smol::channel::{Receiver, Sender, bounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The node's place among others; clones are the same.
#[derive(Clone)]
pub(super) struct Swarm(Arc<Shared>);

pub(super) struct Shared {
    flags: Flags,
    spine: Spine,
    about: NodeDescription,
    identity: Mutex<Identity>,
    /// Open while this node is in a swarm, or asks to be.
    port: Mutex<Option<port::Port>>,
    place: Mutex<Option<place::Place>>,
    /// Streams of other nodes, to this node's API.
    streams: Sender<Box<dyn Duplex>>,
    joining: Mutex<join::Joining>,
    /// What keeps this node out of its swarm, for people.
    trouble: Mutex<Option<String>>,
    /// What the engine said last; `None` before it did.
    trust: Mutex<Option<Trust>>,
    /// Something about certificates may have changed.
    news: (Sender<()>, Receiver<()>),
    /// Held by who changes the membership.
    turn: smol::lock::Mutex<()>,
}

impl Swarm {
    pub(super) fn new(
        flags: &Flags,
        spine: Spine,
        about: NodeDescription,
        identity: Identity,
        streams: Sender<Box<dyn Duplex>>,
    ) -> Self {
        Self(Arc::new(Shared {
            flags: flags.clone(),
            spine,
            about,
            identity: Mutex::new(identity),
            port: Mutex::default(),
            place: Mutex::default(),
            streams,
            joining: Mutex::default(),
            trouble: Mutex::default(),
            trust: Mutex::default(),
            news: bounded(1),
            turn: smol::lock::Mutex::new(()),
        }))
    }

    /// Begins: talks to the others if there are any, and keeps the certificate
    /// and the address right from now on.
    ///
    /// # Errors
    /// When what is kept of this node's place does not read.
    pub(super) fn start(&self) -> Result<()> {
        *lock(&self.0.place) = place::Place::load(&self.0.flags.data_dir)?;
        let swarm = self.clone();
        smol::spawn(async move {
            if let Err(error) = swarm.finish_founding().await {
                log::error!("a swarm that was not founded whole: {error}");
            }
            swarm.clone().open_at_start().await;
            smol::spawn(swarm.clone().follow_address()).detach();
            swarm.keep_certified().await;
        })
        .detach();
        Ok(())
    }

    fn member(&self) -> Option<Membership> {
        lock(&self.0.identity).member().cloned()
    }

    /// Makes a membership durable and shows it to the others from now on.
    async fn enter(&self, member: Membership) -> Result<()> {
        let swarm = self.clone();
        let entered = smol::unblock(move || lock(&swarm.0.identity).enter(member)).await;
        entered?;
        self.show()?;
        self.describe().await;
        Ok(())
    }

    fn ring(&self) {
        // One that waits already is enough.
        let _ = self.0.news.0.try_send(());
    }

    async fn tell(&self, input: Input) {
        self.0.spine.send(Message::Input(input)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-made by a panic that would end the agent anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn already() -> Error {
    Error::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm \
         and join another one.",
    )
}
