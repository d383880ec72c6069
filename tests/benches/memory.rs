//! Memory and idle CPU of the agent and of the shims.

use crate::api::Api;
use crate::report::{Budget, Report};
use skep_tests::Board;
use std::fs;
use std::time::Duration;

/// Long enough for timers to show. Seconds.
const IDLE: Duration = Duration::from_secs(20);
/// The kernel's clock ticks a second, as in /proc/PID/stat.
const TICKS: f64 = 100.0;

pub(crate) fn measure(report: &mut Report) {
    let board = Board::start("bench");
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    let api = Api::of(&board);
    let agent = board.agent_pid();
    std::thread::sleep(Duration::from_secs(2));
    report.row(
        "agent idle, one manager",
        "MiB PSS",
        pss(agent),
        None,
        Budget::AtMost(8.0),
    );
    api.create_service("x", 10);
    for count in [10_u64, 50] {
        api.scale("x", count);
        api.until("all run", |api| api.running("x").len() as u64 == count);
        std::thread::sleep(Duration::from_secs(2));
        let shims = shims(&board);
        let each = shims.iter().map(|pid| pss(*pid)).sum::<f64>() / shims.len().max(1) as f64;
        report.row(
            &format!("shim, each of {}", shims.len()),
            "MiB PSS",
            each,
            None,
            Budget::AtMost(0.5),
        );
        report.row(
            &format!("agent with {count} containers"),
            "MiB PSS",
            pss(agent),
            None,
            Budget::None,
        );
    }
    let before = ticks(agent);
    std::thread::sleep(IDLE);
    let used = (ticks(agent) - before) / TICKS / IDLE.as_secs_f64() * 100.0;
    report.row(
        "agent's idle CPU, 50 containers",
        "% of a core",
        used,
        None,
        Budget::AtMost(0.2),
    );
}

/// Proportional set size in MiB.
pub(crate) fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// CPU time used so far, in ticks.
pub(crate) fn ticks(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0))
        .collect();
    fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)
}

/// The board's shims: a shim's command line ends with its container's id.
fn shims(board: &Board) -> Vec<u32> {
    let ids = board.docker(&["ps", "-q", "--no-trunc"]);
    let ids = ids.lines();
    let entries = fs::read_dir("/proc").expect("/proc");
    let words = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = words(pid);
            let mut line = line.split('\0');
            line.nth(1) == Some("shim") && line.next().is_some_and(|id| ids.contains(&id))
        })
        .collect()
}
