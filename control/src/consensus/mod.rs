//! The consensus library behind one small face: propose, tick, receive,
//! stored.
//!
//! **Invariant:** what is given out as committed is in the order of the log,
//! each entry once, the same on every member; what is sent leaves only after
//! what it promises was reported stored; and nothing that a peer sends makes
//! the library panic (see `guard`). It knows neither what an entry means nor
//! where records and messages go. The library's own types stay inside of this
//! folder, so that another library replaces it here.
//!
//! One manager needs no wall time: it elects itself when it is made, and ticks
//! do nothing and write nothing.
//!
//! # A card from yesterday
//! A member keeps two kinds of promise: a vote, which it gives once in a term,
//! and an answer that an entry is on its disk. A board that was restored from
//! an old card image has forgotten some of either, and cannot tell that from
//! its disk. So no start is believed on its disk's word alone: it begins *in
//! doubt*, gives no vote and no answer, and asks the others where they stand
//! (`greeting`). Their answers must be to a question of this life, so nothing
//! that was said to or by an earlier life counts. With the word of every other
//! voter, or after two seconds that of a majority without itself, it goes on
//! under these terms:
//!
//! 1. *It votes in no term up to the highest that it heard of.* A candidate has
//!    its term on disk before it asks for votes. So whoever got this member's
//!    forgotten vote is among those that answered and named that term, or one
//!    that voted with it did: a majority without this member shares another
//!    member with every majority that it was part of.
//! 2. *It votes only for who has the log that the furthest of them has*, until
//!    it has that itself. What was agreed upon with its forgotten answer is on
//!    the disk of one that answered, for the same reason; so it votes with that
//!    one's eyes, and the library's own argument holds.
//! 3. *The leader forgets what an earlier life of it had* and sends it again.
//!
//! So a restored board heals under its old id, as does one whose card was
//! wiped. When fewer answer than a majority without itself (one of three is
//! off, another restarts), it waits the two seconds and then moves its term
//! ahead by more than any cluster ever counts, and a random number: it can't
//! vote twice even then.
//!
//! The limits: (a) an entry that only it and members out of reach had is lost,
//! as when those cards had all burnt: two of three have failed then. (b) At
//! most one member at a time may be stale, until it has caught up. (c) A board
//! that was the only voter when its image was made has nobody to ask. It goes
//! on alone until a member of what came after greets it; then it says so
//! ([`Consensus::stale`]) and what it took in meanwhile is lost. Its terms are
//! told apart by chance from those of the others, so nothing gets mixed.
//! (d) Messages of an earlier life that arrive after two seconds and a change
//! of cards, at a member that was not heard.

mod doubt;
mod greeting;
mod guard;
mod members;
mod record;
mod start;
mod store;

pub use record::{Changed, Committed, Confirmed, Members, Progress, Ready, Record};

use crate::model::NodeId;
use greeting::{Ask, Envelope, Greet, Greeter, Standing};
use guard::{Facts, Verdict};
use prost::Message as _;
use raft::prelude::*;
use raft::{RawNode, StateRole};
use std::collections::{BTreeMap, VecDeque};
use store::Store;

/// Entries between snapshots unless the cluster says otherwise: Docker's.
pub const SNAPSHOT_INTERVAL: u64 = 10_000;

/// The log is compacted when it is larger, and several times its snapshot.
pub const LOG_BYTES_FLOOR: u64 = 4 << 20;

/// Ticks between two heartbeats of a leader.
const HEARTBEAT_TICKS: usize = 4;

/// A follower waits so many ticks for its leader, chosen anew each time; a
/// leader that hears nothing of a majority for the fewest steps down.
pub const ELECTION_TICKS: std::ops::RangeInclusive<usize> = 9..=13;

/// A member may be bound by terms that nobody can meet any more, since who
/// could went down. After so many ticks without a leader it asks again.
const BOUND_TICKS: usize = 50;

/// A snapshot that was not acknowledged after so many ticks is lost: half a
/// minute, for twenty megabytes over a bad radio.
const SNAPSHOT_TICKS: usize = 300;

/// Or after so many answers to heartbeats that know nothing of it.
const SNAPSHOT_PULSES: usize = 6;

/// Largest proposal, in bytes: it must fit a message with room to spare.
pub const PROPOSAL_BYTES_MAX: usize = 32 << 20;

/// Raft ids and bytes for them.
type Outbox = Vec<(u64, Vec<u8>)>;

