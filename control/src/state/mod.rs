//! The replicated tables. [`Change`]s are results, not reasoning, so that
//! nodes of different versions agree on what a change does.
//!
//! **Invariant:** equal changes in equal order give equal tables, and the
//! version of an object is the log index of its last change. Who may change
//! what, and why, is not known here.

mod change;
mod lookup;
mod revise;
mod snapshot;

pub use change::Change;
pub(crate) use lookup::not_found;

use crate::model::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Removed nodes that are remembered; beyond it the first ones go. Their
/// certificates will have run out, and no table knows them.
const REMOVED_MAX: usize = 4096;

/// Names a [`Revision`].
pub type RevisionKey = (ServiceId, u64);

/// All that is wanted, with the indexes that planning needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Log index of the last change.
    version: u64,
    cluster: Option<Cluster>,
    nodes: BTreeMap<NodeId, Node>,
    services: BTreeMap<ServiceId, Service>,
    revisions: BTreeMap<RevisionKey, Arc<Revision>>,
    assignments: BTreeMap<AssignmentId, Assignment>,
    networks: BTreeMap<NetworkId, Network>,
    /// Nodes that were removed, with the log index of that.
    removed: BTreeMap<NodeId, u64>,
    /// The latest wall time of any change.
    time: WallTime,

    service_names: BTreeMap<String, ServiceId>,
    network_names: BTreeMap<String, NetworkId>,
    by_service: BTreeMap<ServiceId, BTreeSet<(u64, AssignmentId)>>,
    by_node: BTreeMap<NodeId, BTreeSet<AssignmentId>>,
    revision_users: BTreeMap<RevisionKey, u32>,
}

impl State {
    pub fn version(&self) -> u64 {
        self.version
    }
    /// The latest wall time that any leader had when it proposed something: a
    /// clock that is behind it is wrong.
    pub fn time(&self) -> WallTime {
        self.time
    }
    /// Nodes that were removed and did not join again.
    pub fn removed(&self) -> impl Iterator<Item = &NodeId> {
        self.removed.keys()
    }
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }
    pub fn network(&self, id: &NetworkId) -> Option<&Network> {
        self.networks.get(id)
    }
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }
    pub fn revision(&self, service: &ServiceId, number: u64) -> Option<&Arc<Revision>> {
        self.revisions.get(&(service.clone(), number))
    }
    pub fn assignment(&self, id: &AssignmentId) -> Option<&Assignment> {
        self.assignments.get(id)
    }
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.values()
    }
    /// Of one service, by slot; also of one that is removed already.
    pub fn assignments_of(&self, service: &ServiceId) -> impl Iterator<Item = &Assignment> {
        let ids = self.by_service.get(service).into_iter().flatten();
        ids.filter_map(|(_, id)| self.assignments.get(id))
    }
    /// Of one node.
    pub fn assignments_on(&self, node: &NodeId) -> impl Iterator<Item = &Assignment> {
        let ids = self.by_node.get(node).into_iter().flatten();
        ids.filter_map(|id| self.assignments.get(id))
    }
    /// Every service that has assignments, removed ones included.
    pub fn services_assigned(&self) -> impl Iterator<Item = &ServiceId> {
        self.by_service.keys()
    }
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        self.services.get(self.service_names.get(name)?)
    }
    pub fn network_named(&self, name: &str) -> Option<&Network> {
        self.networks.get(self.network_names.get(name)?)
    }
}
