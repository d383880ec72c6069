//! Five nodes, three of them managers: skep beside Docker Swarm in as many
//! namespaces. What is lost and how soon it is back; what it costs to wait.

use crate::api::Api;
use crate::memory::{pss, ticks};
use crate::report::{Budget, Report, median};
use serde_json::{Value, json};
use skep_tests::{Cluster, Peers};
use std::time::{Duration, Instant, SystemTime};

const MANAGERS: usize = 3;
const WORKERS: usize = 2;
/// Long enough for every timer. Seconds.
const IDLE: Duration = Duration::from_secs(30);
/// Times that a leader is killed.
const FAILOVERS: usize = 3;
/// How long one attempt to write may take before the next manager is asked.
const WRITE_PATIENCE: Duration = Duration::from_millis(400);
const REPLICAS: u64 = 50;
/// The kernel's clock ticks a second, as in /proc/PID/stat.
const TICKS: f64 = 100.0;

/// Five nodes of either make.
trait Side {
    fn api(&self, number: usize) -> Api;
    /// Processes of the node itself, containers' apart.
    fn pids(&self, number: usize) -> Vec<u32>;
    fn kill(&mut self, number: usize);
    fn start(&mut self, number: usize);
    fn power_off(&mut self, number: usize);
    /// Bytes it has sent over its cable.
    fn sent_bytes(&self, number: usize) -> u64;
    /// Files of its data folder written to since then.
    fn written_since(&self, number: usize, since: SystemTime) -> usize;
}

/// Figures of one side.
#[derive(Default)]
struct Figures {
    sent_bytes: f64,
    cpu: f64,
    files: f64,
    manager_pss: f64,
    worker_pss: f64,
    failover: Duration,
    scaled: Duration,
    replaced: Duration,
}

