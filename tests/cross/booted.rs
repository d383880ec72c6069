//! A real ARM kernel with skep as its node, told by the guest's console.
//!
//! The guest tells the story (guest/story); here it is booted and believed
//! only line by line.

use skep_tests::{dist, root, run_for, sample_for, target};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A boot takes 4 s and the story some 20 more on two idle cores; busy ones
/// were seen to take ten times that. Seconds.
const BOOT_PATIENCE: Duration = Duration::from_secs(600);

/// What the story must have found good, word for word.
const CHECKS: &[&str] = &[
    "the agent is for this machine",
    "the node sees cgroup v2",
    "the service answers",
    "memory.max is the service's limit",
    "seccomp filters",
    "the root is an overlay",
    "the task is in its own cgroup",
    "a killed task is back",
    "the service answers without an agent",
    "a new agent finds the same process",
    "one replica of one runs",
    "the service still answers",
];

#[test]
fn a_service_lives_on_a_booted_arm_kernel() {
    let arm = target().join("arm");
    for needed in ["qemu", "vmlinuz", "initrd.gz"] {
        let path = arm.join(needed);
        assert!(
            path.exists(),
            "{} is missing: run tests/cross/arm-kernel",
            path.display()
        );
    }
    let initrd = initrd_with_story(&arm);
    let mut emulator = Command::new(arm.join("qemu"));
    emulator.args([
        "-M",
        "virt",
        "-cpu",
        "cortex-a72",
        "-smp",
        "2",
        "-m",
        "1024",
    ]);
    emulator.args(["-nographic", "-no-reboot", "-nic", "none"]);
    emulator.arg("-kernel").arg(arm.join("vmlinuz"));
    emulator.arg("-initrd").arg(initrd);
    emulator.args(["-append", "console=ttyAMA0 quiet panic=-1"]);
    let ran = run_for(BOOT_PATIENCE, &mut emulator);
    let console = ran.out.replace('\r', "");
    println!("{console}");
    let bad: Vec<&str> = console
        .lines()
        .filter(|line| line.contains(": BAD"))
        .collect();
    assert!(
        bad.is_empty(),
        "{}\nthe console said:\n{console}",
        bad.join("\n")
    );
    for check in CHECKS {
        let line = format!("CHECK {check}: ok");
        assert!(
            console.contains(&line),
            "missing '{line}'; the console said:\n{console}"
        );
    }
    assert!(console.contains("GUEST done"), "{console}");
}

/// The kernel unpacks several archives one after the other: the prepared one,
/// then this test's.
fn initrd_with_story(arm: &Path) -> PathBuf {
    let tree = arm.join("story");
    drop(fs::remove_dir_all(&tree));
    let guest = tree.join("guest");
    fs::create_dir_all(&guest).expect("the guest's folder can be made");
    let copies = [
        (root().join("tests/cross/guest/story"), "story"),
        (dist("aarch64"), "skep"),
        (sample_for("web1", "arm64"), "web.tar"),
    ];
    for (from, name) in copies {
        fs::copy(from, guest.join(name)).expect("a guest's file can be copied");
    }
    let more = arm.join("story.gz");
    let script = "cd \"$0\" && find . | cpio --quiet -o -H newc | gzip -1 > \"$1\"";
    let mut pack = Command::new("sh");
    pack.args(["-c", script]).arg(&tree).arg(&more);
    run_for(Duration::from_secs(60), &mut pack).ok();
    let whole = arm.join("initrd-with-story.gz");
    let mut joined = File::create(&whole).expect("the initrd can be made");
    for part in [arm.join("initrd.gz"), more] {
        let mut part = File::open(part).expect("the parts are there");
        io::copy(&mut part, &mut joined).expect("the parts can be joined");
    }
    whole
}
