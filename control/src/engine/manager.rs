//! The spine's manager half: requests and plans become proposals, one at a
//! time, and what is agreed upon is applied.

use super::lead::Lead;
use super::*;
use crate::assign::Concerned;
use crate::consensus::{Committed, LOG_BYTES_FLOOR, SNAPSHOT_INTERVAL};
use crate::disk::encode;
use crate::events::event;
use crate::plan::{Reach as Planned, World};
use crate::refusal::NO_LEADER;
use crate::request::{self, Context, Managers};
use crate::state::Change;
use crate::view::NOT_A_MANAGER;

/// Requests that wait for their turn; more are refused, since nobody would
/// wait that long.
const REQUESTS_MAX: usize = 1024;

/// What is proposed: when, for people to read, and what.
type Proposal = (WallTime, Vec<Change>);

/// What an agreed proposal is answered with.
type Reply = Option<(Ticket, Answer)>;

/// A manager's part of this node.
pub(super) struct Manager {
    quorum: Quorum,
    /// The last ready whose records are in the queue; and in the write under
    /// way.
    queued: u64,
    written: u64,
    /// What a new cluster begins with.
    first: Option<(Ticket, Vec<Change>, Answer)>,
    requests: VecDeque<(Ticket, Request)>,
    /// The only proposal under way.
    proposal: Option<(u64, Reply)>,
    is_plan_stale: bool,
    plan_due: Option<Millis>,
    pending: BTreeMap<AssignmentId, String>,
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
            is_plan_stale: true,
            plan_due: None,
            pending: BTreeMap::new(),
            lead: None,
        }
    }

    pub(super) fn replan(&mut self) {
        self.is_plan_stale = true;
    }
    pub(super) fn wake(&mut self, now: Millis) {
        if self.plan_due.is_some_and(|due| due <= now) {
            // The next plan says when again; it may have to wait for a write.
            self.plan_due = None;
            self.is_plan_stale = true;
        }
    }
    pub(super) fn due(&self) -> Option<Millis> {
        self.plan_due
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
    }
    pub(super) fn compact(&mut self, state: &State) -> Vec<Record> {
        self.quorum.compact(state.to_snapshot())
    }
    fn can_propose(&self) -> bool {
        self.proposal.is_none() && self.lead.is_some()
    }
    /// It leads, and knows everything that was agreed upon before.
    fn is_fit_to_lead(&self) -> bool {
        self.quorum.is_leader() && self.quorum.has_caught_up()
    }

    /// Every ticket that will get no answer any more.
    fn tickets(&self) -> Vec<Ticket> {
        let proposed = self.proposal.iter().filter_map(|(_, reply)| reply.as_ref());
        let first = self.first.iter().map(|(ticket, ..)| *ticket);
        let waiting = self.requests.iter().map(|(ticket, _)| *ticket);
        first
            .chain(proposed.map(|(ticket, _)| *ticket))
            .chain(waiting)
            .collect()
    }
}

