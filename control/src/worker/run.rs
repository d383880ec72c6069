//! One assignment on its node: attempt after attempt, each from accepted to
//! its end.
//!
//! ```text
//! accepted ─Prepare─► preparing ─Prepared─► ready ─Start─► starting ─► running
//!     └────────────────── shut down, or: ◄──────────────────┘            │
//!                         rejected           complete, failed, shutdown ◄┘
//! ```
//! **Invariant:** states of an attempt only go forward, and only the latest
//! attempt is alive.

use super::restart;
use super::{NodeRecord, Observation, Step, TaskRun};
use crate::model::*;
use std::collections::BTreeSet;

/// Grace between stop signal and kill unless the service says: Docker's.
const GRACE_NANOS: i64 = 10 * SECOND;

/// Why a fenced task was stopped by its own node.
const ISOLATED: &str = "the leader is out of reach, and the service is fenced";

/// Now, on both clocks: one to decide by, one for people to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub now: Millis,
    pub wall: WallTime,
}

#[derive(Debug, Default)]
pub(super) struct Run {
    assigned: Assigned,
    seen: Seen,
    /// Attempts made so far, erased ones included.
    attempts: u32,
    /// Restarts that count against the policy.
    restarts: Vec<Millis>,
    /// The latest attempt is not started before.
    start_at: Millis,
    /// The next attempt is made then.
    next_at: Option<Millis>,
    /// Attempts in a row that never ran.
    unstarted: u32,
    /// Why the node itself stops the latest attempt.
    verdict: Option<&'static str>,
    is_stopping: bool,
    /// Attempts whose `Remove` is under way.
    removing: BTreeSet<u32>,
    /// Its service is fenced.
    is_fenced: bool,
    /// It is fenced, and the leader is out of reach: it may not run.
    is_isolated: bool,
    /// No manager speaks of it any more.
    is_retired: bool,
    /// To be written.
    is_dirty: bool,
    /// To be told.
    is_changed: bool,
}

impl Run {
    pub(super) fn new(assigned: Assigned) -> Self {
        Self {
            is_fenced: is_fenced(&assigned.service_labels),
            assigned,
            is_changed: true,
            ..Self::default()
        }
    }

    /// Continues from a record.
    pub(super) fn restore(&mut self, now: Millis, seen: Seen, attempts: u32, restarts: u32) {
        self.seen = seen;
        self.attempts = attempts;
        // When they were is on a clock that may be gone: the latest they can
        // have been is now, which errs on the side of fewer restarts.
        self.restarts = vec![now; restarts as usize];
        if let Some(last) = self.seen.attempts.last_mut()
            && !is_terminal(last)
        {
            // How far it came is for the executor to tell; preparing what is
            // prepared does no harm.
            last.status.state = TaskState::Accepted;
            last.running_since = None;
        }
        self.skip_delay(now);
    }

    /// What is due is due now, and what is to be waited for is over.
    pub(super) fn skip_delay(&mut self, now: Millis) {
        self.start_at = now;
        let is_over = self.seen.latest().is_some_and(is_terminal);
        self.next_at = (is_over && !self.seen.is_exhausted).then_some(now);
    }

