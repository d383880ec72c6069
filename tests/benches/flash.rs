//! What reaches the card: counted at a block device of the test's own, because
//! a process' own counters count whole large folios.

use crate::api::Api;
use crate::report::{Budget, Report};
use skep_tests::{Board, Lan, run};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Long enough for every timer and the kernel's own write-back. Seconds.
const IDLE: Duration = Duration::from_secs(45);
/// Containers a figure is divided by.
const TASKS: u64 = 20;
/// A sector of the kernel's statistics. Bytes.
const SECTOR: f64 = 512.0;

pub(crate) fn measure(report: &mut Report) {
    let mut board = Board::prepare(&Arc::new(Lan::new()), "bench");
    let card = board.folder().join("card");
    run(Command::new("truncate").args(["-s", "512M"]).arg(&card)).ok();
    run(Command::new("mkfs.ext4")
        .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(&card))
    .ok();
    run(Command::new("mount")
        .args(["-o", "loop"])
        .arg(&card)
        .arg(board.data()))
    .ok();
    let source = run(Command::new("findmnt")
        .args(["-no", "SOURCE"])
        .arg(board.data()));
    let device = source.ok().trim_start_matches("/dev/").to_owned();
    board.start_agent();
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    let api = Api::of(&board);
    api.create_service("x", 1);
    api.until("it runs", |api| api.running("x").len() == 1);

    settle(&board);
    let before = written(&device);
    api.scale("x", TASKS + 1);
    api.until("all run", |api| api.running("x").len() as u64 == TASKS + 1);
    settle(&board);
    let each = (written(&device) - before) / TASKS as f64 / 1e3;
    report.row(
        "written per task started",
        "kB",
        each,
        None,
        Budget::AtMost(32.0),
    );

    settle(&board);
    let before = written(&device);
    std::thread::sleep(IDLE);
    settle(&board);
    report.row(
        "written in 45 idle seconds",
        "B",
        written(&device) - before,
        None,
        Budget::AtMost(0.0),
    );
}

/// Everything that waits to be written, written.
fn settle(board: &Board) {
    std::thread::sleep(Duration::from_secs(2));
    run(Command::new("sync").arg("-f").arg(board.data())).ok();
}

/// Bytes the device was given since it was made.
fn written(device: &str) -> f64 {
    let stat = fs::read_to_string(format!("/sys/block/{device}/stat"))
        .expect("the loop device's counters");
    let sectors = stat
        .split_whitespace()
        .nth(6)
        .and_then(|word| word.parse::<f64>().ok());
    sectors.expect("sectors written") * SECTOR
}
