//! Gives each waiting assignment a node, or says why none fits.
//!
//! Nodes that pass the filters are ranked: fewest tasks of this service, then
//! fewest tasks. Reservations count, load does not. Per group of equal tasks
//! the nodes are kept in order, so that a hundred thousand tasks cost no more
//! than their number times the logarithm of the nodes'.

use super::*;
use crate::constraint::{Constraint, normal_arch};

/// What a task of a service asks of a node.
pub(super) struct Requirement {
    nano_cpus: i64,
    memory_bytes: i64,
    constraints: Vec<Constraint>,
    platforms: Vec<Platform>,
    host_ports: Vec<(u32, String)>,
    replicas_max: u64,
    spread: Vec<String>,
}

/// Why a node does not fit, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    NotReady,
    Resources,
    Constraints,
    Platform,
    HostPort,
    ReplicasMax,
}

impl Miss {
    fn explain(self, nodes: usize) -> String {
        let on = match nodes {
            1 => "on 1 node".to_owned(),
            more => format!("on {more} nodes"),
        };
        match self {
            Self::NotReady if nodes == 1 => "1 node not available for new tasks".to_owned(),
            Self::NotReady => format!("{nodes} nodes not available for new tasks"),
            Self::Resources => format!("insufficient resources {on}"),
            Self::Constraints => format!("scheduling constraints not satisfied {on}"),
            Self::Platform => format!("unsupported platform {on}"),
            Self::HostPort => format!("host-mode port already in use {on}"),
            Self::ReplicasMax => "max replicas per node limit exceed".to_owned(),
        }
    }
}

/// What is taken of a node.
struct Load<'a> {
    node: &'a Node,
    is_ready: bool,
    nano_cpus_free: i64,
    memory_bytes_free: i64,
    tasks: u64,
    host_ports: BTreeSet<(u32, String)>,
    /// Tasks of each service.
    by_service: BTreeMap<&'a ServiceId, u64>,
}

pub(super) fn plan(draft: &mut Draft<'_>) {
    let state = draft.world.state;
    let mut waiting: BTreeMap<RevisionOf, Vec<Waiting>> = BTreeMap::new();
    for service in state.services() {
        for assignment in state.assignments_of(&service.id) {
            let is_waiting = assignment.node.is_none()
                && assignment.is_live()
                && !draft.ended.contains(&assignment.id);
            if is_waiting {
                let key = (assignment.service.clone(), assignment.revision);
                let id = assignment.id.clone();
                waiting.entry(key).or_default().push(Waiting::Known(id));
            }
        }
    }
    for (index, assignment) in draft.new.iter().enumerate() {
        if assignment.node.is_none() {
            let key = (assignment.service.clone(), assignment.revision);
            waiting.entry(key).or_default().push(Waiting::New(index));
        }
    }
    if waiting.is_empty() {
        return;
    }
    let mut loads = measure(draft);
    for ((service, _), group) in waiting {
        if let Some(service) = state.service(&service) {
            place(draft, service, group, &mut loads);
        }
    }
}

type RevisionOf = (ServiceId, u64);

/// An assignment without a node: of the tables, or of this draft.
enum Waiting {
    Known(AssignmentId),
    New(usize),
}

fn place<'a>(
    draft: &mut Draft<'a>,
    service: &'a Service,
    group: Vec<Waiting>,
    loads: &mut [Load<'a>],
) {
    let requirement = Requirement::of(service);
    let mut misses: BTreeMap<Miss, usize> = BTreeMap::new();
    let mut ranking = Ranking::new(&requirement, service);
    for (index, load) in loads.iter().enumerate() {
        match requirement.miss(load, &service.id) {
            None => ranking.insert(index, load),
            Some(miss) => *misses.entry(miss).or_default() += 1,
        }
    }
    for waiting in group {
        let found = loop {
            let Some(index) = ranking.pop(loads) else {
                break None;
            };
            match requirement.miss(&loads[index], &service.id) {
                None => break Some(index),
                Some(miss) => *misses.entry(miss).or_default() += 1,
            }
        };
        let Some(index) = found else {
            let id = match &waiting {
                Waiting::Known(id) => id.clone(),
                Waiting::New(index) => draft.new[*index].id.clone(),
            };
            draft.plan.pending.insert(id, explain(&misses));
            continue;
        };
        let load = &mut loads[index];
        load.take(&requirement, &service.id);
        let node = load.node.id.clone();
        ranking.insert(index, load);
        match waiting {
            Waiting::Known(assignment) => {
                let bind = Change::Bind { assignment, node };
                draft.plan.changes.push(bind);
            }
            Waiting::New(index) => draft.new[index].node = Some(node),
        }
    }
}

