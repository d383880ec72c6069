//! What a node says of itself to everyone: parts, each replaced as a whole,
//! signed together by their owner.
//!
//! **Invariant:** a record is what its owner signed, whoever passed it on; of
//! two the larger (epoch, version) is right. Parts of a kind that this build
//! does not know are kept, signed and passed on unread, so that versions mix.
//! It does not know who lives.

use crate::model::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Signs what this node says, and checks what others say.
pub trait Keys: Send {
    fn sign(&self, bytes: &[u8]) -> Vec<u8>;
    /// The public half, as others need it for [`Keys::verify`].
    fn public(&self) -> Vec<u8>;
    /// Whether `public` is the key that `node` is named after, and made this
    /// signature of these bytes.
    fn verify(&self, node: &NodeId, public: &[u8], bytes: &[u8], signature: &[u8]) -> bool;
}

/// A task of a service, as its node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub service: ServiceId,
    pub slot: u64,
    /// Which try; with the assignment it gives the task's id.
    pub attempt: u32,
    pub state: TaskState,
    pub health: Health,
    pub container: ContainerId,
    pub addresses: Vec<Address>,
    /// Wanted, running and healthy: may be sent to.
    pub serves: bool,
}

impl Endpoint {
    /// The id of the task of this assignment's endpoint.
    pub fn task(&self, assignment: &AssignmentId) -> TaskId {
        TaskId::of(assignment, self.attempt)
    }
}

/// How busy a node is, in sixteenths: coarse, so that idle stays silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub cpu: u8,
    pub memory: u8,
}

/// All that a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Platform, resources and engine labels.
    pub description: NodeDescription,
    pub load: Load,
    pub endpoints: BTreeMap<AssignmentId, Endpoint>,
}

/// Names a part: its kind, and which one of that kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key(u8, String);

/// The kinds of parts. A new idea is a new kind, never a changed one.
const DESCRIPTION: u8 = 0;
const LOAD: u8 = 1;
const ENDPOINT: u8 = 2;

/// The parts of a body, each in postcard.
pub(super) type Parts = BTreeMap<Key, Vec<u8>>;

/// Parts of one record. A board runs some hundred tasks at most.
const PARTS_MAX: usize = 4096;
/// All parts of one record together, in bytes.
const BYTES_MAX: usize = 512 << 10;

impl Body {
    pub(super) fn parts(&self) -> Parts {
        let mut parts = Parts::new();
        let mut put = |kind, id: &str, bytes: Result<Vec<u8>, _>| {
            if let Ok::<_, postcard::Error>(bytes) = bytes {
                parts.insert(Key(kind, id.to_owned()), bytes);
            }
        };
        put(DESCRIPTION, "", postcard::to_allocvec(&self.description));
        put(LOAD, "", postcard::to_allocvec(&self.load));
        for (id, endpoint) in &self.endpoints {
            put(ENDPOINT, id.as_str(), postcard::to_allocvec(endpoint));
        }
        parts
    }

    /// What this build can read of them. A part that its owner wrote in
    /// another way than we know is passed over.
    fn of(parts: &Parts) -> Self {
        let mut body = Self::default();
        for (Key(kind, id), bytes) in parts {
            match *kind {
                DESCRIPTION => body.description = read(bytes).unwrap_or_default(),
                LOAD => body.load = read(bytes).unwrap_or_default(),
                ENDPOINT => {
                    if let Some(endpoint) = read(bytes) {
                        body.endpoints.insert(id.as_str().into(), endpoint);
                    }
                }
                _ => {}
            }
        }
        body
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes)
        .ok()
        .map(|(value, _)| value)
}

/// How new a record is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Unlike for each life of its owner, and larger for one that learnt of
    /// the one before: the upper half counts, the lower is drawn.
    pub epoch: u64,
    /// Counts the changes of an epoch, from 1.
    pub version: u64,
}

/// What one node says of itself, as its owner signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub stamp: Stamp,
    pub body: Body,
    pub(super) parts: Parts,
    pub(super) public: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// How a record came to be what it is now. Whoever has any version from
