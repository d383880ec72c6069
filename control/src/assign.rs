//! The tables → the whole assignment of one node.
//!
//! What the leader decided for one task, its container reads in its
//! environment: generic resources as Docker's `DOCKER_RESOURCE_<KIND>`, the
//! fencing token as `SKEP_FENCE`.

use crate::model::*;
use crate::state::State;
use std::collections::BTreeMap;

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
