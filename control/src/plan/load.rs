//! What is taken of each node: reservations, ports, generic resources, tasks,
//! and how often tasks failed there of late.
//!
//! **Invariant:** what a task holds is held until its process is seen to be
//! gone; how many tasks a node has counts only those that are meant to run, as
//! with Docker.

use super::require::{Miss, Requirement};
use super::*;
use std::rc::Rc;

/// Failures within so many milliseconds count against a node (swarmkit's five
/// minutes).
const FAILURES_MS: u64 = 300_000;

/// From so many failures on, a node comes last for that revision (swarmkit's).
pub(super) const FAILURES_MAX: u32 = 5;

/// What is left of a generic resource.
#[derive(Debug)]
enum Stock {
    Count(i64),
    Names(BTreeSet<String>),
}

/// One node.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) node: &'a Node,
    reach: Reach,
    /// It is up, and not held off.
    is_open: bool,
    pub(super) nano_cpus_free: i64,
    pub(super) memory_bytes_free: i64,
    generic: BTreeMap<&'a str, Stock>,
    host_ports: BTreeSet<(u32, String)>,
    /// That are meant to run.
    pub(super) tasks: u64,
    by_service: BTreeMap<usize, u64>,
    /// Of late, by service and revision.
    failures: BTreeMap<(usize, u64), u32>,
}

