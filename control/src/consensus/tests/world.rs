//! Several members under virtual time from one seed: loss, duplication,
//! reordering, partitions, slow disks, crashes, old and wiped disks.
//!
//! The checkers run after each step: one leader a term, everybody agrees on
//! each index, no read is stale; and at the end nothing acknowledged is lost.

use super::super::*;
use crate::random::Random;
use std::collections::BTreeSet;

/// Messages take fewer ticks than that; so do writes.
const DELAY_TICKS: usize = 3;

/// What the entries make of nothing: (index, value), in order.
type Table = Vec<(u64, u64)>;

pub(super) struct Member {
    pub(super) consensus: Option<Consensus>,
    /// What survives a crash.
    pub(super) disk: Vec<Record>,
    /// Not durable: records, the ready they belong to, and when they will be.
    writes: VecDeque<(Vec<Record>, u64, usize)>,
    pub(super) table: Table,
    pub(super) applied: u64,
    image: Option<Vec<Record>>,
    proposed: BTreeMap<u64, u64>,
    reads: BTreeMap<u64, u64>,
}

/// A cluster.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: usize,
    pub(super) members: BTreeMap<u64, Member>,
    /// When, from, to, what.
    net: Vec<(usize, u64, u64, Vec<u8>)>,
    /// Pairs that do not hear each other: from, to.
    pub(super) cut: BTreeSet<(u64, u64)>,
    /// Of a hundred messages.
    pub(super) delay: usize,
    pub(super) loss: usize,
    pub(super) twice: usize,
    leaders: BTreeMap<u64, u64>,
    agreed: BTreeMap<u64, u64>,
    pub(super) acked: BTreeSet<u64>,
    acked_index: u64,
    values: u64,
    pub(super) is_agreement_checked: bool,
    pub(super) reads_done: usize,
    pub(super) snapshots_taken: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut world = Self {
            random: Random::new(bytes),
            now: 0,
            members: BTreeMap::new(),
            net: Vec::new(),
            cut: BTreeSet::new(),
            delay: DELAY_TICKS,
            loss: 0,
            twice: 0,
            leaders: BTreeMap::new(),
            agreed: BTreeMap::new(),
            acked: BTreeSet::new(),
            acked_index: 0,
            values: 0,
            is_agreement_checked: true,
            reads_done: 0,
            snapshots_taken: 0,
        };
        let word = world.random.word();
        let (first, records) = Consensus::bootstrap("n".into(), 1, word).unwrap();
        world.members.insert(1, Member::new(first, records));
        world.settle();
        world
    }

    /// A cluster of the voters `1..=count` that has settled.
    pub(super) fn of(seed: u64, count: u64) -> Self {
        let mut world = Self::new(seed);
        for id in 2..=count {
            world.add(id);
            assert!(
                world.run_until(200, |world| world.promote_if_caught_up(id)),
                "member {id} never caught up"
            );
        }
        let all = |world: &Self| {
            let mut members = world.members.values();
            members.all(|member| member.consensus.as_ref().unwrap().voters().len() as u64 == count)
        };
        assert!(
            world.run_until(200, |world| all(world)),
            "not all are voters"
        );
        world
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |member: &Member| {
            let consensus = member.consensus.as_ref()?;
            consensus
                .is_leader()
                .then_some((consensus.term(), consensus.raft_id()))
        };
        self.members
            .values()
            .filter_map(leads)
            .max()
            .map(|(_, id)| id)
    }

    pub(super) fn consensus(&mut self, id: u64) -> &mut Consensus {
        self.members
            .get_mut(&id)
            .unwrap()
            .consensus
            .as_mut()
            .unwrap()
    }

    /// Begins a member and has the leader take it in.
    pub(super) fn add(&mut self, id: u64) {
        let word = self.random.word();
        let (joined, records) = Consensus::join("n".into(), id, word).unwrap();
        self.members.insert(id, Member::new(joined, records));
        let done = self.run_until(200, |world| {
            let Some(leader) = world.leader() else {
                return false;
            };
            world.consensus(leader).add_learner(id).is_ok()
        });
        assert!(done, "no leader took {id} in");
    }

    pub(super) fn promote_if_caught_up(&mut self, id: u64) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let consensus = self.consensus(leader);
        if consensus.voters().contains(&id) {
            return true;
        }
        match consensus.progress(id) {
            Some(progress) if progress.is_caught_up() => consensus.promote(id).ok(),
            Some(_) => None,
            // The lead went over before it was agreed upon.
            None => consensus.add_learner(id).ok(),
        };
        false
    }

    pub(super) fn run_until(
        &mut self,
        ticks: usize,
        mut is_done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        for _ in 0..ticks {
            if is_done(self) {
                return true;
            }
            self.tick();
        }
        is_done(self)
    }

    /// A value for the leader, if there is one.
    pub(super) fn propose(&mut self) -> Option<u64> {
        let leader = self.leader()?;
        self.propose_at(leader)
    }

    pub(super) fn propose_at(&mut self, id: u64) -> Option<u64> {
        let value = self.values + 1;
        let member = self.members.get_mut(&id)?;
        let data = value.to_le_bytes().to_vec();
        let number = member.consensus.as_mut()?.propose(data).ok()?;
        member.proposed.insert(number, value);
        self.values = value;
        self.settle();
        Some(value)
    }

    pub(super) fn read(&mut self, id: u64) {
        let acked = self.acked_index;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(consensus) = &mut member.consensus else {
            return;
        };
        if let Ok(read) = consensus.read() {
            member.reads.insert(read, acked);
        }
        self.settle();
    }

    pub(super) fn crash(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        member.consensus = None;
        // Of what was under way, the first writes may have made it.
        let made = self.random.below(member.writes.len() + 1);
        for (records, ..) in member.writes.drain(..).take(made) {
            member.disk.extend(records);
        }
    }

    pub(super) fn save_image(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        member.image = Some(member.disk.clone());
    }
    pub(super) fn restore_image(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        if let Some(image) = member.image.clone() {
            member.disk = image;
        }
    }

    /// The engine's part for who is stale: everything goes, and it waits to be
    /// told.
    pub(super) fn drop_stale(&mut self) {
        let is_stale = |member: &Member| {
            let consensus = member.consensus.as_ref();
            consensus.is_some_and(|consensus| consensus.stale().is_some())
        };
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            if is_stale(&self.members[&id]) {
                assert!(
                    !self.is_agreement_checked,
                    "member {id} takes itself for stale"
                );
                self.crash(id);
                self.members.get_mut(&id).unwrap().disk.clear();
                self.start(id);
            }
        }
    }

    /// From what is durable.
    pub(super) fn start(&mut self, id: u64) {
        let word = self.random.word();
        let member = self.members.get_mut(&id).unwrap();
        let (consensus, state) = match Consensus::recover(member.disk.clone(), word).unwrap() {
            Some(recovered) => recovered,
            None => {
                let (joined, records) = Consensus::join("n".into(), id, word).unwrap();
                member.disk = records;
                (joined, None)
            }
        };
        member.begin(consensus);
        let index = consensus_start(&member.disk);
        if let Some(state) = state {
            member.table = postcard::from_bytes(&state).unwrap();
            member.applied = index;
        }
        self.settle();
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in &ids {
            let timeout = 9 + self.random.below(5);
            self.write(*id);
            if let Some(consensus) = &mut self.members.get_mut(id).unwrap().consensus {
                consensus.tick(timeout);
            }
            // No two tick at the same instant.
            self.settle();
            while self.delay == 1 && self.deliver() {
                ids.iter().for_each(|id| self.write(*id));
                self.settle();
            }
        }
        self.deliver();
        self.settle();
        self.check_leaders();
    }

    fn write(&mut self, id: u64) {
        let now = self.now;
        let member = self.members.get_mut(&id).unwrap();
        let Some(consensus) = &mut member.consensus else {
            return;
        };
        while let Some((records, number, _)) = member.writes.pop_front_if(|(.., due)| *due <= now) {
            member.disk.extend(records);
            consensus.stored(number);
        }
    }

    /// Returns whether there was anything.
    fn deliver(&mut self) -> bool {
        let now = self.now;
        let mut due = Vec::new();
        self.net.retain_mut(|(at, from, to, bytes)| {
            let is_due = *at <= now;
            if is_due {
                due.push((*from, *to, std::mem::take(bytes)));
            }
            !is_due
        });
        let was_any = !due.is_empty();
        while !due.is_empty() {
            let (from, to, bytes) = due.swap_remove(self.random.below(due.len()));
            if self.cut.contains(&(from, to)) {
                continue;
            }
            let Some(member) = self.members.get_mut(&to) else {
                continue;
            };
            if let Some(consensus) = &mut member.consensus {
                let received = consensus.receive(from, &bytes);
                assert!(
                    !self.is_agreement_checked || received.is_ok(),
                    "{received:?}"
                );
            }
        }
        was_any
    }

    /// `init --force-new-cluster`.
    pub(super) fn force_alone(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        let (alone, records) = member.consensus.take().unwrap().force_alone().unwrap();
        member.writes.push_back((records, 0, self.now));
        member.consensus = Some(alone);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            while let Some(ready) = self.next(id) {
                self.take(id, ready);
            }
        }
    }

    fn next(&mut self, id: u64) -> Option<Ready> {
        let member = self.members.get_mut(&id).unwrap();
        let consensus = member.consensus.as_mut()?;
        if consensus.wants_snapshot() {
            consensus.offer_snapshot(postcard::to_allocvec(&member.table).unwrap());
        }
        consensus.ready()
    }

    fn take(&mut self, id: u64, ready: Ready) {
        let is_checked = self.is_agreement_checked;
        let member = self.members.get_mut(&id).unwrap();
        if let Some(state) = ready.restored {
            self.snapshots_taken += 1;
            member.table = postcard::from_bytes(&state).unwrap();
            member.applied = member.table.last().map_or(0, |(index, _)| *index);
            for (index, value) in &member.table {
                assert!(
                    !is_checked || self.agreed.get(index) == Some(value),
                    "snapshot differs"
                );
            }
        }
        for committed in ready.committed {
            let index = committed.index;
            assert!(index > member.applied, "entry {index} came twice");
            member.applied = index;
            let value = u64::from_le_bytes(committed.data.try_into().unwrap());
            member.table.push((index, value));
            let agreed = *self.agreed.entry(index).or_insert(value);
            assert!(
                !is_checked || agreed == value,
                "member {id} differs at {index}"
            );
            let own = committed
                .proposal
                .and_then(|of| member.proposed.remove(&of));
            if let Some(proposed) = own {
                assert_eq!(proposed, value);
                self.acked.insert(value);
                self.acked_index = self.acked_index.max(index);
            }
        }
        for confirmed in ready.reads {
            let wanted = member.reads.remove(&confirmed.read).unwrap();
            self.reads_done += 1;
            assert!(!is_checked || confirmed.index >= wanted, "a read is stale");
        }
        if !ready.records.is_empty() {
            let due = self.now + self.random.below(self.delay);
            // In order.
            let due = due.max(member.writes.back().map_or(0, |(.., due)| *due));
            member.writes.push_back((ready.records, ready.number, due));
        }
        for (to, bytes) in ready.sends {
            self.post(id, to, bytes);
        }
    }

    fn post(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        if self.random.below(100) < self.twice {
            let due = self.now + self.random.below(20);
            self.net.push((due, from, to, bytes.clone()));
        }
        if self.random.below(100) >= self.loss {
            let due = self.now + self.random.below(self.delay);
            self.net.push((due, from, to, bytes));
        }
    }

    /// The log anew, as the engine does it between two writes.
    pub(super) fn compact(&mut self, id: u64) -> bool {
        let member = self.members.get_mut(&id).unwrap();
        let Some(consensus) = &mut member.consensus else {
            return false;
        };
        let is_idle = member.writes.is_empty();
        if is_idle {
            member.disk = consensus.compact(postcard::to_allocvec(&member.table).unwrap());
        }
        is_idle
    }

    fn check_leaders(&mut self) {
        for member in self.members.values() {
            let Some(consensus) = &member.consensus else {
                continue;
            };
            if consensus.is_leader() {
                let first = self
                    .leaders
                    .entry(consensus.term())
                    .or_insert(consensus.raft_id());
                assert_eq!(
                    *first,
                    consensus.raft_id(),
                    "two lead in term {}",
                    consensus.term()
                );
            }
        }
    }

    /// Everything works again: they come to the same, and it is all there.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        (self.loss, self.twice) = (0, 0);
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            if self.members[&id].consensus.is_none() {
                self.start(id);
            }
        }
        let is_led = self.run_until(200, |world| {
            world.drop_stale();
            let leader = world.leader();
            leader.is_some_and(|id| world.consensus(id).has_caught_up())
        });
        assert!(is_led, "nobody leads");
        // It may be about to hand over the lead.
        let is_taken = self.run_until(100, |world| world.propose().is_some());
        assert!(is_taken, "the leader refuses");
        let done = self.run_until(200, |world| {
            world.drop_stale();
            world.is_even()
        });
        assert!(done, "they do not come to the same");
        let table = &self.members[&self.leader().unwrap()].table;
        let there: BTreeSet<u64> = table.iter().map(|(_, value)| *value).collect();
        let lost: Vec<_> = self.acked.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }

    /// Every voter and learner has what the leader has.
    pub(super) fn is_even(&mut self) -> bool {
        self.is_even_among(true)
    }
    pub(super) fn is_even_among_voters(&mut self) -> bool {
        self.is_even_among(false)
    }

    fn is_even_among(&mut self, with_learners: bool) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        if !self.consensus(leader).has_caught_up() {
            return false;
        }
        let mut members = self.consensus(leader).members().clone();
        if !with_learners {
            members.learners.clear();
        }
        let mut ids = members.voters.iter().chain(&members.learners);
        let table = &self.members[&leader].table;
        ids.all(|id| self.members[id].table == *table && self.members[id].consensus.is_some())
    }
}

impl Member {
    fn new(consensus: Consensus, disk: Vec<Record>) -> Self {
        Self {
            consensus: Some(consensus),
            disk,
            writes: VecDeque::new(),
            table: Vec::new(),
            applied: 0,
            image: None,
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    fn begin(&mut self, consensus: Consensus) {
        self.consensus = Some(consensus);
        self.writes.clear();
        self.table.clear();
        self.applied = 0;
        self.proposed.clear();
        self.reads.clear();
    }
}

/// The index of the last snapshot in the log.
fn consensus_start(disk: &[Record]) -> u64 {
    let snapshots = disk.iter().filter_map(|record| match record {
        Record::Snapshot { index, .. } => Some(*index),
        _ => None,
    });
    snapshots.max().unwrap_or(0)
}
