//! Services: skep against Swarm on Debian's dockerd.

use crate::api::Api;
use crate::report::{Budget, Report, median};
use skep_tests::{Board, Peer};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const REPLICAS: u64 = 50;

/// Medians of one side.
struct Times {
    created: Duration,
    replaced: Duration,
    scaled: Duration,
}

pub(crate) fn measure(report: &mut Report) {
    let board = Board::start("bench");
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    let ours = times(&Api::of(&board));
    drop(board);
    let peer = Peer::start();
    peer.load("busybox");
    peer.docker(&["swarm", "init"]).ok();
    let theirs = times(&Api::of_peer(&peer));
    report.time(
        "service create -> running",
        ours.created,
        Some(theirs.created),
        Budget::AtMost(100.0),
    );
    report.time(
        "killed -> replaced, delay 0",
        ours.replaced,
        Some(theirs.replaced),
        Budget::AtMost(100.0),
    );
    report.time(
        "1 -> 50 replicas",
        ours.scaled,
        Some(theirs.scaled),
        Budget::None,
    );
}

fn times(api: &Api) -> Times {
    let (mut created, mut replaced) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let name = format!("s{round}");
        let start = Instant::now();
        api.create_service(&name, 1);
        api.until("the task runs", |api| api.running(&name).len() == 1);
        created.push(start.elapsed());

        let old = api.running(&name);
        let start = Instant::now();
        api.call("POST", &format!("/v1.41/containers/{}/kill", old[0]), None);
        api.until("another runs", |api| {
            let now = api.running(&name);
            now.len() == 1 && now != old
        });
        replaced.push(start.elapsed());
        api.call("DELETE", &format!("/v1.41/services/{name}"), None);
    }
    api.create_service("many", 1);
    api.until("the first runs", |api| api.running("many").len() == 1);
    let start = Instant::now();
    api.scale("many", REPLICAS);
    api.until("all run", |api| {
        api.running("many").len() as u64 == REPLICAS
    });
    let scaled = start.elapsed();
    api.call("DELETE", "/v1.41/services/many", None);
    Times {
        created: median(created),
        replaced: median(replaced),
        scaled,
    }
}
