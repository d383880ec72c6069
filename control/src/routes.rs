//! Names, published ports and live backends: what the leader says is published,
//! with what nodes say is running.
//!
//! **Invariant:** only tasks that run, are healthy and are wanted are backends.
//! It does not know how a packet is led to one.

use crate::model::*;
use crate::wire::DirectoryEntry;
use std::collections::BTreeMap;

/// One running task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub task: TaskId,
    /// Name of its container.
    pub name: String,
    pub slot: u64,
    pub node: NodeId,
    pub container: ContainerId,
    pub addresses: Vec<Address>,
}

/// A service's name on one network, and its other names there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub network: NetworkId,
    /// Service name first, then aliases. For each NAME there is also
    /// `tasks.NAME`.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoute {
    pub service: ServiceId,
    pub name: String,
    /// `dnsrr`: names answer with all backends, there is no virtual address.
    pub is_dnsrr: bool,
    /// Ports of mode `ingress`: published on every node, to any backend.
    pub ports: Vec<PortConfig>,
    pub names: Vec<Names>,
    /// By slot and task.
    pub backends: Vec<Backend>,
}

/// All of it, by service id; replaces what was given before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    pub services: Vec<ServiceRoute>,
}

impl Routes {
    /// What is published and named, with what runs of it: `running` gives what
    /// each node says of its own, this one included.
    pub(crate) fn of(directory: &[DirectoryEntry], running: impl Iterator<Item = Running>) -> Self {
        let mut by_service: BTreeMap<ServiceId, Vec<Running>> = BTreeMap::new();
        for one in running {
            by_service.entry(one.service.clone()).or_default().push(one);
        }
        let services = directory.iter().map(|entry| {
            let running = by_service.remove(&entry.service).unwrap_or_default();
            route(entry, running)
        });
        Self {
            services: services.collect(),
        }
    }
}

/// A task that runs, is healthy and is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) service: ServiceId,
    pub(crate) slot: u64,
    pub(crate) task: TaskId,
    pub(crate) node: NodeId,
    pub(crate) container: ContainerId,
    pub(crate) addresses: Vec<Address>,
}

impl Running {
    /// What is seen of an assignment on `node`, if it is to be led to.
    pub(crate) fn of(assigned: &Assigned, seen: &Seen, node: &NodeId) -> Option<Self> {
        let attempt = seen.latest()?;
        let is_up = attempt.status.state == TaskState::Running
            && matches!(attempt.health, Health::None | Health::Healthy);
        let container = attempt.status.container.as_ref();
        (is_up && assigned.is_live()).then(|| Self {
            service: assigned.service.clone(),
            slot: assigned.slot,
            task: attempt.task.clone(),
            node: node.clone(),
            container: container.map_or_else(ContainerId::default, |of| of.container.clone()),
            addresses: attempt.addresses.clone(),
        })
    }
}

fn route(entry: &DirectoryEntry, running: Vec<Running>) -> ServiceRoute {
    let names = entry.names.iter().map(|(network, names)| Names {
        network: network.clone(),
        names: names.clone(),
    });
    let mut backends: Vec<Backend> = running
        .into_iter()
        .map(|one| Backend {
            name: task_name(&entry.name, one.slot, Some(&one.node), &one.task),
            task: one.task,
            slot: one.slot,
            node: one.node,
            container: one.container,
            addresses: one.addresses,
        })
        .collect();
    backends.sort_by(|one, other| (one.slot, &one.task).cmp(&(other.slot, &other.task)));
    ServiceRoute {
        service: entry.service.clone(),
        name: entry.name.clone(),
        is_dnsrr: entry.is_dnsrr,
        ports: entry.ports.clone(),
        names: names.collect(),
        backends,
    }
}
