//! The tables → the whole of what one node is told: its assignment, and what
//! every node must know.
//!
//! What the leader decided for one task, its container reads in its
//! environment: generic resources as Docker's `DOCKER_RESOURCE_<KIND>`, the
//! fencing token as `SKEP_FENCE`.

use crate::model::*;
use crate::state::{Change, State};
use crate::wire::{Bulletin, Contact, DirectoryEntry, ManagerEntry};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Everything that `node` is to do, as of the tables' version.
pub(crate) fn assignments(state: &State, node: &NodeId) -> AssignmentSet {
    let assigned = state.assignments_on(node).filter_map(|assignment| {
        let revision = state.revision(&assignment.service, assignment.revision)?;
        Some(Assigned {
            id: assignment.id.clone(),
            service: assignment.service.clone(),
            service_name: revision.service_name.clone(),
            service_labels: revision.service_labels.clone(),
            slot: assignment.slot,
            born: assignment.born,
            desired: assignment.desired,
            task: task(assignment, revision),
            ports: revision.ports.clone(),
        })
    });
    AssignmentSet {
        node: node.clone(),
        generation: state.version(),
        history_limit: state.cluster().map_or(0, Cluster::history_limit),
        assignments: assigned.collect(),
    }
}

fn task(assignment: &Assignment, revision: &Revision) -> TaskSpec {
    let mut task = revision.task.clone();
    let claims = resources(&assignment.generic_resources);
    let named = claims
        .into_iter()
        .map(|(kind, values)| format!("DOCKER_RESOURCE_{kind}={}", values.join(",")));
    task.container_spec.env.extend(named);
    if is_fenced(&revision.service_labels) {
        let token = format!("{FENCE_VARIABLE}={}", assignment.born);
        task.container_spec.env.push(token);
    }
    task
}

/// Counts or names by kind, in capitals.
fn resources(claims: &[GenericResource]) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for claim in claims {
        let counted = claim.discrete_resource_spec.as_ref();
        let counted = counted.map(|of| (&of.kind, of.value.to_string()));
        let named = claim.named_resource_spec.as_ref();
        let named = named.map(|of| (&of.kind, of.value.clone()));
        if let Some((kind, value)) = counted.or(named) {
            kinds.entry(kind.to_uppercase()).or_default().push(value);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_finds_what_it_got_in_its_environment() {
        let named = |kind: &str, value: &str| GenericResource {
            named_resource_spec: Some(NamedResource {
                kind: kind.into(),
                value: value.into(),
            }),
            ..GenericResource::default()
        };
        let counted = GenericResource {
            discrete_resource_spec: Some(DiscreteResource {
                kind: "slot".into(),
                value: 2,
            }),
            ..GenericResource::default()
        };
        let assignment = Assignment {
            generic_resources: vec![named("gpu", "a"), counted, named("gpu", "b")],
            born: 7,
            ..Assignment::default()
        };
        let mut revision = Revision::default();
        let labels = &mut revision.service_labels;
        labels.insert(FENCE_LABEL.into(), "true".into());
        let task = task(&assignment, &revision);
        let wanted = [
            "DOCKER_RESOURCE_GPU=a,b",
            "DOCKER_RESOURCE_SLOT=2",
            "SKEP_FENCE=7",
        ];
        assert_eq!(task.container_spec.env, wanted);
    }
}

/// What every node must know, as of the tables' version. Term and role are
/// the teller's to fill in.
pub(crate) fn bulletin(state: &State) -> Bulletin {
    let Some(cluster) = state.cluster() else {
        return Bulletin::default();
    };
    Bulletin {
        term: 0,
        version: state.version(),
        cluster: cluster.id.clone(),
        role: NodeRole::default(),
        managers: managers(state).collect(),
        removed: state.removed().cloned().collect(),
        ca_certs_pem: cluster.ca_certs_pem(),
        networks: state.networks().cloned().collect(),
        directory: state.services().map(entry).collect(),
    }
}

/// Who has a part in the agreement, by node.
pub(crate) fn managers(state: &State) -> impl Iterator<Item = ManagerEntry> {
    state.nodes().filter_map(|node| {
        Some(ManagerEntry {
            raft_id: node.raft_id?,
            contact: Contact {
                node: node.id.clone(),
                // It takes part, wherever it is.
                addr: node.addr.parse().unwrap_or(NOWHERE),
            },
        })
    })
}

/// An address that nobody is reached at: what is known does not read.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn entry(service: &Service) -> DirectoryEntry {
    let endpoint = service.spec.endpoint_spec.as_ref();
    let ports = service.ports.iter().filter(|port| port.is_ingress());
    let networks = service.spec.task_template.networks.iter();
    let names = networks.map(|attachment| {
        let name = std::iter::once(&service.spec.name);
        let names = name.chain(&attachment.aliases).cloned().collect();
        (NetworkId::from(attachment.target.as_str()), names)
    });
    DirectoryEntry {
        service: service.id.clone(),
        name: service.spec.name.clone(),
        is_dnsrr: endpoint.is_some_and(|endpoint| endpoint.mode == "dnsrr"),
        ports: ports.cloned().collect(),
        names: names.collect(),
    }
}

/// Whom a log entry concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Concerned {
    /// Their assignment is another one.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Everybody's is.
    pub(crate) all: bool,
    /// What every node must know may be something else.
    pub(crate) bulletin: bool,
}

impl Concerned {
    /// Adds what `change` will do to the tables as they are.
    pub(crate) fn by(&mut self, state: &State, change: &Change) {
        match change {
            Change::PutAssignment(assignment) => {
                self.node_of(state, &assignment.id);
                self.nodes.extend(assignment.node.clone());
            }
            Change::Bind { node, .. } => {
                self.nodes.insert(node.clone());
            }
            Change::SetDesired { assignment, .. } | Change::RemoveAssignment(assignment) => {
                self.node_of(state, assignment);
            }
            Change::PutCluster(after) => {
                let before = state.cluster().map(Cluster::history_limit);
                self.all |= before != Some(after.history_limit());
                self.bulletin = true;
            }
            Change::PutNode(_)
            | Change::RemoveNode(_)
            | Change::PutService(_)
            | Change::RemoveService(_)
            | Change::PutNetwork(_)
            | Change::RemoveNetwork(_) => self.bulletin = true,
            Change::PutRevision(_) | Change::SetUpdateStatus { .. } => {}
        }
    }

    fn node_of(&mut self, state: &State, assignment: &AssignmentId) {
        let known = state.assignment(assignment);
        self.nodes
            .extend(known.and_then(|known| known.node.clone()));
    }
}
