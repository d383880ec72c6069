//! The consensus library behind one small face: propose, tick, stored.
//!
//! **Invariant:** what is given out as committed is in the order of the log,
//! each entry once. It knows neither what an entry means nor where records go:
//! records come out, and the caller says when they are durable.
//!
//! One manager needs no wall time: it elects itself when it is made, and ticks
//! do nothing and write nothing. Messages between managers are not there yet;
//! the library's own types stay inside of this folder, so that another library
//! replaces it here.

mod store;

use crate::model::NodeId;
use raft::prelude::*;
use raft::{Config, RawNode, StateRole};
use serde::{Deserialize, Serialize};
use store::Store;

/// Entries between snapshots unless the cluster says otherwise: Docker's.
pub const SNAPSHOT_INTERVAL: u64 = 10_000;

/// The log is compacted when it is larger, and several times its snapshot.
pub const LOG_BYTES_FLOOR: u64 = 4 << 20;

/// What is written to the log, in batches. Variants are only ever added at
/// the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Who this node is among the managers. First in every log.
    Identity {
        node: NodeId,
        raft_id: u64,
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
}

/// An entry that is agreed upon.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    /// The number that [`Consensus::propose`] gave, if it was proposed here
    /// since the start.
    pub proposal: Option<u64>,
    pub data: Vec<u8>,
}

/// What the library wants done.
#[derive(Debug, Default)]
pub struct Ready {
    pub records: Vec<Record>,
    /// To be given to [`Consensus::stored`] when `records` are durable.
    pub number: u64,
    pub committed: Vec<Committed>,
}

/// One manager's part in the agreement.
pub struct Consensus {
    node: NodeId,
    raw: RawNode<Store>,
    proposals: u64,
    /// The log's last index at the start.
    found: u64,
    /// Distinguishes this start's proposals from those found in the log.
    epoch: u64,
}

impl Consensus {
    /// A cluster of this node alone. The records must be the first of the log.
    ///
    /// # Errors
    /// When the library refuses its configuration.
    pub fn bootstrap(
        node: NodeId,
        raft_id: u64,
        epoch: u64,
    ) -> Result<(Self, Vec<Record>), raft::Error> {
        let voters = vec![raft_id];
        let identity = Record::Identity {
            node: node.clone(),
            raft_id,
            voters: voters.clone(),
        };
        let consensus = Self::start(node, raft_id, epoch, Store::new(voters))?;
        Ok((consensus, vec![identity]))
    }

    /// From the records of a log; with the tables of its snapshot and the
    /// index that they are of. `None`: the log is empty.
    ///
    /// # Errors
    /// What makes no sense, in words.
    #[allow(clippy::type_complexity, reason = "one caller takes it apart at once")]
    pub fn recover(
        records: Vec<Record>,
        epoch: u64,
    ) -> Result<Option<(Self, Option<Vec<u8>>)>, String> {
        let mut records = records.into_iter();
        let (node, raft_id, voters) = match records.next() {
            None => return Ok(None),
            Some(Record::Identity {
                node,
                raft_id,
                voters,
            }) => (node, raft_id, voters),
            Some(_) => return Err("it does not begin with an identity".into()),
        };
        let mut store = Store::new(voters);
        for record in records {
            store.replay(record)?;
        }
        let snapshot = store.take_snapshot_state();
        let consensus = Self::start(node, raft_id, epoch, store).map_err(|e| e.to_string())?;
        Ok(Some((consensus, snapshot)))
    }

