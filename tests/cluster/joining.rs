//! How nodes come together and part: tokens, roles, leaving, coming back.

use skep_tests::{Cluster, until};

const ALREADY: &str = "This node is already part of a swarm";

#[test]
fn two_boards_join_and_share_a_service() {
    let cluster = Cluster::apart(2);
    let (one, two) = (&cluster[0], &cluster[1]);
    cluster.load("busybox");
    cluster.init();
    let token = cluster.token("worker");
    tokens_are_looked_at(&cluster, &token);
    let token = cluster.token("worker");
    let joined = cluster.join_with(1, &token);
    assert_eq!(joined.ok(), "This node joined a swarm as a worker.");
    cluster.join_with(1, &token).refuses(ALREADY);
    one.docker(&["swarm", "init"]).refuses(ALREADY);
    cluster.sees(0, 1, "ready", |node| {
        node.status == "Ready" && node.manager.is_empty()
    });

    let info =
        "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{len .Swarm.RemoteManagers}}";
    assert_eq!(
        two.docker(&["info", "--format", info]).ok(),
        "active false 1"
    );
    assert_eq!(
        one.docker(&["info", "--format", info]).ok(),
        "active true 1"
    );
    let address = two.docker(&["info", "--format", "{{.Swarm.NodeAddr}}"]);
    assert_eq!(address.ok(), two.address().to_string());

    cluster.sleepers(0, "s", 4);
    assert_eq!(
        cluster.settled(0, "s", 4, &[]),
        [0, 0, 1, 1],
        "spread evenly"
    );
    until("the containers are where they are said to be", || {
        (cluster.live_on(0, "s") == 2 && cluster.live_on(1, "s") == 2).then_some(())
    });

    let id = cluster.id_of(1);
    one.docker(&["node", "rm", &id])
        .refuses("is not down and can't be removed");
    two.docker(&["swarm", "leave"]).ok();
    assert_eq!(
        two.docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"])
            .ok(),
        "inactive"
    );
    until("its containers are gone", || {
        (cluster.live_on(1, "s") == 0).then_some(())
    });
    cluster.settled(0, "s", 4, &[1]);
    cluster.sees(0, 1, "down", |node| node.status == "Down");

    // The key is the node: it comes back as who it was.
    cluster.join(1, "worker").ok();
    assert_eq!(cluster.id_of(1), id);
    let nodes = cluster.nodes_from(0).expect("told");
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    two.docker(&["swarm", "leave"]).ok();
    cluster.sees(0, 1, "down", |node| node.status == "Down");
    one.docker(&["node", "rm", &id]).ok();
    let nodes = cluster.nodes_from(0).expect("told");
    assert_eq!(nodes.len(), 1, "{nodes:?}");
}

/// Wrong, foreign and rotated ones are refused, and change nothing.
fn tokens_are_looked_at(cluster: &Cluster, token: &str) {
    let two = &cluster[1];
    cluster
        .join_with(1, "SWMTKN-1-nonsense")
        .refuses("invalid join token");
    let (rest, _) = token.rsplit_once('-').expect("a token has parts");
    let guessed = format!("{rest}-{}", "0".repeat(25));
    cluster
        .join_with(1, &guessed)
        .refuses("A valid join token is necessary to join this cluster");
    let foreign = format!("SWMTKN-1-{}-{}", "1".repeat(50), "0".repeat(25));
    cluster
        .join_with(1, &foreign)
        .refuses("remote CA does not match fingerprint");
    let words = ["swarm", "join-token", "-q", "--rotate", "worker"];
    let before = cluster[0].docker(&words).ok().to_owned();
    cluster[0].docker(&words).ok();
    cluster
        .join_with(1, &before)
        .refuses("A valid join token is necessary to join this cluster");
    let state = two.docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]);
    assert_eq!(state.ok(), "inactive");
}

#[test]
fn managers_are_made_by_token_and_by_promotion() {
    let cluster = Cluster::of(2, 1);
    cluster[0].docker(&["node", "promote", "n2"]).ok();
    cluster.sees(0, 2, "take part", |node| node.manager == "Reachable");
    // Any manager answers, and sees the same.
    for from in 0..3 {
        let nodes = cluster.nodes_from(from).expect("told");
        assert_eq!(nodes.len(), 3);
        assert!(nodes.iter().all(|node| node.is_reachable()), "{nodes:?}");
    }
    let leader = cluster.leader();
    let name = cluster[leader].hostname().to_owned();
    let other = (leader + 1) % 3;
    cluster[other].docker(&["node", "demote", &name]).ok();
    cluster.sees(other, leader, "a worker", |node| node.manager.is_empty());
    let next = cluster.leader_but(&[leader]);
    // A worker answers for the swarm, too.
    let nodes = cluster.nodes_from(leader).expect("a worker passes it on");
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    cluster[next].docker(&["node", "promote", &name]).ok();
    cluster.sees(next, leader, "take part", |node| {
        node.manager == "Reachable"
    });
    let gone = (next + 1) % 3;
    cluster[gone].docker(&["swarm", "leave"]).refuses("--force");
    cluster[gone].docker(&["swarm", "leave", "--force"]).ok();
    cluster.sees(next, gone, "down", |node| node.status == "Down");
}
