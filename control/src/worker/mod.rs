//! The node's half: what it was assigned against what is seen here becomes the
//! next step of each task. Restarts are decided here, with or without managers.
//!
//! **Invariant:** an attempt's number is durable before its first step leaves,
//! so no attempt id is used twice. It does not know how a step is done.

mod fence;
mod local;
mod record;
mod restart;
mod run;

pub use local::{LocalVerdict, decide_local};
pub use record::NodeRecord;

use crate::model::*;
use fence::Fence;
use local::Locals;
pub use run::Moment;
use run::Run;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything needed to make one attempt's container, without asking anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRun {
    pub task: TaskId,
    /// Of the task and of its container.
    pub name: String,
    pub slot: u64,
    pub service: ServiceId,
    pub service_name: String,
    pub service_labels: Labels,
    pub node: NodeId,
    /// Networks are ids.
    pub spec: TaskSpec,
    /// All ports of the endpoint; those of mode `host` are published with the
    /// container itself, those of mode `ingress` come as [`crate::routes`].
    pub ports: Vec<PortConfig>,
}

/// What the executor shall do next. Every step is idempotent: doing it again,
/// or for something that is already there or gone, is no error. Steps of one
/// task are done in order; a `Stop` or `Remove` overtakes a `Prepare` that is
/// under way and cancels it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make all but the process: image, root file system, network. Answered
    /// by `Prepared` or `Rejected`.
    Prepare(Box<TaskRun>),
    /// Answered by `Started`, or by `Exited` if the process cannot start.
    Start { task: TaskId },
    /// Stop signal, then kill after `grace_ms`. Answered by `Exited`.
    Stop { task: TaskId, grace_ms: u64 },
    /// Erase the container and its logs, killing it if it still runs.
    /// Answered by `Removed`.
    Remove { task: TaskId },
    /// Start a standalone container again: its restart policy says so.
    RestartLocal { container: ContainerId },
}

/// What the executor saw. Facts, in the order in which they happened for a
/// task; telling one twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Prepared {
        task: TaskId,
        container: ContainerId,
    },
    /// It cannot be prepared; `message` is Docker's: `No such image: x`.
    Rejected {
        task: TaskId,
        message: String,
    },
    Started {
        task: TaskId,
        container: ContainerId,
        pid: u32,
        /// When it came up, for people to read; `NEVER`: now.
        since: WallTime,
        addresses: Vec<Address>,
        /// Host-mode ports with the port that was really bound.
        ports: Vec<PortConfig>,
        /// `None` when the container has no health check or none is probed.
        health: Health,
    },
    /// A probe's verdict changed.
    Health {
        task: TaskId,
        health: Health,
        /// The last probe's output.
        output: String,
    },
    Exited {
        task: TaskId,
        /// Docker's: 128 + n for signal n; 127, 126, 125 when it did not start.
        code: i64,
        /// Killed for want of memory.
        oom: bool,
        /// Why it did not start; empty for a process that ran.
        message: String,
    },
    /// It was running when the machine went down: told once, at start.
    Lost {
        task: TaskId,
    },
    Removed {
        task: TaskId,
    },
    /// A standalone container's process is up.
    LocalStarted {
        container: ContainerId,
    },
    /// A standalone container's process is gone, or was found gone when the
    /// agent started.
    LocalExited {
        container: ContainerId,
        policy: HostRestartPolicy,
        code: i64,
        /// A user stopped or killed it; remembered by the executor until a
        /// user starts it.
        by_user: bool,
        /// Found so when the agent started.
        at_boot: bool,
    },
    /// A standalone container is no more, or a user took it into his own
    /// hands (stop, start): a pending restart is off.
    LocalForgotten {
        container: ContainerId,
    },
}

impl Observation {
    /// The task it is about; `None` for standalone containers.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Prepared { task, .. }
            | Self::Rejected { task, .. }
            | Self::Started { task, .. }
            | Self::Health { task, .. }
            | Self::Exited { task, .. }
            | Self::Lost { task }
            | Self::Removed { task } => Some(task),
            Self::LocalStarted { .. } | Self::LocalExited { .. } | Self::LocalForgotten { .. } => {
                None
            }
        }
    }
}

/// Attempts kept of a slot when the cluster says "all": a node's record must
/// end somewhere.
const HISTORY_MAX: usize = 100;

