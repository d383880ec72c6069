//! How a member begins: new, told to join, from its log, or by force.
//!
//! **Invariant:** whoever is not the only voter begins in doubt.

use super::*;
use raft::Config;

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
        Self::begin(node, raft_id, epoch, vec![raft_id])
    }

    /// A member of a cluster that will be told by the others who they are: it
    /// waits. `raft_id` is what the cluster gave to it. The records must be
    /// the first of the log.
    ///
    /// # Errors
    /// When the library refuses its configuration.
    pub fn join(
        node: NodeId,
        raft_id: u64,
        epoch: u64,
    ) -> Result<(Self, Vec<Record>), raft::Error> {
        Self::begin(node, raft_id, epoch, Vec::new())
    }

    fn begin(
        node: NodeId,
        raft_id: u64,
        epoch: u64,
        voters: Vec<u64>,
    ) -> Result<(Self, Vec<Record>), raft::Error> {
        let identity = Record::Identity {
            node: node.clone(),
            raft_id,
            voters: voters.clone(),
        };
        let consensus = Self::start(node, raft_id, epoch, Store::new(voters), None)?;
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
        store.replayed();
        let snapshot = store.take_snapshot_state();
        let consensus =
            Self::start(node, raft_id, epoch, store, None).map_err(|e| e.to_string())?;
        Ok(Some((consensus, snapshot)))
    }

    /// `init --force-new-cluster`: this member becomes the only one and keeps
    /// everything in its log, agreed upon or not. The others must never be let
    /// in again under their old ids. The records go behind those in the log.
    ///
    /// # Errors
    /// When the library refuses its configuration.
    pub fn force_alone(self) -> Result<(Self, Vec<Record>), raft::Error> {
        let Self {
            node,
            mut raw,
            epoch,
            applied,
            given,
            ..
        } = self;
        let (raft_id, term) = (raw.raft.id, raw.raft.term);
        let mut store = std::mem::replace(raw.mut_store(), Store::new(Vec::new()));
        let ahead = greeting::term_ahead(term, epoch as u32);
        store.force_alone(raft_id, ahead);
        let records = vec![store.hard_record(), store.members_record()];
        let mut again = Self::start(node, raft_id, epoch, store, Some(applied))?;
        again.offset = given;
        Ok((again, records))
    }

    fn start(
        node: NodeId,
        raft_id: u64,
        epoch: u64,
        store: Store,
        applied: Option<u64>,
    ) -> Result<Self, raft::Error> {
        let applied = applied.unwrap_or(store.snapshot_index());
        let config = Config {
            id: raft_id,
            election_tick: *ELECTION_TICKS.start(),
            heartbeat_tick: HEARTBEAT_TICKS,
            min_election_tick: *ELECTION_TICKS.start(),
            max_election_tick: *ELECTION_TICKS.end() + 1,
            applied,
            // A leader asks before it disturbs, and steps down when it is cut
            // off: a lone board must not unseat a working majority.
            pre_vote: true,
            check_quorum: true,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 64,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let is_sole = store.members().voters == [raft_id];
        let found = store.last();
        let mut raw = RawNode::new(&config, store, &silent)?;
        if is_sole {
            let term = raw.raft.term;
            if term > 0 {
                // Another life of it may count from the same term.
                raw.raft.become_follower(term + (epoch & 0xffff), 0);
            }
            raw.campaign()?;
        }
        let mut consensus = Self {
            node,
            raw,
            proposals: 0,
            reads: 0,
            found,
            epoch,
            greeter: Greeter::new(epoch, !is_sole),
            floor: None,
            bound_ticks: 0,
            stale: None,
            offset: 0,
            given: 0,
            wanted: 0,
            stored: 0,
            outbox: Vec::new(),
            held: VecDeque::new(),
            applied,
            restoring: None,
            snapshots: BTreeMap::new(),
        };
        consensus.ask_around();
        Ok(consensus)
    }
}
