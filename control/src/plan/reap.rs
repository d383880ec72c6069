//! Lets go of what is over: assignments of removed services, of slots that are
//! no more, beyond the history, or that nothing is left of.

use super::load::{FAILURES_MAX, failures};
use super::*;

pub(super) fn plan(draft: &mut Draft<'_>) {
    let state = draft.world.state;
    let limit = state.cluster().map_or(0, Cluster::history_limit);
    for service in draft.scope.clone() {
        let is_removed = state.service(service).is_none();
        // By slot already, but for those of a global service.
        let mut slots: Vec<&Assignment> = state.assignments_of(service).collect();
        slots.sort_by(|one, other| key(one).cmp(&key(other)));
        for slot in slots.chunk_by_mut(|one, other| key(one) == key(other)) {
            let is_renewed = draft.is_renewed(service, slot[0].slot);
            reap_slot(draft, slot, is_removed, is_renewed, limit);
        }
    }
}

fn key(of: &Assignment) -> (u64, Option<&NodeId>) {
    (of.slot, of.node.as_ref().filter(|_| of.slot == 0))
}

fn reap_slot(
    draft: &mut Draft<'_>,
    assignments: &mut [&Assignment],
    is_removed: bool,
    is_renewed: bool,
    limit: i64,
) {
    let is_live = |of: &&Assignment| of.is_live() && !draft.ended.contains(&of.id);
    if let [only] = assignments
        && is_live(only)
        && !is_removed
    {
        return;
    }
    // Youngest first.
    assignments.sort_by_key(|assignment| std::cmp::Reverse(assignment.born));
    let is_given_up = is_removed || !(is_renewed || assignments.iter().any(is_live));
    let mut kept = 0;
    for assignment in assignments.iter() {
        let is_over = is_removed || !assignment.is_live() || draft.ended.contains(&assignment.id);
        let seen = draft.world.seen(assignment);
        kept += seen.map_or(1, |seen| seen.attempts.len());
        if !is_over {
            continue;
        }
        if is_gone(draft.world, assignment) {
            let id = assignment.id.clone();
            draft.plan.changes.push(Change::RemoveAssignment(id));
            continue;
        }
        // Where it keeps failing is to be known for a while.
        let has_failed = seen.is_some_and(|of| failures(of, draft.world.now) >= FAILURES_MAX);
        let is_forgotten =
            limit >= 0 && kept as i64 > limit && !has_failed && !draft.world.is_alive(assignment);
        if is_given_up || is_forgotten {
            draft.end(assignment, TaskState::Remove);
        }
    }
}

/// Nothing of it is left anywhere.
fn is_gone(world: World<'_>, assignment: &Assignment) -> bool {
    let Some(node) = &assignment.node else {
        return true;
    };
    world.state.node(node).is_none() || world.seen(assignment).is_some_and(|seen| seen.is_gone)
}
