//! The spine's manager half: requests and plans become proposals, one at a
//! time, and what is agreed upon is applied.

use super::lead::Lead;
use super::*;
use crate::plan::{Reach as Planned, World};
use crate::refusal::NO_LEADER;
use crate::request::{self, Context, Managers};
use crate::state::Change;
use crate::view::NOT_A_MANAGER;

/// Requests that wait for their turn; more are refused, since nobody would
/// wait that long.
const REQUESTS_MAX: usize = 1024;

/// How long a request waits for a leader, in milliseconds: an election takes
/// a second and a half.
const HOLD_MS: u64 = 3_000;

/// What an agreed proposal is answered with.
pub(super) type Reply = Option<(Ticket, Answer)>;

/// A request that waits for its turn.
pub(super) struct Asked {
    ticket: Ticket,
    request: Request,
    since: Millis,
}

/// A manager's part of this node.
pub(super) struct Manager {
    pub(super) quorum: Quorum,
    /// The last ready whose records are in the queue; and in the write under
    /// way.
    pub(super) queued: u64,
    written: u64,
    /// What a new cluster begins with, or one that is made of what is left.
    pub(super) first: Option<(Ticket, Vec<Change>, Answer)>,
    pub(super) requests: VecDeque<Asked>,
    /// The only proposal under way.
    pub(super) proposal: Option<(u64, Reply)>,
    /// Answers that wait for the quorum to confirm the lead, by the number of
    /// the question; and with the index that must be applied then.
    pub(super) reads: BTreeMap<u64, (Ticket, Answer)>,
    pub(super) confirmed: Vec<(u64, Ticket, Answer)>,
    pub(super) is_plan_stale: bool,
    plan_due: Option<Millis>,
    pending: BTreeMap<AssignmentId, String>,
    /// The next tick; `None` while it is alone.
    pub(super) tick_due: Option<Millis>,
    /// Who takes part may not be who should.
    pub(super) is_membership_stale: bool,
    /// While this node leads, and what was in the log before is applied.
    pub(super) lead: Option<Lead>,
}

impl Manager {
    pub(super) fn new(quorum: Quorum, first: Option<(Ticket, Vec<Change>, Answer)>) -> Self {
        Self {
            quorum,
            queued: 0,
            written: 0,
            first,
            requests: VecDeque::new(),
            proposal: None,
            reads: BTreeMap::new(),
            confirmed: Vec::new(),
            is_plan_stale: true,
            plan_due: None,
            pending: BTreeMap::new(),
            tick_due: None,
            is_membership_stale: true,
            lead: None,
        }
    }

    pub(super) fn replan(&mut self) {
        self.is_plan_stale = true;
        self.is_membership_stale = true;
    }
    pub(super) fn wake(&mut self, now: Millis) {
        if self.plan_due.is_some_and(|due| due <= now) {
            // The next plan says when again; it may have to wait for a write.
            self.plan_due = None;
            self.is_plan_stale = true;
        }
    }
    pub(super) fn due(&self) -> Option<Millis> {
        let held = self.requests.front().filter(|_| self.lead.is_none());
        let held = held.map(|asked| asked.since.plus(HOLD_MS));
        [self.plan_due, self.tick_due, held]
            .into_iter()
            .flatten()
            .min()
    }
    pub(super) fn pending(&self) -> &BTreeMap<AssignmentId, String> {
        &self.pending
    }
    pub(super) fn is_alone(&self) -> bool {
        self.quorum.is_alone()
    }
    /// Somebody else plans from now on.
    pub(super) fn forget_plans(&mut self) {
        self.plan_due = None;
        self.pending.clear();
    }
    /// What is queued goes into a write.
    pub(super) fn writing(&mut self) {
        self.written = self.queued;
    }
    /// That write is durable.
    pub(super) fn stored(&mut self) {
        self.quorum.stored(self.written);
        self.is_membership_stale = true;
    }
    pub(super) fn compact(&mut self, state: &State) -> Vec<Record> {
        self.quorum.compact(state.to_snapshot())
    }
    pub(super) fn can_propose(&self) -> bool {
        self.proposal.is_none() && self.lead.is_some()
    }
    /// The term in which it leads, knowing everything that was agreed upon
    /// before.
    pub(super) fn term_to_lead(&self) -> Option<u64> {
        let is_fit = self.quorum.is_leader() && self.quorum.has_caught_up();
        is_fit.then(|| self.quorum.term())
    }

