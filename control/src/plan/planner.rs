//! What is to be planned again, and when: a pass looks only at services that
//! something happened to.
//!
//! **Invariant:** what a pass leaves out would have yielded nothing; a planner
//! that knows nothing plans everything, so a new leader needs no special path.
//! A service counts as settled only when a pass over it came to no changes, so
//! changes that are never agreed upon are planned again.

use super::*;

/// Assignments that are looked at in a millisecond, to be on the safe side.
/// After a pass the planner rests for as long as it took, before what was
/// merely seen makes it look again: planning takes half of a core at most.
const LOOKS_PER_MS: u64 = 100;

/// A service that needs no pass for now.
#[derive(Debug)]
struct Settled {
    /// Until then, if nothing happens.
    due: Option<Millis>,
    /// Something else in the cluster holds it up: anything may release it.
    is_held: bool,
    /// Every node concerns it.
    is_wide: bool,
}

/// What is known from the passes before. The engine keeps one while this node
/// leads, and tells it each change before it is applied and of whom something
/// else is seen.
#[derive(Debug, Default)]
pub struct Planner {
    settled: BTreeMap<ServiceId, Settled>,
    /// Something else is seen of them.
    noisy: BTreeSet<ServiceId>,
    /// Something happened since the services that are held up were looked at.
    is_stirred: bool,
    /// Noise and held up services wait until then.
    pub(super) rests_until: Millis,
    /// The state of [`Reaches`] that was looked at last.
    reaches_mark: u64,
    /// A node that is held off may get something then, or another role.
    nodes_due: Option<Millis>,
    /// No node gets another role before.
    roles_rest_until: Millis,
    pending: BTreeMap<ServiceId, BTreeMap<AssignmentId, String>>,
}

impl Planner {
    /// A change is about to be applied to `state`.
    pub fn note(&mut self, state: &State, change: &Change) {
        match change {
            Change::PutCluster(_) => self.settled.clear(),
            Change::PutNode(node) => self.stir_node(state, &node.id),
            Change::RemoveNode(node) => self.stir_node(state, node),
            change => {
                if let Some(service) = service_of(state, change) {
                    self.settled.remove(service);
                }
            }
        }
        self.is_stirred = true;
    }

    /// What is seen of an assignment is not what it was.
    pub fn saw(&mut self, state: &State, assignment: &AssignmentId) {
        if let Some(assignment) = state.assignment(assignment)
            && !self.noisy.contains(&assignment.service)
        {
            self.noisy.insert(assignment.service.clone());
        }
        self.is_stirred = true;
    }

    fn stir_node(&mut self, state: &State, node: &NodeId) {
        for assignment in state.assignments_on(node) {
            self.settled.remove(&assignment.service);
        }
        self.settled.retain(|_, of| !of.is_wide && !of.is_held);
        self.is_stirred = true;
    }

    /// One pass over what may have something to do.
    pub fn plan(&mut self, world: World<'_>, random: &mut Random) -> Plan {
        self.look(world);
        let scope: BTreeSet<&ServiceId> = world
            .state
            .services()
            .map(|service| &service.id)
            .chain(world.state.services_assigned())
            .filter(|id| !self.settled.contains_key(*id))
            .collect();
        let mut draft = Draft::new(world, scope, random);
        draft.roles_rest_until = self.roles_rest_until;
        draft.run();
        self.settle(draft)
    }

    /// Takes back into the scope what is due.
    fn look(&mut self, world: World<'_>) {
        if world.reaches.mark() != self.reaches_mark {
            let changed: Vec<NodeId> = world
                .reaches
                .changed_since(self.reaches_mark)
                .cloned()
                .collect();
            self.reaches_mark = world.reaches.mark();
            for node in changed {
                self.stir_node(world.state, &node);
            }
        }
        if self.nodes_due.is_some_and(|due| due <= world.now) {
            self.nodes_due = None;
            self.settled.retain(|_, of| !of.is_wide && !of.is_held);
        }
        let is_due = |of: &Settled| of.due.is_some_and(|due| due <= world.now);
        self.settled.retain(|_, of| !is_due(of));
        if self.is_stirred && self.rests_until <= world.now {
            self.is_stirred = false;
            for service in std::mem::take(&mut self.noisy) {
                self.settled.remove(&service);
            }
            self.settled.retain(|_, of| !of.is_held);
        }
    }

    fn settle(&mut self, draft: Draft<'_>) -> Plan {
        let world = draft.world;
        let state = world.state;
        self.rests_until = world.now.plus(draft.looks / LOOKS_PER_MS);
        self.roles_rest_until = draft.roles_rest_until;
        let later = self.nodes_due.into_iter().chain(draft.nodes_due);
        self.nodes_due = later.min();
        let mut plan = draft.plan;
        let busy: BTreeSet<&ServiceId> = plan
            .changes
            .iter()
            .filter_map(|change| service_of(state, change))
            .collect();
        let mut is_explained_anew = false;
        for id in draft.scope {
            let why = draft.pending.get(id);
            if self.pending.get(id) != why {
                is_explained_anew = true;
                self.pending.remove(id);
                let why = why.map(|why| (id.clone(), why.clone()));
                self.pending.extend(why);
            }
            if busy.contains(id) || draft.unfinished.contains(id) {
                continue;
            }
            let settled = Settled {
                due: draft.due.get(id).copied(),
                is_held: why.is_some() || draft.held.contains(id),
                is_wide: state.service(id).is_some_and(|service| {
                    service.spec.mode.is_global() || rebalance::is_wanted(state, service)
                }),
            };
            self.settled.insert(id.clone(), settled);
        }
        if is_explained_anew {
            let all = self.pending.values().flatten();
            plan.pending = Some(all.map(|(id, why)| (id.clone(), why.clone())).collect());
        }
        let rest = Some(self.rests_until).filter(|_| self.is_stirred);
        let due = self.settled.values().filter_map(|of| of.due);
        plan.wake_at = due.chain(self.nodes_due).chain(rest).min();
        plan
    }
}

/// The service whose plan a change is part of.
fn service_of<'a>(state: &'a State, change: &'a Change) -> Option<&'a ServiceId> {
    match change {
        Change::PutService(service) => Some(&service.id),
        Change::RemoveService(service) | Change::SetUpdateStatus { service, .. } => Some(service),
        Change::PutRevision(revision) => Some(&revision.service),
        Change::PutAssignment(assignment) => Some(&assignment.service),
        Change::Bind { assignment, .. }
        | Change::SetDesired { assignment, .. }
        | Change::RemoveAssignment(assignment) => {
            state.assignment(assignment).map(|of| &of.service)
        }
        Change::PutCluster(_)
        | Change::PutNode(_)
        | Change::RemoveNode(_)
        | Change::PutNetwork(_)
        | Change::RemoveNetwork(_) => None,
    }
}
