//! Foreign binaries under qemu-user: it cannot make containers, so what can be
//! proven here is the client against an agent of this machine, and the agent's
//! store.

use skep_tests::{Board, Client, Lan, Ran, dist, run_for, sample, skep};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Emulation is some ten times slower, and start-up dominates. Seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Emulator and board's name.
const MACHINES: &[(&str, &str)] = &[
    ("qemu-aarch64-static", "aarch64"),
    ("qemu-arm-static", "armv7"),
];

#[track_caller]
fn emulated(machine: (&str, &str), board: &Board, words: &[&str]) -> Ran {
    let (emulator, name) = machine;
    let mut command = Command::new(emulator);
    command
        .arg(dist(name))
        .arg("-H")
        .arg(board.host())
        .args(words);
    run_for(PATIENCE, &mut command)
}

#[test]
fn an_arm_client_talks_to_this_machines_agent() {
    for machine in MACHINES {
        let board = Board::start("host");
        let ours = board.client(
            Client::Skep,
            &["version", "--format", "{{.Client.Version}}"],
        );
        let theirs = emulated(
            *machine,
            &board,
            &["version", "--format", "{{.Client.Version}}"],
        );
        assert_eq!(ours.ok(), theirs.ok(), "{}", machine.1);
        let server = emulated(
            *machine,
            &board,
            &["version", "--format", "{{.Server.Arch}}"],
        );
        let expected = board.client(Client::Skep, &["version", "--format", "{{.Server.Arch}}"]);
        assert_eq!(server.ok(), expected.ok());

        let archive = sample("busybox");
        let archive = archive.to_string_lossy();
        emulated(*machine, &board, &["load", "-i", &archive]).ok();
        let inspect = [
            "image",
            "inspect",
            "--format",
            "{{.Id}} {{.Architecture}}",
            "busybox",
        ];
        let here = board.client(Client::Skep, &inspect);
        assert_eq!(emulated(*machine, &board, &inspect).ok(), here.ok());
        let hello = [
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "hello",
        ];
        assert_eq!(
            emulated(*machine, &board, &hello).ok(),
            "hello",
            "{}",
            machine.1
        );
    }
}

#[test]
fn an_arm_agent_loads_and_inspects_an_image() {
    for (emulator, name) in MACHINES {
        let mut board = Board::prepare(&Arc::new(Lan::new()), "arm");
        let wrapper = board.folder().join("skep");
        let script = format!(
            "#!/bin/sh\nexec {emulator} {} \"$@\"\n",
            dist(name).display()
        );
        fs::write(&wrapper, script).expect("the wrapper can be written");
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&wrapper, runs).expect("the wrapper can be made a program");
        board.use_binary(&wrapper);
        board.start_agent();
        board.load("busybox");
        let inspect = ["image", "inspect", "--format", "{{.Id}} {{.Os}}", "busybox"];
        let theirs = board.client(Client::Docker, &inspect);
        assert!(theirs.ok().ends_with("linux"), "{name}: {theirs}");
        assert_eq!(
            board.client(Client::Skep, &inspect).ok(),
            theirs.ok(),
            "{name}"
        );
    }
}

#[test]
fn binaries_are_within_their_budget() {
    /// DESIGN 3. Bytes.
    const SIZE_MAX: u64 = 10 * 1024 * 1024;
    for name in ["aarch64", "armv7", "x86_64"] {
        let path = if name == std::env::consts::ARCH {
            skep()
        } else {
            dist(name)
        };
        let size = fs::metadata(&path).expect("a built binary is there").len();
        println!("{name}: {size} bytes");
        // A developer's own binary (SKEP_BIN) need not be small.
        assert!(
            path == skep() || size <= SIZE_MAX,
            "{}: {size} bytes",
            path.display()
        );
    }
}
