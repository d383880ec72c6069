//! The spine: leads inputs to the organs and their results out as effects;
//! owns the timers. No policy of its own.
//!
//! **Invariant:** an answer leaves only after what it depends on is durable,
//! and a step only after the record that it must not outlive. It does not know
//! where bytes go, how steps are done or who asks.

mod agree;
mod hear;
mod lead;
mod manager;
mod member;
mod members;
mod start;

pub use crate::gossip::Keys;
pub use crate::journal::{Corrupt, Log, Unreadable, Write};
pub use crate::model::{Event, Millis, NodeDescription, WallTime};
pub use crate::request::{
    Answer, CaRotate, Founding, Joined, Kind, NodeJoin, Refusal, Request, SwarmInit,
};
pub use crate::routes::Routes;
pub use crate::seal::{KEY_BYTES, LogKey};
pub use crate::view::View;
pub use crate::wire::{Contact, Message, Peer};
pub use crate::worker::{Observation, Step};
pub use hear::KeySource;

use crate::consensus::{Consensus as Quorum, Record};
use crate::disk::Disk;
use crate::gossip::Gossip;
use crate::model::*;
use crate::random::Random;
use crate::reach::Reach;
use crate::report::Reporter;
use crate::routes::Running;
use crate::state::State;
use crate::wire::Bulletin;
use crate::worker::{Moment, NodeRecord, Worker};
use manager::Manager;
use member::Led;
use members::Leaving;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The node's log is compacted when it is larger, and several times what it is
/// worth. In bytes.
const NODE_LOG_FLOOR: u64 = 256 << 10;

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the operating system's source, fresh at every start: ids and
    /// tokens come from it.
    pub seed: [u8; 32],
    /// `ip:port`: where others reach this node unless an init names an
    /// address.
    pub listen_addr: String,
    /// Which cluster this node's certificate is of; `None`: of none.
    pub member: Option<Member>,
    /// What the consensus log is sealed with.
    pub log_key: LogKey,
}

/// What a node's certificate says, and how it begins to talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub role: NodeRole,
    /// Where others reach this node.
    pub addr: std::net::SocketAddr,
    /// Whom to ask first: what the join was told, or nobody.
    pub managers: Vec<Contact>,
}

/// What survived, to start from.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The whole file of [`Log::Consensus`], trailing zeros and all; empty
    /// when there is none.
    pub consensus: Vec<u8>,
    /// The same of [`Log::Node`].
    pub node: Vec<u8>,
    /// What the executor found of tasks and standalone containers: `Prepared`
    /// for what never started, `Started` for what runs, `Exited` for what
    /// ended meanwhile, `Lost` for what went down with the machine. A task
    /// that it does not name has no container and is prepared again.
    pub found: Vec<Observation>,
}

/// Names a request for its answer; the caller's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    Request {
        ticket: Ticket,
        request: Request,
    },
    Observed(Observation),
    /// Every write of the effects that carried this number, and of all before,
    /// is durable.
    Stored(u64),
    /// `wake_at` has come; harmless at any other time.
    Wake,
    /// What this node is; at start and when it changes.
    Describe(NodeDescription),
    /// This node was taken into a cluster; its certificate is durable.
    Joined(Box<Member>),
    /// It has another certificate now: what it may be.
    Certified(NodeRole),
    /// Others reach this node here from now on.
    Moved(std::net::SocketAddr),
    /// The agent will end soon, and comes back or not: a leader hands over. Go
    /// on calling; a second or so is enough.
    Stopping,
    /// A connection to a node is up, whoever began it. What was sent to it
    /// before may be lost.
    Connected(Peer),
    /// The last connection to it is gone.
    Disconnected(NodeId),
    Received {
        from: Peer,
        message: Message,
    },
    Datagram {
        from: Peer,
        bytes: Vec<u8>,
    },
}

/// A message for another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    pub to: Contact,
    pub message: Message,
}

/// A datagram for another node; it may get lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub to: Contact,
    pub bytes: Vec<u8>,
}

