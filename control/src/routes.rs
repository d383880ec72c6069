//! Names, published ports and live backends, out of what is seen running.
//!
//! **Invariant:** only tasks that run, are healthy and are wanted are backends.
//! It does not know how a packet is led to one.

use crate::model::*;

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
