//! What is lost, and what goes on: leaders, nodes, links, majorities.

use skep_tests::{Cluster, until, within};
use std::time::{Duration, Instant};

const NO_LEADER: &str = "The swarm does not have a leader";
/// From the loss of a leader to a write that is served. The promise is 1.5 s
/// on a board of its own; here seven agents share two cores with the tests.
const FAILOVER: Duration = Duration::from_secs(10);

#[test]
fn leaders_and_nodes_go_and_come_back() {
    let mut cluster = Cluster::of(3, 2);
    cluster.load("busybox");
    cluster.sleepers(0, "s", 5);
    assert_eq!(cluster.settled(0, "s", 5, &[]), [0, 1, 2, 3, 4]);

    leader_is_killed(&mut cluster);
    worker_is_lost(&mut cluster);
    leading_node_is_lost(&mut cluster);
    links_are_cut(&cluster);
    every_node_loses_power(&mut cluster);
}

/// `kill -9` of the agent: its containers do not notice.
fn leader_is_killed(cluster: &mut Cluster) {
    let leader = cluster.leader();
    let ask = (leader + 1) % 3;
    cluster[leader].kill_agent();
    let start = Instant::now();
    within(FAILOVER, "a write is served", || {
        let words = ["service", "update", "-d", "--label-add", "round=1", "s"];
        (cluster[ask].docker(&words).code == 0).then_some(())
    });
    eprintln!("leader killed to a write served: {:?}", start.elapsed());
    assert_ne!(cluster.leader_but(&[leader]), leader);
    cluster[leader].start_agent();
    cluster.sees(ask, leader, "reachable", |node| node.manager == "Reachable");
    assert_eq!(cluster.settled(ask, "s", 5, &[]).len(), 5);
}

/// The whole node: tasks elsewhere, and no second life when it is back.
fn worker_is_lost(cluster: &mut Cluster) {
    let asked = cluster.leader();
    cluster[4].power_off();
    let start = Instant::now();
    cluster.settled(asked, "s", 5, &[4]);
    eprintln!("node lost to its task elsewhere: {:?}", start.elapsed());
    cluster.sees(asked, 4, "down", |node| node.status == "Down");
    cluster[4].power_on();
    cluster.sees(asked, 4, "ready", |node| node.status == "Ready");
    no_doubles(cluster, asked, 5);
}

fn leading_node_is_lost(cluster: &mut Cluster) {
    let leader = cluster.leader();
    let ask = (leader + 1) % 3;
    cluster[leader].power_off();
    cluster.leader_but(&[leader]);
    cluster.settled(ask, "s", 5, &[leader]);
    cluster[leader].power_on();
    cluster.sees(ask, leader, "back", |node| {
        node.is_reachable() && node.status == "Ready"
    });
    no_doubles(cluster, ask, 5);
}

/// One way and the other: what still hears decides, and nothing lives twice
/// once the link is whole.
fn links_are_cut(cluster: &Cluster) {
    let leader = cluster.leader();
    for worker in [3, 4] {
        if worker == 3 {
            cluster[worker].turn_deaf_to(&cluster[leader]);
        } else {
            cluster[leader].turn_deaf_to(&cluster[worker]);
        }
        // Others still reach both: writes go on wherever they are asked.
        until("a write is served", || {
            let words = ["service", "update", "-d", "--label-add", "cut=1", "s"];
            (cluster[(leader + 1) % 3].docker(&words).code == 0).then_some(())
        });
        let deaf = if worker == 3 { worker } else { leader };
        cluster[deaf].hear_all();
        cluster.sees(leader, worker, "ready", |node| node.status == "Ready");
    }
    no_doubles(cluster, leader, 5);
}