fn explain(misses: &BTreeMap<Miss, usize>) -> String {
    let mut ordered: Vec<(&Miss, &usize)> = misses.iter().collect();
    ordered.sort_by(|one, other| other.1.cmp(one.1));
    let reasons: Vec<String> = ordered
        .into_iter()
        .map(|(miss, nodes)| miss.explain(*nodes))
        .collect();
    if reasons.is_empty() {
        return "no suitable node".to_owned();
    }
    format!("no suitable node ({})", reasons.join("; "))
}

/// Nodes that fit, best first.
struct Ranking<'r> {
    service: &'r ServiceId,
    spread: &'r [String],
    /// Without preferences: kept in order.
    ordered: BTreeSet<(u64, u64, usize)>,
    /// With preferences: any change of one shifts its whole branch, so the
    /// best is searched each time.
    unordered: BTreeSet<usize>,
}

impl<'r> Ranking<'r> {
    fn new(requirement: &'r Requirement, service: &'r Service) -> Self {
        Self {
            service: &service.id,
            spread: &requirement.spread,
            ordered: BTreeSet::new(),
            unordered: BTreeSet::new(),
        }
    }

    fn insert(&mut self, index: usize, load: &Load<'_>) {
        if self.spread.is_empty() {
            let of_service = load.of_service(self.service);
            self.ordered.insert((of_service, load.tasks, index));
        } else {
            self.unordered.insert(index);
        }
    }

    fn pop(&mut self, loads: &[Load<'_>]) -> Option<usize> {
        if self.spread.is_empty() {
            return self.ordered.pop_first().map(|(_, _, index)| index);
        }
        // How many tasks each branch of each level has.
        let mut branches: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        for load in loads {
            let path: Vec<&str> = self.spread.iter().map(|key| load.label(key)).collect();
            let tasks = load.of_service(self.service);
            for depth in 1..=path.len() {
                *branches.entry(path[..depth].to_vec()).or_default() += tasks;
            }
        }
        let best = self.unordered.iter().min_by_key(|index| {
            let load = &loads[**index];
            let path: Vec<&str> = self.spread.iter().map(|key| load.label(key)).collect();
            let along: Vec<u64> = (1..=path.len())
                .map(|depth| branches.get(&path[..depth]).copied().unwrap_or(0))
                .collect();
            (along, load.of_service(self.service), load.tasks, **index)
        });
        let best = best.copied()?;
        self.unordered.remove(&best);
        Some(best)
    }
}

/// What is taken of every node, by what is there and what this draft adds.
fn measure<'a>(draft: &mut Draft<'a>) -> Vec<Load<'a>> {
    let world = draft.world;
    let mut loads: Vec<Load<'a>> = world
        .state
        .nodes()
        .map(|node| Load::of(node, draft.is_open(&node.id)))
        .collect();
    let places: BTreeMap<&NodeId, usize> = world
        .state
        .nodes()
        .enumerate()
        .map(|(index, node)| (&node.id, index))
        .collect();
    for service in world.state.services_assigned() {
        let mut requirements: BTreeMap<u64, Requirement> = BTreeMap::new();
        for assignment in world.state.assignments_of(service) {
            let place = assignment.node.as_ref().and_then(|node| places.get(node));
            let Some(place) = place.filter(|_| world.is_alive(assignment)) else {
                continue;
            };
            let requirement = requirements.entry(assignment.revision).or_insert_with(|| {
                let revision = world.state.revision(service, assignment.revision);
                Requirement::of_task(
                    revision.map_or(&TaskSpec::default(), |revision| &revision.task),
                    revision.map_or(&[][..], |revision| &revision.ports),
                )
            });
            loads[*place].take(requirement, service);
        }
    }
    for assignment in &draft.new {
        let service = world.state.service(&assignment.service);
        let place = assignment.node.as_ref().and_then(|node| places.get(node));
        if let (Some(service), Some(place)) = (service, place) {
            loads[*place].take(&Requirement::of(service), &service.id);
        }
    }
    loads
}

