//! For each service: how many slots, which of them go, which are made anew.

use super::*;
use crate::constraint::Constraint;
use load::keeps_failing;
use require::Requirement;

/// Replicated services count slots; global ones have one on each node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SlotKey {
    Number(u64),
    Node(NodeId),
}

/// One slot: what is meant to run in it, and what may still run.
#[derive(Debug, Default)]
pub(super) struct Slot<'a> {
    /// Meant to run, by birth. More than one only while it is replaced.
    pub(super) live: Vec<&'a Assignment>,
    /// Told to stop, and not seen to have.
    pub(super) stopping: Vec<&'a Assignment>,
}

pub(super) type Slots<'a> = BTreeMap<SlotKey, Slot<'a>>;

pub(super) fn plan(draft: &mut Draft<'_>) {
    let state = draft.world.state;
    for id in draft.scope.clone() {
        let Some(service) = state.service(id) else {
            continue;
        };
        let mut slots = observe(draft, service);
        if service.spec.mode.is_global() {
            global(draft, service, &mut slots);
        } else {
            replicated(draft, service, &mut slots);
        }
        rollout::plan(draft, service, &slots);
        moves::plan(draft, service, &slots);
        for slot in slots.values() {
            take_turns(draft, slot);
        }
        let candidate = rebalance::candidate(draft, service, &slots);
        draft.candidates.extend(candidate);
    }
}

/// The slots as they are, without what may not stay where it is.
fn observe<'a>(draft: &mut Draft<'a>, service: &Service) -> Slots<'a> {
    let world = draft.world;
    let mut constraints: BTreeMap<u64, Vec<Constraint>> = BTreeMap::new();
    let mut slots = Slots::new();
    for assignment in world.state.assignments_of(&service.id) {
        draft.looks += 1;
        let key = match &assignment.node {
            Some(node) if assignment.slot == 0 => SlotKey::Node(node.clone()),
            _ => SlotKey::Number(assignment.slot),
        };
        let reach = match &assignment.node {
            Some(node) => world.reaches.of(node),
            None => Reach::Unknown,
        };
        if reach == Reach::Down
            && let Some(until) = world.fenced_until(assignment)
        {
            draft.wake(&service.id, until);
        }
        if !assignment.is_live() {
            if world.is_alive(assignment) {
                slots.entry(key).or_default().stopping.push(assignment);
            }
            continue;
        }
        let seen = world.seen(assignment);
        if seen.is_some_and(|seen| keeps_failing(seen, world.now)) {
            draft.failing.insert(assignment.id.clone());
        }
        // Those it was made with: other ones are for the rollout to bring.
        let constraints = constraints.entry(assignment.revision).or_insert_with(|| {
            let revision = world.state.revision(&service.id, assignment.revision);
            Constraint::of(revision.and_then(|of| of.task.placement.as_ref()))
        });
        if assignment.node.is_none() {
            let key = (service.id.clone(), assignment.revision);
            draft.waiting.push((assignment.id.clone(), key));
        }
        let sight = (reach, seen);
        if may_stay(world, service, assignment, sight, constraints) {
            if assignment.by_update && world.is_starting(assignment) {
                draft.in_flight += 1;
                draft.held.insert(service.id.clone());
            }
            slots.entry(key).or_default().live.push(assignment);
        } else {
            if world.is_alive(assignment) {
                slots.entry(key).or_default().stopping.push(assignment);
            }
            draft.end(assignment, TaskState::Shutdown);
        }
    }
    for slot in slots.values_mut() {
        slot.live.sort_by_key(|assignment| assignment.born);
    }
    slots
}

fn may_stay(
    world: World<'_>,
    service: &Service,
    assignment: &Assignment,
    (reach, seen): (Reach, Option<&Seen>),
    constraints: &[Constraint],
) -> bool {
    let Some(id) = &assignment.node else {
        return true;
    };
    let Some(node) = world.state.node(id) else {
        return false;
    };
    if seen.is_some_and(|seen| seen.is_exhausted) {
        // It has run its course; nothing of it is lost with the node.
        return true;
    }
    match node.spec.availability {
        _ if reach == Reach::Down => false,
        // Replicas move one after the other.
        Availability::Drain => !service.spec.mode.is_global(),
        // Pausing holds off evictions, too.
        Availability::Pause => true,
        Availability::Active => constraints.iter().all(|of| of.is_met_by(node)),
    }
}

