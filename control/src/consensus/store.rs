//! The log in memory, as the consensus library reads it.

use super::Record;
use raft::prelude::*;
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};

/// Everything since the last snapshot.
pub(super) struct Store {
    hard: HardState,
    voters: Vec<u64>,
    snapshot_index: u64,
    snapshot_term: u64,
    snapshot_state: Vec<u8>,
    /// Without gaps, from `snapshot_index + 1`.
    entries: Vec<Entry>,
}

impl Store {
    pub(super) fn new(voters: Vec<u64>) -> Self {
        Self {
            hard: HardState::default(),
            voters,
            snapshot_index: 0,
            snapshot_term: 0,
            snapshot_state: Vec::new(),
            entries: Vec::new(),
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
                self.voters = voters;
                self.snapshot_index = index;
                self.snapshot_term = term;
                self.snapshot_state = state;
                self.entries.clear();
                self.hard.commit = self.hard.commit.max(index);
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
        }
        Ok(())
    }

    /// Entries of the same index and later ones are replaced.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.snapshot_index + 1);
        self.entries.truncate(keep as usize);
        self.entries.extend(entries);
    }

    pub(super) fn set_hard_state(&mut self, hard: HardState) {
        self.hard = hard;
    }

    /// Forgets the entries up to `index`; returns the voters.
    pub(super) fn compact(&mut self, index: u64) -> Vec<u64> {
        if index > self.snapshot_index {
            self.snapshot_term = self.term_of(index).unwrap_or(self.snapshot_term);
            let gone = (index - self.snapshot_index) as usize;
            self.entries.drain(..gone.min(self.entries.len()));
            self.snapshot_index = index;
        }
        self.voters.clone()
    }

    /// Hard state and entries, as a log would have them.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let hard = Record::Hard {
            term: self.hard.term,
            vote: self.hard.vote,
            commit: self.hard.commit,
        };
        std::iter::once(hard).chain(self.entries.iter().map(record))
    }

    /// The tables of the snapshot that was read back, once.
    pub(super) fn take_snapshot_state(&mut self) -> Option<Vec<u8>> {
        (self.snapshot_index > 0).then(|| std::mem::take(&mut self.snapshot_state))
    }

    pub(super) fn is_alone(&self, raft_id: u64) -> bool {
        self.voters == [raft_id]
    }
    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }
    pub(super) fn snapshot_term(&self) -> u64 {
        self.snapshot_term
    }
    pub(super) fn entries_since_snapshot(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Entries that carry something.
    pub(super) fn log(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let normal = self
            .entries
            .iter()
            .filter(|entry| entry.entry_type == EntryType::EntryNormal as i32);
        normal
            .filter(|entry| !entry.data.is_empty())
            .map(|entry| (entry.index, entry.data.as_slice()))
    }

    pub(super) fn last(&self) -> u64 {
        self.snapshot_index + self.entries.len() as u64
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.snapshot_index {
            return Some(self.snapshot_term);
        }
        let at = index.checked_sub(self.snapshot_index + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard.clone(),
            conf_state: ConfState {
                voters: self.voters.clone(),
                ..ConfState::default()
            },
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.snapshot_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let from = (low - self.snapshot_index - 1) as usize;
        let to = high.saturating_sub(self.snapshot_index + 1) as usize;
        let Some(range) = self.entries.get(from..to) else {
            return Err(Error::Store(StorageError::Unavailable));
        };
        let mut entries = range.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.snapshot_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let term = self.term_of(index);
        term.ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.snapshot_index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        // Only a follower is ever sent one.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
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
