//! The log in memory, as the consensus library reads it.
//!
//! **Invariant:** entries are without gaps from `base + 1`, and nothing behind
//! what is applied is dropped.

use super::record::{Members, Record};
use raft::prelude::*;
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};
use std::cell::Cell;

/// Entries that are kept in memory behind a snapshot, so that a follower that
/// is a little late needs no snapshot: Docker's `LogEntriesForSlowFollowers`.
const KEPT_ENTRIES: u64 = 500;

/// The log since some time before the last snapshot.
pub(super) struct Store {
    hard: HardState,
    members: Members,
    /// `members` is as of this index.
    members_index: u64,
    /// Entries up to here do not say who takes part.
    floor: u64,
    /// What the log on disk begins with.
    snapshot_index: u64,
    snapshot_state: Vec<u8>,
    /// The entry before the first one in memory.
    base_index: u64,
    base_term: u64,
    entries: Vec<Entry>,
    /// For members that are too late for entries.
    offer: Option<Snapshot>,
    is_offer_wanted: Cell<bool>,
}

impl Store {
    pub(super) fn new(voters: Vec<u64>) -> Self {
        Self {
            hard: HardState::default(),
            members: Members {
                voters,
                learners: Vec::new(),
            },
            members_index: 0,
            // The first voters are in no entry.
            floor: 1,
            snapshot_index: 0,
            snapshot_state: Vec::new(),
            base_index: 0,
            base_term: 0,
            entries: Vec::new(),
            offer: None,
            is_offer_wanted: Cell::new(false),
        }
    }

    /// Takes in one record of a log that is read back.
    pub(super) fn replay(&mut self, record: Record) -> std::result::Result<(), String> {
        match record {
            Record::Identity { .. } => return Err("it has two identities".into()),
            Record::Hard { term, vote, commit } => {
                self.hard.term = term;
                self.hard.vote = vote;
                self.hard.commit = commit;
            }
            Record::Snapshot {
                index,
                term,
                voters,
                state,
            } => {
                let members = Members {
                    voters,
                    learners: Vec::new(),
                };
                self.restore(index, term, members);
                self.snapshot_state = state;
            }
            Record::Entry {
                kind,
                term,
                index,
                data,
                context,
            } => {
                if index <= self.snapshot_index || index > self.last() + 1 {
                    return Err(format!("entry {index} does not follow {}", self.last()));
                }
                self.append(vec![Entry {
                    entry_type: kind,
                    term,
                    index,
                    data,
                    context,
                    ..Entry::default()
                }]);
            }
            Record::Members {
                index,
                voters,
                learners,
                floor,
            } => {
                self.set_members(index, Members { voters, learners });
                self.floor = floor;
            }
        }
        Ok(())
    }

    /// After the last record: what a torn tail took with it is forgotten.
    pub(super) fn replayed(&mut self) {
        let (first, last) = (self.snapshot_index, self.last());
        self.hard.commit = self.hard.commit.clamp(first, last.max(first));
    }

    /// Nothing but a snapshot's place is left.
    pub(super) fn restore(&mut self, index: u64, term: u64, members: Members) {
        self.set_members(index, members);
        self.snapshot_index = index;
        self.base_index = index;
        self.base_term = term;
        self.entries.clear();
        self.hard.commit = self.hard.commit.max(index);
        self.offer = None;
    }