fn replicated(draft: &mut Draft<'_>, service: &Service, slots: &mut Slots<'_>) {
    let wanted = service.spec.mode.replicas();
    let live = slots.values().filter(|slot| !slot.live.is_empty()).count() as u64;
    if live < wanted {
        let taken: BTreeSet<u64> = slots
            .iter()
            .filter(|(_, slot)| !slot.live.is_empty())
            .filter_map(|(key, _)| match key {
                SlotKey::Number(number) => Some(*number),
                SlotKey::Node(_) => None,
            })
            .collect();
        let free = (1..).filter(|number| !taken.contains(number));
        let room = NEW_MAX.saturating_sub(draft.new.len());
        if (room as u64) < wanted - live {
            draft.unfinished.insert(service.id.clone());
        }
        for number in free.take(room.min((wanted - live) as usize)) {
            let desired = first_desired(slots.get(&SlotKey::Number(number)));
            draft.begin(service, number, desired);
        }
    } else if live > wanted {
        shrink(draft, slots, (live - wanted) as usize);
    }
}

/// While something of the slot may still be up, its next task only gets ready.
fn first_desired(slot: Option<&Slot<'_>>) -> TaskState {
    match slot {
        Some(slot) if !slot.stopping.is_empty() => TaskState::Ready,
        _ => TaskState::Running,
    }
}

/// Gives up slots: of drained nodes first, then of the nodes with most of the service's tasks first, then
/// those that do not run, then the highest.
fn shrink(draft: &mut Draft<'_>, slots: &mut Slots<'_>, surplus: usize) {
    let world = draft.world;
    let mut by_node: BTreeMap<Option<&NodeId>, usize> = BTreeMap::new();
    let mut order: Vec<(bool, &SlotKey)> = slots
        .iter()
        .filter(|(_, slot)| !slot.live.is_empty())
        .map(|(key, slot)| {
            let runs = |of: &&Assignment| world.seen(of).is_some_and(Seen::is_running);
            (!slot.live.iter().any(runs), key)
        })
        .collect();
    // Running ones first, so that the others are the later ones of their node.
    order.sort();
    let mut ranked: Vec<(bool, usize, bool, SlotKey)> = order
        .into_iter()
        .map(|(is_idle, key)| {
            let last = slots[key].live.last();
            let is_displaced = last.is_some_and(|last| world.is_displaced(last));
            let node = last.and_then(|last| last.node.as_ref());
            let nth = by_node.entry(node).or_default();
            *nth += 1;
            (is_displaced, *nth, is_idle, key.clone())
        })
        .collect();
    ranked.sort();
    for (.., key) in ranked.into_iter().rev().take(surplus) {
        if let Some(slot) = slots.remove(&key) {
            for assignment in slot.live {
                draft.end(assignment, TaskState::Remove);
            }
        }
    }
}

fn global(draft: &mut Draft<'_>, service: &Service, slots: &mut Slots<'_>) {
    let state = draft.world.state;
    let Some(revision) = state.revision(&service.id, service.revision) else {
        return;
    };
    let requirement = Requirement::of(revision);
    for node in state.nodes() {
        let key = SlotKey::Node(node.id.clone());
        let slot = slots.get(&key);
        let has_one = slot.is_some_and(|slot| !slot.live.is_empty());
        let is_eligible = || {
            node.spec.availability == Availability::Active
                && requirement.are_constraints_met_by(node)
                && requirement.runs_on(node)
        };
        if has_one || !is_eligible() || !draft.is_open(&node.id) {
            continue;
        }
        let desired = first_desired(slot);
        let leaving = slot.map_or(&[][..], |slot| &slot.stopping);
        draft.begin_on(service, &node.id, desired, leaving);
    }
}

/// Within a slot, the younger takes over from the older: a task that waits
/// starts when nothing of the slot is up any more, and one that is up ends the
/// one before.
fn take_turns(draft: &mut Draft<'_>, slot: &Slot<'_>) {
    let world = draft.world;
    let Some((newest, older)) = slot.live.split_last() else {
        return;
    };
    if draft.ended.contains(&newest.id) {
        return;
    }
    let has_no_reason = newest.by_update
        && newest.node.is_none()
        && older
            .last()
            .is_some_and(|old| old.revision == newest.revision && !world.is_displaced(old));
    if has_no_reason {
        // The node is no longer drained: nothing needs to take over.
        draft.end(newest, TaskState::Remove);
        return;
    }
    // An older one that is not told to stop is to be overlapped with.
    let is_free = slot.stopping.is_empty() && !older.iter().any(|of| draft.ended.contains(&of.id));
    if newest.desired == TaskState::Ready && is_free {
        draft.plan.changes.push(Change::SetDesired {
            assignment: newest.id.clone(),
            desired: TaskState::Running,
        });
    }
    if !older.is_empty() && world.seen(newest).is_some_and(Seen::is_running) {
        for assignment in older {
            draft.end(assignment, TaskState::Shutdown);
        }
    }
}