    fn start(node: NodeId, raft_id: u64, epoch: u64, store: Store) -> Result<Self, raft::Error> {
        let config = Config {
            id: raft_id,
            election_tick: 10,
            heartbeat_tick: 1,
            applied: store.snapshot_index(),
            // A leader asks before it disturbs, and steps down when it is cut
            // off: a lone board must not unseat a working majority.
            pre_vote: true,
            check_quorum: true,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 64,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let is_alone = store.is_alone(raft_id);
        let found = store.last();
        let mut raw = RawNode::new(&config, store, &silent)?;
        if is_alone {
            raw.campaign()?;
        }
        Ok(Self {
            node,
            raw,
            proposals: 0,
            found,
            epoch,
        })
    }

    /// Brings `data` before the cluster. It may get lost with leadership.
    ///
    /// # Errors
    /// When this node does not lead, or too much is under way.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<u64, raft::Error> {
        let number = self.proposals + 1;
        let mut context = self.epoch.to_le_bytes().to_vec();
        context.extend_from_slice(&number.to_le_bytes());
        self.raw.propose(context, data)?;
        self.proposals = number;
        Ok(number)
    }

    /// A tick of elections and heartbeats has passed. `timeout_ticks` is
    /// random, from 10 to 19: how long to wait for a leader from now on.
    /// Nothing is needed of a manager that is alone.
    pub fn tick(&mut self, timeout_ticks: usize) {
        if self.raw.raft.election_elapsed == 0 {
            self.raw.raft.set_randomized_election_timeout(timeout_ticks);
        }
        self.raw.tick();
    }

    /// Everything up to this ready is durable.
    pub fn stored(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
    }

