//! The spine's part in the agreement: what the consensus library wants done,
//! entries applied, and one proposal at a time.
//!
//! **Invariant:** the tables change by agreed entries, in their order, and by
//! nothing else.

use super::manager::Reply;
use super::*;
use crate::assign::{Concerned, managers};
use crate::consensus::{Committed, ELECTION_TICKS, LOG_BYTES_FLOOR, Ready, SNAPSHOT_INTERVAL};
use crate::disk::encode;
use crate::events::event;
use crate::state::Change;
use crate::wire::ManagerEntry;

/// A tick of elections and heartbeats, in milliseconds.
const TICK_MS: u64 = 100;

/// What is proposed: when, for people to read, and what.
pub(super) type Proposal = (WallTime, Vec<Change>);

impl Engine {
    /// Goes on with consensus, requests and planning. Returns whether the
    /// worker may have something to do.
    pub(super) fn manage(&mut self, at: Moment, effects: &mut Effects) -> bool {
        let mut has_news = false;
        while self.advance(at, effects) {
            has_news = true;
        }
        let Some(manager) = &self.manager else {
            return has_news;
        };
        let is_stillborn = manager.lead.is_some()
            && self.state.cluster().is_none()
            && manager.first.is_none()
            && manager.proposal.is_none();
        if is_stillborn {
            // It went down while it made the cluster, and told nobody.
            self.leave(at, None, effects);
            return true;
        }
        has_news
    }

    /// One thing after the other, until nothing more can be done now.
    fn advance(&mut self, at: Moment, effects: &mut Effects) -> bool {
        let Some(manager) = &mut self.manager else {
            return false;
        };
        if let Some(ready) = manager.quorum.ready() {
            self.take_ready(at, ready, effects);
            return true;
        }
        if manager.quorum.wants_snapshot() {
            manager.quorum.offer_snapshot(self.state.to_snapshot());
            return true;
        }
        let leads = manager.lead.as_ref().map(|lead| lead.term);
        match (manager.term_to_lead(), leads) {
            (Some(term), None) => {
                self.begin_lead(at, term);
                return true;
            }
            (fit, Some(leads)) if fit != Some(leads) => {
                self.end_lead(effects);
                return true;
            }
            (None, None) => return self.turn_away(at.now, effects),
            _ => {}
        }
        if !manager.can_propose() {
            return false;
        }
        if let Some((ticket, changes, answer)) = manager.first.take() {
            self.propose(at, changes, Some((ticket, answer)), effects);
            return true;
        }
        let is_stale = manager.is_plan_stale && self.state.cluster().is_some();
        if is_stale && self.may_plan(at.now) {
            self.plan(at, effects);
            return true;
        }
        let Some(manager) = &mut self.manager else {
            return false;
        };
        if std::mem::take(&mut manager.is_membership_stale) && self.adjust_members(at, effects) {
            return true;
        }
        self.judge(at, effects)
    }