/// Whom this node may talk to; replaces what was given before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates of the cluster's authorities, PEM. Empty: as before.
    pub ca_certs_pem: Vec<String>,
    /// Cut off at once, whatever their certificates say.
    pub removed: BTreeSet<NodeId>,
    /// What this node's certificate is to say; the edge gets another when it
    /// says something else, and answers with `Certified`.
    pub role: NodeRole,
}

/// What shall be done, in this order: routes, steps, writes, then the rest.
/// Writes are done in order; `Stored(stored)` follows when all are durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    pub routes: Option<Routes>,
    pub steps: Vec<Step>,
    pub writes: Vec<Write>,
    /// The number to give back in `Stored`; meaningful when there are writes.
    pub stored: u64,
    pub answers: Vec<(Ticket, Result<Answer, Refusal>)>,
    pub events: Vec<Event>,
    pub sends: Vec<Send>,
    pub datagrams: Vec<Datagram>,
    pub trust: Option<Trust>,
    /// When to send `Wake` at the latest; replaces the one before. `None`:
    /// nothing is due.
    pub wake_at: Option<Millis>,
}

/// A node's decisions.
pub struct Engine {
    random: Random,
    listen_addr: String,
    about: NodeDescription,
    state: State,
    /// This node, while it is in a cluster.
    node: Option<NodeId>,
    /// What its certificate says.
    member: Option<Member>,
    /// What it was last told of the cluster.
    bulletin: Option<Box<Bulletin>>,
    /// By a leader, since the start.
    is_told: bool,
    led: Led,
    /// The agent ends soon: others are to lead.
    is_stopping: bool,
    /// It leaves as soon as it is not missed.
    leaving: Option<Leaving>,
    reporter: Reporter,
    reach: Reach,
    keys: Option<KeySource>,
    gossip: Option<Gossip>,
    /// What this node says of itself may be something else.
    is_record_stale: bool,
    /// The board that has this node's key, and had it first.
    double_of: Option<std::net::SocketAddr>,
    /// Answers to other nodes, for the next effects.
    replies: Vec<Send>,
    refusals: Vec<(Ticket, Result<Answer, Refusal>)>,
    trusted: Option<Trust>,
    is_trust_stale: bool,
    manager: Option<Manager>,
    worker: Worker,
    seen: BTreeMap<AssignmentId, Seen>,

    consensus_disk: Disk<Record>,
    node_disk: Disk<NodeRecord>,
    /// Number of the last effects with writes.
    writes: u64,
    /// Steps in order; those with a mark wait until the node's log has been
    /// written so many times.
    held: VecDeque<(u64, Step)>,
    node_writes_wanted: u64,
    node_writes_done: u64,
    /// The cluster is left: its log goes once the node's log says so, for
    /// else a crash in between would have the node run on what it was told.
    erasing: Option<Option<Ticket>>,
    /// Answers that wait for `Stored`.
    answers: VecDeque<(u64, Ticket, Answer)>,
    routes: Routes,
    is_routing_stale: bool,
}

