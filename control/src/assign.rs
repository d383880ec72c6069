//! The tables → the whole assignment of one node.

use crate::model::*;
use crate::state::State;

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
            task: revision.task.clone(),
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
