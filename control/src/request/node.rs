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
        check_demotion(context, node)?;
    }
    let mut node = node.clone();
    node.spec = spec;
    Ok(Accepted {
        changes: vec![Change::PutNode(Box::new(node))],
        answer: Answer::Done,
    })
}

fn check_demotion(context: &Context<'_>, node: &Node) -> Result<(), Refusal> {
    let wanted = context.state.nodes();
    let wanted = wanted.filter(|other| other.spec.role == NodeRole::Manager);
    if wanted.count() == 1 {
        let message = "attempting to demote the last manager of the swarm";
        return Err(Refusal::invalid(message));
    }
    if node.raft_id.is_none() {
        // It has no vote yet.
        return Ok(());
    }
    let others = context.state.nodes();
    let others = others.filter(|other| other.raft_id.is_some() && other.id != node.id);
    let (mut left, mut reachable) = (0, 0);
    for other in others {
        left += 1;
        reachable += usize::from(context.reach.is_up(&other.id));
    }
    if reachable < left / 2 + 1 {
        let message = "can't remove member from the raft: this would result in a loss of quorum";
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

pub(super) fn remove(context: &mut Context<'_>, argument: &str, force: bool) -> Outcome {
    let node = context.state.find_node(argument, Some(context.node))?;
    let id = &node.id;
    if is_manager(node) {
        return Err(Refusal::invalid(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
        )));
    }
    if !force && !context.reach.is_down(id) {
        let message = format!("node {id} is not down and can't be removed");
        return Err(Refusal::invalid(message));
    }
    Ok(Accepted {
        changes: removal(context.state, id),
        answer: Answer::Done,
    })
}

pub(super) fn prune(context: &mut Context<'_>) -> Outcome {
    let nodes = context.state.nodes();
    let down: Vec<NodeId> = nodes
        .filter(|node| !is_manager(node) && context.reach.is_down(&node.id))
        .map(|node| node.id.clone())
        .collect();
    let changes = down.iter().flat_map(|id| removal(context.state, id));
    Ok(Accepted {
        changes: changes.collect(),
        answer: Answer::Pruned(down),
    })
}

/// It is to be one, or still has a vote.
fn is_manager(node: &Node) -> bool {
    node.spec.role == NodeRole::Manager || node.raft_id.is_some()
}

fn removal(state: &State, id: &NodeId) -> Vec<Change> {
    let assigned = state.assignments_on(id);
    let mut changes: Vec<Change> = assigned
        .map(|assignment| Change::RemoveAssignment(assignment.id.clone()))
        .collect();
    changes.push(Change::RemoveNode(id.clone()));
    changes
}
