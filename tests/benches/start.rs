//! From the wish for a container to its process: skep against bare runtimes.

use crate::api::Api;
use crate::report::{Budget, Report, median};
use serde_json::json;
use skep_tests::{Board, Lan, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Containers a round; a round's figure is their mean.
const BATCH: u32 = 10;
/// Rounds, in turn with the peers', so that all see the same machine.
const ROUNDS: usize = 7;

pub(crate) fn measure(report: &mut Report) {
    let mut board = Board::prepare(&Arc::new(Lan::new()), "bench");
    // What a reboot ends is in memory on a real node; so is the peers' /run.
    run(Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(board.run_dir()))
    .ok();
    board.start_agent();
    board.load("busybox");
    let bundle = bundle(&board);
    let api = Api::of(&board);
    let (mut running, mut whole, mut crun, mut runc) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let (to_running, to_end) = ours(&api, round);
        running.push(to_running);
        whole.push(to_end);
        let cgroups = "crun --cgroup-manager=cgroupfs run -f crun.json";
        crun.push(theirs(&bundle, "crun", cgroups));
        runc.push(theirs(&bundle, "runc", "runc run"));
    }
    let (crun, runc) = (median(crun), median(runc));
    let running = median(running);
    report.time(
        "create -> running, no network, to crun run",
        running,
        Some(crun),
        Budget::TimesPeer(1.5),
    );
    report.time(
        "create -> running, no network, to runc run",
        running,
        Some(runc),
        Budget::None,
    );
    report.time(
        "create -> exit seen, no network, to runc run",
        median(whole),
        Some(runc),
        Budget::None,
    );
}

/// Mean times of one container: until it runs, and until its end is known.
fn ours(api: &Api, round: usize) -> (Duration, Duration) {
    let (mut running, mut whole) = (Duration::ZERO, Duration::ZERO);
    for number in 0..BATCH {
        let name = format!("b{round}-{number}");
        let body =
            json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
        let start = Instant::now();
        api.call(
            "POST",
            &format!("/v1.41/containers/create?name={name}"),
            Some(&body),
        );
        api.call("POST", &format!("/v1.41/containers/{name}/start"), None);
        running += start.elapsed();
        api.call("POST", &format!("/v1.41/containers/{name}/wait"), None);
        whole += start.elapsed();
        api.call("DELETE", &format!("/v1.41/containers/{name}"), None);
    }
    (running / BATCH, whole / BATCH)
}

/// Mean time of `RUNTIME run` of the same command. crun 1.8 refuses the hybrid
/// cgroup layout: it runs where only cgroup v2 is seen. There it has a cgroup
/// in one hierarchy without controllers, where skep and runc have one in each
/// of some ten and set limits and devices: this flatters it.
fn theirs(bundle: &Path, runtime: &str, command: &str) -> Duration {
    let mount = if runtime == "crun" {
        "mount -t cgroup2 none /sys/fs/cgroup && "
    } else {
        ""
    };
    let line = format!(
        "{mount}cd {} && s=$(date +%s%N); for i in $(seq {BATCH}); do {command} b$i || exit 1; done; e=$(date +%s%N); echo $((e-s))",
        bundle.display()
    );
    let ran = run(Command::new("unshare").args(["-m", "sh", "-c", &line]));
    let nanos: u64 = ran
        .ok()
        .parse()
        .unwrap_or_else(|_| panic!("no time: {ran}"));
    Duration::from_nanos(nanos) / BATCH
}

/// An OCI bundle with the sample's files and runc's own default settings.
fn bundle(board: &Board) -> PathBuf {
    let bundle = board.folder().join("bundle");
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(&rootfs).expect("a bundle");
    board.docker(&["create", "--name", "files", "busybox"]).ok();
    let tar = bundle.join("files.tar");
    board
        .docker(&["export", "-o", &tar.to_string_lossy(), "files"])
        .ok();
    board.docker(&["rm", "files"]).ok();
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tar)
        .arg("-C")
        .arg(&rootfs))
    .ok();
    let line = format!(
        "cd {} && runc spec && jq '.process.terminal = false | .process.args = [\"true\"]' config.json > c && mv c config.json && jq 'del(.linux.resources)' config.json > crun.json",
        bundle.display()
    );
    run(Command::new("sh").args(["-c", &line])).ok();
    bundle
}
