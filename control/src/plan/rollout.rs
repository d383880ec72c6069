//! Rolling updates: slots that were made from another revision are replaced,
//! some at a time, and watched.
//!
//! The state of an update is what can be seen of it: which slots are made from
//! the current revision since it began, since when they run, which failed. So
//! a new leader continues where the old one stopped.

use super::services::{Slot, SlotKey, Slots};
use super::*;
use crate::constraint::Constraint;

/// How long a new task is watched unless the service says: Docker's 5 s.
const MONITOR_NANOS: i64 = 5 * SECOND;

pub(super) fn plan(draft: &mut Draft<'_>, service: &Service, slots: &Slots<'_>) {
    let status = service.update_status.as_ref();
    if matches!(
        status.map(|status| status.state),
        Some(UpdateState::Paused | UpdateState::RollbackPaused)
    ) {
        return;
    }
    let dirty = dirty_slots(draft, service, slots);
    let active = status.filter(|status| status.state.is_active());
    if dirty.is_empty() && active.is_none() {
        return;
    }
    let is_rollback = active.is_some_and(|status| status.state.is_rollback());
    let rules = Rules::of(service, is_rollback);
    let watched = Watched::of(draft, service, slots, &rules, active);
    if let Some(task) = watched.verdict(&rules, dirty.len()) {
        let task = task.clone();
        return react(draft, service, is_rollback, &rules, &task);
    }
    if dirty.is_empty() {
        return finish(draft, service, &rules, &watched);
    }
    if active.is_none() {
        let status = status_of(draft, UpdateState::Updating, "update in progress");
        draft.plan.changes.push(Change::SetUpdateStatus {
            service: service.id.clone(),
            status,
        });
    }
    let room = match rules.parallelism {
        0 => dirty.len(),
        most => (most as usize).saturating_sub(watched.in_flight),
    };
    if let Some(when) = watched.next {
        draft.wake(&service.id, when);
    }
    for key in dirty.into_iter().take(room) {
        replace(draft, service, &key, &slots[&key], &rules);
    }
}

/// How an update goes on, with Docker's defaults.
pub(super) struct Rules {
    /// 0: all at once.
    pub(super) parallelism: u64,
    delay_nanos: i64,
    monitor_nanos: i64,
    failure_ratio_max: i32,
    action: Action,
    pub(super) is_start_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Pause,
    Continue,
    Rollback,
}

impl Rules {
    pub(super) fn of(service: &Service, is_rollback: bool) -> Self {
        let config = if is_rollback {
            service.spec.rollback_config.clone()
        } else {
            service.spec.update_config.clone()
        };
        let config = config.unwrap_or(UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        });
        Self {
            parallelism: config.parallelism,
            delay_nanos: config.delay,
            monitor_nanos: match config.monitor {
                0 => MONITOR_NANOS,
                monitor => monitor,
            },
            failure_ratio_max: config.max_failure_ratio,
            action: match config.failure_action.as_str() {
                "continue" => Action::Continue,
                "rollback" => Action::Rollback,
                _ => Action::Pause,
            },
            // Never two of what must not run twice.
            is_start_first: config.order == "start-first" && !is_fenced(&service.spec.labels),
        }
    }
}

/// What is seen of the slots that the update has replaced so far.
#[derive(Default)]
struct Watched {
    replaced: usize,
    /// Not up yet, or up for less than the delay.
    in_flight: usize,
    /// One of them is not up yet.
    is_starting: bool,
    /// First task of each slot that failed while it was watched.
    failures: Vec<TaskId>,
    /// When the last of them came up.
    last_up: Option<Millis>,
    /// When the next delay is over.
    next: Option<Millis>,
}

impl Watched {
    fn of(
        draft: &Draft<'_>,
        service: &Service,
        slots: &Slots<'_>,
        rules: &Rules,
        active: Option<&UpdateStatus>,
    ) -> Self {
        let mut watched = Self::default();
        let world = draft.world;
        let current = slots
            .values()
            .filter_map(|slot| slot.live.last())
            .filter(|of| of.by_update && of.revision == service.revision);
        for assignment in current {
            if active.is_some_and(|active| assignment.born >= active.born) {
                watched.replaced += 1;
                watched.look_at(world, assignment, rules);
            } else if world.is_starting(assignment) {
                // On its way off a drained node.
                watched.in_flight += 1;
            }
        }
        watched
    }

