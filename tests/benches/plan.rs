//! Planning at the size of the design: the real engine as the leader, nodes
//! that are nothing but their messages.

use crate::report::{Budget, Report};
use skep_control::engine::{
    Answer, Config, Engine, Input, Message, Millis, NodeDescription, Peer, Recovered, Request,
    Send, SwarmInit, Ticket, WallTime,
};
use skep_control::model::{
    Attempt, Availability, NodeId, NodeRole, ReplicatedService, Seen, ServiceMode, ServiceSpec,
    TaskId, TaskState,
};
use skep_control::request::NodeJoin;
use skep_control::wire::{self, Assign};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

const NODES: usize = 5_000;
const SERVICES: usize = 100;
const REPLICAS: u64 = 1_000;

pub(crate) fn measure(report: &mut Report) {
    let before_mb = resident_mb();
    let mut leader = Leader::begin();
    for number in 1..=NODES {
        leader.admit(number);
    }
    leader.settle();
    let scheduling = leader.timed(|leader| {
        for number in 0..SERVICES {
            leader.create(&format!("s{number}"), REPLICAS);
        }
        leader.settle();
    });
    let state = leader.engine.view().state();
    let bound = state.assignments().filter(|of| of.node.is_some()).count();
    assert_eq!(bound as u64, SERVICES as u64 * REPLICAS);
    let what = format!("{bound} tasks on {NODES} nodes, commands to decisions, CPU");
    report.time(&what, scheduling, None, Budget::AtMost(2_000.0));

    let starting = leader.timed(Leader::obey);
    let what = "all of them reported to run, CPU";
    report.time(what, starting, None, Budget::None);
    let memory = resident_mb() - before_mb;
    report.row(
        "memory of that leader",
        "MB",
        memory,
        None,
        Budget::AtMost(200.0),
    );

    let one = leader.timed(|leader| {
        leader.create("one", 1);
        leader.settle();
    });
    report.time("one more task among them, CPU", one, None, Budget::None);
    let node = id(1);
    let told = leader.report(&node);
    let news = leader.timed(|leader| {
        leader.step(told);
        leader.settle();
    });
    report.time("one more report, CPU", news, None, Budget::None);
    let lost = leader.timed(|leader| {
        leader.step(Input::Disconnected(node.clone()));
        leader.settle();
    });
    let state = leader.engine.view().state();
    let left = state.assignments_on(&node).filter(|of| of.is_live());
    assert_eq!(left.count(), 0, "they are elsewhere");
    report.time(
        "a node lost, its tasks decided elsewhere, CPU",
        lost,
        None,
        Budget::None,
    );
}

fn id(number: usize) -> NodeId {
    NodeId(format!("{number:0>25}"))
}

fn addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 2377))
}

fn about() -> NodeDescription {
    let mut about = NodeDescription {
        hostname: "board".into(),
        ..NodeDescription::default()
    };
    about.platform.architecture = "aarch64".into();
    about.platform.os = "linux".into();
    about.resources.nano_cpus = 4_000_000_000;
    about.resources.memory_bytes = 4 << 30;
    about
}

/// The engine, and what its nodes were told last.
struct Leader {
    engine: Engine,
    now: Millis,
    wake_at: Option<Millis>,
    told: BTreeMap<NodeId, Assign>,
    numbers: BTreeMap<NodeId, u64>,
    tickets: u64,
}

impl Leader {
    fn begin() -> Self {
        let config = Config {
            seed: [1; 32],
            listen_addr: addr().to_string(),
            member: None,
        };
        let engine = Engine::new(Millis(1), WallTime(1), config, Recovered::default());
        let mut leader = Self {
            engine: engine.expect("nothing is there to be damaged"),
            now: Millis(1),
            wake_at: None,
            told: BTreeMap::new(),
            numbers: BTreeMap::new(),
            tickets: 0,
        };
        leader.step(Input::Describe(about()));
        leader.ask(Request::SwarmInit(Box::default()));
        leader
    }

    /// Everything that follows from one input while no time passes.
    fn step(&mut self, input: Input) -> Vec<Answer> {
        let mut inputs = VecDeque::from([input]);
        let mut answers = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let effects = self.engine.step(self.now, WallTime(1), input);
            if !effects.writes.is_empty() {
                inputs.push_back(Input::Stored(effects.stored));
            }
            for Send { to, message } in effects.sends {
                if let Message::Assign(assign) = message {
                    self.told.insert(to.node, *assign);
                }
            }
            for (_, answer) in effects.answers {
                answers.push(answer.expect("it is granted"));
            }
            self.wake_at = effects.wake_at;
        }
        answers
    }

    fn ask(&mut self, request: Request) -> Vec<Answer> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.step(Input::Request { ticket, request })
    }

    /// Lets time pass until nothing is due soon.
    fn settle(&mut self) {
        const SOON_MS: u64 = 5_000;
        let until = self.now.plus(SOON_MS);
        while let Some(at) = self.wake_at.filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step(Input::Wake);
        }
    }

    fn admit(&mut self, number: usize) {
        let cluster = self.engine.view().cluster();
        let token = cluster.map(|cluster| cluster.worker_token.clone());
        self.ask(Request::NodeJoin(Box::new(NodeJoin {
            token,
            node: id(number),
            addr: addr(),
            description: about(),
            availability: Availability::Active,
            wants: NodeRole::Worker,
        })));
        self.step(Input::Connected(peer(&id(number))));
        let first = self.report(&id(number));
        self.step(first);
    }

    fn create(&mut self, name: &str, replicas: u64) {
        let mut spec = ServiceSpec {
            name: name.into(),
            mode: ServiceMode {
                replicated: Some(ReplicatedService {
                    replicas: Some(replicas),
                }),
                ..ServiceMode::default()
            },
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "app".into();
        self.ask(Request::ServiceCreate(Box::new(spec)));
    }

    /// A whole report of a node that does what it was told.
    fn report(&mut self, node: &NodeId) -> Input {
        let number = self.numbers.entry(node.clone()).or_default();
        *number += 1;
        let set = self.told.get(node).map(|told| &told.set);
        let assigned = set.map_or(&[][..], |set| &set.assignments);
        let seen = assigned.iter().map(|of| {
            let mut attempt = Attempt {
                task: TaskId::of(&of.id, 1),
                number: 1,
                running_since: Some(self.now),
                ..Attempt::default()
            };
            attempt.status.state = TaskState::Running;
            attempt.status.message = "started".into();
            let seen = Seen {
                attempts: vec![attempt],
                ..Seen::default()
            };
            (of.id.clone(), Some(seen))
        });
        let report = wire::Report {
            number: *number,
            is_whole: true,
            description: Some(about()),
            role: NodeRole::Worker,
            generation: set.map_or(0, |set| set.generation),
            seen: seen.collect(),
            now: self.now,
            ..wire::Report::default()
        };
        Input::Received {
            from: peer(node),
            message: Message::Report(Box::new(report)),
        }
    }

    /// Every node runs what it was told, and says so.
    fn obey(&mut self) {
        let nodes: Vec<NodeId> = self.told.keys().cloned().collect();
        for node in nodes {
            let report = self.report(&node);
            self.step(report);
        }
        self.settle();
    }

    /// Processor time, which others on this machine do not lengthen.
    fn timed(&mut self, what: impl FnOnce(&mut Self)) -> Duration {
        let before = busy();
        what(self);
        busy().saturating_sub(before)
    }
}

fn peer(node: &NodeId) -> Peer {
    Peer {
        node: node.clone(),
        role: NodeRole::Worker,
        addr: addr(),
    }
}

/// What this thread has used of a processor.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1e3
}
