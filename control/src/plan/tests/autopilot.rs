//! So that N managers live.

use super::*;

/// Nodes of which the first `managers` are managers, and the first leads.
fn stage(nodes: usize, managers: usize, wanted: &str) -> Stage {
    let mut stage = Stage::new(nodes);
    for number in 1..=managers {
        stage.node(number, |node| {
            node.spec.role = NodeRole::Manager;
            node.raft_id = Some(number as u64);
        });
    }
    let mut cluster = stage.state.cluster().cloned().unwrap();
    let labels = &mut cluster.spec.labels;
    labels.insert("skep.autopilot".into(), wanted.into());
    stage.apply(vec![Change::PutCluster(Box::new(cluster))]);
    stage
}

impl Stage {
    fn managers(&self) -> Vec<usize> {
        let numbered = self.state.nodes().zip(1..);
        let managers = numbered.filter(|(node, _)| node.spec.role == NodeRole::Manager);
        managers.map(|(_, number)| number).collect()
    }

    /// The quorum takes in what is wanted, time passes. Returns who manages
    /// after each change.
    fn pilot(&mut self) -> Vec<Vec<usize>> {
        let mut history = Vec::new();
        for _ in 0..40 {
            let before = self.managers();
            let wake_at = self.plan().1;
            let after = self.managers();
            if before != after {
                history.push(after);
            }
            for (number, node) in (1..).zip(self.state.nodes().cloned().collect::<Vec<_>>()) {
                let is_manager = node.spec.role == NodeRole::Manager;
                if is_manager != node.raft_id.is_some() {
                    self.node(number, |node| {
                        node.raft_id = is_manager.then_some(number as u64);
                    });
                }
            }
            match wake_at {
                Some(at) => self.now = at,
                None => return history,
            }
        }
        panic!("it does not come to rest: {history:?}");
    }
}

#[test]
fn steady_nodes_are_promoted_one_after_the_other() {
    let mut stage = stage(6, 1, "3");
    stage.label(2, "skep.autopilot", "false");
    stage.drain(&[3]);
    // Number 4 has fallen already, 5 and 6 have not.
    stage.reach(4, Reach::Down);
    stage.reach(4, Reach::Up);
    assert_eq!(stage.plan().0, 0, "nobody is up for long");
    let wanted: [&[usize]; 2] = [&[1, 5], &[1, 5, 6]];
    assert_eq!(stage.pilot(), wanted);
}

#[test]
fn nothing_is_done_while_a_change_is_under_way() {
    let mut stage = stage(4, 1, "3");
    stage.now = stage.now.plus(60_000);
    stage.plan();
    assert_eq!(stage.managers().len(), 2);
    stage.now = stage.now.plus(60_000);
    stage.plan();
    assert_eq!(stage.managers().len(), 2, "it has not got its number yet");
}

#[test]
fn a_dead_manager_is_replaced_first_and_demoted_then() {
    let mut stage = stage(5, 3, "3");
    stage.now = stage.now.plus(60_000);
    stage.reach(2, Reach::Down);
    let wanted: [&[usize]; 2] = [&[1, 2, 3, 4], &[1, 3, 4]];
    assert_eq!(stage.pilot(), wanted);
    // A board that only starts anew is waited for.
    stage.reach(3, Reach::Down);
    stage.now = stage.now.plus(90_000);
    stage.plan();
    stage.reach(3, Reach::Up);
    assert_eq!(stage.pilot(), [] as [Vec<usize>; 0]);
}

#[test]
fn too_many_managers_become_fewer_and_never_too_few_for_a_quorum() {
    let mut five = stage(5, 5, "3");
    five.reach(4, Reach::Down);
    five.reach(4, Reach::Up);
    let wanted: [&[usize]; 2] = [&[1, 2, 3, 5], &[1, 2, 3]];
    assert_eq!(five.pilot(), wanted, "who fell goes first");
    // Without anyone to promote nobody is given up while it would matter.
    let mut two = stage(3, 3, "1");
    two.reach(2, Reach::Down);
    two.reach(3, Reach::Down);
    assert_eq!(two.pilot(), [] as [Vec<usize>; 0], "there is no quorum");
    let mut leader = stage(1, 1, "3");
    leader.now = leader.now.plus(600_000);
    assert_eq!(leader.pilot(), [] as [Vec<usize>; 0]);
}