    fn look_at(&mut self, world: World<'_>, assignment: &Assignment, rules: &Rules) {
        let attempts = world
            .seen(assignment)
            .map_or(&[][..], |seen| &seen.attempts);
        let failed = attempts.iter().find(|attempt| {
            let lived = match (attempt.running_since, attempt.ended) {
                (Some(since), Some(ended)) => ended.since(since),
                _ => 0,
            };
            attempt.has_failed() && Millis(lived) <= Millis(0).plus_nanos(rules.monitor_nanos)
        });
        if let Some(failed) = failed {
            self.failures.push(failed.task.clone());
        }
        let settled = attempts
            .iter()
            .find_map(|attempt| attempt.running_since.or(attempt.ended));
        let Some(up) = settled else {
            self.is_starting = true;
            self.in_flight += 1;
            return;
        };
        self.last_up = self.last_up.max(Some(up));
        let free = up.plus_nanos(rules.delay_nanos);
        if free > world.now {
            self.in_flight += 1;
            self.next = Some(self.next.map_or(free, |next| next.min(free)));
        }
    }

    /// The task whose failure is one too many.
    fn verdict(&self, rules: &Rules, dirty: usize) -> Option<&TaskId> {
        if rules.action == Action::Continue {
            return None;
        }
        let total = (self.replaced + dirty) as f64;
        let ratio = self.failures.len() as f64 / total.max(1.0);
        let is_too_many = ratio > f64::from(rules.failure_ratio_max) / 1e6;
        self.failures.last().filter(|_| is_too_many)
    }
}

/// Slots whose task would be made differently now, by number.
fn dirty_slots(draft: &Draft<'_>, service: &Service, slots: &Slots<'_>) -> Vec<SlotKey> {
    let mut verdicts = BTreeMap::new();
    let dirty = slots.iter().filter(|(_, slot)| {
        let Some(newest) = slot.live.last() else {
            return false;
        };
        newest.revision != service.revision && {
            let difference = verdicts
                .entry(newest.revision)
                .or_insert_with(|| difference(draft.world.state, service, newest.revision));
            match difference {
                Difference::None => false,
                Difference::All => true,
                Difference::Placement(constraints) => {
                    let node = newest.node.as_ref();
                    let node = node.and_then(|id| draft.world.state.node(id));
                    // What waits for a node is to wait for the right one.
                    node.is_none_or(|node| !constraints.iter().all(|of| of.is_met_by(node)))
                }
            }
        }
    });
    dirty.map(|(key, _)| key.clone()).collect()
}

enum Difference {
    None,
    /// Tasks may stay where the new constraints are met.
    Placement(Vec<Constraint>),
    All,
}

fn difference(state: &State, service: &Service, revision: u64) -> Difference {
    let (Some(old), Some(new)) = (
        state.revision(&service.id, revision),
        state.revision(&service.id, service.revision),
    ) else {
        return Difference::All;
    };
    let mut old = (**old).clone();
    old.number = new.number;
    // Labels of a service are not its tasks'.
    old.service_labels.clone_from(&new.service_labels);
    if old == **new {
        return Difference::None;
    }
    old.task.placement.clone_from(&new.task.placement);
    if old == **new {
        Difference::Placement(Constraint::of(new.task.placement.as_ref()))
    } else {
        Difference::All
    }
}

/// Makes the new task of a slot. What is half way replaced already, by an
/// update that this one overtakes, makes room, too.
fn replace(
    draft: &mut Draft<'_>,
    service: &Service,
    key: &SlotKey,
    slot: &Slot<'_>,
    rules: &Rules,
) {
    let is_crowded = !slot.stopping.is_empty() || slot.live.len() > 1;
    let desired = match rules.is_start_first && !is_crowded {
        true => TaskState::Running,
        false => TaskState::Ready,
    };
    let ends = match rules.is_start_first {
        true => slot.live.get(1..).unwrap_or(&[]),
        false => &slot.live,
    };
    for assignment in ends {
        draft.end(assignment, TaskState::Shutdown);
    }
    let node = match key {
        SlotKey::Number(number) => {
            draft.begin(service, *number, desired).by_update = true;
            return;
        }
        SlotKey::Node(node) => node,
    };
    if rules.is_start_first
        && let Some(new) = draft.begin_on(service, node, desired, &slot.stopping)
    {
        new.by_update = true;
        return;
    }
    // It has nowhere else to go: beside the old one or in its place.
    for assignment in &slot.live {
        draft.end(assignment, TaskState::Shutdown);
    }
    let leaving = [&slot.live[..], &slot.stopping[..]].concat();
    if let Some(new) = draft.begin_on(service, node, TaskState::Ready, &leaving) {
        new.by_update = true;
    }
}

