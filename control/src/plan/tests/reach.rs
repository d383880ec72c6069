//! Nodes that are lost, come back, flap, drain and change.

use super::*;

#[test]
fn a_drained_node_gives_up_its_tasks_and_a_paused_one_keeps_them() {
    let mut stage = Stage::new(2);
    stage.create("web", 4, |_| {});
    stage.settle();
    stage.node(1, |node| node.spec.availability = Availability::Pause);
    stage.settle();
    assert_eq!(stage.per_node("web"), [2, 2]);
    stage.node(1, |node| node.spec.availability = Availability::Drain);
    stage.settle();
    assert_eq!(stage.per_node("web"), [4]);
    stage.node(1, |node| node.spec.availability = Availability::Active);
    stage.settle();
    assert_eq!(stage.per_node("web"), [4], "nothing moves back");
}

#[test]
fn a_lost_node_is_replaced_at_once() {
    let mut stage = Stage::new(2);
    stage.create("web", 4, |_| {});
    stage.settle();
    stage.reach(1, Reach::Down);
    stage.settle();
    assert_eq!(stage.per_node("web"), [4]);
    assert_eq!(stage.slots("web"), [1, 2, 3, 4]);
}

#[test]
fn a_node_that_nobody_knows_of_keeps_its_tasks_and_gets_none() {
    let mut stage = Stage::new(2);
    stage.create("web", 2, |_| {});
    stage.settle();
    // As a new leader: it has heard of one node only.
    stage.reaches = Reaches::default();
    stage.reach(2, Reach::Up);
    assert_eq!(stage.plan().0, 0);
    stage.create("more", 4, |_| {});
    stage.settle();
    assert_eq!(stage.per_node("web"), [1, 1]);
    assert_eq!(stage.per_node("more"), [4]);
}

#[test]
fn a_node_that_comes_back_stops_what_was_replaced() {
    let mut stage = Stage::new(2);
    stage.create("web", 2, |_| {});
    stage.create("agent", 0, |spec| {
        spec.mode = ServiceMode {
            global: Some(Empty {}),
            ..ServiceMode::default()
        };
    });
    stage.settle();
    stage.reach(1, Reach::Down);
    stage.plan();
    let lost: Vec<AssignmentId> = stage
        .state
        .assignments_on(&"n0001".into())
        .map(|of| of.id.clone())
        .collect();
    assert_eq!(lost.len(), 2);
    for id in &lost {
        assert!(!stage.state.assignment(id).unwrap().is_live());
    }
    assert_eq!(stage.per_node("web"), [2], "replaced at once");
    assert_eq!(stage.per_node("agent"), [1], "not replaced elsewhere");
    stage.reach(1, Reach::Up);
    stage.plan();
    let waiting = |stage: &Stage| {
        let own = stage.live("agent").into_iter();
        own.filter(|of| of.desired == TaskState::Ready).count()
    };
    assert_eq!(waiting(&stage), 1, "until the old one is seen to be over");
    stage.settle();
    assert_eq!(waiting(&stage), 0);
    assert_eq!(stage.per_node("agent"), [1, 1]);
    assert_eq!(stage.per_node("web"), [2], "nothing moves back");
}

#[test]
fn a_flapping_node_is_held_off_and_then_taken_again() {
    let mut stage = Stage::new(2);
    for _ in 0..3 {
        stage.reach(1, Reach::Down);
        stage.now = stage.now.plus(1000);
        stage.reach(1, Reach::Up);
    }
    stage.create("web", 2, |_| {});
    stage.settle();
    assert_eq!(stage.per_node("web"), [2]);
    stage.create("more", 2, |spec| {
        spec.task_template.placement = Some(Placement {
            constraints: vec!["node.id == n0001".into()],
            ..Placement::default()
        });
    });
    stage.settle();
    assert!(stage.why().contains("1 node not available for new tasks"));
    stage.now = stage.plan().1.expect("it wakes when the hold is over");
    stage.settle();
    assert_eq!(stage.per_node("more"), [2]);
}

#[test]
fn a_node_that_loses_its_label_loses_the_task() {
    let mut stage = Stage::new(2);
    for number in [1, 2] {
        stage.node(number, |node| {
            node.spec.labels.insert("disk".into(), "ssd".into());
        });
    }
    stage.create("web", 2, |spec| {
        spec.task_template.placement = Some(Placement {
            constraints: vec!["node.labels.disk == ssd".into()],
            ..Placement::default()
        });
    });
    stage.settle();
    assert_eq!(stage.per_node("web"), [1, 1]);
    stage.node(2, |node| node.spec.labels.clear());
    stage.settle();
    assert_eq!(stage.per_node("web"), [2]);
}