/// All five at once: everything that was acknowledged is there again.
fn every_node_loses_power(cluster: &mut Cluster) {
    for board in cluster.boards_mut() {
        board.power_off();
    }
    std::thread::scope(|scope| {
        for board in cluster.boards_mut() {
            scope.spawn(|| board.power_on());
        }
    });
    let leader = cluster.leader();
    cluster.settled(leader, "s", 5, &[]);
    let labels = cluster[leader].docker(&["service", "inspect", "-f", "{{.Spec.Labels}}", "s"]);
    assert_eq!(labels.ok(), "map[cut:1 round:1]");
    no_doubles(cluster, leader, 5);
}

/// As many containers as tasks, on all boards together.
fn no_doubles(cluster: &Cluster, ask: usize, count: usize) {
    until("there is one container a task", || {
        let live: usize = cluster
            .running()
            .map(|number| cluster.live_on(number, "s"))
            .sum();
        let told = cluster.homes_from(ask, "s").len();
        (live == count && told == count).then_some(())
    });
}

#[test]
fn without_a_majority_what_runs_goes_on() {
    let mut cluster = Cluster::of(3, 1);
    cluster.load("busybox");
    cluster.sleepers(0, "s", 4);
    cluster.settled(0, "s", 4, &[]);
    cluster[1].kill_agent();
    cluster[2].kill_agent();
    until("the rest notices", || {
        let refused = cluster[0].docker(&["service", "ls"]);
        (refused.code != 0 && refused.err.contains(NO_LEADER)).then_some(())
    });
    cluster[0]
        .docker(&["service", "scale", "-d", "s=9"])
        .refuses(NO_LEADER);
    cluster[3].docker(&["node", "ls"]).refuses(NO_LEADER);
    assert_eq!(
        cluster.live_on(0, "s"),
        1,
        "the node's own is still answered"
    );
    // Alone, it heals what dies, also after a boot with nobody in reach.
    let container = cluster[3].docker(&["ps", "-q"]).ok().to_owned();
    cluster[3].docker(&["kill", &container]).ok();
    until("its task runs again", || {
        let now = cluster[3].docker(&["ps", "-q"]).ok().to_owned();
        (now.lines().count() == 1 && now != container).then_some(())
    });
    cluster[0].kill_agent();
    cluster[3].reboot();
    until("its task runs after the boot", || {
        (cluster.live_on(3, "s") == 1).then_some(())
    });
    for number in 0..3 {
        cluster[number].start_agent();
    }
    cluster.leader();
    cluster[3].docker(&["service", "scale", "-d", "s=6"]).ok();
    cluster.settled(0, "s", 6, &[]);

    only_one_is_left(&mut cluster);
}

/// What Docker has for the worst day.
fn only_one_is_left(cluster: &mut Cluster) {
    cluster[1].power_off();
    cluster[2].power_off();
    let address = cluster[0].address().to_string();
    let words = [
        "swarm",
        "init",
        "--force-new-cluster",
        "--advertise-addr",
        &address,
    ];
    cluster[0].docker(&words).ok();
    assert_eq!(cluster.leader(), 0);
    cluster.settled(0, "s", 6, &[1, 2]);
}

#[test]
fn drained_and_removed_nodes_get_nothing() {
    let cluster = Cluster::of(1, 2);
    cluster.load("busybox");
    cluster.sleepers(0, "s", 6);
    assert_eq!(cluster.settled(0, "s", 6, &[]), [0, 0, 1, 1, 2, 2]);
    cluster[0]
        .docker(&["node", "update", "--availability", "drain", "n1"])
        .ok();
    cluster.settled(0, "s", 6, &[1]);
    until("it is empty", || {
        (cluster.live_on(1, "s") == 0).then_some(())
    });
    // Removed while it runs: nobody talks to it any more.
    cluster[0].docker(&["node", "rm", "--force", "n2"]).ok();
    cluster[0]
        .docker(&["node", "update", "--availability", "active", "n1"])
        .ok();
    cluster.settled(0, "s", 6, &[2]);
    cluster[2].docker(&["node", "ls"]).fails();
}
