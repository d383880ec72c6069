//! The leader's pipeline: what is wanted against what is seen becomes changes.
//!
//! ```text
//! nodes ─► autopilot ─► services (slots, rollout, moves) ─► rebalance ─► schedule ─► reap
//! ```
//! Each stage is a function of the world and of what the stages before it
//! drafted.
//!
//! **Invariant:** level, not edge: planning a world to which the plan has been
//! applied yields no changes. It does not know how changes are agreed upon.

mod autopilot;
mod load;
mod moves;
mod nodes;
mod planner;
mod rank;
mod reach;
mod reap;
mod rebalance;
mod require;
mod rollout;
mod schedule;
mod services;

pub use planner::Planner;
pub use reach::{Reach, Reaches};

use crate::model::*;
use crate::random::Random;
use crate::state::{Change, State};
use load::Loads;
use std::collections::{BTreeMap, BTreeSet};

/// What planning looks at.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub state: &'a State,
    /// With times on this node's clock, whoever saw it.
    pub seen: &'a BTreeMap<AssignmentId, Seen>,
    /// Which nodes are there.
    pub reaches: &'a Reaches,
    /// What nodes say of themselves that the tables may not say yet.
    pub described: &'a BTreeMap<NodeId, NodeDescription>,
    /// This node.
    pub leader: &'a NodeId,
    pub now: Millis,
    pub wall: WallTime,
}

/// What planning comes to.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// Why assignments have no node, all of them; `None`: as before.
    pub pending: Option<BTreeMap<AssignmentId, String>>,
    /// When to plan again, if nothing happens before.
    pub wake_at: Option<Millis>,
}

/// What the stages have come to so far.
struct Draft<'a> {
    world: World<'a>,
    /// The services that are looked at.
    scope: BTreeSet<&'a ServiceId>,
    plan: Plan,
    random: &'a mut Random,
    /// Not in the tables yet.
    new: Vec<Assignment>,
    /// In the tables, and shut down or removed by this plan.
    ended: BTreeSet<AssignmentId>,
    /// Slots that get a new assignment.
    renewed: BTreeMap<ServiceId, BTreeSet<u64>>,
    /// In the tables, and failing too often where they are.
    failing: BTreeSet<AssignmentId>,
    /// In the tables and without a node, by what it is made from.
    waiting: Vec<(AssignmentId, (ServiceId, u64))>,
    /// What is taken of the nodes; measured when somebody asks.
    loads: Option<Loads<'a>>,
    /// Replacements in the tables that have not come up yet.
    in_flight: usize,
    /// Services that may be rebalanced.
    candidates: Vec<rebalance::Candidate<'a>>,
    /// Why assignments of a service have no node.
    pending: BTreeMap<ServiceId, BTreeMap<AssignmentId, String>>,
    /// Services that something else in the cluster holds up.
    held: BTreeSet<ServiceId>,
    /// Services that the next pass goes on with.
    unfinished: BTreeSet<ServiceId>,
    /// When services are to be looked at again.
    due: BTreeMap<ServiceId, Millis>,
    /// When a node that is held off may get something, or another role.
    nodes_due: Option<Millis>,
    /// No node gets another role before.
    roles_rest_until: Millis,
    /// Assignments that were looked at.
    looks: u64,
}

/// Assignments made in one pass at most; the next pass goes on. Keeps one
/// entry of the log within a few megabytes.
const NEW_MAX: usize = 20_000;

impl<'a> World<'a> {
    fn seen(&self, assignment: &Assignment) -> Option<&'a Seen> {
        self.seen.get(&assignment.id)
    }

    /// Its process may still be there, or come to be.
    fn is_alive(&self, assignment: &Assignment) -> bool {
        let Some(node) = &assignment.node else {
            return false;
        };
        let reach = self.reaches.of(node);
        let seen = self.seen(assignment);
        self.state.node(node).is_some() && self.is_alive_on(assignment, reach, seen)
    }

    /// The same of a node that is in the tables.
    fn is_alive_on(&self, of: &Assignment, reach: Reach, seen: Option<&Seen>) -> bool {
        if reach == Reach::Down && self.fenced_until(of).is_none() {
            return false;
        }
        match seen {
            // Nobody has taken it up yet; once it is over nobody will, unless
            // its node has not said yet what it has.
            None => of.is_live() || reach != Reach::Up,
            Some(seen) if seen.is_gone => false,
            // Its node tries again by itself.
            Some(seen) => !seen.state().is_terminal() || (of.is_live() && !seen.is_exhausted),
        }
    }
}

impl World<'_> {
    /// Its node is down, and may run it until then for all that is known.
    fn fenced_until(&self, assignment: &Assignment) -> Option<Millis> {
        let since = self.reaches.down_since(assignment.node.as_ref()?)?;
        let until = since.plus(FENCE_LEASE_MS + FENCE_MARGIN_MS);
        let is_fenced = || {
            let revision = self
                .state
                .revision(&assignment.service, assignment.revision);
            revision.is_some_and(|of| is_fenced(&of.service_labels))
        };
        (until > self.now && is_fenced()).then_some(until)
    }

    /// Its node gives up its tasks.
    fn is_displaced(&self, assignment: &Assignment) -> bool {
        let node = assignment.node.as_ref().and_then(|id| self.state.node(id));
        node.is_some_and(|node| node.spec.availability == Availability::Drain)
            && !self.seen(assignment).is_some_and(|seen| seen.is_exhausted)
    }

    /// No attempt of it has come up or ended yet.
    fn is_starting(&self, assignment: &Assignment) -> bool {
        let attempts = self.seen(assignment).map_or(&[][..], |of| &of.attempts);
        !attempts
            .iter()
            .any(|attempt| attempt.has_run() || attempt.ended.is_some())
    }
}

