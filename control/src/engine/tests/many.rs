//! Stories of several nodes.

use super::net::{Net, id};
use super::*;

#[test]
fn nodes_join_by_token_and_replicas_spread() {
    let mut net = Net::of(1, 2);
    let view = net.node(1).engine.view();
    let roles: Vec<NodeRole> = view.state().nodes().map(|node| node.spec.role).collect();
    assert_eq!(
        roles,
        [NodeRole::Manager, NodeRole::Worker, NodeRole::Worker]
    );
    let states: Vec<NodeState> = view
        .state()
        .nodes()
        .map(|node| view.node_status(node).state)
        .collect();
    assert_eq!(states, [NodeState::Ready; 3]);
    let worker = net.node(2).engine.view();
    assert!(worker.is_member() && !worker.is_manager());
    assert_eq!(worker.leader().unwrap().node, id(1));
    assert_eq!(worker.networks().len(), 1, "the ingress network");
    net.create("web", 6);
    net.run(1_000);
    assert_eq!(net.spread(), [2, 2, 2]);
    let counts = |net: &mut Net| {
        let view = net.node(1).engine.view();
        view.counts(view.state().find_service("web").unwrap())
            .running
    };
    assert_eq!(counts(&mut net), 6, "the leader sees them run");
    net.run(1_000);
    for number in 1..=3 {
        let backends = &net.node(number).routes.services[0].backends;
        assert_eq!(backends.len(), 6, "every node knows all of them");
    }
}

#[test]
fn without_gossip_connections_say_who_is_there() {
    let mut net = Net::silent(1, 2);
    net.create("web", 6);
    net.run(1_000);
    assert_eq!(net.spread(), [2, 2, 2]);
    let quiet = net.node(2).wake_at;
    assert_eq!(quiet, None, "nothing is due any more");
    net.cut(3);
    net.run(1_000);
    assert_eq!(net.spread(), [3, 3, 0]);
}

#[test]
fn a_wrong_token_is_refused_with_its_reason() {
    let mut net = Net::new();
    let token = net
        .node(1)
        .engine
        .view()
        .cluster()
        .unwrap()
        .worker_token
        .clone();
    let mut refuse = |token: &str| {
        let refused = net.join_with(2, Some(token.into()), NodeRole::Worker);
        refused.unwrap_err().message
    };
    assert_eq!(refuse("nonsense"), "invalid join token");
    let other = token.replacen('d', "e", 1);
    assert!(refuse(&other).starts_with("remote CA does not match fingerprint."));
    let wrong = format!("{}x", &token[..token.len() - 1]);
    let words = "A valid join token is necessary to join this cluster";
    assert!(refuse(&wrong).starts_with(words));
    let refused = net.join_with(2, None, NodeRole::Worker).unwrap_err();
    assert!(refused.message.contains("is not part of this swarm"));
}

#[test]
fn a_lost_nodes_tasks_run_elsewhere_and_not_twice_when_it_is_back() {
    let mut net = Net::of(1, 2);
    net.create("web", 6);
    net.run(1_000);
    net.cut(3);
    net.run(5_000);
    assert_eq!(net.spread(), [3, 3, 0]);
    net.power(3);
    net.run(20_000);
    assert_eq!(net.spread(), [3, 3, 0], "it stops what it was told before");
}

#[test]
fn a_worker_without_managers_runs_what_it_was_told() {
    let mut net = Net::of(1, 1);
    net.create("web", 2);
    net.run(1_000);
    net.cut(1);
    net.cut(2);
    net.power(2);
    net.run(5_000);
    assert_eq!(net.spread(), [0, 1]);
    let worker = net.node(2);
    assert_eq!(worker.engine.view().networks().len(), 1);
    assert_eq!(worker.routes.services[0].backends.len(), 1);
    let refused = net.ask_at(2, Request::Barrier).unwrap_err();
    assert!(
        refused
            .message
            .starts_with("The swarm does not have a leader.")
    );
    net.power(1);
    net.run(20_000);
    assert_eq!(net.spread(), [1, 1]);
}

fn running(net: &mut Net, name: &str) -> u64 {
    let leader = net.leader();
    let view = net.node(leader).engine.view();
    view.counts(view.state().find_service(name).unwrap())
        .running
}