/// One manager's part in the agreement.
pub struct Consensus {
    node: NodeId,
    raw: RawNode<Store>,
    proposals: u64,
    reads: u64,
    /// The log's last index at the start.
    found: u64,
    /// Distinguishes this start's proposals from those found in the log.
    epoch: u64,
    greeter: Greeter,
    /// Votes go only to who has the log up to here: term and index.
    floor: Option<(u64, u64)>,
    bound_ticks: usize,
    stale: Option<String>,

    /// Numbers of readies go on from here.
    offset: u64,
    /// Number of the last ready.
    given: u64,
    /// Number of the last ready with records, and the last that is durable.
    wanted: u64,
    stored: u64,
    /// What may leave now; and what may when a number is stored.
    outbox: Outbox,
    held: VecDeque<(u64, Outbox)>,
    /// Everything up to here was given out.
    applied: u64,
    /// A snapshot is being stored: the number of its ready, and its index.
    restoring: Option<(u64, u64)>,
    /// Who is being sent a snapshot, and for how many ticks.
    snapshots: BTreeMap<u64, usize>,
}

impl Consensus {
    /// Brings `data` before the cluster. It may get lost with leadership.
    ///
    /// # Errors
    /// When this node does not lead, too much is under way or it is too large.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<u64, raft::Error> {
        if !self.is_leader() || data.len() > PROPOSAL_BYTES_MAX {
            return Err(raft::Error::ProposalDropped);
        }
        let number = self.proposals + 1;
        self.raw.propose(self.context(number), data)?;
        self.proposals = number;
        Ok(number)
    }

    /// Asks the others whether this node still leads. [`Ready::reads`] says
    /// when they have; it never does if this node leads no more, so ask again
    /// when [`Consensus::term`] or [`Consensus::leader`] changes.
    ///
    /// # Errors
    /// When this node does not lead, or has not settled yet.
    pub fn read(&mut self) -> Result<u64, String> {
        if !self.is_leader() || !self.raw.raft.commit_to_current_term() {
            return Err("this node does not lead".into());
        }
        self.reads += 1;
        self.raw.read_index(self.context(self.reads));
        Ok(self.reads)
    }

    /// A tick of elections and heartbeats has passed, a tenth of a second.
    /// `timeout_ticks` is random, of [`ELECTION_TICKS`]: how long to wait for a
    /// leader from now on. Nothing is needed of a manager that is alone.
    pub fn tick(&mut self, timeout_ticks: usize) {
        let needs_nobody = self.is_alone() && self.is_leader();
        if needs_nobody || self.restoring.is_some() || self.stale.is_some() {
            return;
        }
        if self.greeter.is_in_doubt() {
            let own = self.standing();
            for peer in self.greeter.tick(self.raft_id(), &own) {
                self.ask(peer);
            }
            self.reconsider();
            return;
        }
        self.tick_bound();
        self.tick_snapshots();
        let raft = &mut self.raw.raft;
        if raft.election_elapsed == 0 {
            let timeout = timeout_ticks.clamp(*ELECTION_TICKS.start(), *ELECTION_TICKS.end());
            raft.set_randomized_election_timeout(timeout);
        }
        let is_due = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        let is_bound = self.floor.is_some() || self.wanted > self.stored;
        if raft.state != StateRole::Leader && is_due && is_bound {
            // It may not win before it has everything, durably.
            return;
        }
        self.raw.tick();
    }

    /// What the member `from` sent, as [`Ready::sends`] gave it out there. The
    /// caller has made sure that it came from that member.
    ///
    /// # Errors
    /// When it is refused, in words that name the member; nothing has changed
    /// then.
    pub fn receive(&mut self, from: u64, bytes: &[u8]) -> Result<(), String> {
        if self.stale.is_some() || from == self.raft_id() || from == 0 {
            return Ok(());
        }
        let envelope = postcard::from_bytes(bytes).map_err(|e| {
            format!("a message from member {from} does not read (a newer version's?): {e}")
        })?;
        match envelope {
            Envelope::Greet(greet) => self.greeted(from, &greet),
            Envelope::Raft {
                from: life,
                to,
                message,
            } => {
                let is_known = self.greeter.life_of(from) == Some(life);
                if !is_known || to != self.greeter.life() {
                    self.ask(from);
                    return Ok(());
                }
                // What comes at a bad moment is said again.
                if self.greeter.is_in_doubt() {
                    self.ask(from);
                    return Ok(());
                }
                if self.restoring.is_some() {
                    return Ok(());
                }
                self.take(from, &message)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, from: u64, bytes: &[u8]) -> Result<(), String> {
        let message = Message::decode(bytes)
            .map_err(|e| format!("a message from member {from} does not read: {e}"))?;
        let raft = &self.raw.raft;
        let progress = raft.prs().get(from);
        let facts = Facts {
            me: raft.id,
            term: raft.term,
            role: raft.state,
            leader: raft.leader_id,
            last: raft.raft_log.last_index(),
            matched: progress.map_or(0, |progress| progress.matched),
            is_writing: self.wanted > self.stored
                || raft.raft_log.persisted < raft.raft_log.last_index(),
            is_voter: raft.promotable(),
            is_member: progress.is_some(),
            floor: self.floor,
        };
        let log = &raft.raft_log;
        let agreed = log.first_index() - 1..=log.committed;
        let term_of = |index| agreed.contains(&index).then(|| log.term(index).ok())?;
        match guard::check(&message, from, &facts, term_of) {
            Verdict::Drop => return Ok(()),
            Verdict::Contradiction(index, term) => {
                return Err(self.contradict(from, index, term));
            }
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Take => {}
        }
        let is_pulse = message.msg_type == MessageType::MsgHeartbeatResponse as i32;
        // What it returns is only that it has no use for the message.
        self.raw.step(message).ok();
        if is_pulse {
            self.see_snapshot(from);
        }
        if let Some(floor) = self.floor {
            let log = &self.raw.raft.raft_log;
            if (log.last_term(), log.last_index()) >= floor {
                self.floor = None;
            }
        }
        Ok(())
    }

    /// Everything up to this ready is durable.
    pub fn stored(&mut self, number: u64) {
        let Some(own) = number.checked_sub(self.offset) else {
            return;
        };
        self.stored = self.stored.max(number);
        self.raw.on_persist_ready(own);
        if let Some((waits_for, index)) = self.restoring
            && waits_for <= number
        {
            self.restoring = None;
            self.raw.advance_apply_to(index);
        }
        while let Some((_, sends)) = self.held.pop_front_if(|(of, _)| *of <= number) {
            self.outbox.extend(sends);
        }
        self.lead_alone();
    }

    /// What is to be done since the last call, all of it; `None`: nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() {
            if self.outbox.is_empty() {
                return None;
            }
            return Some(Ready {
                number: self.given,
                sends: std::mem::take(&mut self.outbox),
                ..Ready::default()
            });
        }
        let mut from = self.raw.ready();
        let mut ready = Ready {
            number: self.offset + from.number(),
            ..Ready::default()
        };
        self.given = ready.number;
        self.restore(&mut from, &mut ready);
        let is_worth = from.must_sync();
        if let Some(hard) = from.hs() {
            self.raw.mut_store().set_hard_state(hard.clone());
        }
        // What is committed is found again by the next election: a hard state
        // that says nothing else is not worth a write.
        if is_worth {
            ready.records.push(self.raw.store().hard_record());
        }
        let entries = from.take_entries();
        ready.records.extend(entries.iter().map(store::record));
        self.raw.mut_store().append(entries);
        ready.reads = self.confirmed(from.take_read_states());
        let now = self.pack(from.take_messages());
        let later = self.pack(from.take_persisted_messages());
        let committed = from.take_committed_entries();
        self.raw.advance_append_async(from);
        self.commit(committed, &mut ready);
        if !ready.records.is_empty() {
            self.wanted = ready.number;
        }
        self.outbox.extend(now);
        match self.wanted > self.stored {
            true => self.held.push_back((self.wanted, later)),
            false => self.outbox.extend(later),
        }
        ready.sends = std::mem::take(&mut self.outbox);
        self.lead_alone();
        Some(ready)
    }

    /// The only voter leads as soon as it has taken in what was agreed upon
    /// about its members: nobody ticks for it.
    fn lead_alone(&mut self) {
        let is_sole = self.voters() == [self.raft_id()];
        if is_sole && !self.is_leader() && self.wanted <= self.stored && self.stale.is_none() {
            // It refuses when something is left to be taken in.
            self.raw.campaign().ok();
        }
    }

    /// The leader's snapshot takes the place of everything.
    fn restore(&mut self, from: &mut raft::Ready, ready: &mut Ready) {
        let snapshot = from.snapshot();
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        if index == 0 {
            return;
        }
        let members = Members {
            voters: metadata.get_conf_state().voters.clone(),
            learners: metadata.get_conf_state().learners.clone(),
        };
        let state = snapshot.data.clone();
        let store = self.raw.mut_store();
        store.restore(index, term, members);
        ready.records.push(Record::Snapshot {
            index,
            term,
            voters: store.members().voters.clone(),
            state: state.clone(),
        });
        ready.records.push(store.members_record());
        ready.members = Some(store.members().clone());
        ready.restored = Some(state);
        self.restoring = Some((ready.number, index));
        self.applied = index;
        // Whoever was here before has it all by now.
        self.found = self.found.min(index);
    }

    fn commit(&mut self, committed: Vec<Entry>, ready: &mut Ready) {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return;
        };
        for entry in committed {
            let proposal = self.own(&entry.context);
            let index = entry.index;
            if entry.entry_type != EntryType::EntryNormal as i32 {
                ready.changed.push(Changed { index, proposal });
                if self.change_members(&entry) {
                    ready.members = Some(self.members().clone());
                }
            } else if !entry.data.is_empty() {
                ready.committed.push(Committed {
                    index,
                    proposal,
                    data: entry.data,
                });
            }
        }
        if ready.members.is_some() {
            ready.records.push(self.raw.store().members_record());
        }
        self.applied = last;
        self.raw.advance_apply_to(last);
    }

    fn confirmed(&self, states: Vec<raft::ReadState>) -> Vec<Confirmed> {
        let own = states.into_iter().filter_map(|state| {
            Some(Confirmed {
                read: self.own(&state.request_ctx)?,
                index: state.index,
            })
        });
        own.collect()
    }

    /// For the lives that they are meant for; who is not known is asked.
    fn pack(&mut self, messages: Vec<Message>) -> Outbox {
        let mut packed = Vec::new();
        for message in messages {
            let to = message.to;
            if message.msg_type == MessageType::MsgSnapshot as i32 {
                self.snapshots.insert(to, 0);
            }
            match self.greeter.life_of(to) {
                None => self.ask(to),
                Some(life) => {
                    let envelope = Envelope::Raft {
                        from: self.greeter.life(),
                        to: life,
                        message: message.encode_to_vec(),
                    };
                    packed.push((to, encode(&envelope)));
                }
            }
        }
        packed
    }

    /// The whole log anew, with the tables as they are after everything that
    /// was given out as committed.
    pub fn compact(&mut self, state: Vec<u8>) -> Vec<Record> {
        let applied = self.applied;
        self.raw.mut_store().compact(applied);
        let store = self.raw.store();
        let voters = store.members().voters.clone();
        let mut records = vec![
            Record::Identity {
                node: self.node.clone(),
                raft_id: self.raw.raft.id,
                voters: voters.clone(),
            },
            Record::Snapshot {
                index: applied,
                term: store.snapshot_term(),
                voters,
                state,
            },
        ];
        records.extend(store.records());
        records
    }

    /// Entries since the last snapshot.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.raw.store().entries_since_snapshot()
    }

    /// What was in the log at the start is agreed upon and given out. A leader
    /// has its first entry behind that; a follower has heard of a leader.
    pub fn has_caught_up(&self) -> bool {
        match self.is_leader() {
            true => self.applied > self.found && self.raw.raft.commit_to_current_term(),
            false => self.leader().is_some() && self.applied >= self.found,
        }
    }
    /// Everything up to here was given out.
    pub fn applied(&self) -> u64 {
        self.applied
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
        self.raw.raft.state == StateRole::Leader && self.stale.is_none()
    }
    /// Whom this member takes for the leader.
    pub fn leader(&self) -> Option<u64> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0)
    }
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }
    /// It needs nobody to agree, and nobody listens.
    pub fn is_alone(&self) -> bool {
        self.raw.store().is_alone(self.raw.raft.id)
    }
    /// It has only just started, and hears the others first.
    pub fn is_in_doubt(&self) -> bool {
        self.greeter.is_in_doubt()
    }
    /// This disk is older than the cluster: in words, why. The member does
    /// nothing any more; its log and tables are to be dropped, and
    /// [`Consensus::join`] with the same raft id begins anew.
    pub fn stale(&self) -> Option<&str> {
        self.stale.as_deref()
    }

    fn context(&self, number: u64) -> Vec<u8> {
        let mut context = self.epoch.to_le_bytes().to_vec();
        context.extend_from_slice(&number.to_le_bytes());
        context
    }

    fn own(&self, context: &[u8]) -> Option<u64> {
        let (epoch, number) = context.split_at_checked(8)?;
        let epoch = u64::from_le_bytes(epoch.try_into().ok()?);
        let number = u64::from_le_bytes(number.try_into().ok()?);
        (epoch == self.epoch).then_some(number)
    }
}

/// Writing to memory cannot fail for types of known length.
fn encode(envelope: &Envelope) -> Vec<u8> {
    postcard::to_allocvec(envelope).unwrap_or_default()
}

#[cfg(test)]
mod tests;
