//! A new leader plans from the tables and what nodes report, with nothing
//! else, and goes on where the old one was.

use super::*;

impl Stage {
    /// Another node leads: its clock, its chance, no memory.
    fn fail_over(&mut self, now: Millis) {
        let (before, after) = (self.now, now);
        let rebase = |at: Millis| Millis(after.0 - before.since(at));
        for attempt in self.seen.values_mut().flat_map(|seen| &mut seen.attempts) {
            attempt.running_since = attempt.running_since.map(rebase);
            attempt.ended = attempt.ended.map(rebase);
        }
        self.now = now;
        self.random = Random::new([after.0 as u8; 32]);
        self.reaches = Reaches::default();
        self.planner = Planner::default();
        // Until nodes have reported it does nothing to them.
        let seen = std::mem::take(&mut self.seen);
        let live = |stage: &Self| {
            let all = stage.state.assignments();
            all.filter(|of| of.is_live()).count()
        };
        let before = live(self);
        self.plan();
        assert_eq!(live(self), before);
        self.seen = seen;
        self.planner = Planner::default();
        let nodes: Vec<NodeId> = self.state.nodes().map(|node| node.id.clone()).collect();
        for node in nodes {
            self.reaches.note(self.now, &node, Reach::Up);
        }
    }
}

#[test]
fn an_update_goes_on_with_its_delay_and_replaces_nothing_twice() {
    let mut stage = Stage::new(3);
    stage.create("web", 6, |spec| {
        spec.update_config = config(|of| {
            of.parallelism = 2;
            of.delay = 10 * SECOND;
        });
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.task_template.container_spec.image = "two".into();
    });
    stage.settle();
    let first: BTreeSet<AssignmentId> = stage
        .live("web")
        .into_iter()
        .filter(|of| stage.image(of) == "two")
        .map(|of| of.id.clone())
        .collect();
    assert_eq!(first.len(), 2);
    stage.now = stage.now.plus(4_000);
    stage.fail_over(Millis(77_000_000));
    stage.settle();
    assert_eq!(
        stage.images("web").get("two"),
        Some(&2),
        "the delay is kept"
    );
    assert_eq!(stage.plan().1, Some(stage.now.plus(6_000)));
    for round in 1..8 {
        if let Some(at) = stage.plan().1 {
            stage.now = at;
        }
        stage.settle();
        stage.fail_over(Millis(100_000_000 * round));
    }
    stage.settle();
    assert_eq!(stage.images("web"), BTreeMap::from([("two".into(), 6)]));
    assert_eq!(stage.update_state("web"), Some(UpdateState::Completed));
    let now: BTreeSet<AssignmentId> = stage.live("web").iter().map(|of| of.id.clone()).collect();
    assert!(first.is_subset(&now));
    let made = stage.state.assignments().filter(|of| of.by_update).count();
    assert_eq!(made, 6);
}

#[test]
fn failures_before_and_after_are_added_up() {
    let mut stage = Stage::new(1);
    stage.create("web", 4, |spec| {
        spec.update_config = config(|of| of.max_failure_ratio = 300_000);
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.task_template.container_spec.image = "bad".into();
    });
    while stage.images("web").get("bad") != Some(&1) {
        stage.plan();
        stage.obey();
    }
    assert_eq!(stage.update_state("web"), Some(UpdateState::Updating));
    stage.fail_over(Millis(9_000_000));
    for _ in 0..4 {
        stage.settle();
        stage.now = stage.now.plus(6_000);
    }
    assert_eq!(stage.update_state("web"), Some(UpdateState::Paused));
    assert_eq!(stage.images("web").get("bad"), Some(&2), "two of four");
}

#[test]
fn a_rollback_and_a_drain_are_finished_by_whoever_leads() {
    let mut stage = Stage::new(3);
    stage.create("web", 4, |spec| {
        spec.update_config = config(|of| of.failure_action = "rollback".into());
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.task_template.container_spec.image = "bad".into();
    });
    while stage.update_state("web") != Some(UpdateState::RollbackStarted) {
        stage.plan();
        stage.obey();
    }
    stage.drain(&[1, 2]);
    for round in 1..12 {
        stage.fail_over(Millis(1_000_000 * round));
        let running = stage.running("web");
        assert!(running >= 3, "{running} of 4");
        stage.plan();
        stage.obey();
        stage.now = stage.now.plus(6_000);
    }
    stage.settle();
    let state = stage.update_state("web");
    assert_eq!(state, Some(UpdateState::RollbackCompleted));
    assert_eq!(stage.images("web"), BTreeMap::from([("one".into(), 4)]));
    assert_eq!(stage.on("web", 3), 4);
}

#[test]
fn attempts_and_failing_nodes_are_known_from_the_reports() {
    let mut stage = Stage::new(2);
    stage.create("web", 2, |_| {});
    stage.settle();
    stage.fail("web", 1, 3);
    let version = stage.state.version();
    stage.fail_over(Millis(50_000_000));
    stage.plan();
    assert_eq!(
        stage.state.version(),
        version,
        "nobody starts to count anew"
    );
    stage.fail("web", 1, 2);
    stage.fail_over(Millis(60_000_000));
    stage.settle();
    assert_eq!(stage.on("web", 2), 2);
}

#[test]
fn a_held_off_node_gets_another_chance_and_a_lost_one_is_lost_again() {
    let mut stage = Stage::new(2);
    stage.create("web", 2, |_| {});
    stage.settle();
    stage.fail_over(Millis(50_000_000));
    stage.reach(1, Reach::Down);
    stage.settle();
    assert_eq!(stage.on("web", 2), 2);
}
