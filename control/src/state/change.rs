//! What a log entry does to the tables.

use super::*;
use serde::{Deserialize, Serialize};

/// One result. Variants are only ever added at the end: logs outlive versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    PutCluster(Box<Cluster>),
    PutNode(Box<Node>),
    RemoveNode(NodeId),
    PutService(Box<Service>),
    /// Its assignments stay until their nodes have stopped them.
    RemoveService(ServiceId),
    PutRevision(Box<Revision>),
    SetUpdateStatus {
        service: ServiceId,
        status: UpdateStatus,
    },
    PutAssignment(Box<Assignment>),
    /// Gives a pending assignment its node, once and for all.
    Bind {
        assignment: AssignmentId,
        node: NodeId,
        /// What it gets of the node's generic resources.
        generic_resources: Vec<GenericResource>,
    },
    /// Only forward; anything else is not carried out.
    SetDesired {
        assignment: AssignmentId,
        desired: TaskState,
    },
    RemoveAssignment(AssignmentId),
    PutNetwork(Box<Network>),
    RemoveNetwork(NetworkId),
}

impl State {
    /// Carries out one log entry: `index` becomes the version of what changed,
    /// `at` its time for people to read.
    pub fn apply(&mut self, index: u64, at: WallTime, changes: Vec<Change>) {
        assert!(index > self.version, "log entries are applied in order");
        self.version = index;
        self.time = self.time.max(at);
        for change in changes {
            self.apply_one(index, at, change);
        }
    }

    fn apply_one(&mut self, index: u64, at: WallTime, change: Change) {
        match change {
            Change::PutCluster(mut cluster) => {
                stamp(&mut cluster.meta, index, at);
                self.cluster = Some(*cluster);
            }
            Change::PutNode(mut node) => {
                stamp(&mut node.meta, index, at);
                self.removed.remove(&node.id);
                self.nodes.insert(node.id.clone(), *node);
            }
            Change::RemoveNode(id) => {
                self.nodes.remove(&id);
                self.removed.insert(id, index);
                self.forget_first_removed();
            }
            Change::PutService(mut service) => {
                stamp(&mut service.meta, index, at);
                if let Some(status) = &mut service.update_status
                    && status.born == 0
                {
                    status.born = index;
                }
                self.put_service(*service);
            }
            Change::RemoveService(id) => self.remove_service(&id),
            Change::PutRevision(revision) => {
                let key = (revision.service.clone(), revision.number);
                self.revisions.insert(key, Arc::new(*revision));
            }
            Change::SetUpdateStatus { service, status } => {
                if let Some(service) = self.services.get_mut(&service) {
                    stamp(&mut service.meta, index, at);
                    let born = if status.born == 0 { index } else { status.born };
                    service.update_status = Some(UpdateStatus { born, ..status });
                }
            }
            Change::PutNetwork(mut network) => {
                stamp(&mut network.meta, index, at);
                self.index_network(&network);
                self.networks.insert(network.id.clone(), *network);
            }
            Change::RemoveNetwork(id) => {
                if let Some(network) = self.networks.remove(&id) {
                    self.network_names.remove(&network.spec.name);
                }
            }
            change => self.apply_to_assignment(index, at, change),
        }
    }

    fn apply_to_assignment(&mut self, index: u64, at: WallTime, change: Change) {
        match change {
            Change::PutAssignment(mut assignment) => {
                stamp(&mut assignment.meta, index, at);
                if assignment.born == 0 {
                    assignment.born = index;
                }
                self.put_assignment(*assignment);
            }
            Change::Bind {
                assignment,
                node,
                generic_resources,
            } => {
                let Some(found) = self.assignments.get_mut(&assignment) else {
                    return;
                };
                if found.node.is_none() {
                    stamp(&mut found.meta, index, at);
                    found.node = Some(node.clone());
                    found.generic_resources = generic_resources;
                    self.by_node.entry(node).or_default().insert(assignment);
                }
            }
            Change::SetDesired {
                assignment,
                desired,
            } => {
                if let Some(found) = self.assignments.get_mut(&assignment)
                    && found.desired < desired
                {
                    stamp(&mut found.meta, index, at);
                    found.desired = desired;
                }
            }
            Change::RemoveAssignment(id) => self.remove_assignment(&id),
            _ => unreachable!("apply_one passes on only changes of assignments"),
        }
    }

    fn forget_first_removed(&mut self) {
        while self.removed.len() > REMOVED_MAX {
            let first = self.removed.iter().min_by_key(|(_, index)| **index);
            let Some(first) = first.map(|(id, _)| id.clone()) else {
                return;
            };
            self.removed.remove(&first);
        }
    }

    fn put_service(&mut self, service: Service) {
        self.service_names
            .insert(service.spec.name.clone(), service.id.clone());
        let (id, revision) = (service.id.clone(), service.revision);
        let before = self.services.insert(id.clone(), service);
        if let Some(before) = before
            && before.revision != revision
        {
            self.drop_revision_unless_used((id, before.revision));
        }
    }

    fn remove_service(&mut self, id: &ServiceId) {
        if let Some(service) = self.services.remove(id) {
            self.service_names.remove(&service.spec.name);
            self.drop_revision_unless_used((id.clone(), service.revision));
        }
    }

    pub(super) fn put_assignment(&mut self, assignment: Assignment) {
        self.remove_assignment(&assignment.id);
        let id = assignment.id.clone();
        self.by_service
            .entry(assignment.service.clone())
            .or_default()
            .insert((assignment.slot, id.clone()));
        if let Some(node) = &assignment.node {
            let on_node = self.by_node.entry(node.clone()).or_default();
            on_node.insert(id.clone());
        }
        let key = (assignment.service.clone(), assignment.revision);
        *self.revision_users.entry(key).or_default() += 1;
        self.assignments.insert(id, assignment);
    }

    fn remove_assignment(&mut self, id: &AssignmentId) {
        let Some(assignment) = self.assignments.remove(id) else {
            return;
        };
        if let Some(of_service) = self.by_service.get_mut(&assignment.service) {
            of_service.remove(&(assignment.slot, id.clone()));
            if of_service.is_empty() {
                self.by_service.remove(&assignment.service);
            }
        }
        if let Some(node) = &assignment.node
            && let Some(on_node) = self.by_node.get_mut(node)
        {
            on_node.remove(id);
            if on_node.is_empty() {
                self.by_node.remove(node);
            }
        }
        let key = (assignment.service, assignment.revision);
        if let Some(users) = self.revision_users.get_mut(&key) {
            *users -= 1;
            if *users == 0 {
                self.revision_users.remove(&key);
                self.drop_revision_unless_used(key);
            }
        }
    }

    fn drop_revision_unless_used(&mut self, key: RevisionKey) {
        let is_current = self
            .services
            .get(&key.0)
            .is_some_and(|service| service.revision == key.1);
        if !is_current && !self.revision_users.contains_key(&key) {
            self.revisions.remove(&key);
        }
    }

    pub(super) fn index_network(&mut self, network: &Network) {
        self.network_names
            .insert(network.spec.name.clone(), network.id.clone());
    }
}

fn stamp(meta: &mut Meta, index: u64, at: WallTime) {
    if meta.version.index == 0 {
        meta.created_at = at;
    }
    meta.version.index = index;
    meta.updated_at = at;
}