/// Everything in the log can be read: known before anything is acknowledged.
pub(super) fn check(quorum: &Quorum) -> Result<(), String> {
    for (index, data) in quorum.log() {
        let read = postcard::from_bytes::<Proposal>(data);
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
        manager.requests.push_back((ticket, request));
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
            Ok(()) => self.leave(at, Some(ticket), effects),
            Err(refusal) => effects.answers.push((ticket, Err(refusal))),
        }
    }

    /// Who has a part in the agreement, as this node knows it.
    fn managers(&self) -> Managers {
        let nodes = self.state.nodes();
        let all: Vec<&Node> = nodes.filter(|node| node.raft_id.is_some()).collect();
        let reachable = all.iter().filter(|node| self.reach.is_up(&node.id));
        Managers {
            reachable: reachable.count(),
            all: all.len(),
        }
    }

    /// Why this node does not carry out what only managers can.
    fn not_a_manager(&self) -> Refusal {
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

    /// Begins a cluster of this node alone.
    fn found(&mut self, ticket: Ticket, init: &SwarmInit) -> Result<(), Refusal> {
        if self.erasing.is_some() {
            let message = "the node is still leaving its swarm: try again";
            return Err(Refusal::unavailable(message));
        }
        if self.node.is_some() {
            return Err(request::already());
        }
        let node = match init.founding.node.as_str() {
            "" => NodeId::from(self.random.id()),
            _ => init.founding.node.clone(),
        };
        // Never 0, which means "nobody", and never used before.
        let raft_id = self.random.word().max(1);
        let mut init = init.clone();
        if init.advertise_addr.is_empty() {
            init.advertise_addr.clone_from(&self.listen_addr);
        }
        let changes = request::new_cluster(&init, &node, raft_id, &self.about, &mut self.random)?;
        let (quorum, records) = Quorum::bootstrap(node.clone(), raft_id, self.random.word())
            .map_err(|e| Refusal::internal(format!("cannot begin a cluster: {e}")))?;
        self.consensus_disk.push(records);
        self.become_member(Member {
            cluster: cluster_of(&changes),
            node: node.clone(),
            role: NodeRole::Manager,
            addr: init.advertise_addr.parse().unwrap_or(NOWHERE),
            managers: Vec::new(),
        });
        let first = (ticket, changes, Answer::Node(node));
        self.manager = Some(Manager::new(quorum, Some(first)));
        Ok(())
    }

    /// Forgets the cluster.
    fn leave(&mut self, at: Moment, ticket: Option<Ticket>, effects: &mut Effects) {
        if let Some(leader) = self.leader().filter(|_| !self.leads()).cloned() {
            self.send(&leader, Message::Leaving, effects);
        }
        if let Some(manager) = self.manager.take() {
            for ticket in manager.tickets() {
                let refusal = Refusal::unavailable(NOT_A_MANAGER);
                effects.answers.push((ticket, Err(refusal)));
            }
        }
        self.node = None;
        self.member = None;
        self.bulletin = None;
        self.trusted = None;
        self.led = Led::default();
        self.reporter.follow(None);
        self.reach.become_node(None);
        self.state = State::default();
        self.is_routing_stale = true;
        self.worker.leave(at);
        self.consensus_disk.forget();
        self.erasing = Some(ticket);
    }

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
        let is_stillborn = manager.quorum.has_caught_up()
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
            manager.queued = ready.number;
            self.consensus_disk.push(ready.records);
            let mut concerned = Concerned::default();
            for committed in ready.committed {
                self.apply(committed, &mut concerned, effects);
            }
            self.concern(at, &concerned);
            return true;
        }
        match (manager.is_fit_to_lead(), &manager.lead) {
            (true, None) => {
                let term = manager.quorum.term();
                self.begin_lead(at, term);
                return true;
            }
            (false, Some(_)) => {
                self.end_lead();
                return true;
            }
            _ => {}
        }
        if !manager.can_propose() {
            return false;
        }
        if let Some((ticket, changes, answer)) = manager.first.take() {
            self.propose(at, changes, Some((ticket, answer)), effects);
            return true;
        }
        if self.state.cluster().is_some() && manager.is_plan_stale {
            self.plan(at, effects);
            return true;
        }
        let Some((ticket, request)) = manager.requests.pop_front() else {
            return false;
        };
        self.judge(at, ticket, request, effects);
        true
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

    fn plan(&mut self, at: Moment, effects: &mut Effects) {
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

    fn judge(&mut self, at: Moment, ticket: Ticket, request: Request, effects: &mut Effects) {
        let Some(node) = &self.node else { return };
        let mut context = Context {
            state: &self.state,
            node,
            reach: &self.reach,
            wall: at.wall,
            random: &mut self.random,
        };
        match request::judge(&mut context, request) {
            Err(refusal) => effects.answers.push((ticket, Err(refusal))),
            Ok(accepted) if accepted.changes.is_empty() => {
                effects.answers.push((ticket, Ok(accepted.answer)));
            }
            Ok(accepted) => {
                let reply = Some((ticket, accepted.answer));
                self.propose(at, accepted.changes, reply, effects);
            }
        }
    }

    fn propose(&mut self, at: Moment, changes: Vec<Change>, reply: Reply, effects: &mut Effects) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        match manager.quorum.propose(encode(&(at.wall, changes))) {
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

/// An address that nobody is reached at: what was given does not read.
const NOWHERE: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn cluster_of(changes: &[Change]) -> ClusterId {
    let id = changes.iter().find_map(|change| match change {
        Change::PutCluster(cluster) => Some(cluster.id.clone()),
        _ => None,
    });
    id.unwrap_or_default()
}
