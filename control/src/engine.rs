//! The spine: leads inputs to the organs and their results out as effects;
//! owns the timers. No policy of its own.
//!
//! **Invariant:** an answer leaves only after what it depends on is durable.
//! It does not know where bytes go, how steps are done or who asks.

pub use crate::model::{Event, Millis, NodeDescription, WallTime};
pub use crate::request::{Answer, Kind, Refusal, Request};
pub use crate::routes::Routes;
pub use crate::view::View;
pub use crate::worker::{Observation, Step};

use crate::model::*;
use crate::state::State;
use std::collections::BTreeMap;

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the operating system's source, fresh at every start: ids and
    /// tokens come from it.
    pub seed: [u8; 32],
    /// `--listen`, `ip:port`: where others reach this node unless an init or
    /// join names an address.
    pub listen_addr: String,
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// `DATA/consensus/log`: the replicated log and its snapshot.
    Consensus,
    /// `DATA/node/log`: what this node was last told, and its attempts.
    Node,
}

/// One write to stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put `bytes` at `offset` and sync the data. The file is grown in
    /// zero-filled segments beforehand; beyond the last write it reads as
    /// zeros.
    At {
        log: Log,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Replace the whole file atomically: after a crash it is the old or the
    /// new one. Empty `bytes`: the file is to be empty or gone.
    Replace { log: Log, bytes: Vec<u8> },
}

/// What survived, to start from.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The whole file of [`Log::Consensus`], trailing zeros and all; empty
    /// when there is none.
    pub consensus: Vec<u8>,
    /// The same of [`Log::Node`].
    pub node: Vec<u8>,
    /// What the executor found of tasks and standalone containers: `Started`
    /// for what runs, `Exited` for what ended meanwhile. What it does not
    /// name is taken as gone without a trace (a reboot).
    pub found: Vec<Observation>,
}

/// Names a request for its answer; the caller's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    Request {
        ticket: Ticket,
        request: Request,
    },
    Observed(Observation),
    /// Every write of the effects that carried this number, and of all before,
    /// is durable.
    Stored(u64),
    /// `wake_at` has come; harmless at any other time.
    Wake,
    /// What this node is; at start and when it changes.
    Describe(NodeDescription),
}

/// What shall be done, in this order: routes, steps, writes, then the rest.
/// Writes are done in order; `Stored(stored)` follows when all are durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    pub routes: Option<Routes>,
    pub steps: Vec<Step>,
    pub writes: Vec<Write>,
    /// The number to give back in `Stored`; meaningful when there are writes.
    pub stored: u64,
    pub answers: Vec<(Ticket, Result<Answer, Refusal>)>,
    pub events: Vec<Event>,
    /// When to send `Wake` at the latest; replaces the one before. `None`:
    /// nothing is due.
    pub wake_at: Option<Millis>,
}

/// What was recovered makes no sense; the node must not go on with it, since
/// it would forget what it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{log:?} log: {reason}")]
pub struct Corrupt {
    pub log: Log,
    pub reason: String,
}

/// A node's decisions.
pub struct Engine {
    state: State,
    seen: BTreeMap<AssignmentId, Seen>,
    pending: BTreeMap<AssignmentId, String>,
    node: Option<NodeId>,
}

impl Engine {
    /// Starts from what survived. Call [`Engine::step`] with `Wake` next.
    ///
    /// # Errors
    /// When what survived is damaged beyond a torn tail.
    pub fn new(
        _now: Millis,
        _wall: WallTime,
        _config: Config,
        _recovered: Recovered,
    ) -> Result<Self, Corrupt> {
        Ok(Self {
            state: State::default(),
            seen: BTreeMap::new(),
            pending: BTreeMap::new(),
            node: None,
        })
    }

    /// Takes in one input and says what to do about it. `now` never goes
    /// back; `wall` may.
    pub fn step(&mut self, _now: Millis, _wall: WallTime, input: Input) -> Effects {
        let mut effects = Effects::default();
        if let Input::Request { ticket, .. } = input {
            let refusal = Refusal::unavailable(crate::view::NOT_A_MANAGER);
            effects.answers.push((ticket, Err(refusal)));
        }
        effects
    }

    /// What a reader may see now.
    pub fn view(&self) -> View<'_> {
        View {
            state: &self.state,
            seen: &self.seen,
            pending: &self.pending,
            node: self.node.as_ref(),
            is_leader: self.node.is_some(),
        }
    }
}