#[test]
fn managers_join_and_one_leads() {
    let mut net = Net::of(3, 2);
    assert_eq!(net.managers(), [1, 2, 3]);
    assert_eq!(net.leader(), 1);
    let view = net.node(2).engine.view();
    assert_eq!(view.leader().unwrap().node, id(1));
    assert_eq!(view.state().nodes().count(), 5);
    let status = view.state().node(&id(1)).unwrap();
    assert!(view.manager_status(status).unwrap().is_leader);
    net.create("web", 10);
    net.run(1_000);
    assert_eq!(net.spread(), [2; 5]);
    let refused = net.ask_at(2, Request::Barrier).unwrap_err();
    assert_eq!(refused.kind, Kind::NotLeader);
    assert_eq!(net.ask(Request::Barrier), Ok(Answer::Done));
}

#[test]
fn a_lost_leader_is_followed_by_another_that_plans() {
    let mut net = Net::of(3, 1);
    net.create("web", 4);
    net.run(1_000);
    assert_eq!(net.spread(), [1; 4]);
    net.cut(1);
    net.run(1_500);
    let leader = net.leader();
    assert_ne!(leader, 1);
    net.create("db", 3);
    net.run(5_000);
    assert_eq!(net.spread().iter().sum::<usize>(), 7);
    assert_eq!((running(&mut net, "web"), running(&mut net, "db")), (4, 3));
    net.power(1);
    net.run(20_000);
    assert_eq!(net.spread().iter().sum::<usize>(), 7, "nothing runs twice");
    assert_eq!(
        net.leader(),
        leader,
        "the one that is back takes nothing away"
    );
}

#[test]
fn roles_change_while_the_cluster_works() {
    let mut net = Net::of(3, 1);
    net.change_role(4, NodeRole::Manager).unwrap();
    net.run(3_000);
    assert_eq!(net.managers(), [1, 2, 3, 4]);
    net.change_role(1, NodeRole::Worker).unwrap();
    net.run(5_000);
    assert_ne!(net.leader(), 1, "the lead is handed over");
    assert_eq!(net.managers(), [2, 3, 4]);
    assert_eq!(net.row(1).raft_id, None);
    assert!(net.board_consensus(1).is_empty(), "its log is gone");
    let remove = Request::NodeRemove {
        node: "n4".into(),
        force: true,
    };
    let (status, message) = refused(net.ask(remove));
    assert_eq!(status, 400);
    assert!(message.ends_with("It must be demoted to worker before removal"));
    net.change_role(1, NodeRole::Manager).unwrap();
    net.run(5_000);
    assert_eq!(
        net.managers(),
        [1, 2, 3, 4],
        "and back, under a new raft id"
    );
}

#[test]
fn a_demotion_that_loses_the_quorum_is_refused() {
    let mut net = Net::of(3, 0);
    let leader = net.leader();
    net.cut(if leader == 3 { 2 } else { 3 });
    net.run(5_000);
    let leader = net.leader();
    let (status, message) = refused(net.change_role(leader, NodeRole::Worker));
    assert_eq!(status, 400);
    let wanted = "can't remove member from the raft: this would result in a loss of quorum";
    assert_eq!(message, wanted);
}

#[test]
fn without_a_majority_everything_says_so_and_one_survivor_goes_on_by_force() {
    let mut net = Net::of(3, 1);
    net.create("web", 4);
    net.run(1_000);
    net.cut(1);
    net.cut(2);
    net.run(3_000);
    assert_eq!(net.leaders(), [0; 0]);
    for number in [3, 4] {
        let refused = net.ask_at(number, Request::Barrier).unwrap_err();
        assert_eq!(refused.kind, Kind::Unavailable);
        let words =
            "The swarm does not have a leader. It's possible that too few managers are online.";
        assert!(refused.message.starts_with(words), "{}", refused.message);
    }
    assert_eq!(net.spread()[2..], [1, 1], "what runs goes on");
    let force = SwarmInit {
        force_new_cluster: true,
        ..SwarmInit::default()
    };
    let answer = net.ask_at(3, Request::SwarmInit(Box::new(force)));
    assert_eq!(answer, Ok(Answer::Node(id(3))));
    net.run(20_000);
    assert_eq!((net.leader(), net.spread()), (3, vec![0, 0, 2, 2]));
    net.power(1);
    net.power(2);
    net.run(20_000);
    assert_eq!(net.managers(), [3], "who comes back is a worker");
    assert_eq!(net.spread().iter().sum::<usize>(), 4);
}