pub(crate) fn measure(report: &mut Report) {
    let mut cluster = Cluster::of(MANAGERS, WORKERS);
    cluster.load("busybox");
    let ours = figures(&mut cluster);
    drop(cluster);
    let mut peers = Peers::of(MANAGERS, WORKERS);
    peers.load("busybox");
    let theirs = figures(&mut peers);
    drop(peers);
    let mut row = |what: &str, unit: &str, of: fn(&Figures) -> f64, budget| {
        report.row(what, unit, of(&ours), Some(of(&theirs)), budget);
    };
    row(
        "sent while idle, each node",
        "B/s",
        |of| of.sent_bytes,
        Budget::AtMost(1000.0),
    );
    row(
        "idle CPU, each node",
        "% of a core",
        |of| of.cpu,
        Budget::AtMost(0.2),
    );
    row(
        "files written in 30 idle seconds",
        "files",
        |of| of.files,
        Budget::AtMost(0.0),
    );
    row(
        "manager of five, idle",
        "MiB PSS",
        |of| of.manager_pss,
        Budget::AtMost(8.0),
    );
    row(
        "worker of five, idle",
        "MiB PSS",
        |of| of.worker_pss,
        Budget::AtMost(5.0),
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let rows = [
        (
            "leader killed -> writes served",
            ours.failover,
            theirs.failover,
            Budget::AtMost(1500.0),
        ),
        (
            "1 -> 50 replicas over five nodes",
            ours.scaled,
            theirs.scaled,
            Budget::None,
        ),
        (
            "node lost -> its tasks elsewhere",
            ours.replaced,
            theirs.replaced,
            Budget::AtMost(5000.0),
        ),
    ];
    for (what, ours, theirs, budget) in rows {
        report.row(what, "ms", ms(ours), Some(ms(theirs)), budget);
    }
}

fn figures(side: &mut dyn Side) -> Figures {
    let mut figures = Figures::default();
    let api = side.api(0);
    api.create_service("x", 5);
    api.until("five run", |api| api.running("x").len() == 5);
    std::thread::sleep(Duration::from_secs(5));
    idle(side, &mut figures);

    let start = Instant::now();
    api.scale("x", REPLICAS);
    api.until("all run", |api| api.running("x").len() as u64 == REPLICAS);
    figures.scaled = start.elapsed();
    api.scale("x", 10);
    api.until("ten run", |api| api.running("x").len() == 10);

    figures.failover = failover(side);

    let lost = MANAGERS + WORKERS - 1;
    let id = node_id(&side.api(lost));
    let survivor = side.api(0);
    let before = running_but(&survivor, &id);
    assert!(before < 10, "the node that is to be lost runs nothing");
    let start = Instant::now();
    side.power_off(lost);
    survivor.until("ten run elsewhere", |api| running_but(api, &id) == 10);
    figures.replaced = start.elapsed();
    figures
}

fn idle(side: &dyn Side, figures: &mut Figures) {
    let all = 0..MANAGERS + WORKERS;
    let wire = || {
        all.clone()
            .map(|number| side.sent_bytes(number))
            .sum::<u64>() as f64
    };
    let used = || {
        let pids = all.clone().flat_map(|number| side.pids(number));
        pids.map(ticks).sum::<f64>()
    };
    let (wire_before, used_before, since) = (wire(), used(), SystemTime::now());
    std::thread::sleep(IDLE);
    let each = IDLE.as_secs_f64() * all.len() as f64;
    figures.sent_bytes = (wire() - wire_before) / each;
    figures.cpu = (used() - used_before) / TICKS / each * 100.0;
    let files = all.clone().map(|number| side.written_since(number, since));
    figures.files = files.sum::<usize>() as f64;
    let memory = |number: usize| side.pids(number).into_iter().map(pss).sum::<f64>();
    figures.manager_pss = (0..MANAGERS).map(memory).sum::<f64>() / MANAGERS as f64;
    figures.worker_pss = (MANAGERS..all.end).map(memory).sum::<f64>() / WORKERS as f64;
}

/// The leader's process is killed; until another manager takes a change.
fn failover(side: &mut dyn Side) -> Duration {
    let mut times = vec![];
    for round in 0..FAILOVERS {
        let leader = leader(side);
        let others: Vec<usize> = (0..MANAGERS).filter(|number| *number != leader).collect();
        let start = Instant::now();
        side.kill(leader);
        let mut attempt = 0;
        loop {
            let asked = side.api(others[attempt % others.len()]);
            let body = json!({
                "Name": format!("f{round}-{attempt}"),
                "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}},
                "Mode": {"Replicated": {"Replicas": 0}},
            });
            if asked.try_call("POST", "/v1.41/services/create", &body, WRITE_PATIENCE) {
                break;
            }
            attempt += 1;
            assert!(start.elapsed() < Duration::from_secs(120), "nobody leads");
        }
        times.push(start.elapsed());
        side.start(leader);
        let back = side.api(leader);
        back.until("all managers are back", |_| {
            let nodes = side.api(others[0]).call("GET", "/v1.41/nodes", None);
            let nodes = nodes.as_array().cloned().unwrap_or_default();
            let reachable = |node: &&Value| node["ManagerStatus"]["Reachability"] == "reachable";
            let ready = |node: &&Value| node["Status"]["State"] == "ready";
            nodes.iter().filter(reachable).filter(ready).count() == MANAGERS
        });
        std::thread::sleep(Duration::from_secs(2));
    }
    median(times)
}

fn leader(side: &dyn Side) -> usize {
    let of = |number: &usize| {
        let api = side.api(*number);
        let node = api.call("GET", &format!("/v1.41/nodes/{}", node_id(&api)), None);
        node["ManagerStatus"]["Leader"] == true
    };
    (0..MANAGERS).find(of).expect("somebody leads")
}

fn node_id(api: &Api) -> String {
    let info = api.call("GET", "/v1.41/info", None);
    info["Swarm"]["NodeID"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Running tasks that are not on a node.
fn running_but(api: &Api, node: &str) -> usize {
    let tasks = api.tasks("x");
    let elsewhere = tasks.iter().filter(|task| task["NodeID"] != node);
    elsewhere
        .filter(|task| task["Status"]["State"] == "running")
        .count()
}

impl Side for Cluster {
    fn api(&self, number: usize) -> Api {
        Api::of(&self[number])
    }
    fn pids(&self, number: usize) -> Vec<u32> {
        vec![self[number].agent_pid()]
    }
    fn kill(&mut self, number: usize) {
        self[number].kill_agent();
    }
    fn start(&mut self, number: usize) {
        self[number].start_agent();
    }
    fn power_off(&mut self, number: usize) {
        self[number].power_off();
    }
    fn sent_bytes(&self, number: usize) -> u64 {
        self[number].sent_bytes()
    }
    fn written_since(&self, number: usize, since: SystemTime) -> usize {
        skep_tests::written_since(&self[number].data(), since)
    }
}

impl Side for Peers {
    fn api(&self, number: usize) -> Api {
        Api::of_peer(&self[number])
    }
    fn pids(&self, number: usize) -> Vec<u32> {
        self[number].pids()
    }
    fn kill(&mut self, number: usize) {
        self[number].kill();
    }
    fn start(&mut self, number: usize) {
        self[number].start_again();
    }
    fn power_off(&mut self, number: usize) {
        self[number].power_off();
    }
    fn sent_bytes(&self, number: usize) -> u64 {
        self[number].sent_bytes()
    }
    fn written_since(&self, number: usize, since: SystemTime) -> usize {
        skep_tests::written_since(&self[number].data(), since)
    }
}