/// `since` on gets the same record out of it, and the signature shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delta {
    pub node: NodeId,
    pub stamp: Stamp,
    /// A version of the same epoch; 0: these are all parts.
    pub since: u64,
    /// `None`: the part is gone.
    pub parts: Vec<(Key, Option<Vec<u8>>)>,
    pub public: Vec<u8>,
    pub signature: Vec<u8>,
}

/// What came of a delta.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    News(Box<Record>),
    /// We have it, or a newer one.
    Old,
    /// We lack what it builds on.
    Gap,
    /// Not what its owner signed, or too large.
    Bad,
}

impl Record {
    pub(super) fn sign(keys: &dyn Keys, node: &NodeId, stamp: Stamp, body: Body) -> Self {
        let parts = body.parts();
        Self {
            stamp,
            public: keys.public(),
            signature: keys.sign(&signed(node, stamp, &parts)),
            body,
            parts,
        }
    }

    /// All of it.
    pub(super) fn whole(&self, node: &NodeId) -> Delta {
        let parts = self.parts.iter();
        self.delta(
            node,
            0,
            parts.map(|(key, part)| (key.clone(), Some(part.clone()))),
        )
    }

    /// What changed since a version.
    pub(super) fn delta(
        &self,
        node: &NodeId,
        since: u64,
        parts: impl Iterator<Item = (Key, Option<Vec<u8>>)>,
    ) -> Delta {
        Delta {
            node: node.clone(),
            stamp: self.stamp,
            since,
            parts: parts.collect(),
            public: self.public.clone(),
            signature: self.signature.clone(),
        }
    }

    /// What `delta` makes of the record that we have.
    pub(super) fn merge(keys: &dyn Keys, had: Option<&Self>, delta: &Delta) -> Merged {
        if had.is_some_and(|had| had.stamp >= delta.stamp) {
            return Merged::Old;
        }
        let mut parts = match had {
            _ if delta.since == 0 => Parts::new(),
            Some(had)
                if had.stamp.epoch == delta.stamp.epoch && had.stamp.version >= delta.since =>
            {
                had.parts.clone()
            }
            _ => return Merged::Gap,
        };
        for (key, part) in &delta.parts {
            match part {
                Some(part) => parts.insert(key.clone(), part.clone()),
                None => parts.remove(key),
            };
        }
        let bytes: usize = parts
            .iter()
            .map(|(key, part)| key.1.len() + part.len())
            .sum();
        if parts.len() > PARTS_MAX || bytes > BYTES_MAX {
            return Merged::Bad;
        }
        let signed = signed(&delta.node, delta.stamp, &parts);
        if !keys.verify(&delta.node, &delta.public, &signed, &delta.signature) {
            // Perhaps built on what its owner said in another life, with the
            // same numbers: the whole will show.
            let is_whole = delta.since == 0;
            return if is_whole { Merged::Bad } else { Merged::Gap };
        }
        Merged::News(Box::new(Self {
            stamp: delta.stamp,
            body: Body::of(&parts),
            parts,
            public: delta.public.clone(),
            signature: delta.signature.clone(),
        }))
    }
}

impl Delta {
    /// About what it takes on the wire, in bytes.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 160;
        let parts = self.parts.iter();
        FIXED
            + parts
                .map(|(key, part)| 4 + key.1.len() + part.as_ref().map_or(0, Vec::len))
                .sum::<usize>()
    }
}

/// What differs from `old` in `new`: the keys of parts put, changed or gone.
pub(super) fn difference(old: &Parts, new: &Parts) -> Vec<Key> {
    let changed = new
        .iter()
        .filter(|(key, part)| old.get(key) != Some(part))
        .map(|(key, _)| key.clone());
    let gone = old.keys().filter(|key| !new.contains_key(key)).cloned();
    changed.chain(gone).collect()
}

/// What the owner puts its name to.
fn signed(node: &NodeId, stamp: Stamp, parts: &Parts) -> Vec<u8> {
    postcard::to_allocvec(&("skep record 1", node, stamp, parts)).unwrap_or_default()
}