impl<'a> Load<'a> {
    fn of(node: &'a Node, reach: Reach, is_open: bool) -> Self {
        let resources = &node.description.resources;
        let mut generic: BTreeMap<&str, Stock> = BTreeMap::new();
        for resource in &resources.generic_resources {
            // A kind is counted or named, whichever comes first.
            if let Some(counted) = &resource.discrete_resource_spec {
                let stock = Stock::Count(counted.value);
                generic.entry(&counted.kind).or_insert(stock);
            }
            if let Some(named) = &resource.named_resource_spec {
                let stock = generic.entry(&named.kind);
                let stock = stock.or_insert_with(|| Stock::Names(BTreeSet::new()));
                if let Stock::Names(names) = stock {
                    names.insert(named.value.clone());
                }
            }
        }
        Self {
            node,
            reach,
            is_open,
            nano_cpus_free: resources.nano_cpus,
            memory_bytes_free: resources.memory_bytes,
            generic,
            host_ports: BTreeSet::new(),
            tasks: 0,
            by_service: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_open && self.node.spec.availability == Availability::Active
    }
    pub(super) fn of_service(&self, service: usize) -> u64 {
        self.by_service.get(&service).copied().unwrap_or(0)
    }
    pub(super) fn holds_any(&self, ports: &[(u32, String)]) -> bool {
        ports.iter().any(|port| self.host_ports.contains(port))
    }
    pub(super) fn generic_free(&self, kind: &str) -> i64 {
        match self.generic.get(kind) {
            Some(Stock::Count(count)) => *count,
            Some(Stock::Names(names)) => names.len() as i64,
            None => 0,
        }
    }

    /// How much a node is to be avoided: 0 below [`FAILURES_MAX`].
    pub(super) fn aversion(&self, service: usize, revision: u64) -> u32 {
        let failures = self.failures.get(&(service, revision)).copied();
        failures.filter(|count| *count >= FAILURES_MAX).unwrap_or(0)
    }

    /// Chooses of each kind what a task gets: a count, or the first names.
    fn choose(&self, requirement: &Requirement) -> Vec<GenericResource> {
        let mut chosen = Vec::new();
        for (kind, asked) in &requirement.generic {
            match self.generic.get(kind.as_str()) {
                Some(Stock::Names(names)) => {
                    let some = names.iter().take(usize::try_from(*asked).unwrap_or(0));
                    chosen.extend(some.map(|value| GenericResource {
                        named_resource_spec: Some(NamedResource {
                            kind: kind.clone(),
                            value: value.clone(),
                        }),
                        ..GenericResource::default()
                    }));
                }
                Some(Stock::Count(_)) if *asked > 0 => chosen.push(GenericResource {
                    discrete_resource_spec: Some(DiscreteResource {
                        kind: kind.clone(),
                        value: *asked,
                    }),
                    ..GenericResource::default()
                }),
                _ => {}
            }
        }
        chosen
    }

    fn hold(&mut self, requirement: &Requirement, claimed: &[GenericResource]) {
        self.nano_cpus_free -= requirement.nano_cpus;
        self.memory_bytes_free -= requirement.memory_bytes;
        let ports = requirement.host_ports.iter().cloned();
        self.host_ports.extend(ports);
        for claim in claimed {
            if let Some(counted) = &claim.discrete_resource_spec
                && let Some(Stock::Count(count)) = self.generic.get_mut(counted.kind.as_str())
            {
                *count -= counted.value;
            }
            if let Some(named) = &claim.named_resource_spec
                && let Some(Stock::Names(names)) = self.generic.get_mut(named.kind.as_str())
            {
                names.remove(&named.value);
            }
        }
    }

    fn release(&mut self, requirement: &Requirement, claimed: &[GenericResource]) {
        self.nano_cpus_free += requirement.nano_cpus;
        self.memory_bytes_free += requirement.memory_bytes;
        for port in &requirement.host_ports {
            self.host_ports.remove(port);
        }
        for claim in claimed {
            if let Some(counted) = &claim.discrete_resource_spec
                && let Some(Stock::Count(count)) = self.generic.get_mut(counted.kind.as_str())
            {
                *count += counted.value;
            }
            if let Some(named) = &claim.named_resource_spec
                && let Some(Stock::Names(names)) = self.generic.get_mut(named.kind.as_str())
            {
                names.insert(named.value.clone());
            }
        }
    }

    fn count(&mut self, service: usize) {
        self.tasks += 1;
        *self.by_service.entry(service).or_default() += 1;
    }

    fn discount(&mut self, service: usize) {
        self.tasks = self.tasks.saturating_sub(1);
        if let Some(count) = self.by_service.get_mut(&service) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Every node, by what is there and what the draft adds.
#[derive(Debug)]
pub(super) struct Loads<'a> {
    state: &'a State,
    pub(super) nodes: Vec<Load<'a>>,
    places: BTreeMap<&'a NodeId, usize>,
    services: BTreeMap<ServiceId, usize>,
    requirements: BTreeMap<(usize, u64), Rc<Requirement>>,
}

impl<'a> Loads<'a> {
    /// As it is in the world; `is_open` says which nodes may get something.
    pub(super) fn measure(world: World<'a>, mut is_open: impl FnMut(&NodeId) -> bool) -> Self {
        let state = world.state;
        let mut loads = Self {
            state,
            nodes: state
                .nodes()
                .map(|node| Load::of(node, world.reaches.of(&node.id), is_open(&node.id)))
                .collect(),
            places: state.nodes().map(|node| &node.id).zip(0..).collect(),
            services: BTreeMap::new(),
            requirements: BTreeMap::new(),
        };
        for id in state.services_assigned() {
            let service = loads.service(id);
            for assignment in state.assignments_of(id) {
                loads.add(world, service, assignment);
            }
        }
        loads
    }

    fn add(&mut self, world: World<'a>, service: usize, assignment: &Assignment) {
        let Some(place) = self.place_of(assignment) else {
            return;
        };
        let seen = world.seen(assignment);
        let failures = seen.map_or(0, |seen| failures(seen, world.now));
        if failures > 0 {
            let key = (service, assignment.revision);
            *self.nodes[place].failures.entry(key).or_default() += failures;
        }
        if world.is_alive_on(assignment, self.nodes[place].reach, seen) {
            let requirement = self.requirement(service, assignment);
            self.nodes[place].hold(&requirement, &assignment.generic_resources);
            if assignment.is_live() {
                self.nodes[place].count(service);
            }
        }
    }

    /// The number that stands for a service here.
    pub(super) fn service(&mut self, id: &ServiceId) -> usize {
        if let Some(known) = self.services.get(id) {
            return *known;
        }
        let next = self.services.len();
        self.services.insert(id.clone(), next);
        next
    }

    pub(super) fn place(&self, node: &NodeId) -> Option<usize> {
        self.places.get(node).copied()
    }
    fn place_of(&self, assignment: &Assignment) -> Option<usize> {
        self.place(assignment.node.as_ref()?)
    }

    /// What the tasks of an assignment's revision ask for.
    pub(super) fn requirement(&mut self, service: usize, of: &Assignment) -> Rc<Requirement> {
        let state = self.state;
        let known = self.requirements.entry((service, of.revision));
        let requirement = known.or_insert_with(|| {
            let revision = state.revision(&of.service, of.revision);
            Rc::new(revision.map_or_else(Requirement::default, |of| Requirement::of(of)))
        });
        requirement.clone()
    }

    /// Why an assignment of that service could not go to a node.
    pub(super) fn miss(&self, place: usize, service: usize, asks: &Requirement) -> Option<Miss> {
        let load = &self.nodes[place];
        asks.miss(load, load.of_service(service))
    }

    /// The assignment goes to a node, and gets its generic resources there.
    pub(super) fn bind(&mut self, place: usize, assignment: &mut Assignment) {
        let service = self.service(&assignment.service);
        let requirement = self.requirement(service, assignment);
        let load = &mut self.nodes[place];
        assignment.node = Some(load.node.id.clone());
        assignment.generic_resources = load.choose(&requirement);
        load.hold(&requirement, &assignment.generic_resources);
        load.count(service);
    }

    /// It is not meant to run any more; what it holds it holds.
    pub(super) fn end(&mut self, assignment: &Assignment) {
        if let Some(place) = self.place_of(assignment) {
            let service = self.service(&assignment.service);
            self.nodes[place].discount(service);
        }
    }

    /// Looks at the loads as they are once `leaving` are gone.
    pub(super) fn without<T>(
        &mut self,
        leaving: &[&Assignment],
        look: impl FnOnce(&mut Self) -> T,
    ) -> T {
        for assignment in leaving {
            if let Some(place) = self.place_of(assignment) {
                let service = self.service(&assignment.service);
                let requirement = self.requirement(service, assignment);
                self.nodes[place].release(&requirement, &assignment.generic_resources);
            }
        }
        let found = look(self);
        for assignment in leaving {
            if let Some(place) = self.place_of(assignment) {
                let service = self.service(&assignment.service);
                let requirement = self.requirement(service, assignment);
                self.nodes[place].hold(&requirement, &assignment.generic_resources);
            }
        }
        found
    }
}

/// Its node tries again and again what fails there.
pub(super) fn keeps_failing(seen: &Seen, now: Millis) -> bool {
    !seen.is_exhausted && failures(seen, now) >= FAILURES_MAX
}

/// How often a task failed of late. A node keeps only the latest attempts;
/// when even the oldest of these failed of late, those before count, too.
pub(super) fn failures(seen: &Seen, now: Millis) -> u32 {
    let is_late = |attempt: &Attempt| {
        let is_late = attempt.ended.is_some_and(|at| now.since(at) < FAILURES_MS);
        attempt.has_failed() && is_late
    };
    let kept = seen.attempts.iter().filter(|of| is_late(of)).count() as u32;
    let oldest = seen.attempts.first().filter(|of| is_late(of));
    kept + oldest.map_or(0, |oldest| oldest.number.saturating_sub(1))
}
