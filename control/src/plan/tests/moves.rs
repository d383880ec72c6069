//! Drains, nodes where tasks keep failing, fences and balance.

use super::*;

/// Running tasks after each step until all is calm, at the least; and at the
/// most.
fn extremes(stage: &mut Stage, name: &str) -> (usize, usize) {
    let (mut least, mut most) = (usize::MAX, 0);
    for _ in 0..60 {
        let changes = stage.plan().0;
        stage.obey();
        let running = stage.running(name);
        (least, most) = (least.min(running), most.max(running));
        if changes == 0 {
            return (least, most);
        }
    }
    panic!("it does not come to rest");
}

#[test]
fn a_drain_keeps_the_capacity_that_the_spec_promises() {
    for (order, parallelism, wanted) in [
        ("stop-first", 1, (5, 6)),
        ("stop-first", 2, (4, 6)),
        ("stop-first", 0, (2, 6)),
        ("start-first", 1, (6, 7)),
        ("start-first", 0, (6, 10)),
    ] {
        let mut stage = Stage::new(4);
        stage.create("web", 6, |spec| {
            spec.update_config = config(|of| {
                of.order = order.into();
                of.parallelism = parallelism;
            });
            spec.task_template.placement =
                place(|of| of.constraints.push("node.hostname!=n0004".into()));
        });
        stage.settle();
        assert_eq!(stage.per_node("web"), [2, 2, 2]);
        stage.label(4, "spare", "yes");
        stage.drain(&[1, 2]);
        assert_eq!(extremes(&mut stage, "web"), wanted, "{order} {parallelism}");
        assert_eq!(stage.on("web", 3), 6);
    }
}

#[test]
fn a_drain_without_a_place_to_go_stops_no_more_than_one_round() {
    let mut stage = Stage::new(2);
    let full = |spec: &mut ServiceSpec| {
        spec.task_template.resources = reserve(|of| of.nano_cpus = 2 * SECOND);
    };
    stage.create("web", 4, full);
    stage.settle();
    stage.drain(&[1]);
    stage.settle();
    assert_eq!(stage.running("web"), 3);
    assert!(stage.why().contains("insufficient resources on 1 node"));
    // Start-first gives up nothing, and nothing is left when the drain is off.
    let mut stage = Stage::new(2);
    stage.create("web", 4, |spec| {
        full(spec);
        spec.update_config = config(|of| of.order = "start-first".into());
    });
    stage.settle();
    stage.drain(&[1]);
    stage.settle();
    assert_eq!((stage.running("web"), stage.pending.len()), (4, 1));
    stage.node(1, |node| node.spec.availability = Availability::Active);
    stage.settle();
    assert_eq!((stage.running("web"), stage.pending.len()), (4, 0));
    assert_eq!(stage.per_node("web"), [2, 2]);
}

#[test]
fn a_drained_node_that_is_lost_is_waited_for_no_longer() {
    let mut stage = Stage::new(2);
    stage.create("web", 4, |_| {});
    stage.settle();
    stage.drain(&[1]);
    stage.reach(1, Reach::Down);
    stage.plan();
    assert_eq!(stage.on("web", 2), 4);
}

#[test]
fn what_has_run_its_course_is_not_run_again_elsewhere() {
    let mut stage = Stage::new(2);
    stage.create("once", 2, |_| {});
    stage.settle();
    for seen in stage.seen.values_mut() {
        seen.is_exhausted = true;
        seen.attempts[0].status.state = TaskState::Complete;
    }
    let before = stage.state.version();
    stage.reach(1, Reach::Down);
    stage.plan();
    assert_eq!(stage.state.version(), before);
}

#[test]
fn a_task_that_keeps_failing_is_moved_to_where_it_does_not() {
    let mut stage = Stage::new(2);
    stage.create("web", 1, |_| {});
    stage.settle();
    stage.fail("web", 1, 4);
    stage.plan();
    assert_eq!(stage.on("web", 1), 1);
    stage.fail("web", 1, 1);
    stage.settle();
    assert_eq!(stage.on("web", 2), 1);
    // Where all fail there is no better place.
    stage.fail("web", 2, 5);
    stage.plan();
    assert_eq!(stage.on("web", 2), 1);
    // A limit of attempts is its own node's to keep.
    stage.create("strict", 1, |spec| {
        spec.task_template.restart_policy = Some(RestartPolicy {
            max_attempts: Some(9),
            ..RestartPolicy::default()
        });
    });
    stage.settle();
    stage.fail("strict", 1, 6);
    stage.plan();
    assert_eq!(stage.on("strict", 1), 1);
}

