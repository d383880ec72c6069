//! The node's half of fencing: a lease that every answer of the leader
//! renews, and without which no fenced task runs here.
//!
//! **Invariant:** the lease counts from when the question left, so it is never
//! longer than what the leader counts from its answer.

use super::*;

#[derive(Debug, Default)]
pub(super) struct Fence {
    /// When it is over; `None`: the leader has not answered yet.
    until: Option<Millis>,
    /// When the leader was asked last.
    asked: Option<Millis>,
    pub(super) is_isolated: bool,
}

impl Worker {
    /// Whether the leader is to be asked now. The engine then sends it a
    /// report, empty if need be, and hands the moment that it left to
    /// [`Worker::confirmed`] when the answer comes. It asks here after every
    /// input; [`Worker::due`] sees to it that there is one in time.
    pub fn renews(&mut self, now: Millis) -> bool {
        let is_due = self.renewal_due().is_some_and(|due| due <= now);
        if is_due {
            self.fence.asked = Some(now);
        }
        is_due
    }

    /// A leader with a quorum answered what left here at `sent`. A leader
    /// answers itself.
    pub fn confirmed(&mut self, at: Moment, sent: Millis) {
        let until = sent.plus(FENCE_LEASE_MS);
        self.fence.until = self.fence.until.max(Some(until));
        self.keep_fence(at);
    }

    /// What runs when the agent starts gets the time to ask, and no more: how
    /// long the agent was away nobody knows.
    pub(super) fn begin_fence(&mut self, at: Moment) {
        self.fence.until = Some(at.now.plus(FENCE_RENEW_MS));
    }

    /// Stops or releases the fenced tasks when the lease is over or anew.
    pub(super) fn keep_fence(&mut self, at: Moment) {
        let is_isolated = self.fence.until.is_none_or(|until| until <= at.now);
        if is_isolated == self.fence.is_isolated {
            return;
        }
        self.fence.is_isolated = is_isolated;
        let fenced = self.runs.iter_mut().filter(|(_, run)| run.is_fenced());
        let ids: Vec<AssignmentId> = fenced
            .map(|(id, run)| {
                run.isolate(is_isolated);
                id.clone()
            })
            .collect();
        for id in ids {
            self.drive(at, &id);
        }
    }

    /// When the fence comes due: to ask, or to stop.
    pub(super) fn fence_due(&self) -> Option<Millis> {
        let renewal = self.renewal_due()?;
        let over = self.fence.until.filter(|_| !self.fence.is_isolated);
        over.into_iter().chain([renewal]).min()
    }

    fn renewal_due(&self) -> Option<Millis> {
        let has_fenced = self.runs.values().any(Run::needs_lease);
        let asked = self.fence.asked;
        has_fenced.then(|| asked.map_or(Millis(0), |asked| asked.plus(FENCE_RENEW_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(now: u64) -> Moment {
        Moment {
            now: Millis(now),
            wall: WallTime(1),
        }
    }

    fn worker(at: Moment) -> Worker {
        let mut worker = Worker::recover(at, Vec::new(), Vec::new());
        let mut assigned = Assigned {
            id: "a".into(),
            slot: 1,
            desired: TaskState::Running,
            ..Assigned::default()
        };
        assigned.task.container_spec.stop_grace_period = Some(60 * SECOND);
        let labels = &mut assigned.service_labels;
        labels.insert(FENCE_LABEL.into(), "true".into());
        worker.assign(
            at,
            AssignmentSet {
                node: "n".into(),
                generation: 1,
                history_limit: 5,
                assignments: vec![assigned],
            },
        );
        worker
    }

    fn task(number: u32) -> TaskId {
        TaskId::of(&"a".into(), number)
    }

    fn prepare(worker: &mut Worker, at: Moment, number: u32) {
        let container = ContainerId::from("c");
        let task = task(number);
        worker.observe(at, Observation::Prepared { task, container });
    }

    fn start(worker: &mut Worker, at: Moment, number: u32) {
        let started = Observation::Started {
            task: task(number),
            container: "c".into(),
            pid: 1,
            since: WallTime::NEVER,
            addresses: Vec::new(),
            ports: Vec::new(),
            health: Health::None,
        };
        worker.observe(at, started);
    }

    fn steps(worker: &mut Worker) -> Vec<Step> {
        let steps = worker.take().steps.into_iter();
        steps
            .filter(|step| !matches!(step, Step::Prepare(_)))
            .collect()
    }

    #[test]
    fn a_fenced_task_starts_when_the_leader_answers_and_stops_when_it_does_not() {
        let mut worker = worker(moment(0));
        // The time to ask after a start has passed.
        worker.wake(moment(FENCE_RENEW_MS));
        assert!(worker.renews(Millis(FENCE_RENEW_MS)));
        assert!(!worker.renews(Millis(FENCE_RENEW_MS)), "asked already");
        prepare(&mut worker, moment(2_100), 1);
        assert_eq!(steps(&mut worker), [], "no lease, no start");
        assert_eq!(worker.due(), Some(Millis(2 * FENCE_RENEW_MS)));
        worker.confirmed(moment(2_200), Millis(FENCE_RENEW_MS));
        assert_eq!(steps(&mut worker), [Step::Start { task: task(1) }]);
        start(&mut worker, moment(2_300), 1);
        // Answers stop coming.
        let over = FENCE_RENEW_MS + FENCE_LEASE_MS;
        let mut now = moment(2_300);
        while now.now.0 < over {
            assert_eq!(steps(&mut worker), []);
            worker.renews(now.now);
            now = moment(worker.due().unwrap().0);
            worker.wake(now);
        }
        assert_eq!(now.now, Millis(over), "not a moment later");
        let wanted = Step::Stop {
            task: task(1),
            grace_ms: FENCE_GRACE_MS,
        };
        assert_eq!(steps(&mut worker), [wanted]);
        let exited = Observation::Exited {
            task: task(1),
            code: 137,
            oom: false,
            message: String::new(),
        };
        worker.observe(moment(over + 500), exited);
        // It gets ready again, and waits for the leader; it has not failed.
        prepare(&mut worker, moment(over + 600), 2);
        assert_eq!(steps(&mut worker), []);
        let seen = worker.seen(&"a".into()).unwrap();
        assert_eq!(seen.attempts[0].status.state, TaskState::Shutdown);
        assert!(!seen.is_exhausted);
        worker.confirmed(moment(over + 900), Millis(over + 800));
        assert_eq!(steps(&mut worker), [Step::Start { task: task(2) }]);
    }

    #[test]
    fn without_fenced_tasks_nobody_is_asked() {
        let mut worker = Worker::recover(moment(0), Vec::new(), Vec::new());
        assert_eq!(worker.due(), None);
        assert!(!worker.renews(Millis(1 << 40)));
    }
}
