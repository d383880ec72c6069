//! What a task asks of a node, and why a node does not fit, in swarmkit's
//! words.

use super::load::Load;
use super::*;
use crate::constraint::{Constraint, Spread, arch_family, normal_arch};

/// What the tasks of one revision ask of a node.
#[derive(Debug, Default)]
pub(super) struct Requirement {
    pub(super) nano_cpus: i64,
    pub(super) memory_bytes: i64,
    /// How many of each kind.
    pub(super) generic: BTreeMap<String, i64>,
    constraints: Vec<Constraint>,
    platforms: Vec<Platform>,
    pub(super) host_ports: Vec<(u32, String)>,
    replicas_max: u64,
    pub(super) spread: Vec<Spread>,
}

/// Why a node does not fit, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    NotReady,
    Resources,
    Constraints,
    Platform,
    HostPort,
    ReplicasMax,
}

/// How many nodes are ruled out by what.
pub(super) type Misses = BTreeMap<Miss, usize>;

impl Requirement {
    pub(super) fn of(revision: &Revision) -> Self {
        let task = &revision.task;
        let placement = task.placement.as_ref();
        let resources = task.resources.as_ref();
        let reserved = resources.and_then(|resources| resources.reservations.as_ref());
        let mut generic = BTreeMap::new();
        let counted = reserved.map_or(&[][..], |reserved| &reserved.generic_resources);
        for counted in counted
            .iter()
            .filter_map(|of| of.discrete_resource_spec.as_ref())
        {
            *generic.entry(counted.kind.clone()).or_default() += counted.value;
        }
        let host_ports = revision
            .ports
            .iter()
            .filter(|port| !port.is_ingress() && port.published_port != 0);
        Self {
            nano_cpus: reserved.map_or(0, |reserved| reserved.nano_cpus),
            memory_bytes: reserved.map_or(0, |reserved| reserved.memory_bytes),
            generic,
            constraints: Constraint::of(placement),
            platforms: placement.map_or_else(Vec::new, |of| of.platforms.clone()),
            host_ports: host_ports
                .map(|port| (port.published_port, port.protocol().to_owned()))
                .collect(),
            replicas_max: placement.map_or(0, |of| of.max_replicas),
            spread: Spread::of(placement),
        }
    }

    pub(super) fn are_constraints_met_by(&self, node: &Node) -> bool {
        self.constraints.iter().all(|of| of.is_met_by(node))
    }

    /// The image has a variant for it.
    pub(super) fn runs_on(&self, node: &Node) -> bool {
        let own = &node.description.platform;
        self.platforms.is_empty()
            || self.platforms.iter().any(|platform| {
                let arch = normal_arch(&platform.architecture);
                let is_arch = arch.is_empty()
                    || own.architecture.is_empty()
                    || arch == normal_arch(&own.architecture)
                    || arch == arch_family(&own.architecture);
                let is_os = platform.os.is_empty() || own.os.is_empty() || platform.os == own.os;
                is_arch && is_os
            })
    }

    /// The first check that a node fails, `of_service` tasks of the same
    /// service being there.
    pub(super) fn miss(&self, load: &Load<'_>, of_service: u64) -> Option<Miss> {
        if !load.is_ready() {
            Some(Miss::NotReady)
        } else if !self.has_room_on(load) {
            Some(Miss::Resources)
        } else if !self.are_constraints_met_by(load.node) {
            Some(Miss::Constraints)
        } else if !self.runs_on(load.node) {
            Some(Miss::Platform)
        } else if load.holds_any(&self.host_ports) {
            Some(Miss::HostPort)
        } else if self.replicas_max != 0 && of_service >= self.replicas_max {
            Some(Miss::ReplicasMax)
        } else {
            None
        }
    }

    /// What is not asked for fits even where more is promised than there is.
    fn has_room_on(&self, load: &Load<'_>) -> bool {
        let fits = |asked: i64, free: i64| asked <= 0 || asked <= free;
        fits(self.nano_cpus, load.nano_cpus_free)
            && fits(self.memory_bytes, load.memory_bytes_free)
            && self
                .generic
                .iter()
                .all(|(kind, asked)| fits(*asked, load.generic_free(kind)))
    }
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

/// What rules out most comes first.
pub(super) fn explain(misses: &Misses) -> String {
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
