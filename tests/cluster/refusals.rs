//! Bad input: Docker's words and codes, and nothing half-made behind.

use serde_json::json;
use skep_tests::{Board, Client, run, sample_for, until};
use std::process::Command;

/// Whatever was refused, this is how the board looks after.
fn is_clean(board: &Board) {
    until("no container is left", || {
        board
            .docker(&["ps", "-aq"])
            .lines()
            .is_empty()
            .then_some(())
    });
    let count =
        |folder: &str| std::fs::read_dir(board.data().join(folder)).map_or(0, Iterator::count);
    until("no task folder is left", || {
        (count("tasks") == 0).then_some(())
    });
    // The kernel's side is cleared beside the answer, a moment later.
    until("no network namespace and no veth is left", || {
        let netns = std::fs::read_dir(board.run_dir().join("netns")).map_or(0, Iterator::count);
        let links = board.run(&["ip", "-brief", "link", "show", "type", "veth"]);
        let of_board = |line: &&str| line.starts_with("eth0");
        (netns == 0 && links.lines().iter().all(of_board)).then_some(())
    });
}

#[test]
fn unknown_things() {
    let board = Board::start("one");
    for client in Client::BOTH {
        let say = |words: &[&str]| board.client(client, words);
        let run = say(&["run", "--rm", "nosuch:1"]);
        run.exits(125)
            .refuses("Unable to find image 'nosuch:1' locally");
        say(&["rm", "nosuch"])
            .exits(1)
            .refuses("No such container: nosuch");
        say(&["start", "nosuch"])
            .exits(1)
            .refuses("No such container: nosuch");
        say(&["logs", "nosuch"])
            .exits(1)
            .refuses("No such container: nosuch");
        say(&["exec", "nosuch", "true"])
            .exits(1)
            .refuses("No such container: nosuch");
        say(&["rmi", "nosuch"])
            .exits(1)
            .refuses("No such image: nosuch:latest");
        say(&["volume", "rm", "nosuch"])
            .exits(1)
            .refuses("no such volume");
        say(&["network", "rm", "nosuch"])
            .exits(1)
            .refuses("network nosuch not found");
        say(&["inspect", "nosuch"])
            .exits(1)
            .refuses("o such object: nosuch");
        say(&["run", "--nosuch", "x"])
            .exits(125)
            .refuses("unknown flag: --nosuch");
        say(&["service", "nosuch"]).fails();
        say(&["run"]).fails();
        say(&["run", "--memory", "much", "busybox"])
            .exits(125)
            .refuses("invalid argument \"much\" for \"-m, --memory\" flag");
        say(&["run", "-p", "99999:1", "busybox"])
            .exits(125)
            .refuses("99999");
        say(&["run", "--restart", "sometimes", "busybox"])
            .exits(125)
            .refuses("sometimes");
    }
    is_clean(&board);
}

#[test]
fn broken_requests() {
    let board = Board::start("one");
    for (method, path, body, status) in [
        ("POST", "/containers/create", "{", 400),
        ("POST", "/containers/create", "", 400),
        ("POST", "/containers/create", "[]", 400),
        (
            "POST",
            "/containers/create",
            "{\"Cmd\": 7, \"Image\": \"x\"}",
            400,
        ),
        (
            "POST",
            "/containers/create?name=a/b",
            "{\"Image\": \"busybox\"}",
            400,
        ),
        ("POST", "/swarm/init", "{\"ListenAddr\": 7}", 400),
        ("POST", "/services/create", "{}", 503),
    ] {
        let reply = board.api_text(method, path, Some(body));
        assert_eq!(
            reply.status, status,
            "{method} {path} {body}: {}",
            reply.text
        );
        assert!(reply.json["message"].is_string(), "{}", reply.text);
    }
    for (method, path, status) in [
        ("GET", "/nosuch", 404),
        ("GET", "/v1.99/info", 400),
        ("GET", "/containers/json?filters=nonsense", 400),
        (
            "GET",
            "/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D",
            400,
        ),
        ("GET", "/services", 503),
        ("GET", "/images/nosuch/json", 404),
        ("GET", "/containers/..%2f..%2fetc/json", 404),
    ] {
        let reply = board.api(method, path, None);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert!(reply.json["message"].is_string(), "{}", reply.text);
    }
    let early = board.api("GET", "/services", None);
    assert_eq!(
        early.json["message"],
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    );
    is_clean(&board);
}

#[test]
fn a_taken_port_names_its_owner() {
    let board = Board::start("one");
    board.load("web1");
    board
        .docker(&["run", "-d", "--name", "first", "-p", "8000:8000", "web:1"])
        .ok();
    let second = board.docker(&["run", "-d", "--name", "second", "-p", "8000:8000", "web:1"]);
    second
        .exits(125)
        .refuses("Bind for 0.0.0.0:8000 failed: port is already allocated");
    assert_eq!(
        board
            .docker(&["inspect", "second", "-f", "{{.State.Status}}"])
            .ok(),
        "created"
    );
    assert_eq!(board.visit(8000).ok(), "web 1", "the first is undisturbed");
    board.docker(&["rm", "second"]).ok();
    board.docker(&["rm", "-f", "first"]).ok();

    board.docker(&["swarm", "init"]).ok();
    let create = |name: &str| {
        board.docker(&[
            "service",
            "create",
            "-d",
            "--name",
            name,
            "-p",
            "8000:8000",
            "web:1",
        ])
    };
    create("x").ok();
    create("y").refuses("port '8000' is already in use by service 'x' (");
    assert_eq!(board.docker(&["service", "ls", "-q"]).lines().len(), 1);
    board.docker(&["service", "rm", "x"]).ok();
    is_clean(&board);
}