#[test]
fn a_manager_that_leaves_is_put_out_first() {
    let mut net = Net::of(3, 0);
    let leader = net.leader();
    let (status, message) = refused(net.ask_at(leader, Request::SwarmLeave { force: false }));
    assert_eq!(status, 503);
    assert!(message.ends_with("Use `--force` to suppress this message."));
    let left = net.ask_at(leader, Request::SwarmLeave { force: true });
    assert_eq!(left, Ok(Answer::Done));
    net.run(3_000);
    let next = net.leader();
    assert_ne!(next, leader);
    assert_eq!(net.row(leader).raft_id, None);
    let remove = Request::NodeRemove {
        node: id(leader).to_string(),
        force: false,
    };
    assert_eq!(net.ask(remove), Ok(Answer::Done), "it is down at once");
    assert_eq!(net.node(next).engine.view().state().removed().count(), 1);
}

#[test]
fn a_removed_node_is_cut_off_and_may_join_again() {
    let mut net = Net::of(1, 2);
    net.create("web", 3);
    net.run(1_000);
    net.cut(3);
    net.run(5_000);
    assert_eq!(net.ask(Request::NodePrune), Ok(Answer::Pruned(vec![id(3)])));
    net.run(500);
    let trust = net.node(2).trust.clone().unwrap();
    assert!(trust.removed.contains(&id(3)));
    net.wipe(3);
    net.join(3, NodeRole::Worker).unwrap();
    net.run(2_000);
    assert!(net.node(2).trust.as_ref().unwrap().removed.is_empty());
    assert_eq!(net.row(3).spec.role, NodeRole::Worker);
}

#[test]
fn after_a_power_cut_of_all_everything_is_back_once() {
    let mut net = Net::of(3, 2);
    net.create("web", 10);
    net.run(1_000);
    for number in 1..=5 {
        net.cut(number);
    }
    net.run(100);
    for number in 1..=5 {
        net.power(number);
    }
    net.run(300);
    assert_eq!(
        net.spread().iter().sum::<usize>(),
        10,
        "without a leader yet"
    );
    net.run(20_000);
    net.leader();
    assert_eq!(net.spread(), [2; 5]);
    assert_eq!(running(&mut net, "web"), 10);
}

#[test]
fn nobody_writes_while_nothing_changes() {
    let mut net = Net::of(3, 2);
    net.create("web", 5);
    net.run(5_000);
    let logs = |net: &mut Net| -> Vec<(Vec<u8>, Vec<u8>)> {
        let each = 1..=5;
        each.map(|number| {
            let node = net.node(number);
            (node.consensus.clone(), node.log.clone())
        })
        .collect()
    };
    let before = logs(&mut net);
    net.run(30_000);
    assert!(before == logs(&mut net));
}

#[test]
fn restarts_count_on_under_another_leader() {
    let mut net = Net::of(3, 0);
    net.create_with("job", 1, |spec| {
        spec.task_template.restart_policy = Some(RestartPolicy {
            delay: Some(0),
            max_attempts: Some(3),
            ..RestartPolicy::default()
        });
    });
    net.run(500);
    let place = net.spread().iter().position(|of| *of == 1).unwrap() + 1;
    assert!(net.fail_one(place) && net.fail_one(place));
    let leader = net.leader();
    if leader == place {
        net.node(leader).input(Input::Stopping);
    } else {
        net.cut(leader);
    }
    net.run(8_000);
    assert_ne!(net.leader(), leader);
    assert!(net.fail_one(place), "the third restart");
    assert!(!net.fail_one(place), "and no fourth");
}

#[test]
fn a_node_that_moves_is_found_again() {
    let mut net = Net::of(3, 1);
    let addr = std::net::SocketAddr::from(([198, 51, 100, 4], 2377));
    net.node(4).input(Input::Moved(addr));
    net.run(3_000);
    assert_eq!(net.row(4).addr, addr.to_string());
}
