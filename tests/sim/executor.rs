//! Containers that start, fail and die, outliving the agent but not the
//! machine.

use crate::chance::Chance;
use skep_control::model::*;
use skep_control::worker::{Observation, Step};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Prepared,
    Running,
    Exited(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) phase: Phase,
    pub(crate) service: ServiceId,
    pub(crate) slot: u64,
    pub(crate) image: String,
    /// Distinguishes runs, so that an old death does not end a new one.
    pub(crate) run: u64,
}

/// What will happen to a container, unless something else does before.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Prepare(TaskId, Box<Container>),
    Reject(TaskId),
    Start(TaskId),
    /// Of one run, or of whichever is up.
    Die(TaskId, Option<u64>, i64),
    Remove(TaskId),
}

impl Fate {
    pub(crate) fn task(&self) -> &TaskId {
        match self {
            Self::Prepare(task, _)
            | Self::Reject(task)
            | Self::Start(task)
            | Self::Die(task, ..)
            | Self::Remove(task) => task,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Executor {
    pub(crate) containers: BTreeMap<TaskId, Container>,
    /// Every task whose process ever ran.
    ever_started: BTreeSet<TaskId>,
    runs: u64,
    given_up: BTreeSet<TaskId>,
}

impl Executor {
    /// What a step leads to, and after how many milliseconds.
    pub(crate) fn begin(&mut self, step: Step, is_calm: bool, chance: &mut Chance) -> (u64, Fate) {
        match step {
            Step::Prepare(run) => {
                assert!(
                    !self.ever_started.contains(&run.task),
                    "attempt {} is used twice",
                    run.task
                );
                let image = run.spec.container_spec.image.clone();
                let fails = image == "bad" || (!is_calm && chance.percent(5));
                if fails {
                    return (1 + chance.below(50), Fate::Reject(run.task));
                }
                let container = Container {
                    phase: Phase::Prepared,
                    service: run.service,
                    slot: run.slot,
                    image,
                    run: 0,
                };
                let fate = Fate::Prepare(run.task, Box::new(container));
                (1 + chance.below(100), fate)
            }
            Step::Start { task } => (1 + chance.below(30), Fate::Start(task)),
            Step::Stop { task, grace_ms } => {
                let code = if chance.percent(50) { 0 } else { 137 };
                let after = 1 + chance.below(grace_ms.min(2000));
                (after, Fate::Die(task, None, code))
            }
            Step::Remove { task } => {
                // What is being prepared is given up.
                self.given_up.insert(task.clone());
                (1 + chance.below(20), Fate::Remove(task))
            }
            Step::RestartLocal { .. } => unreachable!("there are no standalone containers"),
        }
    }

    /// What is seen when it happens; and what will follow by itself.
    pub(crate) fn happen(
        &mut self,
        fate: Fate,
        is_calm: bool,
        chance: &mut Chance,
    ) -> (Option<Observation>, Option<(u64, Fate)>) {
        match fate {
            Fate::Prepare(task, container) => {
                if self.given_up.contains(&task) {
                    return (None, None);
                }
                let container = *container;
                self.containers.entry(task.clone()).or_insert(container);
                let container = id_of(&task);
                (Some(Observation::Prepared { task, container }), None)
            }
            Fate::Reject(task) => {
                let message = "No such image: bad".into();
                (Some(Observation::Rejected { task, message }), None)
            }
            Fate::Start(task) => self.start(task, is_calm, chance),
            Fate::Die(task, run, code) => {
                let Some(container) = self.containers.get_mut(&task) else {
                    return (None, None);
                };
                let is_meant = run.is_none_or(|run| run == container.run);
                if container.phase != Phase::Running || !is_meant {
                    return (None, None);
                }
                container.phase = Phase::Exited(code);
                (Some(exited(task, code)), None)
            }
            Fate::Remove(task) => {
                self.containers.remove(&task);
                (Some(Observation::Removed { task }), None)
            }
        }
    }

    fn start(
        &mut self,
        task: TaskId,
        is_calm: bool,
        chance: &mut Chance,
    ) -> (Option<Observation>, Option<(u64, Fate)>) {
        let Some(container) = self.containers.get_mut(&task) else {
            return (None, None);
        };
        if container.phase != Phase::Prepared {
            return (None, None);
        }
        self.ever_started.insert(task.clone());
        if !is_calm && chance.percent(3) {
            container.phase = Phase::Exited(127);
            return (Some(exited(task, 127)), None);
        }
        self.runs += 1;
        container.run = self.runs;
        container.phase = Phase::Running;
        let flaky = container.image == "flaky" || !is_calm;
        let run = container.run;
        let dies = (flaky && chance.percent(30)).then(|| {
            let code = [0, 1, 137][chance.below(3) as usize];
            (chance.below(8000), Fate::Die(task.clone(), Some(run), code))
        });
        (Some(started(&task)), dies)
    }

    /// The agent starts again: what is there.
    pub(crate) fn found(&self, lost: &BTreeSet<TaskId>) -> Vec<Observation> {
        let seen = self.containers.iter().map(|(task, container)| {
            let task = task.clone();
            match container.phase {
                Phase::Prepared => Observation::Prepared {
                    container: id_of(&task),
                    task,
                },
                Phase::Running => started(&task),
                Phase::Exited(_) if lost.contains(&task) => Observation::Lost { task },
                Phase::Exited(code) => exited(task, code),
            }
        });
        seen.collect()
    }

    /// The machine goes down. Returns what ran.
    pub(crate) fn lose_power(&mut self) -> BTreeSet<TaskId> {
        let mut lost = BTreeSet::new();
        for (task, container) in &mut self.containers {
            if container.phase == Phase::Running {
                container.phase = Phase::Exited(255);
                lost.insert(task.clone());
            }
        }
        lost
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (&TaskId, &Container)> {
        let all = self.containers.iter();
        all.filter(|(_, container)| container.phase == Phase::Running)
    }
}

fn id_of(task: &TaskId) -> ContainerId {
    ContainerId(format!("c-{task}"))
}

fn started(task: &TaskId) -> Observation {
    Observation::Started {
        task: task.clone(),
        container: id_of(task),
        pid: 42,
        since: WallTime::NEVER,
        addresses: Vec::new(),
        ports: Vec::new(),
        health: Health::None,
    }
}

fn exited(task: TaskId, code: i64) -> Observation {
    Observation::Exited {
        task,
        code,
        oom: false,
        message: String::new(),
    }
}