/// All that a node runs for services, and the restarts of its standalone
/// containers.
#[derive(Debug, Default)]
pub struct Worker {
    node: NodeId,
    generation: u64,
    history_limit: i64,
    runs: BTreeMap<AssignmentId, Run>,
    tasks: BTreeMap<TaskId, (AssignmentId, u32)>,
    /// Assignments of a slot, by birth.
    slots: BTreeMap<(ServiceId, u64), BTreeSet<(u64, AssignmentId)>>,
    locals: Locals,
    fence: Fence,
    out: Out,
}

/// What came of the last calls.
#[derive(Debug, Default)]
pub struct Out {
    /// In order. When there are `records`, they wait until these are durable.
    pub steps: Vec<Step>,
    pub records: Vec<NodeRecord>,
    /// What is seen of these is not what it was.
    pub changed: BTreeSet<AssignmentId>,
}

impl Worker {
    /// From the records of the node's log and what the executor found.
    pub fn recover(at: Moment, records: Vec<NodeRecord>, found: Vec<Observation>) -> Self {
        let mut worker = Self::default();
        worker.begin_fence(at);
        for record in records {
            worker.replay(at, record);
        }
        for observation in found {
            worker.observe_found(at, observation);
        }
        let ids: Vec<AssignmentId> = worker.runs.keys().cloned().collect();
        // Told by nobody: the cluster was left, and what is here is leftovers.
        let is_left = worker.node == NodeId::default();
        for id in ids {
            if is_left && let Some(run) = worker.runs.get_mut(&id) {
                let _is_news = run.retire();
            }
            worker.drive(at, &id);
            worker.out.changed.insert(id);
        }
        worker
    }

    /// Takes in what this node is told. An older generation is refused: it
    /// would bring back what is over.
    pub fn assign(&mut self, at: Moment, set: AssignmentSet) {
        if set.node == self.node && set.generation < self.generation {
            return;
        }
        self.generation = set.generation;
        if set.node != self.node || set.history_limit != self.history_limit {
            self.node = set.node;
            self.history_limit = set.history_limit;
            self.out.records.push(self.told());
        }
        let mut named = BTreeSet::new();
        for assigned in set.assignments {
            named.insert(assigned.id.clone());
            self.assign_one(at, assigned);
        }
        let unnamed: Vec<AssignmentId> = self
            .runs
            .keys()
            .filter(|id| !named.contains(*id))
            .cloned()
            .collect();
        for id in unnamed {
            self.retire(at, &id);
        }
    }

    /// Whoever tells this node something from now on is right, whatever it was
    /// told before: there is a new leader.
    pub fn begin_term(&mut self) {
        self.generation = 0;
    }

    /// The log index of what this node was last told.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Everything that it has something of.
    pub fn assigned(&self) -> impl Iterator<Item = &Assigned> {
        self.runs.values().map(Run::assigned)
    }

    /// The node is in no cluster any more: everything goes.
    pub fn leave(&mut self, at: Moment) {
        self.assign(at, AssignmentSet::default());
        self.generation = 0;
    }

    fn assign_one(&mut self, at: Moment, assigned: Assigned) {
        let id = assigned.id.clone();
        let is_changed = match self.runs.get_mut(&id) {
            Some(run) => run.want(assigned.desired),
            None => {
                self.insert(Run::new(assigned));
                true
            }
        };
        if is_changed {
            let run = &self.runs[&id];
            let record = NodeRecord::Assigned {
                generation: self.generation,
                assigned: Box::new(run.assigned().clone()),
            };
            self.out.records.push(record);
            self.drive(at, &id);
        }
    }

    /// No manager speaks of it any more.
    fn retire(&mut self, at: Moment, id: &AssignmentId) {
        let Some(run) = self.runs.get_mut(id) else {
            return;
        };
        if run.retire() {
            // Else it would be back after a restart without managers.
            let record = NodeRecord::Assigned {
                generation: self.generation,
                assigned: Box::new(run.assigned().clone()),
            };
            self.out.records.push(record);
        }
        self.drive(at, id);
    }

