//! Changing and removing nodes.

use super::*;

pub(super) fn update(
    context: &mut Context<'_>,
    argument: &str,
    version: u64,
    spec: NodeSpec,
) -> Outcome {
    let node = context.state.find_node(argument, Some(context.node))?;
    check_version(version, node.meta.version)?;
    if !spec.name.is_empty() {
        check::name(&spec.name)?;
    }
    if node.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker {
        let managers = context
            .state
            .nodes()
            .filter(|node| node.spec.role == NodeRole::Manager);
        if managers.count() == 1 {
            let message = "attempting to demote the last manager of the swarm";
            return Err(Refusal::invalid(message));
        }
    }
    if node.spec.role == NodeRole::Worker && spec.role == NodeRole::Manager {
        let message = "a second manager is not supported yet";
        return Err(Refusal::not_implemented(message));
    }
    let mut node = node.clone();
    node.spec = spec;
    Ok(Accepted {
        changes: vec![Change::PutNode(Box::new(node))],
        answer: Answer::Done,
    })
}

pub(super) fn remove(context: &mut Context<'_>, argument: &str, force: bool) -> Outcome {
    let node = context.state.find_node(argument, Some(context.node))?;
    let id = &node.id;
    if node.spec.role == NodeRole::Manager {
        return Err(Refusal::invalid(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
        )));
    }
    if !force && context.up.contains(id) {
        let message = format!("node {id} is not down and can't be removed");
        return Err(Refusal::invalid(message));
    }
    let assigned = context.state.assignments_on(id);
    let mut changes: Vec<Change> = assigned
        .map(|assignment| Change::RemoveAssignment(assignment.id.clone()))
        .collect();
    changes.push(Change::RemoveNode(id.clone()));
    Ok(Accepted {
        changes,
        answer: Answer::Done,
    })
}
