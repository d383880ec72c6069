//! Names, published ports and live backends, out of what is seen running.
//!
//! **Invariant:** only tasks that run, are healthy and are wanted are backends.
//! It does not know how a packet is led to one.

use crate::model::*;
use crate::state::State;
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
    /// As things are wanted and seen now.
    pub(crate) fn of(state: &State, seen: &BTreeMap<AssignmentId, Seen>) -> Self {
        let services = state.services().map(|service| ServiceRoute {
            service: service.id.clone(),
            name: service.spec.name.clone(),
            is_dnsrr: service
                .spec
                .endpoint_spec
                .as_ref()
                .is_some_and(|endpoint| endpoint.mode == "dnsrr"),
            ports: service
                .ports
                .iter()
                .filter(|port| port.is_ingress())
                .cloned()
                .collect(),
            names: names(service),
            backends: backends(state, seen, service),
        });
        Self {
            services: services.collect(),
        }
    }
}

fn names(service: &Service) -> Vec<Names> {
    let networks = service.spec.task_template.networks.iter();
    networks
        .map(|attachment| {
            let name = std::iter::once(&service.spec.name);
            Names {
                network: attachment.target.as_str().into(),
                names: name.chain(&attachment.aliases).cloned().collect(),
            }
        })
        .collect()
}

fn backends(state: &State, seen: &BTreeMap<AssignmentId, Seen>, service: &Service) -> Vec<Backend> {
    let live = state
        .assignments_of(&service.id)
        .filter(|assignment| assignment.is_live());
    let backends = live.filter_map(|assignment| {
        let attempt = seen.get(&assignment.id)?.latest()?;
        let is_up = attempt.status.state == TaskState::Running
            && matches!(attempt.health, Health::None | Health::Healthy);
        let task = attempt.task.clone();
        let node = assignment.node.clone()?;
        let name = &service.spec.name;
        is_up.then(|| Backend {
            name: task_name(name, assignment.slot, Some(&node), &task),
            task,
            slot: assignment.slot,
            node,
            container: attempt
                .status
                .container
                .as_ref()
                .map(|status| status.container.clone())
                .unwrap_or_default(),
            addresses: attempt.addresses.clone(),
        })
    });
    backends.collect()
}
