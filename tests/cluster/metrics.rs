//! What a node tells Prometheus.

use skep_tests::{Board, Lan, until};
use std::sync::Arc;

const PAGE: &str = "http://127.0.0.1:9323/metrics";

/// The page's value of a metric, labels included in its name.
fn value(board: &Board, metric: &str) -> Option<u64> {
    let page = board.run(&["curl", "-sS", "--max-time", "10", PAGE]);
    let line = page.out.lines().find_map(|line| line.strip_prefix(metric));
    line.and_then(|rest| rest.trim().parse().ok())
}

#[test]
fn a_node_tells_how_it_and_its_swarm_stand() {
    let mut board = Board::prepare(&Arc::new(Lan::new()), "one");
    board.flags(&["--metrics-addr", "127.0.0.1:9323"]);
    board.start_agent();
    board.load("busybox");
    assert_eq!(value(&board, "swarm_node_manager "), Some(0));
    assert_eq!(value(&board, "swarm_manager_leader "), None);
    let running = "engine_daemon_container_states_containers{state=\"running\"} ";
    assert_eq!(value(&board, running), Some(0));

    board.docker(&["swarm", "init"]).ok();
    let create = ["service", "create", "-d", "--name", "x", "--replicas", "2"];
    let what = ["--stop-signal", "KILL", "busybox:latest", "sleep", "1d"];
    board.docker(&[&create[..], &what[..]].concat()).ok();
    until("both replicas are told to run", || {
        let replicas = value(&board, "skep_service_replicas_running{service=\"x\"} ");
        (replicas == Some(2)).then_some(())
    });
    for (metric, wanted) in [
        ("skep_service_replicas_desired{service=\"x\"} ", 2),
        ("swarm_manager_tasks_total{state=\"running\"} ", 2),
        ("swarm_manager_nodes{state=\"ready\"} ", 1),
        ("swarm_manager_leader ", 1),
        ("swarm_node_manager ", 1),
        (running, 2),
    ] {
        assert_eq!(value(&board, metric), Some(wanted), "{metric}");
    }
    // Counted, and not when the page itself is read.
    board.api("GET", "/no-such-page", None);
    assert_eq!(
        value(&board, "skep_api_requests_total{code=\"404\"} "),
        Some(1)
    );
    for counter in [
        "skep_engine_step_seconds_count ",
        "skep_log_written_bytes_total{log=\"node\"} ",
        "skep_log_syncs_total ",
    ] {
        assert!(value(&board, counter).is_some_and(|n| n > 0), "{counter}");
    }
}

#[test]
fn an_address_that_cannot_be_served_is_named() {
    let mut board = Board::prepare(&Arc::new(Lan::new()), "one");
    board.flags(&["--metrics-addr", "192.0.2.1:9323"]);
    board.spawn_agent();
    until("the agent says why", || {
        board
            .log()
            .contains("--metrics-addr 192.0.2.1:9323")
            .then_some(())
    });
}
