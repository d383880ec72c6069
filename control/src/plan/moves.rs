//! Moves tasks off nodes that are drained, and off nodes where they keep
//! failing.
//!
//! A drain follows the service's update order and parallelism, over all of
//! its nodes together: start-first, the replacement runs before the old task
//! ends; stop-first, no more than so many are on their way at a time. What
//! fails anyway is replaced at once, if there is a node where it does not.

use super::rollout::Rules;
use super::services::{Slot, SlotKey, Slots};
use super::*;

pub(super) fn plan(draft: &mut Draft<'_>, service: &Service, slots: &Slots<'_>) {
    let numbered = slots.iter().filter_map(|(key, slot)| match key {
        SlotKey::Number(number) => Some((*number, slot)),
        // Nothing else may have the task of a global service.
        SlotKey::Node(_) => None,
    });
    let single: Vec<(u64, &Assignment)> = numbered
        .filter_map(|(number, slot)| Some((number, steady(draft, service, number, slot)?)))
        .collect();
    drain(draft, service, slots, &single);
    unless_updating(draft, service, &single);
}

/// The one task of a slot that nothing is done about yet.
fn steady<'a>(
    draft: &Draft<'_>,
    service: &Service,
    number: u64,
    slot: &Slot<'a>,
) -> Option<&'a Assignment> {
    let [only] = slot.live[..] else {
        return None;
    };
    let is_touched = !slot.stopping.is_empty()
        || draft.ended.contains(&only.id)
        || draft.is_renewed(&service.id, number);
    (!is_touched).then_some(only)
}

fn drain(
    draft: &mut Draft<'_>,
    service: &Service,
    slots: &Slots<'_>,
    single: &[(u64, &Assignment)],
) {
    let world = draft.world;
    let displaced: Vec<_> = single
        .iter()
        .filter(|(_, of)| world.is_displaced(of))
        .collect();
    if displaced.is_empty() {
        return;
    }
    let rules = Rules::of(service, false);
    let on_their_way = slots
        .values()
        .filter_map(|slot| slot.live.last())
        .filter(|of| of.by_update && world.is_starting(of))
        .count();
    let made = draft.new.iter().rev();
    let made = made.take_while(|of| of.service == service.id);
    let in_flight = on_their_way + made.filter(|of| of.by_update).count();
    let room = match rules.parallelism {
        0 => displaced.len(),
        most => usize::try_from(most)
            .unwrap_or(usize::MAX)
            .saturating_sub(in_flight),
    };
    for (number, assignment) in displaced.into_iter().take(room) {
        let desired = match rules.is_start_first {
            true => TaskState::Running,
            false => TaskState::Ready,
        };
        if !rules.is_start_first {
            draft.end(assignment, TaskState::Shutdown);
        }
        draft.begin(service, *number, desired).by_update = true;
    }
}

/// During an update its own verdict counts, and would not see what moved.
fn unless_updating(draft: &mut Draft<'_>, service: &Service, single: &[(u64, &Assignment)]) {
    let status = service.update_status.as_ref();
    if status.is_some_and(|status| status.state.is_active()) {
        return;
    }
    let policy = service.spec.task_template.restart_policy.as_ref();
    let attempts_max = policy.and_then(|policy| policy.max_attempts);
    if attempts_max.is_some_and(|most| most > 0) {
        // Its own node counts them.
        return;
    }
    for (number, assignment) in single {
        let is_moving = draft.ended.contains(&assignment.id);
        if draft.failing.contains(&assignment.id)
            && !is_moving
            && has_better_place(draft, service, assignment)
        {
            draft.end(assignment, TaskState::Shutdown);
            draft.begin(service, *number, TaskState::Ready);
        }
    }
}

fn has_better_place(draft: &mut Draft<'_>, service: &Service, assignment: &Assignment) -> bool {
    draft.measure();
    let Some(loads) = &mut draft.loads else {
        return false;
    };
    let number = loads.service(&service.id);
    let successor = Assignment {
        revision: service.revision,
        ..assignment.clone()
    };
    let requirement = loads.requirement(number, &successor);
    (0..loads.nodes.len()).any(|place| {
        let load = &loads.nodes[place];
        Some(&load.node.id) != assignment.node.as_ref()
            && load.aversion(number, service.revision) == 0
            && loads.miss(place, number, &requirement).is_none()
    })
}