    /// What the executor saw.
    pub fn observe(&mut self, at: Moment, observation: Observation) {
        let Some(task) = observation.task() else {
            self.locals.observe(at.now, observation);
            return;
        };
        let Some((id, number)) = self.tasks.get(task).cloned() else {
            if !matches!(observation, Observation::Removed { .. }) {
                // Nobody wants it: left over from a cluster that was left.
                let task = task.clone();
                self.out.steps.push(Step::Remove { task });
            }
            return;
        };
        if let Some(run) = self.runs.get_mut(&id) {
            run.observe(at, number, observation);
        }
        self.drive(at, &id);
    }

    /// At start: as [`Worker::observe`], but nothing is driven yet.
    fn observe_found(&mut self, at: Moment, observation: Observation) {
        let known = observation.task().and_then(|task| self.tasks.get(task));
        let Some((id, number)) = known.cloned() else {
            return self.observe(at, observation);
        };
        if let Some(run) = self.runs.get_mut(&id) {
            run.observe(at, number, observation);
            // The machine or the agent was away for a while: no more delay.
            run.skip_delay(at.now);
        }
    }

    /// Does what has come due.
    pub fn wake(&mut self, at: Moment) {
        self.keep_fence(at);
        let due: Vec<AssignmentId> = self
            .runs
            .iter()
            .filter(|(_, run)| run.due().is_some_and(|due| due <= at.now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.drive(at, &id);
        }
        self.out.steps.extend(self.locals.wake(at.now));
    }

    /// When something comes due.
    pub fn due(&self) -> Option<Millis> {
        let runs = self.runs.values().filter_map(Run::due);
        let others = self.locals.due().into_iter().chain(self.fence_due());
        runs.chain(others).min()
    }

    /// What came of the calls since the last one.
    pub fn take(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }

    /// What is seen of an assignment.
    pub fn seen(&self, id: &AssignmentId) -> Option<&Seen> {
        self.runs.get(id).map(Run::seen)
    }

    /// Moves one assignment on as far as it goes without the world.
    fn drive(&mut self, at: Moment, id: &AssignmentId) {
        let Some(run) = self.runs.get_mut(id) else {
            return;
        };
        let before = run.seen().attempts.len();
        run.drive(at, &self.node, &mut self.out.steps);
        for attempt in &run.seen().attempts[before.min(run.seen().attempts.len())..] {
            let task = attempt.task.clone();
            self.tasks.insert(task, (id.clone(), attempt.number));
        }
        let slot = run.slot();
        self.trim(at, &slot);
        self.settle(id);
    }

    /// Erases what is beyond the slot's history.
    fn trim(&mut self, at: Moment, slot: &(ServiceId, u64)) {
        let keep = usize::try_from(self.history_limit).unwrap_or(HISTORY_MAX);
        let Some(ids) = self.slots.get(slot) else {
            return;
        };
        let mut kept = 0;
        for (_, id) in ids.iter().rev() {
            if let Some(run) = self.runs.get_mut(id) {
                kept = run.trim(at, kept, keep, &mut self.out.steps);
            }
        }
    }

    /// Notes what changed of a run, and lets it go when it is over.
    fn settle(&mut self, id: &AssignmentId) {
        let Some(run) = self.runs.get_mut(id) else {
            return;
        };
        if run.take_changed() {
            self.out.changed.insert(id.clone());
        }
        if run.is_over() {
            let slot = run.slot();
            let born = run.assigned().born;
            self.runs.remove(id);
            self.tasks.retain(|_, (of, _)| of != id);
            if let Some(of_slot) = self.slots.get_mut(&slot) {
                of_slot.remove(&(born, id.clone()));
                if of_slot.is_empty() {
                    self.slots.remove(&slot);
                }
            }
            self.out.changed.insert(id.clone());
            self.out.records.push(NodeRecord::Dropped(id.clone()));
            // An older set would bring it back.
            self.out.records.push(self.told());
        } else if run.take_dirty() {
            let record = run.record();
            self.out.records.push(record);
        }
    }

    fn insert(&mut self, mut run: Run) {
        run.isolate(self.fence.is_isolated);
        let id = run.assigned().id.clone();
        let of_slot = self.slots.entry(run.slot()).or_default();
        of_slot.insert((run.assigned().born, id.clone()));
        for attempt in &run.seen().attempts {
            let task = attempt.task.clone();
            self.tasks.insert(task, (id.clone(), attempt.number));
        }
        self.runs.insert(id, run);
    }
}