    /// Whether the leader is out of reach, which only a fenced one minds.
    pub(super) fn isolate(&mut self, is_isolated: bool) {
        self.is_isolated = self.is_fenced && is_isolated;
    }
    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced
    }
    /// It is fenced, and meant to run.
    pub(super) fn needs_lease(&self) -> bool {
        self.is_fenced && self.assigned.is_live()
    }
    fn may_start(&self) -> bool {
        self.assigned.desired == TaskState::Running && !self.is_isolated
    }

    /// Only forward. Returns whether that is new.
    pub(super) fn want(&mut self, desired: TaskState) -> bool {
        if desired <= self.assigned.desired {
            return false;
        }
        self.assigned.desired = desired;
        true
    }

    /// Returns whether it was meant to stay until now.
    pub(super) fn retire(&mut self) -> bool {
        self.is_retired = true;
        self.want(TaskState::Remove)
    }

    /// Goes on as far as it can without the world.
    pub(super) fn drive(&mut self, at: Moment, node: &NodeId, steps: &mut Vec<Step>) {
        match self.assigned.desired {
            TaskState::Shutdown => self.drive_down(at, steps),
            TaskState::Remove => {
                self.drive_down(at, steps);
                self.remove_all(steps);
            }
            _ => self.drive_up(at, node, steps),
        }
        let is_gone = !self.assigned.is_live() && self.seen.attempts.is_empty();
        if is_gone && !self.seen.is_gone {
            self.seen.is_gone = true;
            self.mark();
        }
    }

    fn drive_up(&mut self, at: Moment, node: &NodeId, steps: &mut Vec<Step>) {
        let is_due = match self.seen.latest() {
            None => true,
            Some(last) if is_terminal(last) => self.next_at.is_some_and(|next| next <= at.now),
            Some(_) => false,
        };
        if is_due {
            self.begin(at);
        }
        let Some(last) = self.seen.latest() else {
            return;
        };
        let task = last.task.clone();
        match last.status.state {
            TaskState::Accepted => {
                steps.push(Step::Prepare(Box::new(self.task_run(node, &task))));
                self.become_state(at, TaskState::Preparing, "preparing");
            }
            TaskState::Ready if self.may_start() && self.start_at <= at.now => {
                steps.push(Step::Start { task });
                self.become_state(at, TaskState::Starting, "starting");
            }
            TaskState::Starting | TaskState::Running
                if (self.verdict.is_some() || self.is_isolated) && !self.is_stopping =>
            {
                self.is_stopping = true;
                if self.is_isolated {
                    self.verdict = Some(ISOLATED);
                }
                steps.push(self.stop(task));
            }
            _ => {}
        }
    }

    fn drive_down(&mut self, at: Moment, steps: &mut Vec<Step>) {
        self.next_at = None;
        let Some(last) = self.seen.latest() else {
            return;
        };
        let (number, state) = (last.number, last.status.state);
        let task = last.task.clone();
        if is_terminal(last) {
            return;
        }
        if state < TaskState::Starting {
            // There is nothing in it worth keeping.
            self.end(at, TaskState::Shutdown, "shutdown", String::new());
            if self.removing.insert(number) {
                steps.push(Step::Remove { task });
            }
        } else if !self.is_stopping {
            self.is_stopping = true;
            steps.push(self.stop(task));
        }
    }

    fn remove_all(&mut self, steps: &mut Vec<Step>) {
        for attempt in &self.seen.attempts {
            if is_terminal(attempt) && self.removing.insert(attempt.number) {
                let task = attempt.task.clone();
                steps.push(Step::Remove { task });
            }
        }
    }

    /// Erases what is beyond `keep`, `kept` younger attempts of the slot being
    /// counted already. Returns the count with its own.
    pub(super) fn trim(
        &mut self,
        _at: Moment,
        kept: usize,
        keep: usize,
        steps: &mut Vec<Step>,
    ) -> usize {
        let mut kept = kept;
        let last = self.seen.latest().map(|attempt| attempt.number);
        for attempt in self.seen.attempts.iter().rev() {
            let is_needed =
                !is_terminal(attempt) || (self.assigned.is_live() && Some(attempt.number) == last);
            if is_needed || kept < keep {
                kept += 1;
            } else if self.removing.insert(attempt.number) {
                let task = attempt.task.clone();
                steps.push(Step::Remove { task });
            }
        }
        kept
    }

    /// Takes in what was seen of one attempt.
    pub(super) fn observe(&mut self, at: Moment, number: u32, observation: Observation) {
        if let Observation::Removed { .. } = observation {
            return self.removed(at, number);
        }
        let is_latest = self.seen.latest().is_some_and(|last| last.number == number);
        if !is_latest || self.seen.latest().is_some_and(is_terminal) {
            return;
        }
        match observation {
            Observation::Prepared { container, .. } => {
                self.note_container(container, 0);
                self.become_state(at, TaskState::Ready, "prepared");
            }
            Observation::Rejected { message, .. } => {
                self.end(at, TaskState::Rejected, "preparing", message);
            }
            Observation::Started {
                container,
                pid,
                since,
                addresses,
                ports,
                health,
                ..
            } => {
                let at = if since.is_never() {
                    at
                } else {
                    Moment { wall: since, ..at }
                };
                self.note_container(container, pid);
                if let Some(last) = self.seen.attempts.last_mut() {
                    last.addresses = addresses;
                    last.status.ports = ports;
                }
                self.become_state(at, TaskState::Starting, "starting");
                self.judge(at, health);
            }
            Observation::Health { health, .. } => self.judge(at, health),
            Observation::Exited {
                code, oom, message, ..
            } => self.exited(at, code, oom, &message),
            Observation::Lost { .. } => {
                let err = "task: the node went down while it ran".to_owned();
                // Not its own doing: it does not count.
                let counted = std::mem::take(&mut self.restarts);
                self.end(at, TaskState::Failed, "started", err);
                self.restarts = counted;
                self.skip_delay(at.now);
            }
            _ => {}
        }
    }

    fn judge(&mut self, at: Moment, health: Health) {
        let Some(last) = self.seen.attempts.last_mut() else {
            return;
        };
        last.health = health;
        self.is_changed = true;
        match health {
            Health::None | Health::Healthy => {
                let is_new = last.running_since.is_none();
                last.running_since.get_or_insert(at.now);
                self.unstarted = 0;
                if is_new {
                    self.become_state(at, TaskState::Running, "started");
                }
            }
            Health::Starting => {}
            Health::Unhealthy => self.verdict = Some("dockerexec: unhealthy container"),
        }
    }

    fn exited(&mut self, at: Moment, code: i64, oom: bool, message: &str) {
        if let Some(last) = self.seen.attempts.last_mut()
            && let Some(container) = &mut last.status.container
        {
            container.exit_code = code;
            container.pid = 0;
        }
        if !self.assigned.is_live() {
            return self.end(at, TaskState::Shutdown, "shutdown", String::new());
        }
        if self.verdict == Some(ISOLATED) {
            // Not its own doing: it goes on when the leader answers.
            let counted = self.restarts.clone();
            let err = format!("task: {ISOLATED}");
            self.end(at, TaskState::Shutdown, "shutdown", err);
            self.restarts = counted;
            self.seen.is_exhausted = false;
            return self.skip_delay(at.now);
        }
        if code == 0 && message.is_empty() && self.verdict.is_none() {
            return self.end(at, TaskState::Complete, "finished", String::new());
        }
        let mut err = if message.is_empty() {
            format!("task: non-zero exit ({code})")
        } else {
            format!("starting container failed: {message}")
        };
        if let Some(verdict) = self.verdict {
            err = format!("{err}: {verdict}");
        } else if oom {
            err.push_str(": out of memory");
        }
        let before = self.seen.latest().map(|last| last.status.message.clone());
        self.end(at, TaskState::Failed, &before.unwrap_or_default(), err);
    }

    fn removed(&mut self, at: Moment, number: u32) {
        if self.removing.remove(&number) {
            self.seen
                .attempts
                .retain(|attempt| attempt.number != number);
            self.mark();
            return;
        }
        // Somebody took the container away.
        let last = self.seen.latest().filter(|last| last.number == number);
        if let Some(last) = last.filter(|last| !is_terminal(last)) {
            let container = last.status.container.as_ref();
            let id = container
                .map(|c| c.container.to_string())
                .unwrap_or_default();
            let state = if self.assigned.is_live() {
                TaskState::Failed
            } else {
                TaskState::Shutdown
            };
            self.end(at, state, "started", format!("No such container: {id}"));
        }
    }

    /// Makes the next attempt.
    fn begin(&mut self, at: Moment) {
        self.attempts += 1;
        self.next_at = None;
        self.verdict = None;
        self.is_stopping = false;
        self.seen.attempts.push(Attempt {
            task: TaskId::of(&self.assigned.id, self.attempts),
            number: self.attempts,
            created_at: at.wall,
            status: TaskStatus {
                state: TaskState::Accepted,
                timestamp: at.wall,
                message: "accepted".to_owned(),
                ..TaskStatus::default()
            },
            ..Attempt::default()
        });
        self.mark();
    }

    /// The latest attempt is over; decides whether there is a next one.
    fn end(&mut self, at: Moment, state: TaskState, message: &str, err: String) {
        let Some(last) = self.seen.attempts.last_mut() else {
            return;
        };
        assert!(
            last.status.state.may_become(state, Mover::Node),
            "a task that is over does not end again"
        );
        last.status.state = state;
        last.status.timestamp = at.wall;
        last.status.message = message.to_owned();
        last.status.err = err;
        last.ended = Some(at.now);
        last.health = Health::None;
        let has_run = last.has_run();
        if let Some(container) = &mut last.status.container {
            container.pid = 0;
        }
        self.mark();
        if !self.assigned.is_live() {
            return;
        }
        let policy = self.assigned.task.restart_policy.as_ref();
        if !restart::allows(policy, state, &self.restarts, at.now) {
            self.seen.is_exhausted = true;
            return;
        }
        let due = at.now.plus_nanos(restart::delay_nanos(policy));
        self.restarts.push(at.now);
        self.forget_old_restarts(at.now);
        if has_run {
            // Prepared at once, so that preparing overlaps with the delay.
            self.next_at = Some(at.now);
            self.start_at = due;
        } else {
            self.unstarted = self.unstarted.saturating_add(1);
            let least = at.now.plus(restart::unstarted_ms(self.unstarted));
            self.next_at = Some(due.max(least).max(self.start_at));
            self.start_at = at.now;
        }
    }

    /// Without a limit of attempts nobody counts them.
    fn forget_old_restarts(&mut self, now: Millis) {
        let policy = self.assigned.task.restart_policy.as_ref();
        let limit = policy.and_then(|policy| policy.max_attempts).unwrap_or(0);
        if limit == 0 {
            return self.restarts.clear();
        }
        let window = policy.and_then(|policy| policy.window).unwrap_or(0);
        if window > 0 {
            self.restarts.retain(|at| at.plus_nanos(window) > now);
        }
    }

    /// Only forward.
    fn become_state(&mut self, at: Moment, state: TaskState, message: &str) {
        let Some(last) = self.seen.attempts.last_mut() else {
            return;
        };
        if last.status.state.may_become(state, Mover::Node) {
            last.status.state = state;
            last.status.timestamp = at.wall;
            last.status.message = message.to_owned();
            self.is_changed = true;
        }
    }

    fn note_container(&mut self, container: ContainerId, pid: u32) {
        if let Some(last) = self.seen.attempts.last_mut() {
            last.status.container = Some(ContainerStatus {
                container,
                pid,
                exit_code: 0,
            });
        }
    }

    fn stop(&self, task: TaskId) -> Step {
        let container = &self.assigned.task.container_spec;
        let grace = container.stop_grace_period.unwrap_or(GRACE_NANOS);
        let grace_ms = Millis(0).plus_nanos(grace).0;
        let grace_ms = match self.is_isolated {
            true => grace_ms.min(FENCE_GRACE_MS),
            false => grace_ms,
        };
        Step::Stop { task, grace_ms }
    }

    fn task_run(&self, node: &NodeId, task: &TaskId) -> TaskRun {
        let assigned = &self.assigned;
        TaskRun {
            task: task.clone(),
            name: task_name(&assigned.service_name, assigned.slot, Some(node), task),
            slot: assigned.slot,
            service: assigned.service.clone(),
            service_name: assigned.service_name.clone(),
            service_labels: assigned.service_labels.clone(),
            node: node.clone(),
            spec: assigned.task.clone(),
            ports: assigned.ports.clone(),
        }
    }

    fn mark(&mut self) {
        self.is_dirty = true;
        self.is_changed = true;
    }

    /// When something comes due.
    pub(super) fn due(&self) -> Option<Millis> {
        if !self.assigned.is_live() {
            return None;
        }
        let last = self.seen.latest()?;
        if is_terminal(last) {
            return self.next_at;
        }
        let waits = last.status.state == TaskState::Ready && self.may_start();
        waits.then_some(self.start_at)
    }

    /// Nothing of it is left, and nobody asks about it.
    pub(super) fn is_over(&self) -> bool {
        self.is_retired && self.seen.attempts.is_empty()
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    pub(super) fn record(&self) -> NodeRecord {
        NodeRecord::Seen {
            assignment: self.assigned.id.clone(),
            seen: self.seen.clone(),
            attempts: self.attempts,
            restarts: self.restarts.len() as u32,
        }
    }

    pub(super) fn slot(&self) -> (ServiceId, u64) {
        (self.assigned.service.clone(), self.assigned.slot)
    }
    pub(super) fn assigned(&self) -> &Assigned {
        &self.assigned
    }
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

fn is_terminal(attempt: &Attempt) -> bool {
    attempt.status.state.is_terminal()
}