#[test]
fn commands_that_cannot_run() {
    let board = Board::start("one");
    board.load("busybox");
    let run = |words: &[&str]| board.docker(&[&["run", "--rm", "busybox"], words].concat());
    run(&["/nosuch"])
        .exits(127)
        .refuses("exec: \"/nosuch\": stat /nosuch: no such file or directory");
    run(&["nosuch"])
        .exits(127)
        .refuses("exec: \"nosuch\": executable file not found in $PATH");
    run(&["/etc/passwd"])
        .exits(126)
        .refuses("permission denied");
    run(&["/etc"])
        .exits(126)
        .refuses("exec: \"/etc\": is a directory");
    for code in [0, 1, 7, 255] {
        run(&["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    run(&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).exits(137);
    board
        .docker(&["run", "-d", "--name", "cc", "busybox", "sleep", "1d"])
        .ok();
    board.docker(&["exec", "cc", "nosuch"]).exits(127);
    board.docker(&["exec", "cc", "/etc/passwd"]).exits(126);
    board.docker(&["exec", "cc", "sh", "-c", "exit 9"]).exits(9);
    board
        .docker(&["rm", "cc"])
        .refuses("container is running: stop the container before removing or force remove");
    board
        .docker(&["run", "--name", "cc", "busybox"])
        .exits(125)
        .refuses("Conflict. The container name \"/cc\" is already in use by container");
    board.docker(&["rm", "-f", "cc"]).ok();
    is_clean(&board);
}

#[test]
fn a_service_with_a_bad_task_says_why() {
    let board = Board::start("one");
    board.load("busybox");
    board.docker(&["swarm", "init"]).ok();
    let create = |name: &str, image: &str, command: &[&str]| {
        let words = [
            &[
                "service",
                "create",
                "-d",
                "--restart-delay",
                "200ms",
                "--name",
                name,
                image,
            ],
            command,
        ]
        .concat();
        board.docker(&words).ok();
    };
    create("noimage", "nosuch:1", &[]);
    create("nobinary", "busybox", &["/nosuch"]);
    for (service, words) in [
        ("noimage", "No such image: nosuch:1"),
        ("nobinary", "/nosuch"),
    ] {
        until(&format!("{service} says why"), || {
            let tasks = board.docker(&[
                "service",
                "ps",
                "--no-trunc",
                service,
                "--format",
                "{{.CurrentState}} {{.Error}}",
            ]);
            tasks.ok().contains(words).then_some(())
        });
    }
    for (words, refusal) in [
        (
            &["--name", "a b", "busybox"][..],
            "name must be valid as a DNS name component",
        ),
        (
            &["--limit-memory", "1m", "busybox"],
            "invalid memory value 1048576: Must be at least 4MiB",
        ),
        (
            &["--mode", "global", "--replicas", "2", "busybox"],
            "replicas can only be used with replicated",
        ),
        (
            &["--name", "nobinary", "busybox"],
            "name conflicts with an existing object",
        ),
    ] {
        board
            .docker(&[&["service", "create", "-d"], words].concat())
            .refuses(refusal);
    }
    board.docker(&["service", "rm", "noimage", "nobinary"]).ok();
    is_clean(&board);
}

#[test]
fn an_image_for_another_machine() {
    let board = Board::start("one");
    let archive = sample_for("busybox", "arm64");
    board
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .ok();
    board.docker(&["swarm", "init"]).ok();
    board
        .docker(&[
            "service", "create", "-d", "--name", "x", "busybox", "sleep", "1d",
        ])
        .ok();
    until("the task says why it waits", || {
        let tasks = board.docker(&[
            "service",
            "ps",
            "x",
            "--no-trunc",
            "--format",
            "{{.CurrentState}} {{.Error}}",
        ]);
        tasks
            .ok()
            .contains("no suitable node (unsupported platform on 1 node)")
            .then_some(())
    });
    let run = board.docker(&["run", "--rm", "busybox", "true"]);
    assert!(run.err.contains("platform (linux/arm64"), "{run}");
    board.docker(&["service", "rm", "x"]).ok();
    is_clean(&board);
}

#[test]
fn a_full_card() {
    let mut board = Board::prepare(&std::sync::Arc::new(skep_tests::Lan::new()), "one");
    let card = board.folder().join("card");
    run(Command::new("truncate").args(["-s", "24M"]).arg(&card)).ok();
    run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&card)).ok();
    run(Command::new("mount")
        .args(["-o", "loop"])
        .arg(&card)
        .arg(board.data()))
    .ok();
    board.start_agent();
    board.docker(&["swarm", "init"]).ok();
    board.load("busybox");
    let filler = board.data().join("filler");
    // To the last block: large pieces first, then small ones.
    for piece in ["bs=64k", "bs=1k"] {
        let of = format!("of={}", filler.display());
        let words = ["if=/dev/zero", "oflag=append", "conv=notrunc", piece];
        run(Command::new("dd").args(words).arg(of)).fails();
    }

    let archive = skep_tests::sample("web1");
    board
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .refuses("no space left on device");
    board
        .docker(&["image", "inspect", "web:1"])
        .refuses("No such image: web:1");
    let create = board.api(
        "POST",
        "/containers/create?name=cc",
        Some(&json!({"Image": "busybox", "Cmd": ["true"]})),
    );
    assert!(
        create.status == 500 && create.text.contains("no space left"),
        "{}",
        create.text
    );
    board.docker(&["ps"]).ok();

    std::fs::remove_file(&filler).expect("the filler goes");
    board.load("web1");
    assert_eq!(
        board
            .docker(&["run", "--rm", "busybox", "echo", "fine"])
            .ok(),
        "fine"
    );
    is_clean(&board);
}
