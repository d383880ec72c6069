//! A power cut and a boot: what was wanted is back, what was kept is kept.

use skep_tests::{Board, until};

#[test]
fn services_and_volumes_are_back() {
    let mut board = Board::start("one");
    board.load("web1");
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    board
        .docker(&[
            "service",
            "create",
            "-d",
            "--name",
            "x",
            "--replicas",
            "2",
            "-p",
            "8000:8000",
            "--mount",
            "type=volume,source=data,target=/data",
            "web:1",
        ])
        .ok();
    board
        .docker(&[
            "service", "create", "-d", "--name", "g", "--mode", "global", "busybox", "sleep", "1d",
        ])
        .ok();
    board
        .docker(&[
            "run",
            "-d",
            "--name",
            "kept",
            "--restart",
            "always",
            "busybox",
            "sleep",
            "1d",
        ])
        .ok();
    board
        .docker(&[
            "run",
            "-d",
            "--name",
            "stopped",
            "--restart",
            "unless-stopped",
            "busybox",
            "sleep",
            "1d",
        ])
        .ok();
    board.docker(&["stop", "-t", "0", "stopped"]).ok();
    board
        .docker(&["run", "-d", "--name", "plain", "busybox", "sleep", "1d"])
        .ok();
    replicas(&board, "x", "2/2");
    replicas(&board, "g", "1/1");
    board
        .docker(&[
            "run",
            "--rm",
            "-v",
            "data:/data",
            "busybox",
            "sh",
            "-c",
            "echo precious > /data/file; sync",
        ])
        .ok();

    // Twice: what the first boot writes must carry the second.
    for boot in 1..=2 {
        board.reboot();
        replicas(&board, "x", "2/2");
        replicas(&board, "g", "1/1");
        until("the page answers", || {
            (board.visit(8000).code == 0).then_some(())
        });
        let data = board.docker(&[
            "run",
            "--rm",
            "-v",
            "data:/data",
            "busybox",
            "cat",
            "/data/file",
        ]);
        assert_eq!(data.ok(), "precious", "boot {boot}");
        assert_eq!(status(&board, "stopped"), "exited", "boot {boot}");
        assert_eq!(status(&board, "plain"), "exited", "boot {boot}");
        until("the container with restart=always runs", || {
            (status(&board, "kept") == "running").then_some(())
        });
    }
    let nodes = board.docker(&["node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}"]);
    assert_eq!(nodes.ok(), "Ready Leader");
    board.docker(&["service", "scale", "-d", "x=3"]).ok();
    replicas(&board, "x", "3/3");
}

fn replicas(board: &Board, service: &str, wanted: &str) {
    until(&format!("{service} has {wanted}"), || {
        let list = board.docker(&["service", "ls", "--format", "{{.Name}} {{.Replicas}}"]);
        let row = format!("{service} {wanted}");
        list.lines().iter().any(|line| **line == row).then_some(())
    });
}

fn status(board: &Board, container: &str) -> String {
    board
        .docker(&["inspect", container, "--format", "{{.State.Status}}"])
        .ok()
        .to_owned()
}
