//! Rolling updates and rollbacks.

use super::*;

#[test]
fn an_update_stops_one_and_starts_one_then_waits() {
    let mut stage = Stage::new(1);
    stage.create("web", 3, |spec| {
        spec.update_config = config(|of| of.delay = 10 * SECOND);
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.task_template.container_spec.image = "two".into();
    });
    stage.plan();
    assert_eq!(stage.update_state("web"), Some(UpdateState::Updating));
    let waiting: Vec<_> = stage
        .live("web")
        .iter()
        .filter(|of| of.desired == TaskState::Ready)
        .map(|of| of.slot)
        .collect();
    assert_eq!(waiting, [1], "the new one waits for the old one's end");
    stage.settle();
    let wanted = BTreeMap::from([("one".into(), 2), ("two".into(), 1)]);
    assert_eq!(stage.images("web"), wanted, "the delay is kept");
    let (_, wake_at) = stage.plan();
    stage.now = wake_at.expect("it wakes for the next slot");
    stage.settle();
    assert_eq!(stage.images("web").get("two"), Some(&2));
    stage.now = stage.plan().1.unwrap();
    stage.settle();
    assert_eq!(stage.images("web"), BTreeMap::from([("two".into(), 3)]));
    assert_eq!(stage.update_state("web"), Some(UpdateState::Updating));
    stage.now = stage.plan().1.expect("it watches the last one");
    stage.settle();
    assert_eq!(stage.update_state("web"), Some(UpdateState::Completed));
    assert_eq!(stage.plan().1, None);
}

#[test]
fn start_first_keeps_the_old_until_the_new_runs() {
    let mut stage = Stage::new(1);
    stage.create("web", 2, |spec| {
        spec.update_config = config(|of| {
            of.order = "start-first".into();
            of.parallelism = 0;
        });
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.task_template.container_spec.image = "two".into();
    });
    stage.plan();
    let wanted = BTreeMap::from([("one".into(), 2), ("two".into(), 2)]);
    assert_eq!(stage.images("web"), wanted);
    stage.settle();
    assert_eq!(stage.images("web"), BTreeMap::from([("two".into(), 2)]));
}

#[test]
fn a_failing_update_pauses_goes_on_or_rolls_back() {
    let fail = |action: &str, ratio| {
        let mut stage = Stage::new(1);
        stage.create("web", 3, |spec| {
            spec.update_config = config(|of| {
                of.failure_action = action.into();
                of.max_failure_ratio = ratio;
            });
        });
        stage.settle();
        stage.update("web", |spec| {
            spec.task_template.container_spec.image = "bad".into();
        });
        for _ in 0..8 {
            stage.settle();
            stage.now = stage.now.plus(6000);
        }
        stage
    };
    let paused = fail("pause", 0);
    assert_eq!(paused.update_state("web"), Some(UpdateState::Paused));
    assert_eq!(paused.images("web").get("bad"), Some(&1));
    let status = paused.service("web").update_status.clone().unwrap();
    let wanted = "update paused due to failure or early termination of task ";
    assert!(status.message.starts_with(wanted), "{}", status.message);

    let gone_on = fail("continue", 0);
    assert_eq!(gone_on.update_state("web"), Some(UpdateState::Completed));
    assert_eq!(gone_on.images("web").get("bad"), Some(&3));

    let tolerant = fail("pause", 400_000);
    assert_eq!(tolerant.images("web").get("bad"), Some(&2), "one in three");

    let rolled_back = fail("rollback", 0);
    let state = rolled_back.update_state("web");
    assert_eq!(state, Some(UpdateState::RollbackCompleted));
    assert_eq!(
        rolled_back.images("web"),
        BTreeMap::from([("one".into(), 3)])
    );
    assert_eq!(rolled_back.service("web").previous_spec, None);
}

#[test]
fn only_what_makes_a_task_dirties_it() {
    let mut stage = Stage::new(2);
    stage.create("web", 2, |_| {});
    stage.settle();
    let before: Vec<AssignmentId> = stage.live("web").iter().map(|of| of.id.clone()).collect();
    let same = |stage: &Stage| {
        let now: Vec<AssignmentId> = stage.live("web").iter().map(|of| of.id.clone()).collect();
        now.iter().filter(|id| before.contains(id)).count()
    };
    stage.update("web", |spec| {
        spec.update_config = config(|of| of.parallelism = 7);
    });
    stage.settle();
    stage.update("web", |spec| {
        spec.labels.insert("a".into(), "b".into());
    });
    stage.settle();
    assert_eq!(same(&stage), 2);
    assert_eq!(stage.update_state("web"), None);
    // Constraints move only the task whose node does not meet them.
    stage.update("web", |spec| {
        spec.task_template.placement = Some(Placement {
            constraints: vec!["node.id == n0001".into()],
            ..Placement::default()
        });
    });
    stage.settle();
    assert_eq!(same(&stage), 1);
    assert_eq!(stage.per_node("web"), [2]);
}
