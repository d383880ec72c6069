//! Every node that was heard of: what waits for it, the connection to it, and
//! how dialing it goes.
//!
//! **Invariants:** at most one connection to a node is used at a time, and of
//! two dialed at once both ends choose the same: the one that the lower node
//! id dialed. What waits stays when the connection changes; lanes move over
//! one message after another. Nothing is keyed by an address.

use super::limits;
use super::link::Link;
use super::queue::{Frame, Pushed, Queue};
use skep_control::model::NodeId;
use skep_control::wire::Lane;
use smol::channel::{Receiver, Sender};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Lanes in the order of their variants.
const LANES: usize = 3;

/// One node.
pub(super) struct Slot {
    pub(super) node: NodeId,
    state: Mutex<SlotState>,
    /// Held while it changes which connection is used and that is told, so
    /// that the last event tells how it is.
    pub(super) changing: smol::lock::Mutex<()>,
    /// Whose turn it is to write on a lane.
    turns: [smol::lock::Mutex<()>; LANES],
    bells: [(Sender<()>, Receiver<()>); LANES],
}

pub(super) struct SlotState {
    queues: [Queue; LANES],
    datagrams: VecDeque<Vec<u8>>,
    pub(super) link: Option<Arc<Link>>,
    /// Connections that were replaced and are not closed yet.
    pub(super) lingering: usize,
    pub(super) dial: Dial,
    /// Who waits for a connection; dropped when there is none to be had.
    pub(super) waiting: Vec<Sender<Arc<Link>>>,
}

/// How dialing goes.
pub(super) struct Dial {
    /// Where others say it is.
    pub(super) told: SocketAddr,
    /// Where it was last.
    pub(super) seen: Option<SocketAddr>,
    /// Where it says on the local link that it is.
    pub(super) nearby: Option<SocketAddr>,
    pub(super) is_running: bool,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

impl Dial {
    /// Where to try next: by turns all places where it may be.
    pub(super) fn address(&self) -> SocketAddr {
        let mut places = vec![self.told];
        for place in [self.seen, self.nearby].into_iter().flatten() {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let turn = self.failures as usize % places.len();
        places.get(turn).copied().unwrap_or(self.told)
    }

    /// Takes note of a failure.
    pub(super) fn failed(&mut self, spread: u8) {
        let pause = limits::BACKOFF_MIN.saturating_mul(1 << self.failures.min(8));
        let pause = pause.min(limits::BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        // Half to whole of it, so that nodes that failed together do not try
        // together.
        let pause = pause.mul_f32(0.5 + f32::from(spread) / 512.0);
        self.not_before = Instant::now() + pause;
    }
}

/// What a new connection is to its slot.
pub(super) enum Settled {
    /// The first: the node is connected.
    First,
    /// It takes over; what was sent on the old one may be lost when this says
    /// so.
    Instead { anew: bool },
    /// The other one stays in use.
    Loses,
}

impl Slot {
    pub(super) fn new(node: NodeId, told: SocketAddr) -> Self {
        Self {
            node,
            state: Mutex::new(SlotState {
                queues: Default::default(),
                datagrams: VecDeque::new(),
                link: None,
                lingering: 0,
                dial: Dial {
                    told,
                    seen: None,
                    nearby: None,
                    is_running: false,
                    failures: 0,
                    not_before: Instant::now(),
                },
                waiting: Vec::new(),
            }),
            changing: Default::default(),
            turns: Default::default(),
            bells: std::array::from_fn(|_| smol::channel::bounded(1)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SlotState> {
        super::lock(&self.state)
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.state().link.clone()
    }

    pub(super) fn turn(&self, lane: Lane) -> &smol::lock::Mutex<()> {
        &self.turns[lane as usize]
    }

    pub(super) fn push(&self, lane: Lane, frame: Frame) -> Pushed {
        let pushed = self.state().queues[lane as usize].push(lane, frame);
        // A bell that has rung already is heard anyway.
        let _ = self.bells[lane as usize].0.try_send(());
        pushed
    }

    pub(super) fn pop(&self, lane: Lane) -> Option<Frame> {
        self.state().queues[lane as usize].pop()
    }

    /// Something waits on the lane, or did.
    pub(super) async fn rung(&self, lane: Lane) {
        let _ = self.bells[lane as usize].1.recv().await;
    }

    /// Keeps a datagram until there is a connection; only the newest few.
    pub(super) fn keep(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        while state.datagrams.len() >= limits::DATAGRAMS_KEPT {
            state.datagrams.pop_front();
        }
        state.datagrams.push_back(bytes);
    }

    /// Decides which of two connections is used; `own` is this node's id.
    pub(super) fn settle(&self, own: &NodeId, new: &Arc<Link>) -> Settled {
        let mut state = self.state();
        state.dial.seen = Some(new.connection.remote_address());
        let settled = match state.link.take() {
            None => Settled::First,
            Some(old) if old.connection.close_reason().is_some() => Settled::Instead { anew: true },
            Some(old) => {
                let at_once = new.dialed != old.dialed && old.since.elapsed() < limits::AT_ONCE;
                let is_own_lower = *own < self.node;
                if at_once && new.dialed != is_own_lower {
                    state.link = Some(old);
                    new.supersede();
                    state.lingering += 1;
                    return Settled::Loses;
                }
                old.supersede();
                state.lingering += 1;
                Settled::Instead { anew: !at_once }
            }
        };
        state.link = Some(new.clone());
        for bytes in state.datagrams.drain(..) {
            let _ = new.connection.send_datagram(bytes.into());
        }
        for waiting in state.waiting.drain(..) {
            let _ = waiting.try_send(new.clone());
        }
        settled
    }
}

impl SlotState {
    /// Whether anything needs a connection.
    pub(super) fn wants(&mut self) -> bool {
        self.waiting.retain(|waiting| !waiting.is_closed());
        let is_quiet = self.queues.iter().all(Queue::is_empty);
        !is_quiet || !self.datagrams.is_empty() || !self.waiting.is_empty()
    }

    /// Gives up what waits: it would come late, and will be said again.
    pub(super) fn give_up(&mut self) {
        self.queues.iter_mut().for_each(Queue::clear);
        self.datagrams.clear();
        self.waiting.clear();
    }
}

/// Resolves when another connection took over.
pub(super) async fn superseded(link: &Link) {
    // Nothing is ever sent: the end of the channel is the message.
    let _ = link.superseded.recv().await;
}

/// Until a moment; not at all when it is past.
pub(super) async fn until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        smol::Timer::after(left).await;
    }
}