/// Too many failures.
fn react(
    draft: &mut Draft<'_>,
    service: &Service,
    is_rollback: bool,
    rules: &Rules,
    task: &TaskId,
) {
    let because = format!("due to failure or early termination of task {task}");
    if rules.action == Action::Rollback
        && !is_rollback
        && let Some(previous) = &service.previous_spec
    {
        let mut service = service.clone();
        service.spec = previous.clone();
        service.previous_spec = None;
        service.ports = ports_again(&service, draft.world.state);
        let message = format!("update rolled back {because}");
        service.update_status = Some(status_of(draft, UpdateState::RollbackStarted, &message));
        let changes = draft.world.state.revised(service);
        draft.plan.changes.extend(changes);
        return;
    }
    let (state, message) = if is_rollback {
        let message = format!("rollback paused {because}");
        (UpdateState::RollbackPaused, message)
    } else {
        (UpdateState::Paused, format!("update paused {because}"))
    };
    set_status(draft, service, state, message, WallTime::NEVER);
}

/// The endpoint of the spec again; a port that the cluster had chosen stays.
fn ports_again(service: &Service, state: &State) -> Vec<PortConfig> {
    let endpoint = service.spec.endpoint_spec.clone().unwrap_or_default();
    let before = state.service(&service.id).map_or(&[][..], |of| &of.ports);
    let decided = endpoint.ports.into_iter().map(|mut port| {
        port.protocol = port.protocol().to_owned();
        if port.publish_mode.is_empty() {
            port.publish_mode = "ingress".into();
        }
        let chosen = before
            .iter()
            .find(|old| old.target_port == port.target_port && old.protocol == port.protocol);
        if let Some(chosen) = chosen.filter(|_| port.published_port == 0) {
            port.published_port = chosen.published_port;
        }
        port
    });
    decided.collect()
}

/// Every slot is replaced: the last ones are watched for a while longer.
fn finish(draft: &mut Draft<'_>, service: &Service, rules: &Rules, watched: &Watched) {
    if watched.is_starting {
        return;
    }
    let watch_nanos = if rules.delay_nanos >= rules.monitor_nanos {
        rules.delay_nanos.saturating_add(SECOND)
    } else {
        rules.monitor_nanos
    };
    if let Some(last) = watched.last_up {
        let over = last.plus_nanos(watch_nanos);
        if over > draft.world.now {
            return draft.wake(&service.id, over);
        }
    }
    let is_rollback = service
        .update_status
        .as_ref()
        .is_some_and(|status| status.state.is_rollback());
    let (state, message) = if is_rollback {
        (UpdateState::RollbackCompleted, "rollback completed")
    } else {
        (UpdateState::Completed, "update completed")
    };
    let wall = draft.world.wall;
    set_status(draft, service, state, message.to_owned(), wall);
}

fn set_status(
    draft: &mut Draft<'_>,
    service: &Service,
    state: UpdateState,
    message: String,
    completed_at: WallTime,
) {
    let Some(before) = &service.update_status else {
        return;
    };
    let status = UpdateStatus {
        state,
        message,
        completed_at,
        ..before.clone()
    };
    draft.plan.changes.push(Change::SetUpdateStatus {
        service: service.id.clone(),
        status,
    });
}

fn status_of(draft: &Draft<'_>, state: UpdateState, message: &str) -> UpdateStatus {
    UpdateStatus {
        state,
        started_at: draft.world.wall,
        completed_at: WallTime::NEVER,
        message: message.to_owned(),
        born: 0,
    }
}