    /// What is to be written and what is agreed upon since the last call.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut from = self.raw.ready();
        let mut ready = Ready {
            number: from.number(),
            ..Ready::default()
        };
        // What is committed is found again by the next election: a hard state
        // that says nothing else is not worth a write.
        if from.must_sync()
            && let Some(hard) = from.hs()
        {
            ready.records.push(Record::Hard {
                term: hard.term,
                vote: hard.vote,
                commit: hard.commit,
            });
        }
        if let Some(hard) = from.hs() {
            self.raw.mut_store().set_hard_state(hard.clone());
        }
        let entries = from.take_entries();
        ready.records.extend(entries.iter().map(store::record));
        self.raw.mut_store().append(entries);
        let committed = from.take_committed_entries();
        self.raw.advance_append_async(from);
        if let Some(last) = committed.last() {
            self.raw.advance_apply_to(last.index);
        }
        let normal = committed
            .into_iter()
            .filter(|entry| entry.get_entry_type() == EntryType::EntryNormal)
            .filter(|entry| !entry.data.is_empty());
        ready.committed = normal
            .map(|entry| Committed {
                index: entry.index,
                proposal: self.own(&entry.context),
                data: entry.data,
            })
            .collect();
        Some(ready)
    }

    /// The whole log anew, with the tables as they are after everything that
    /// was given out as committed.
    pub fn compact(&mut self, state: Vec<u8>) -> Vec<Record> {
        let applied = self.raw.raft.raft_log.applied;
        let voters = self.raw.mut_store().compact(applied);
        let mut records = vec![Record::Identity {
            node: self.node.clone(),
            raft_id: self.raw.raft.id,
            voters: voters.clone(),
        }];
        let store = self.raw.store();
        records.push(Record::Snapshot {
            index: applied,
            term: store.snapshot_term(),
            voters,
            state,
        });
        records.extend(store.records());
        records
    }

    /// Entries since the last snapshot.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.raw.store().entries_since_snapshot()
    }

    /// What was in the log at the start is agreed upon and given out: the
    /// leader's first entry comes behind it.
    pub fn has_caught_up(&self) -> bool {
        self.raw.raft.raft_log.applied > self.found
    }
    /// The entry was in the log at the start.
    pub fn was_found(&self, index: u64) -> bool {
        index <= self.found
    }
    /// Index and data of every entry since the last snapshot.
    pub fn log(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.raw.store().log()
    }

    pub fn node(&self) -> &NodeId {
        &self.node
    }
    pub fn raft_id(&self) -> u64 {
        self.raw.raft.id
    }
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }
    /// It needs nobody to agree.
    pub fn is_alone(&self) -> bool {
        self.raw.store().is_alone(self.raw.raft.id)
    }

    fn own(&self, context: &[u8]) -> Option<u64> {
        let (epoch, number) = context.split_at_checked(8)?;
        let epoch = u64::from_le_bytes(epoch.try_into().ok()?);
        let number = u64::from_le_bytes(number.try_into().ok()?);
        (epoch == self.epoch).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Everything it wants written, taken as durable at once.
    fn settle(consensus: &mut Consensus, log: &mut Vec<Record>) -> Vec<Committed> {
        let mut committed = Vec::new();
        while let Some(ready) = consensus.ready() {
            log.extend(ready.records);
            committed.extend(ready.committed);
            consensus.stored(ready.number);
        }
        committed
    }

    /// The kinds of `records` and how many there are of each.
    fn census(records: &[Record]) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        for record in records {
            let kind = match record {
                Record::Identity { .. } => "identity",
                Record::Hard { .. } => "hard",
                Record::Entry { .. } => "entry",
                Record::Snapshot { .. } => "snapshot",
            };
            *census.entry(kind).or_default() += 1;
        }
        census
    }

    fn alone() -> (Consensus, Vec<Record>) {
        let (mut consensus, mut log) = Consensus::bootstrap("n".into(), 7, 1).unwrap();
        settle(&mut consensus, &mut log);
        assert!(consensus.is_leader());
        (consensus, log)
    }

    #[test]
    fn one_manager_commits_with_one_write() {
        let (mut consensus, _) = alone();
        let number = consensus.propose(b"a".to_vec()).unwrap();
        let ready = consensus.ready().unwrap();
        assert_eq!(census(&ready.records).get("entry"), Some(&1));
        assert!(ready.committed.is_empty(), "not durable yet");
        assert!(consensus.ready().is_none());
        consensus.stored(ready.number);
        let ready = consensus.ready().unwrap();
        assert!(ready.records.is_empty(), "the commit alone is not written");
        assert_eq!(ready.committed[0].proposal, Some(number));
        assert_eq!(ready.committed[0].data, b"a");
    }

    #[test]
    fn ticks_of_an_idle_manager_write_nothing() {
        let (mut consensus, _) = alone();
        for tick in 0..1000 {
            consensus.tick(10 + tick % 10);
            while let Some(ready) = consensus.ready() {
                assert!(ready.records.is_empty());
                consensus.stored(ready.number);
            }
        }
        assert!(consensus.is_leader());
    }

    #[test]
    fn a_restart_gives_out_the_log_again() {
        let (mut consensus, mut log) = alone();
        for text in ["a", "b", "c"] {
            consensus.propose(text.into()).unwrap();
            settle(&mut consensus, &mut log);
        }
        let (mut again, snapshot) = Consensus::recover(log.clone(), 2).unwrap().unwrap();
        assert_eq!(snapshot, None);
        let committed = settle(&mut again, &mut log);
        let data: Vec<_> = committed.iter().map(|c| c.data.as_slice()).collect();
        assert_eq!(data, [b"a", b"b", b"c"]);
        assert_eq!(committed[0].proposal, None, "another start's proposal");
    }

    #[test]
    fn a_compacted_log_starts_with_its_snapshot() {
        let (mut consensus, mut log) = alone();
        for text in ["a", "b"] {
            consensus.propose(text.into()).unwrap();
            settle(&mut consensus, &mut log);
        }
        let mut log = consensus.compact(b"tables".to_vec());
        consensus.propose(b"c".to_vec()).unwrap();
        settle(&mut consensus, &mut log);
        let (mut again, snapshot) = Consensus::recover(log.clone(), 2).unwrap().unwrap();
        assert_eq!(snapshot.as_deref(), Some(&b"tables"[..]));
        let committed = settle(&mut again, &mut log);
        assert_eq!(committed.len(), 1);
        assert_eq!(committed[0].data, b"c");
        let more = again.propose(b"d".to_vec()).unwrap();
        assert_eq!(settle(&mut again, &mut log)[0].proposal, Some(more));
    }
}