    /// Entries of the same index and later ones are replaced.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.base_index + 1);
        self.entries.truncate(keep as usize);
        self.entries.extend(entries);
    }

    pub(super) fn set_hard_state(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub(super) fn set_members(&mut self, index: u64, mut members: Members) {
        members.voters.sort_unstable();
        members.learners.sort_unstable();
        self.members = members;
        self.members_index = index;
    }

    /// This member is the only one, after everything in the log; nobody can
    /// learn that from the entries.
    pub(super) fn force_alone(&mut self, raft_id: u64, term: u64) {
        let members = Members {
            voters: vec![raft_id],
            learners: Vec::new(),
        };
        self.set_members(self.last(), members);
        self.floor = self.last().max(1);
        self.hard.term = term;
        self.hard.vote = raft_id;
        self.offer = None;
    }

    /// The tables as they are after entry `index` begin the log on disk.
    pub(super) fn compact(&mut self, index: u64) {
        self.snapshot_index = index.max(self.snapshot_index);
        let base = self.snapshot_index.saturating_sub(KEPT_ENTRIES);
        if base > self.base_index {
            self.base_term = self.term_of(base).unwrap_or(self.base_term);
            let gone = (base - self.base_index) as usize;
            self.entries.drain(..gone.min(self.entries.len()));
            self.base_index = base;
        }
    }

    /// Hard state, members and entries, as a log would have them behind its
    /// snapshot.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let kept = (self.snapshot_index - self.base_index) as usize;
        let entries = self.entries.iter().skip(kept).map(record);
        [self.members_record(), self.hard_record()]
            .into_iter()
            .chain(entries)
    }

    pub(super) fn hard_record(&self) -> Record {
        Record::Hard {
            term: self.hard.term,
            vote: self.hard.vote,
            commit: self.hard.commit,
        }
    }

    pub(super) fn members_record(&self) -> Record {
        Record::Members {
            index: self.members_index,
            voters: self.members.voters.clone(),
            learners: self.members.learners.clone(),
            floor: self.floor,
        }
    }

    /// The tables of the snapshot that was read back, once.
    pub(super) fn take_snapshot_state(&mut self) -> Option<Vec<u8>> {
        (self.snapshot_index > 0).then(|| std::mem::take(&mut self.snapshot_state))
    }

    /// The tables after `index`, for members that are too late for entries.
    pub(super) fn offer(&mut self, index: u64, state: Vec<u8>) {
        let mut snapshot = Snapshot {
            data: state,
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = self.term_of(index).unwrap_or_default();
        *metadata.mut_conf_state() = self.conf_state();
        self.offer = Some(snapshot);
        self.is_offer_wanted.set(false);
    }

    pub(super) fn is_offer_wanted(&self) -> bool {
        self.is_offer_wanted.get()
    }
    pub(super) fn drop_offer(&mut self) {
        self.offer = None;
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }
    pub(super) fn members_index(&self) -> u64 {
        self.members_index
    }
    pub(super) fn is_alone(&self, raft_id: u64) -> bool {
        self.members.voters == [raft_id] && self.members.learners.is_empty()
    }
    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }
    pub(super) fn snapshot_term(&self) -> u64 {
        self.term_of(self.snapshot_index).unwrap_or_default()
    }
    pub(super) fn entries_since_snapshot(&self) -> u64 {
        self.last() - self.snapshot_index
    }

    /// Entries since the snapshot that carry something.
    pub(super) fn log(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let normal = self.entries.iter().filter(|entry| {
            entry.entry_type == EntryType::EntryNormal as i32 && entry.index > self.snapshot_index
        });
        normal
            .filter(|entry| !entry.data.is_empty())
            .map(|entry| (entry.index, entry.data.as_slice()))
    }

    pub(super) fn last(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    /// `None`: it is not in memory.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        let at = index.checked_sub(self.base_index + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.members.voters.clone(),
            learners: self.members.learners.clone(),
            ..ConfState::default()
        }
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard.clone(),
            conf_state: self.conf_state(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        // Only entries that are to be sent may come later.
        let is_for_another = context.can_async();
        if low <= self.base_index || (is_for_another && low <= self.floor) {
            return Err(Error::Store(StorageError::Compacted));
        }
        let from = (low - self.base_index - 1) as usize;
        let to = high.saturating_sub(self.base_index + 1) as usize;
        let Some(range) = self.entries.get(from..to) else {
            return Err(Error::Store(StorageError::Unavailable));
        };
        let mut entries = range.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.base_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let term = self.term_of(index);
        term.ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base_index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        let lowest = request_index.max(self.floor).max(self.base_index);
        match &self.offer {
            Some(offer) if offer.get_metadata().index >= lowest => Ok(offer.clone()),
            _ => {
                self.is_offer_wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

/// An entry as it is written.
pub(super) fn record(entry: &Entry) -> Record {
    Record::Entry {
        kind: entry.entry_type,
        term: entry.term,
        index: entry.index,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}