impl<'a> Load<'a> {
    fn of(node: &'a Node, is_up: bool) -> Self {
        let resources = &node.description.resources;
        Self {
            node,
            is_ready: is_up && node.spec.availability == Availability::Active,
            nano_cpus_free: resources.nano_cpus,
            memory_bytes_free: resources.memory_bytes,
            tasks: 0,
            host_ports: BTreeSet::new(),
            by_service: BTreeMap::new(),
        }
    }

    fn take(&mut self, requirement: &Requirement, service: &'a ServiceId) {
        self.nano_cpus_free -= requirement.nano_cpus;
        self.memory_bytes_free -= requirement.memory_bytes;
        self.tasks += 1;
        self.host_ports
            .extend(requirement.host_ports.iter().cloned());
        *self.by_service.entry(service).or_default() += 1;
    }

    fn of_service(&self, service: &ServiceId) -> u64 {
        self.by_service.get(service).copied().unwrap_or(0)
    }

    /// The value of a label that tasks are spread over; empty without one.
    fn label(&self, descriptor: &str) -> &'a str {
        let labels = [
            ("node.labels.", &self.node.spec.labels),
            ("engine.labels.", &self.node.description.engine.labels),
        ];
        labels
            .iter()
            .find_map(|(prefix, labels)| labels.get(descriptor.strip_prefix(prefix)?))
            .map_or("", String::as_str)
    }
}

impl Requirement {
    pub(super) fn of(service: &Service) -> Self {
        Self::of_task(&service.spec.task_template, &service.ports)
    }

    fn of_task(task: &TaskSpec, ports: &[PortConfig]) -> Self {
        let reserved = task
            .resources
            .as_ref()
            .and_then(|resources| resources.reservations.as_ref());
        let placement = task.placement.as_ref();
        Self {
            nano_cpus: reserved.map_or(0, |reserved| reserved.nano_cpus),
            memory_bytes: reserved.map_or(0, |reserved| reserved.memory_bytes),
            constraints: Constraint::of(placement),
            platforms: placement.map_or_else(Vec::new, |of| of.platforms.clone()),
            host_ports: ports
                .iter()
                .filter(|port| !port.is_ingress() && port.published_port != 0)
                .map(|port| (port.published_port, port.protocol().to_owned()))
                .collect(),
            replicas_max: placement.map_or(0, |of| of.max_replicas),
            spread: placement
                .map_or(&[][..], |of| &of.preferences)
                .iter()
                .filter_map(|preference| preference.spread.as_ref())
                .map(|spread| spread.spread_descriptor.clone())
                .collect(),
        }
    }

    /// The image has a variant for it.
    pub(super) fn runs_on(&self, node: &Node) -> bool {
        let own = &node.description.platform;
        self.platforms.is_empty()
            || self.platforms.iter().any(|platform| {
                let is_arch = platform.architecture.is_empty()
                    || own.architecture.is_empty()
                    || normal_arch(&platform.architecture) == normal_arch(&own.architecture);
                let is_os = platform.os.is_empty() || own.os.is_empty() || platform.os == own.os;
                is_arch && is_os
            })
    }

    fn miss(&self, load: &Load<'_>, service: &ServiceId) -> Option<Miss> {
        let checks = [
            (Miss::NotReady, load.is_ready),
            (
                Miss::Resources,
                (self.nano_cpus == 0 || self.nano_cpus <= load.nano_cpus_free)
                    && (self.memory_bytes == 0 || self.memory_bytes <= load.memory_bytes_free),
            ),
            (
                Miss::Constraints,
                self.constraints.iter().all(|of| of.is_met_by(load.node)),
            ),
            (Miss::Platform, self.runs_on(load.node)),
            (
                Miss::HostPort,
                !self
                    .host_ports
                    .iter()
                    .any(|port| load.host_ports.contains(port)),
            ),
            (
                Miss::ReplicasMax,
                self.replicas_max == 0 || load.of_service(service) < self.replicas_max,
            ),
        ];
        checks
            .into_iter()
            .find(|(_, fits)| !fits)
            .map(|(miss, _)| miss)
    }
}
