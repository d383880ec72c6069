//! Any node answers: the swarm's requests asked on a worker, and what is done
//! to a task from a node that does not run it.

use serde_json::json;
use skep_tests::{Board, Client, Cluster, Ran, until};

/// Writes a line to each of its streams, then more when it is told to.
const TALKER: &str = "echo out-$HOSTNAME; echo err-$HOSTNAME >&2; \
     trap 'echo told' USR1; trap exit TERM; while :; do sleep 0.1; done";

/// A manager (0) and a worker (1) with one task each.
fn cluster() -> Cluster {
    let cluster = Cluster::of(1, 1);
    cluster.load("busybox");
    let create = [
        "service",
        "create",
        "-d",
        "--name",
        "talk",
        "--replicas",
        "2",
        "--stop-signal",
        "KILL",
        "busybox:latest",
        "sh",
        "-c",
        TALKER,
    ];
    // Asked on the worker.
    cluster[1].docker(&create).ok();
    assert_eq!(cluster.settled(1, "talk", 2, &[]), [0, 1]);
    cluster
}

/// The short name of the task on a board: `talk.1` or `talk.2`.
fn task_on(cluster: &Cluster, number: usize) -> String {
    let name = cluster[number].hostname();
    let filter = format!("node={name}");
    let ps = [
        "service",
        "ps",
        "talk",
        "--format",
        "{{.Name}}",
        "--filter",
        &filter,
    ];
    cluster[number].docker(&ps).ok().to_owned()
}

#[test]
fn a_worker_answers_for_the_swarm() {
    let cluster = cluster();
    let (one, two) = (&cluster[0], &cluster[1]);
    let told = |board: &Board, words: &[&str]| board.docker(words).ok().to_owned();
    let info = ["info", "--format", "{{.Swarm.ControlAvailable}}"];
    assert_eq!(told(two, &info), "false");
    for words in [
        &["service", "inspect", "talk"][..],
        &["node", "inspect", "n0", "n1"],
        &["service", "ls"],
        &["swarm", "join-token", "-q", "worker"],
        &[
            "node",
            "ls",
            "--format",
            "{{.Hostname}} {{.Status}} {{.ManagerStatus}}",
        ],
    ] {
        assert_eq!(told(one, words), told(two, words), "{words:?}");
    }
    two.docker(&["service", "inspect", "none"])
        .refuses("no such service: none");
    two.docker(&["service", "create", "--name", "talk", "busybox"])
        .refuses("name conflicts with an existing object");

    let version = two.api("GET", "/services/talk", None).json["Version"]["Index"].clone();
    let stale = format!(
        "/services/talk/update?version={}",
        version.as_u64().expect("a number") - 1
    );
    let refused = two.api("POST", &stale, Some(&json!({"Name": "talk"})));
    assert_eq!(
        (refused.status, refused.json["message"].as_str()),
        (500, Some("update out of sequence"))
    );

    two.docker(&["node", "update", "--label-add", "disk=ssd", "n1"])
        .ok();
    let label = ["node", "inspect", "n1", "--format", "{{.Spec.Labels.disk}}"];
    assert_eq!(told(one, &label), "ssd");
    networks_are_both_kinds(one, two);

    two.docker(&["service", "rm", "talk"]).ok();
    assert_eq!(told(one, &["service", "ls", "-q"]), "");
}

/// A worker's own and the swarm's, in one list.
fn networks_are_both_kinds(one: &Board, two: &Board) {
    two.docker(&["network", "create", "-d", "overlay", "wide"])
        .ok();
    two.docker(&["network", "create", "near"]).ok();
    let list = ["network", "ls", "--format", "{{.Name}} {{.Scope}}"];
    let names = two.docker(&list);
    for wanted in ["wide swarm", "near local", "bridge local"] {
        assert!(names.lines().contains(&wanted), "{names}");
    }
    let id = [
        "network",
        "inspect",
        "wide",
        "--format",
        "{{.Id}} {{.Created}}",
    ];
    assert_eq!(one.docker(&id).ok(), two.docker(&id).ok());
    one.docker(&["network", "inspect", "near"])
        .refuses("not found");
    two.docker(&["network", "rm", "wide", "near"]).ok();
    one.docker(&["network", "inspect", "wide"])
        .refuses("not found");
}

#[test]
fn a_task_is_reached_from_the_other_node() {
    let cluster = cluster();
    for (here, there) in [(0, 1), (1, 0)] {
        for client in Client::BOTH {
            reached(&cluster, here, there, client);
        }
    }
}

