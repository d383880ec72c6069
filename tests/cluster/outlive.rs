//! Containers outlive their agent: its kill, its upgrade, and what happens in
//! the meantime.

use skep_tests::{Board, skep, until};
use std::fs;
use std::path::{Path, PathBuf};

/// How often the agent is killed or upgraded. The promise is for every time.
const ROUNDS: u32 = 20;
/// A thousand lines a second, each its own number.
const COUNTER: &str = "i=0; while :; do for k in 0 1 2 3 4 5 6 7 8 9; do i=$((i+1)); echo $i; done; usleep 8500; done";

#[test]
fn twenty_kills_and_upgrades_lose_nothing() {
    let mut board = Board::start("one");
    let binary = install(&mut board);
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    board
        .docker(&[
            "run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNTER,
        ])
        .ok();
    board
        .docker(&[
            "service",
            "create",
            "-d",
            "--name",
            "s",
            "--replicas",
            "2",
            "busybox",
            "sleep",
            "1d",
        ])
        .ok();
    let pids = until("all three run", || {
        let pids = all_pids(&board);
        (pids.len() == 3).then_some(pids)
    });

    for round in 0..ROUNDS {
        let brief = format!("brief{round}");
        let code = i32::try_from(round).unwrap_or(0) + 1;
        let line = format!("echo here; sleep 0.4; echo late; exit {code}");
        board
            .docker(&["run", "-d", "--name", &brief, "busybox", "sh", "-c", &line])
            .ok();
        if round % 2 == 0 {
            board.kill_agent();
        } else {
            board.stop_agent();
            replace(&binary);
        }
        // It exits while nobody looks.
        std::thread::sleep(std::time::Duration::from_millis(600));
        board.start_agent();
        let state = until("the exit is reported", || {
            let state = board.docker(&[
                "inspect",
                &brief,
                "--format",
                "{{.State.Status}} {{.State.ExitCode}}",
            ]);
            state
                .ok()
                .starts_with("exited")
                .then(|| state.out.trim().to_owned())
        });
        assert_eq!(state, format!("exited {code}"), "round {round}");
        let logs = board.docker(&["logs", &brief]);
        assert_eq!(logs.lines(), ["here", "late"], "round {round}: {logs}");
        assert_eq!(all_pids(&board), pids, "round {round}: the same processes");
        board.docker(&["rm", &brief]).ok();
    }

    no_line_is_lost(&board);
    // What was adopted is as manageable as what was started.
    board.docker(&["stop", "-t", "1", "counter"]).ok();
    board.docker(&["service", "scale", "-d", "s=0"]).ok();
    // Only listed: what is on its way out may be gone when it is asked for.
    until("nothing runs", || {
        board
            .docker(&["ps", "-q"])
            .ok()
            .trim()
            .is_empty()
            .then_some(())
    });
}

fn no_line_is_lost(board: &Board) {
    let logs = board.docker(&["logs", "counter"]);
    logs.ok();
    let numbers: Vec<u64> = logs
        .lines()
        .iter()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(
        numbers.len() > 5_000,
        "it counted while the agent went: {} lines",
        numbers.len()
    );
    for (at, pair) in numbers.windows(2).enumerate() {
        assert_eq!(
            pair[0] + 1,
            pair[1],
            "line {at} is followed by its successor"
        );
    }
    assert_eq!(numbers.first(), Some(&1));
}

/// Name and pid of all that runs, in order.
fn all_pids(board: &Board) -> Vec<(String, u32)> {
    let names = board.docker(&["ps", "--format", "{{.Names}}"]);
    let mut pids: Vec<(String, u32)> = names
        .lines()
        .into_iter()
        .filter(|name| !name.starts_with("brief"))
        .map(|name| (name.to_owned(), board.pid_of(name)))
        .collect();
    pids.sort();
    pids
}

/// The board's own copy of the binary, where an upgrade can replace it.
fn install(board: &mut Board) -> PathBuf {
    let binary = board.folder().join("skep");
    fs::copy(skep(), &binary).expect("the binary can be copied");
    board.upgrade(&binary);
    binary
}

/// Another file under the same name, as a package upgrade does it.
fn replace(binary: &Path) {
    let new = binary.with_extension("new");
    fs::copy(skep(), &new).expect("the binary can be copied");
    fs::rename(&new, binary).expect("the binary can be replaced");
}
