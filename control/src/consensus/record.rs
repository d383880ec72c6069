//! What goes in and out of the agreement: records for the log, and what the
//! library wants done.
//!
//! **Invariant:** records are read back in the order in which they were given
//! out; each makes sense after those before it.

use crate::model::NodeId;
use serde::{Deserialize, Serialize};

/// What is written to the log, in batches. Variants are only ever added at
/// the end, and none is ever changed: what an older build wrote must read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Who this node is among the managers. First in every log.
    Identity {
        node: NodeId,
        raft_id: u64,
        /// Nobody: it was told to join and knows nobody yet.
        voters: Vec<u64>,
    },
    Hard {
        term: u64,
        vote: u64,
        commit: u64,
    },
    /// Replaces every record of the same index and of later ones.
    Entry {
        kind: i32,
        term: u64,
        index: u64,
        data: Vec<u8>,
        context: Vec<u8>,
    },
    /// The tables as they were after the entry `index`.
    Snapshot {
        index: u64,
        term: u64,
        voters: Vec<u64>,
        state: Vec<u8>,
    },
    /// Who takes part after the entry `index`; changes up to there are in it.
    Members {
        index: u64,
        voters: Vec<u64>,
        learners: Vec<u64>,
        /// Entries up to here do not tell a newcomer who takes part: it needs
        /// a snapshot.
        floor: u64,
    },
}

/// An entry that is agreed upon.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    /// The number that [`super::Consensus::propose`] gave, if it was proposed
    /// here since the start.
    pub proposal: Option<u64>,
    pub data: Vec<u8>,
}

/// A change of who takes part that is agreed upon.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub index: u64,
    /// The number that proposing it gave, if that was here since the start.
    pub proposal: Option<u64>,
}

/// Who takes part; in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub voters: Vec<u64>,
    /// They get everything and decide nothing.
    pub learners: Vec<u64>,
}

/// A read that the quorum has confirmed: whoever has applied `index` may
/// answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// What [`super::Consensus::read`] gave.
    pub read: u64,
    pub index: u64,
}

/// How far a member is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It has everything up to here durably.
    pub matched: u64,
    /// The leader's last index.
    pub last: u64,
    /// It answered within the last election timeout, or has only just come.
    pub is_active: bool,
    /// It is being sent the whole tables.
    pub is_restoring: bool,
}

impl Progress {
    /// It lacks no more than what is on its way at any moment.
    pub fn is_caught_up(&self) -> bool {
        self.matched > 0 && self.last.saturating_sub(self.matched) <= ON_THE_WAY
    }
}

/// Entries that are on their way to a member that keeps pace.
const ON_THE_WAY: u64 = 16;

/// What the library wants done, in this order: the tables replaced, entries
/// applied, records written; messages may leave at any time.
#[derive(Debug, Default)]
pub struct Ready {
    pub records: Vec<Record>,
    /// To be given to [`super::Consensus::stored`] when `records` are durable.
    pub number: u64,
    /// The leader's tables replace this node's; nothing is committed with it.
    pub restored: Option<Vec<u8>>,
    pub committed: Vec<Committed>,
    pub changed: Vec<Changed>,
    /// `Some`: who takes part has changed.
    pub members: Option<Members>,
    pub reads: Vec<Confirmed>,
    /// Raft ids and bytes for their `receive`. What promises something comes
    /// here only after what it depends on was reported stored.
    pub sends: Vec<(u64, Vec<u8>)>,
}