fn reached(cluster: &Cluster, here: usize, there: usize, client: Client) {
    let board = &cluster[here];
    let ask = |words: &[&str]| board.client(client, words);
    let name = task_on(cluster, there);
    let name = name.as_str();
    let container = ask(&["inspect", "--format", "{{.Id}} {{.Name}}", name]);
    let (id, full) = container.ok().split_once(' ').expect("two words");
    let task = full.rsplit('.').next().expect("a task id");
    for other in [id, &id[..12], full, task] {
        let found = ask(&[
            "inspect",
            "--type",
            "container",
            "--format",
            "{{.Id}}",
            other,
        ]);
        assert_eq!(found.ok(), id, "by {other}");
    }
    let host = &id[..12];
    assert_eq!(ask(&["exec", name, "hostname"]).ok(), host);
    let failed = ask(&["exec", name, "sh", "-c", "echo oh >&2; exit 7"]);
    assert_eq!((failed.code, failed.err.trim()), (7, "oh"), "{failed}");
    let echoed =
        board.client_with_input(client, &["exec", "-i", name, "wc", "-c"], &[b'x'; 100_000]);
    assert_eq!(echoed.ok().trim(), "100000");
    let logs = ask(&["logs", name]);
    assert_eq!(
        (logs.out.trim(), logs.err.trim()),
        (&*format!("out-{host}"), &*format!("err-{host}")),
        "{logs}"
    );
    assert!(ask(&["top", name]).ok().contains("sleep"));
    let stats = [
        "stats",
        "--no-stream",
        "--format",
        "{{.ID}} {{.PIDs}}",
        name,
    ];
    assert!(ask(&stats).ok().contains(&id[..12]));
    files_come_and_go(board, client, name);
    ask(&["exec", &format!("{name}.none"), "true"]).refuses("No such container");
}

fn files_come_and_go(board: &Board, client: Client, name: &str) {
    let file = board.folder().join("sent");
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&file, &content).expect("written");
    let back = board.folder().join("back");
    let (sent, got) = (file.display().to_string(), back.display().to_string());
    let copy = |from: &str, to: &str| board.client(client, &["cp", from, to]);
    copy(&sent, &format!("{name}:/tmp/it")).ok();
    copy(&format!("{name}:/tmp/it"), &got).ok();
    assert!(
        std::fs::read(&back).expect("it came back") == content,
        "byte by byte"
    );
    std::fs::remove_file(back).expect("removed");
    copy(&format!("{name}:/none"), &got).refuses("/none");
}

#[test]
fn logs_are_of_all_nodes_and_name_what_is_missing() {
    let mut cluster = cluster();
    for from in [0, 1] {
        for client in Client::BOTH {
            let logs = cluster[from].client(client, &["service", "logs", "talk"]);
            let said = sorted(&logs, |line| {
                let (_, text) = line.split_once(" | ").expect("a label");
                text.split_once('-').expect("a host").0
            });
            assert_eq!(said, ["err", "err", "out", "out"], "{logs}");
            let labels = sorted(&logs, |line| {
                let (label, _) = line.split_once(' ').expect("a label");
                label.split_once('@').expect("a node").1
            });
            assert_eq!(labels, ["n0", "n0", "n1", "n1"], "{logs}");
            let raw =
                cluster[from].client(client, &["service", "logs", "--raw", "-n", "1", "talk"]);
            assert_eq!(raw.lines().len() + raw.err.lines().count(), 2, "{raw}");
        }
    }
    let away = task_on(&cluster, 1);
    let mut follow = cluster[0].client_command(Client::Docker);
    follow.args(["service", "logs", "-f", "--raw", "talk"]);
    let out = std::fs::File::create(cluster[0].folder().join("followed")).expect("a file");
    let mut follow = follow
        .stdout(out)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("docker runs");
    let followed = |cluster: &Cluster| {
        std::fs::read_to_string(cluster[0].folder().join("followed")).expect("it is there")
    };
    until("what was is told", || {
        (followed(&cluster).matches("out-").count() == 2).then_some(())
    });
    cluster[0].docker(&["kill", "-s", "USR1", &away]).ok();
    until("what is written elsewhere comes", || {
        followed(&cluster).contains("told").then_some(())
    });
    follow.kill().expect("it ran");
    follow.wait().expect("it ends");

    let lost = cluster.id_of(1);
    cluster.boards_mut()[1].kill_agent();
    let logs = cluster[0].docker(&["service", "logs", "talk"]);
    let missing = format!(
        "incomplete log stream. some logs could not be retrieved for the following reasons: node {lost} is not available"
    );
    assert!(logs.err.contains(&missing), "{logs}");
    assert!(logs.out.contains("out-"), "what there is, is shown: {logs}");
}

fn sorted<'a>(ran: &'a Ran, part: impl Fn(&'a str) -> &'a str) -> Vec<&'a str> {
    let mut parts: Vec<&str> = ran.out.lines().chain(ran.err.lines()).map(part).collect();
    parts.sort_unstable();
    parts
}

#[test]
fn the_swarms_events_are_seen_on_a_worker() {
    let cluster = Cluster::of(1, 1);
    let two = &cluster[1];
    let since = two.run(&["date", "+%s"]).ok().to_owned();
    two.docker(&["network", "create", "-d", "overlay", "wide"])
        .ok();
    two.docker(&["network", "create", "near"]).ok();
    let until = (since.parse::<u64>().expect("seconds") + 3).to_string();
    let format = "{{.Scope}} {{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let events = [
        "events", "--since", &since, "--until", &until, "--format", format,
    ];
    let told = two.docker(&events);
    for wanted in ["swarm network create wide", "local network create near"] {
        assert!(told.lines().contains(&wanted), "{told}");
    }
}