impl<'a> Draft<'a> {
    fn new(world: World<'a>, scope: BTreeSet<&'a ServiceId>, random: &'a mut Random) -> Self {
        Self {
            world,
            scope,
            plan: Plan::default(),
            random,
            new: Vec::new(),
            ended: BTreeSet::new(),
            renewed: BTreeMap::new(),
            failing: BTreeSet::new(),
            waiting: Vec::new(),
            loads: None,
            in_flight: 0,
            candidates: Vec::new(),
            pending: BTreeMap::new(),
            held: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            due: BTreeMap::new(),
            nodes_due: None,
            roles_rest_until: Millis(0),
            looks: 0,
        }
    }

    fn run(&mut self) {
        nodes::plan(self);
        autopilot::plan(self);
        services::plan(self);
        rebalance::plan(self);
        schedule::plan(self);
        let new = std::mem::take(&mut self.new);
        let put = new.into_iter().map(Box::new).map(Change::PutAssignment);
        self.plan.changes.extend(put);
        reap::plan(self);
    }

    /// Whether a node may get something new, as far as its reach goes.
    fn is_open(&mut self, node: &NodeId) -> bool {
        let world = self.world;
        if world.reaches.of(node) != Reach::Up {
            return false;
        }
        let held = world.reaches.held_until(node, world.now);
        if let Some(until) = held {
            self.wake_nodes(until);
        }
        held.is_none()
    }

    /// Looks at what nodes matter to again at `when`.
    fn wake_nodes(&mut self, when: Millis) {
        self.nodes_due = self.nodes_due.into_iter().chain([when]).min();
    }

    fn end(&mut self, assignment: &Assignment, desired: TaskState) {
        if assignment.desired >= desired {
            return;
        }
        let is_counted = assignment.is_live() && self.world.is_alive(assignment);
        if self.ended.insert(assignment.id.clone())
            && is_counted
            && let Some(loads) = &mut self.loads
        {
            loads.end(assignment);
        }
        self.plan.changes.push(Change::SetDesired {
            assignment: assignment.id.clone(),
            desired,
        });
    }

    fn is_renewed(&self, service: &ServiceId, slot: u64) -> bool {
        let renewed = self.renewed.get(service);
        renewed.is_some_and(|slots| slots.contains(&slot))
    }

    /// Looks at a service again at `when`.
    fn wake(&mut self, service: &ServiceId, when: Millis) {
        match self.due.get_mut(service) {
            Some(due) => *due = (*due).min(when),
            None => {
                self.due.insert(service.clone(), when);
            }
        }
    }

    fn begin(&mut self, service: &Service, slot: u64, desired: TaskState) -> &mut Assignment {
        let assignment = self.draw(service, slot, desired);
        self.add(assignment)
    }

    /// As [`Draft::begin`], on a node, if it fits there once `leaving` are
    /// gone.
    fn begin_on(
        &mut self,
        service: &Service,
        node: &NodeId,
        desired: TaskState,
        leaving: &[&Assignment],
    ) -> Option<&mut Assignment> {
        self.measure();
        let mut assignment = self.draw(service, 0, desired);
        let loads = self.loads.as_mut()?;
        let place = loads.place(node)?;
        let number = loads.service(&service.id);
        let requirement = loads.requirement(number, &assignment);
        let fits = loads.without(leaving, |loads| {
            let fits = loads.miss(place, number, &requirement).is_none();
            if fits {
                loads.bind(place, &mut assignment);
            }
            fits
        });
        fits.then(|| self.add(assignment))
    }

    fn draw(&mut self, service: &Service, slot: u64, desired: TaskState) -> Assignment {
        Assignment {
            id: self.random.id().into(),
            service: service.id.clone(),
            revision: service.revision,
            slot,
            desired,
            ..Assignment::default()
        }
    }

    fn add(&mut self, assignment: Assignment) -> &mut Assignment {
        let renewed = self.renewed.entry(assignment.service.clone());
        renewed.or_default().insert(assignment.slot);
        self.new.push(assignment);
        let last = self.new.len() - 1;
        &mut self.new[last]
    }

    /// Measures what is taken of the nodes, unless that is done.
    fn measure(&mut self) {
        if self.loads.is_some() {
            return;
        }
        let world = self.world;
        let mut loads = Loads::measure(world, |node| self.is_open(node));
        self.looks += world.state.assignments().count() as u64;
        for id in &self.ended {
            let of_tables = world.state.assignment(id);
            if let Some(assignment) = of_tables.filter(|of| of.is_live() && world.is_alive(of)) {
                loads.end(assignment);
            }
        }
        self.loads = Some(loads);
    }
}

#[cfg(test)]
mod tests;