#[test]
fn a_fenced_task_starts_elsewhere_when_the_lease_is_over() {
    let mut stage = Stage::new(2);
    stage.create("db", 1, |spec| {
        spec.labels.insert(FENCE_LABEL.into(), "true".into());
        spec.update_config = config(|of| of.order = "start-first".into());
    });
    stage.settle();
    let home = stage.live("db")[0].node.clone().unwrap();
    stage.reaches.note(stage.now, &home, Reach::Down);
    let (_, wake_at) = stage.plan();
    let over = stage.now.plus(FENCE_LEASE_MS + FENCE_MARGIN_MS);
    assert_eq!(wake_at, Some(over));
    let successor = stage.live("db")[0].clone();
    assert_eq!(successor.desired, TaskState::Ready, "it gets ready");
    assert_ne!(successor.node, Some(home.clone()));
    stage.now = Millis(over.0 - 1);
    assert_eq!(stage.plan().0, 0);
    stage.now = over;
    stage.plan();
    assert_eq!(stage.live("db")[0].desired, TaskState::Running);
    stage.obey();
    // An update stops the old one first, whatever its order says.
    stage.update("db", |spec| {
        spec.task_template.container_spec.image = "two".into();
    });
    stage.plan();
    assert_eq!(stage.live("db").len(), 1);
}

#[test]
fn a_fenced_task_whose_node_comes_back_in_time_has_no_twin() {
    let mut stage = Stage::new(2);
    stage.create("db", 1, |spec| {
        spec.labels.insert(FENCE_LABEL.into(), "true".into());
    });
    stage.settle();
    stage.reach(1, Reach::Down);
    stage.plan();
    stage.now = stage.now.plus(FENCE_LEASE_MS);
    stage.reach(1, Reach::Up);
    stage.plan();
    assert_eq!(stage.live("db")[0].desired, TaskState::Ready);
    stage.settle();
    assert_eq!(stage.running("db"), 1);
}

fn balanced(stage: &mut Stage, replicas: u64) {
    stage.create("web", replicas, |spec| {
        spec.labels.insert("skep.rebalance".into(), "true".into());
    });
}

/// Lets time pass, a wake-up after the other, and returns what `extremes`
/// saw.
fn live_on(stage: &mut Stage, name: &str) -> (usize, usize) {
    let (mut least, mut most) = (usize::MAX, 0);
    for _ in 0..40 {
        let (low, high) = extremes(stage, name);
        (least, most) = (least.min(low), most.max(high));
        match stage.plan().1 {
            Some(at) => stage.now = at,
            None => break,
        }
    }
    (least, most)
}

#[test]
fn a_node_that_joins_gets_its_share_where_it_is_asked_for() {
    let mut stage = Stage::new(2);
    balanced(&mut stage, 6);
    stage.create("plain", 6, |_| {});
    stage.settle();
    stage.join(3);
    assert_eq!(
        live_on(&mut stage, "web"),
        (6, 7),
        "start-first, one by one"
    );
    assert_eq!(stage.per_node("web"), [2, 2, 2]);
    assert_eq!(stage.per_node("plain"), [3, 3]);
    let begun = Millis(1_000_000);
    assert!(
        stage.now >= begun.plus(40_000),
        "a steady node, a calm service"
    );
}

#[test]
fn the_only_replica_stays_and_so_does_everything_while_one_is_unwell() {
    let mut stage = Stage::new(1);
    balanced(&mut stage, 1);
    stage.settle();
    stage.join(2);
    live_on(&mut stage, "web");
    assert_eq!(stage.on("web", 1), 1);
    let mut stage = Stage::new(1);
    balanced(&mut stage, 4);
    stage.settle();
    stage.join(2);
    let sick = stage.live("web")[0].id.clone();
    stage.seen.get_mut(&sick).unwrap().attempts[0].status.state = TaskState::Starting;
    stage.now = stage.now.plus(60_000);
    assert_eq!(stage.plan().0, 0);
}

#[test]
fn balance_reaches_over_the_branches_of_preferences() {
    let mut stage = Stage::new(3);
    for (number, zone) in [(1, "a"), (2, "a"), (3, "b")] {
        stage.label(number, "zone", zone);
    }
    stage.drain(&[3]);
    stage.create("web", 4, |spec| {
        spec.labels.insert("skep.rebalance".into(), "true".into());
        spec.task_template.placement = spread(&["zone"]);
    });
    stage.settle();
    assert_eq!(stage.per_node("web"), [2, 2]);
    stage.node(3, |node| node.spec.availability = Availability::Active);
    live_on(&mut stage, "web");
    assert_eq!(stage.per_node("web"), [1, 1, 2]);
}
