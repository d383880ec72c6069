//! What gossip says on its lane, and how it is read.
//!
//! **Invariant:** variants and fields are only added at the end; what cannot
//! be read is dropped whole.

use super::identity::Identity;
use super::record::{Delta, Stamp};
use crate::model::NodeId;
use foca::Member;
use serde::{Deserialize, Serialize};

/// Buckets that nodes are put into for comparison.
pub(super) const BUCKETS: usize = 64;

/// Largest message taken in, in bytes: room for the largest record.
pub(super) const MESSAGE_MAX: usize = 1 << 20;

/// A record is added to a message while it is shorter, in bytes.
pub(super) const MESSAGE_FULL: usize = 64 << 10;

/// A line of a digest: who lives, and how new its record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub id: Identity,
    pub stamp: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Say {
    /// Fresh changes, to be passed on.
    News(Vec<Delta>),
    /// Records that were asked for or are missing over there.
    Records(Vec<Delta>),
    /// The whole records of these nodes, please.
    Want(Vec<NodeId>),
    /// Everything I know in one number; if yours differs, send `Buckets`.
    Root(u64),
    /// One number a bucket; [`BUCKETS`] of them.
    Buckets(Vec<u64>),
    /// All I know in these buckets, because yours differ.
    Entries {
        buckets: Vec<u8>,
        entries: Vec<Entry>,
    },
    /// What you lack of the buckets that you sent.
    Lacking(Vec<Entry>),
    /// These are dead.
    Down(Vec<Member<Identity>>),
    /// You were known as this before, which counts for more than what you are
    /// now: be more.
    Superseded(Identity),
}

impl Say {
    pub(super) fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MESSAGE_MAX {
            return None;
        }
        postcard::from_bytes(bytes).ok()
    }
}