    /// What was proposed or asked of the quorum, and gets no answer from it
    /// any more.
    pub(super) fn give_up(&mut self) -> Vec<(Ticket, Refusal)> {
        let proposed = self.proposal.take().and_then(|(_, reply)| reply);
        let proposed = proposed.map(|(ticket, _)| (ticket, Refusal::unavailable(UNCLEAR)));
        let reads = std::mem::take(&mut self.reads).into_values();
        let confirmed = std::mem::take(&mut self.confirmed).into_iter();
        let reads = reads.map(|(ticket, _)| ticket);
        let reads = reads.chain(confirmed.map(|(_, ticket, _)| ticket));
        let reads = reads.map(|ticket| (ticket, Refusal::unavailable(NO_LEADER)));
        proposed.into_iter().chain(reads).collect()
    }

    /// Every ticket that will get no answer any more.
    pub(super) fn tickets(&mut self) -> Vec<Ticket> {
        let given_up = self.give_up().into_iter().map(|(ticket, _)| ticket);
        let first = self.first.take().map(|(ticket, ..)| ticket);
        let waiting = self.requests.drain(..).map(|asked| asked.ticket);
        given_up.chain(first).chain(waiting).collect()
    }
}

/// What a change is answered with whose fate is not known.
const UNCLEAR: &str = "the swarm lost its leader before the change was agreed upon: it may or may not have been made. Look whether it was (inspect the object, or list them) before you ask for it again";

/// Everything in the log can be read: known before anything is acknowledged.
pub(super) fn check(quorum: &Quorum) -> Result<(), String> {
    for (index, data) in quorum.log() {
        let read = postcard::from_bytes::<agree::Proposal>(data);
        read.map_err(|e| format!("entry {index} does not read (a newer version's?): {e}"))?;
    }
    Ok(())
}

impl Engine {
    pub(super) fn request(
        &mut self,
        at: Moment,
        ticket: Ticket,
        request: Request,
        effects: &mut Effects,
    ) {
        let refuse = |refusal| (ticket, Err(refusal));
        if let Request::SwarmLeave { force } = request {
            return self.ask_to_leave(at, ticket, force, effects);
        }
        if let Some(addr) = self.double_of {
            let message = format!(
                "this board has the key of the node at {addr}, which was there before (is its card a copy?): leave the swarm by force, remove the data directory and join again"
            );
            effects.answers.push(refuse(Refusal::unavailable(message)));
            return;
        }
        let Some(manager) = &mut self.manager else {
            let refusal = match request {
                Request::SwarmInit(init) => self.found(ticket, &init).err(),
                _ => Some(self.not_a_manager()),
            };
            effects.answers.extend(refusal.map(refuse));
            return;
        };
        if manager.requests.len() >= REQUESTS_MAX {
            let message = format!("{REQUESTS_MAX} requests are waiting already: try again later");
            effects.answers.push(refuse(Refusal::unavailable(message)));
            return;
        }
        if let Request::SwarmInit(init) = &request
            && init.force_new_cluster
            && !manager.is_alone()
        {
            return self.force_new_cluster(ticket, effects);
        }
        manager.requests.push_back(Asked {
            ticket,
            request,
            since: at.now,
        });
    }

    /// Requests that this node does not carry out, for it does not lead.
    /// Returns whether there were any.
    pub(super) fn turn_away(&mut self, now: Millis, effects: &mut Effects) -> bool {
        let Some(manager) = &mut self.manager else {
            return false;
        };
        let own = manager.quorum.raft_id();
        let is_led = manager.quorum.leader().is_some_and(|leader| leader != own);
        let is_over = |asked: &mut Asked| is_led || asked.since.plus(HOLD_MS) <= now;
        let mut away = Vec::new();
        while let Some(asked) = manager.requests.pop_front_if(is_over) {
            away.push(asked.ticket);
        }
        let has_any = !away.is_empty();
        for ticket in away {
            let refusal = self.not_a_manager();
            effects.answers.push((ticket, Err(refusal)));
        }
        has_any
    }

