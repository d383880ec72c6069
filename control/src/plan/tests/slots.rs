//! How many slots, and what becomes of them.

use super::*;

#[test]
fn replicas_fill_slots_from_one_and_spread() {
    let mut stage = Stage::new(3);
    stage.create("web", 7, |_| {});
    stage.settle();
    assert_eq!(stage.slots("web"), [1, 2, 3, 4, 5, 6, 7]);
    let mut per_node = stage.per_node("web");
    per_node.sort_unstable();
    assert_eq!(per_node, [2, 2, 3]);
    assert_eq!(stage.plan().0, 0);
}

#[test]
fn scaling_down_relieves_the_busiest_node_and_forgets_the_slots() {
    let mut stage = Stage::new(2);
    stage.create("web", 6, |_| {});
    stage.settle();
    let replicas = |count| {
        Some(ReplicatedService {
            replicas: Some(count),
        })
    };
    stage.update("web", |spec| spec.mode.replicated = replicas(2));
    stage.settle();
    assert_eq!(stage.per_node("web"), [1, 1]);
    assert_eq!(stage.state.assignments().count(), 2, "no history is kept");
    stage.update("web", |spec| spec.mode.replicated = replicas(4));
    stage.settle();
    assert_eq!(
        stage.slots("web"),
        [1, 2, 3, 4],
        "free numbers are used again"
    );
    assert_eq!(stage.update_state("web"), None, "scaling is no update");
}

#[test]
fn a_slot_that_comes_back_waits_for_its_old_process() {
    let mut stage = Stage::new(1);
    stage.create("web", 1, |_| {});
    stage.settle();
    let replicas = |count| {
        Some(ReplicatedService {
            replicas: Some(count),
        })
    };
    stage.update("web", |spec| spec.mode.replicated = replicas(0));
    stage.plan();
    stage.update("web", |spec| spec.mode.replicated = replicas(1));
    stage.plan();
    assert_eq!(stage.live("web")[0].desired, TaskState::Ready);
    stage.settle();
    assert_eq!(stage.live("web")[0].desired, TaskState::Running);
}

#[test]
fn a_global_service_follows_the_nodes() {
    let mut stage = Stage::new(2);
    stage.create("agent", 0, |spec| {
        spec.mode = ServiceMode {
            global: Some(Empty {}),
            ..ServiceMode::default()
        };
    });
    stage.settle();
    assert_eq!(stage.per_node("agent"), [1, 1]);
    stage.join(3);
    stage.settle();
    assert_eq!(stage.per_node("agent"), [1, 1, 1]);
    stage.node(1, |node| node.spec.availability = Availability::Drain);
    stage.settle();
    assert_eq!(stage.per_node("agent"), [1, 1]);
    stage.update("agent", |spec| {
        spec.task_template.container_spec.image = "two".into();
    });
    for _ in 0..8 {
        stage.settle();
        stage.now = stage.now.plus(6000);
    }
    assert_eq!(stage.images("agent"), BTreeMap::from([("two".into(), 2)]));
    assert_eq!(stage.update_state("agent"), Some(UpdateState::Completed));
}

#[test]
fn a_removed_service_goes_with_everything() {
    let mut stage = Stage::new(2);
    stage.create("web", 3, |_| {});
    stage.settle();
    stage.apply(vec![Change::RemoveService("web".into())]);
    stage.settle();
    assert_eq!(stage.state.assignments().count(), 0);
    assert!(stage.state.revision(&"web".into(), 1).is_none());
}

#[test]
fn a_slot_keeps_its_history_and_no_more() {
    let mut stage = Stage::new(1);
    stage.create("web", 1, |_| {});
    stage.settle();
    for round in 0..9 {
        stage.update("web", |spec| {
            spec.task_template.container_spec.image = format!("image{round}");
        });
        stage.settle();
        stage.now = stage.now.plus(6000);
        stage.settle();
    }
    assert_eq!(stage.live("web").len(), 1);
    assert_eq!(stage.state.assignments().count(), 5, "Docker's five");
}