    fn take_ready(&mut self, at: Moment, ready: Ready, effects: &mut Effects) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        manager.queued = ready.number;
        manager.is_membership_stale |= ready.members.is_some();
        for read in ready.reads {
            if let Some((ticket, answer)) = manager.reads.remove(&read.read) {
                manager.confirmed.push((read.index, ticket, answer));
            }
        }
        self.consensus_disk.push(ready.records);
        let mut concerned = Concerned::default();
        if let Some(tables) = ready.restored {
            self.restore(&tables);
            (concerned.all, concerned.bulletin) = (true, true);
        }
        for committed in ready.committed {
            self.apply(committed, &mut concerned, effects);
        }
        if let Some(manager) = &mut self.manager {
            let applied = manager.quorum.applied();
            let is_there = |(index, ..): &mut (u64, Ticket, Answer)| *index <= applied;
            for (_, ticket, answer) in manager.confirmed.extract_if(.., is_there) {
                effects.answers.push((ticket, Ok(answer)));
            }
        }
        for (raft_id, bytes) in ready.sends {
            match self.member_named(raft_id) {
                Some(node) => self.send(&node, Message::Consensus(bytes), effects),
                None => log::debug!("nobody knows where manager {raft_id} is"),
            }
        }
        self.concern(at, &concerned);
    }

    /// The leader's tables replace this node's, which are too old to follow.
    fn restore(&mut self, tables: &[u8]) {
        match State::from_snapshot(tables) {
            Ok(state) => self.state = state,
            Err(e) => log::error!("the leader's tables do not read (a newer version's?): {e}"),
        }
        self.is_routing_stale = true;
        // Some of what was proposed here may be in there, and some not.
        if let Some(manager) = &mut self.manager {
            manager.replan();
        }
    }

    /// A tenth of a second has passed.
    pub(super) fn tick(&mut self, now: Millis) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        if manager.is_alone() {
            manager.tick_due = None;
            return;
        }
        match manager.tick_due {
            None => manager.tick_due = Some(now.plus(TICK_MS)),
            Some(due) if due <= now => {
                let timeouts = ELECTION_TICKS.end() - ELECTION_TICKS.start() + 1;
                let timeout = ELECTION_TICKS.start() + self.random.below(timeouts);
                manager.quorum.tick(timeout);
                manager.is_membership_stale = true;
                // Late ticks are not made up for: others were late, too.
                manager.tick_due = Some(due.plus(TICK_MS).max(now.plus(TICK_MS / 2)));
                if self.is_stopping {
                    self.hand_over();
                }
            }
            Some(_) => {}
        }
    }

    /// Another manager says something about the agreement.
    pub(super) fn take_consensus(&mut self, from: &NodeId, bytes: &[u8]) {
        let Some(raft_id) = self.raft_id_of(from) else {
            return;
        };
        let Some(manager) = &mut self.manager else {
            return;
        };
        if let Err(e) = manager.quorum.receive(raft_id, bytes) {
            log::warn!("{e}");
        }
    }

    /// The node that has this number among the managers.
    fn member_named(&self, raft_id: u64) -> Option<NodeId> {
        let known = self.known_managers();
        let mut named = known.iter().filter(|known| known.raft_id == raft_id);
        named.next().map(|known| known.contact.node.clone())
    }

    pub(super) fn raft_id_of(&self, node: &NodeId) -> Option<u64> {
        let known = self.known_managers();
        let mut of = known.iter().filter(|known| known.contact.node == *node);
        of.next().map(|known| known.raft_id)
    }

    /// As the tables say and as the leader said, the later of both first.
    fn known_managers(&self) -> Vec<ManagerEntry> {
        let tables: Vec<ManagerEntry> = managers(&self.state).collect();
        let Some(told) = &self.bulletin else {
            return tables;
        };
        let told_all = told.managers.iter().cloned();
        match told.version > self.state.version() {
            true => told_all.chain(tables).collect(),
            false => tables.into_iter().chain(told_all).collect(),
        }
    }

    fn apply(&mut self, committed: Committed, concerned: &mut Concerned, effects: &mut Effects) {
        let (own, index) = (committed.proposal, committed.index);
        let Ok((wall, changes)) = postcard::from_bytes::<Proposal>(&committed.data) else {
            // Checked when it was proposed or recovered.
            log::error!("entry {index} of the log does not read and is left out");
            return;
        };
        let manager = self.manager.as_ref();
        let is_news = manager.is_some_and(|of| !of.quorum.was_found(index));
        if is_news {
            let events = changes
                .iter()
                .filter_map(|change| event(&self.state, change, wall));
            effects.events.extend(events);
        }
        for change in &changes {
            concerned.by(&self.state, change);
            if let Some(lead) = self.manager.as_mut().and_then(|of| of.lead.as_mut()) {
                lead.planner.note(&self.state, change);
            }
        }
        self.state.apply(index, wall, changes);
        self.is_routing_stale = true;
        let Some(manager) = &mut self.manager else {
            return;
        };
        manager.is_plan_stale = true;
        if let Some((number, _)) = &manager.proposal
            && own == Some(*number)
            && let Some((_, Some((ticket, answer)))) = manager.proposal.take()
        {
            effects.answers.push((ticket, Ok(answer)));
        }
        let interval = self.state.cluster().map_or(SNAPSHOT_INTERVAL, |cluster| {
            cluster.spec.raft.snapshot_interval
        });
        let is_due = manager.quorum.entries_since_snapshot() >= interval.max(1);
        self.consensus_disk.compact(LOG_BYTES_FLOOR, is_due);
    }

    pub(super) fn propose(
        &mut self,
        at: Moment,
        changes: Vec<Change>,
        reply: Reply,
        effects: &mut Effects,
    ) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        let proposal: Proposal = (at.wall, changes);
        match manager.quorum.propose(encode(&proposal)) {
            Ok(number) => manager.proposal = Some((number, reply)),
            Err(e) => {
                manager.is_plan_stale = true;
                if let Some((ticket, _)) = reply {
                    let message = format!("the change could not be proposed: {e}");
                    let refusal = Refusal::unavailable(message);
                    effects.answers.push((ticket, Err(refusal)));
                }
            }
        }
    }
}
