//! What must hold at every moment.

use crate::executor::Executor;
use skep_control::engine::{Effects, View};
use skep_control::model::*;
use skep_control::routes::Routes;
use skep_control::worker::Step;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Tasks that were seen to be over, and are so on disk.
    over: BTreeMap<TaskId, TaskState>,
    /// The same before that is written: a power cut may take it back.
    told: BTreeMap<TaskId, TaskState>,
    routes: Routes,
}

impl Checker {
    /// After a step of the engine, before its effects are carried out.
    pub(crate) fn effects(&mut self, effects: &Effects) {
        if let Some(routes) = &effects.routes {
            self.routes.clone_from(routes);
        }
        let backends: BTreeSet<&TaskId> = self
            .routes
            .services
            .iter()
            .flat_map(|service| &service.backends)
            .map(|backend| &backend.task)
            .collect();
        for step in &effects.steps {
            if let Step::Stop { task, .. } | Step::Remove { task } = step {
                assert!(
                    !backends.contains(task),
                    "{task} is stopped while it is a backend"
                );
            }
        }
    }

    /// `is_written`: nothing is on its way to the disk.
    pub(crate) fn tasks(&mut self, view: &View<'_>, is_written: bool) {
        for task in view.tasks() {
            let state = task.status.state;
            match self.over.get(&task.id).or(self.told.get(&task.id)) {
                Some(was) => assert!(
                    state.is_terminal(),
                    "{} was {was:?} and is {state:?} again",
                    task.id
                ),
                None if state.is_terminal() => {
                    self.told.insert(task.id, state);
                }
                None => {}
            }
        }
        if is_written {
            self.over.append(&mut self.told);
        }
    }

    /// What was not written by now may never have been.
    pub(crate) fn power_lost(&mut self) {
        self.told.clear();
    }

    /// A slot has one process, or two while its service is updated with the
    /// new one first.
    pub(crate) fn slots(&self, executor: &Executor, ever_start_first: bool) {
        let mut slots: BTreeMap<(&ServiceId, u64), Vec<&TaskId>> = BTreeMap::new();
        for (task, container) in executor.running() {
            let slot = (&container.service, container.slot);
            slots.entry(slot).or_default().push(task);
        }
        let most = if ever_start_first { 2 } else { 1 };
        for (slot, tasks) in slots {
            assert!(tasks.len() <= most, "{slot:?} has {tasks:?}");
        }
    }
}