    /// This node goes, if it may.
    fn ask_to_leave(&mut self, at: Moment, ticket: Ticket, force: bool, effects: &mut Effects) {
        let verdict = match &self.manager {
            _ if self.node.is_none() => {
                let message = "This node is not part of a swarm";
                Err(Refusal::unavailable(message))
            }
            Some(_) => request::check_leave(force, self.managers()),
            None => Ok(()),
        };
        match verdict {
            Ok(()) => self.begin_to_leave(at, ticket, effects),
            Err(refusal) => effects.answers.push((ticket, Err(refusal))),
        }
    }

    /// Who has a part in the agreement, as this node knows it.
    pub(super) fn managers(&self) -> Managers {
        let nodes = self.state.nodes();
        let all: Vec<&Node> = nodes.filter(|node| node.raft_id.is_some()).collect();
        let reachable = all.iter().filter(|node| self.reach.is_up(&node.id));
        Managers {
            reachable: reachable.count(),
            all: all.len(),
        }
    }

    /// Why this node does not carry out what only managers can.
    pub(super) fn not_a_manager(&self) -> Refusal {
        if self.node.is_none() {
            return Refusal::unavailable(NOT_A_MANAGER);
        }
        match self.view().leader() {
            Some(leader) => Refusal::not_leader(format!(
                "this node does not lead the swarm: node {} at {} does",
                leader.node, leader.addr
            )),
            None => Refusal::unavailable(NO_LEADER),
        }
    }

    pub(super) fn plan(&mut self, at: Moment, effects: &mut Effects) {
        let (Some(manager), Some(own)) = (&mut self.manager, &self.node) else {
            return;
        };
        let Some(lead) = &mut manager.lead else {
            return;
        };
        if self.about != NodeDescription::default() {
            lead.described.insert(own.clone(), self.about.clone());
        }
        let state = &self.state;
        lead.reaches.retain(|node| state.node(node).is_some());
        for node in state.nodes() {
            let has_reported = node.id == *own || lead.certified.contains_key(&node.id);
            let reach = match self.reach.state(&node.id) {
                NodeState::Ready if has_reported => Planned::Up,
                NodeState::Ready | NodeState::Unknown => Planned::Unknown,
                NodeState::Down | NodeState::Disconnected => Planned::Down,
            };
            lead.reaches.note(at.now, &node.id, reach);
        }
        let world = World {
            state: &self.state,
            seen: &self.seen,
            reaches: &lead.reaches,
            described: &lead.described,
            leader: own,
            now: at.now,
            wall: at.wall,
        };
        let plan = lead.planner.plan(world, &mut self.random);
        manager.is_plan_stale = false;
        if let Some(pending) = plan.pending {
            manager.pending = pending;
        }
        manager.plan_due = plan.wake_at;
        if !plan.changes.is_empty() {
            self.propose(at, plan.changes, None, effects);
        }
    }

    /// The next request. Returns whether there was one.
    pub(super) fn judge(&mut self, at: Moment, effects: &mut Effects) -> bool {
        let (Some(node), Some(manager)) = (&self.node, &mut self.manager) else {
            return false;
        };
        let Some(Asked {
            ticket, request, ..
        }) = manager.requests.pop_front()
        else {
            return false;
        };
        let mut context = Context {
            state: &self.state,
            node,
            reach: &self.reach,
            wall: at.wall,
            random: &mut self.random,
        };
        match request::judge(&mut context, request) {
            Err(refusal) => effects.answers.push((ticket, Err(refusal))),
            // Nothing is agreed upon: it must be certain that this node leads.
            Ok(accepted) if accepted.changes.is_empty() => {
                self.confirm(ticket, accepted.answer, effects);
            }
            Ok(accepted) => {
                let reply = Some((ticket, accepted.answer));
                self.propose(at, accepted.changes, reply, effects);
            }
        }
        true
    }

    /// Answers once the quorum has confirmed that this node leads.
    fn confirm(&mut self, ticket: Ticket, answer: Answer, effects: &mut Effects) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        match manager.quorum.read() {
            Ok(read) => {
                manager.reads.insert(read, (ticket, answer));
            }
            Err(_) => {
                let refusal = self.not_a_manager();
                effects.answers.push((ticket, Err(refusal)));
            }
        }
    }
}