impl Engine {
    /// Takes in one input and says what to do about it. `now` never goes
    /// back; `wall` may.
    pub fn step(&mut self, now: Millis, wall: WallTime, input: Input) -> Effects {
        let at = Moment { now, wall };
        let mut effects = Effects::default();
        match input {
            Input::Request { ticket, request } => self.request(at, ticket, request, &mut effects),
            Input::Observed(observation) => self.worker.observe(at, observation),
            Input::Stored(number) => self.stored(number, &mut effects),
            Input::Wake => self.wake(at),
            Input::Describe(about) => self.describe(about),
            Input::Joined(member) => self.joined(*member),
            Input::Certified(role) => self.certified(role),
            Input::Moved(addr) => self.moved(now, addr),
            Input::Stopping => {
                self.is_stopping = true;
                self.hand_over();
            }
            Input::Connected(peer) => self.connected(now, peer),
            Input::Disconnected(node) => self.disconnected(&node),
            Input::Received { from, message } => self.received(at, from, message),
            Input::Datagram { from, bytes } => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.datagram(now, &from.node, &bytes);
                }
            }
        }
        self.settle(at, &mut effects);
        effects
    }

    /// What a reader may see now.
    pub fn view(&self) -> View<'_> {
        static NONE: BTreeMap<AssignmentId, String> = BTreeMap::new();
        let manager = self.manager.as_ref();
        View {
            state: &self.state,
            seen: &self.seen,
            pending: manager.map_or(&NONE, Manager::pending),
            reach: &self.reach,
            node: self.node.as_ref().filter(|_| self.is_in_cluster()),
            bulletin: self.bulletin.as_deref(),
            is_manager: manager.is_some(),
            is_leader: self.leads(),
            leader: self.leader(),
        }
    }

    /// The cluster is made, or this node was taken into it.
    fn is_in_cluster(&self) -> bool {
        self.state.cluster().is_some() || self.member.is_some()
    }

    /// Who leads, as far as this node knows.
    fn leader(&self) -> Option<&NodeId> {
        match &self.manager {
            Some(manager) if manager.lead.is_some() => self.node.as_ref(),
            // A manager that hears of no leader knows that there is none.
            Some(manager) if manager.quorum.leader().is_none() => None,
            _ => {
                let leader = self.led.node.as_ref()?;
                (!self.reach.is_down(leader)).then_some(leader)
            }
        }
    }

    fn wake(&mut self, at: Moment) {
        self.worker.wake(at);
        if let Some(gossip) = &mut self.gossip {
            gossip.wake(at.now);
        }
        self.tick(at.now);
        self.seek(at.now);
        if self.reach.wake(at.now) {
            self.reach_changed();
        }
        if let Some(lead) = self.lead_mut() {
            lead.told.wake(at.now);
        }
        if let Some(manager) = &mut self.manager {
            manager.wake(at.now);
        }
    }

    fn describe(&mut self, about: NodeDescription) {
        self.about = about;
        self.reporter.note_about();
        self.is_record_stale = true;
        if let Some(manager) = &mut self.manager {
            manager.replan();
        }
    }

    fn stored(&mut self, number: u64, effects: &mut Effects) {
        if self.consensus_disk.stored(number)
            && let Some(manager) = &mut self.manager
        {
            manager.stored();
        }
        if self.node_disk.stored(number) {
            self.node_writes_done += 1;
        }
        while let Some((_, ticket, answer)) = self
            .answers
            .pop_front_if(|(waits_for, _, _)| *waits_for <= number)
        {
            effects.answers.push((ticket, Ok(answer)));
        }
    }

    /// Lets every organ go on until none has anything more to say.
    fn settle(&mut self, at: Moment, effects: &mut Effects) {
        loop {
            self.renew(at);
            let committed = self.manage(at, effects);
            let worked = self.collect();
            let is_other = self.take_part() || self.go_on_leaving(at, effects);
            let heard = self.hear(at, effects);
            if !committed && !worked && !is_other && !heard {
                break;
            }
        }
        self.tick(at.now);
        effects.answers.append(&mut self.refusals);
        self.tell(at.now, effects);
        effects.sends.append(&mut self.replies);
        self.report(at.now, effects);
        self.trust(effects);
        self.route(effects);
        self.release(effects);
        self.flush(effects);
        effects.wake_at = self.due().into_iter().chain(self.plan_due(at.now)).min();
    }

    /// When something comes due.
    fn due(&self) -> Option<Millis> {
        let manager = self.manager.as_ref().and_then(Manager::due);
        let told = self.lead().and_then(|lead| lead.told.due());
        let report = self.reporter.due().filter(|_| !self.leads());
        let all = [
            self.worker.due(),
            manager,
            told,
            report,
            self.reach.due(),
            self.leaving_due(),
            self.gossip.as_ref().and_then(Gossip::due),
        ];
        all.into_iter().flatten().min()
    }

    /// Fenced tasks run on a lease: the leader is asked in time, and one that
    /// leads gives itself its own.
    fn renew(&mut self, at: Moment) {
        if !self.worker.renews(at.now) {
            return;
        }
        if self.leads() {
            self.worker.confirmed(at, at.now);
        } else {
            self.reporter.note_told();
        }
    }

    /// Takes what the worker has come to.
    fn collect(&mut self) -> bool {
        let out = self.worker.take();
        let has_news = !out.changed.is_empty() || !out.records.is_empty();
        if !out.records.is_empty() {
            self.node_disk.push(out.records);
            self.node_disk.compact(NODE_LOG_FLOOR, false);
            self.node_writes_wanted = self.node_writes_started() + 1;
        }
        for step in out.steps {
            // Behind what waits already: steps of a task keep their order.
            self.held.push_back((self.node_writes_wanted, step));
        }
        for id in out.changed {
            self.is_routing_stale = true;
            self.is_record_stale = true;
            self.reporter.note_seen(&id);
            if let Some(lead) = self.manager.as_mut().and_then(|of| of.lead.as_mut()) {
                lead.planner.saw(&self.state, &id);
            }
            match self.worker.seen(&id) {
                Some(seen) => {
                    self.seen.insert(id, seen.clone());
                }
                None => {
                    self.seen.remove(&id);
                }
            }
        }
        if has_news && let Some(manager) = &mut self.manager {
            manager.replan();
        }
        has_news
    }

    /// Writes of the node's log that are durable or under way.
    fn node_writes_started(&self) -> u64 {
        self.node_writes_done + u64::from(self.node_disk.is_under_way())
    }

    fn release(&mut self, effects: &mut Effects) {
        let done = self.node_writes_done;
        while let Some((_, step)) = self.held.pop_front_if(|(mark, _)| *mark <= done) {
            effects.steps.push(step);
        }
    }

    /// Routes go out before the steps of the same effects are done: what is
    /// to stop is no backend any more.
    fn route(&mut self, effects: &mut Effects) {
        if !std::mem::take(&mut self.is_routing_stale) {
            return;
        }
        let directory = self
            .bulletin
            .as_ref()
            .map_or(&[][..], |told| &told.directory);
        let routes = Routes::of(
            directory,
            self.running_here().chain(self.running_elsewhere()),
        );
        if routes != self.routes {
            self.routes.clone_from(&routes);
            effects.routes = Some(routes);
        }
    }

    /// What runs on this node.
    fn running_here(&self) -> impl Iterator<Item = Running> {
        let own = self.node.iter();
        own.flat_map(|node| {
            let assigned = self.worker.assigned();
            assigned.filter_map(|of| Running::of(of, self.worker.seen(&of.id)?, node))
        })
    }

    fn flush(&mut self, effects: &mut Effects) {
        let number = self.writes + 1;
        if self.node_disk.is_idle()
            && let Some(ticket) = self.erasing.take()
        {
            effects.writes.push(self.consensus_disk.erase(number));
            let answer = ticket.map(|ticket| (number, ticket, Answer::Done));
            self.answers.extend(answer);
        }
        if self.consensus_disk.is_ready()
            && let Some(manager) = &mut self.manager
        {
            let state = &self.state;
            let disk = &mut self.consensus_disk;
            manager.writing();
            let all = || manager.compact(state);
            let write = disk.write(number, &mut self.random, all);
            effects.writes.push(write);
        }
        if self.node_disk.is_ready() {
            let bulletin = &self.bulletin;
            let all = || {
                let told = bulletin.iter().cloned().map(NodeRecord::Bulletin);
                self.worker.all_records().into_iter().chain(told).collect()
            };
            let write = self.node_disk.write(number, &mut self.random, all);
            effects.writes.push(write);
        }
        if !effects.writes.is_empty() {
            self.writes = number;
            effects.stored = number;
        }
    }
}

#[cfg(test)]
mod tests;
