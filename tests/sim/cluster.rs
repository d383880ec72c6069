//! Whole clusters: real engines of three managers and two workers on a net
//! that loses datagrams, cuts links each way and forgets what was under way,
//! on boards whose power goes.
//!
//! Invariant: one seed decides everything that is sent.

use crate::chance::Chance;
use crate::disk::Disk;
use crate::executor::{Executor, Fate};
use skep_control::engine::{
    Config, Effects, Engine, Founding, Input, Joined, Keys, LogKey, Member, Message, NodeJoin,
    Peer, Recovered, Request, SwarmInit, Ticket,
};
use skep_control::model::*;
use skep_control::request::Answer;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const MANAGERS: usize = 3;
const NODES: usize = 5;
/// Strokes of fate in the troubled part.
const TROUBLES: u64 = 25;
/// How long things may take to settle once faults stop, in ms.
const SETTLE_MS: u64 = 180_000;
/// A peer that is silent for so long is taken to be gone, in ms.
const SILENCE_MS: u64 = 8_000;

/// A signature, as far as a simulation needs one.
struct Seal(NodeId);

impl Keys for Seal {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let sum = bytes.iter().fold(7u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        sum.to_le_bytes().to_vec()
    }
    fn public(&self) -> Vec<u8> {
        self.0.0.clone().into_bytes()
    }
    fn verify(&self, node: &NodeId, public: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
        node.0.as_bytes() == public && self.sign(bytes) == signature
    }
}

#[derive(Clone)]
enum Packet {
    Message(Message),
    Datagram(Vec<u8>),
}

enum Event {
    Stored(usize, u64, u64),
    Fate(usize, u64, Fate),
    /// From, its start, to.
    Packet(usize, u64, usize, Packet),
    /// The first has heard nothing of the second.
    Silence(usize, usize),
}

#[derive(Default)]
struct Board {
    engine: Option<Engine>,
    disk: Disk,
    executor: Executor,
    member: Option<Member>,
    wake_at: Option<u64>,
    starts: u64,
    links: BTreeSet<usize>,
    answers: Vec<(u64, Option<Answer>)>,
}

pub(crate) struct Cluster {
    chance: Chance,
    now: u64,
    boards: Vec<Board>,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    cut: BTreeSet<(usize, usize)>,
    /// In percent, of datagrams.
    loss: u64,
    lanes: BTreeMap<(usize, usize), u64>,
    is_calm: bool,
    /// Who spoke as the leader of a term.
    leaders: BTreeMap<u64, usize>,
    tickets: u64,
    /// Acknowledged replicas of each service; and what was asked for since.
    kept: BTreeMap<String, (u64, BTreeSet<u64>)>,
    /// Of everything sent.
    pub(crate) hash: u64,
}

fn id(n: usize) -> NodeId {
    NodeId(format!("{:0>25}", format!("n{n}")))
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8 + 1], 2377))
}

fn number(node: &NodeId) -> usize {
    (0..NODES).find(|n| id(*n) == *node).expect("a known node")
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut cluster = Self {
            chance: Chance::new(seed),
            now: 1000,
            boards: (0..NODES).map(|_| Board::default()).collect(),
            events: BTreeMap::new(),
            order: 0,
            cut: BTreeSet::new(),
            loss: 0,
            lanes: BTreeMap::new(),
            is_calm: true,
            leaders: BTreeMap::new(),
            tickets: 0,
            kept: BTreeMap::new(),
            hash: 0,
        };
        for n in 0..NODES {
            cluster.start(n, &BTreeSet::new());
        }
        cluster.found();
        for n in 1..NODES {
            cluster.join(n);
        }
        cluster.run(10_000);
        cluster
    }

    fn found(&mut self) {
        let init = SwarmInit {
            advertise_addr: addr(0).to_string(),
            founding: Founding {
                node: id(0),
                ca_cert_pem: "authority".into(),
                ca_key_pem: "secret".into(),
                ca_digest: "d".repeat(50),
            },
            ..SwarmInit::default()
        };
        let answer = self.ask(0, Request::SwarmInit(Box::new(init)), 2_000);
        assert!(answer.is_some(), "a cluster begins");
        let view = self.boards[0].engine.as_ref().expect("it runs").view();
        let cluster = view.cluster().expect("it is there").id.clone();
        self.boards[0].member = Some(Member {
            cluster,
            node: id(0),
            role: NodeRole::Manager,
            addr: addr(0),
            managers: Vec::new(),
        });
    }

    fn join(&mut self, n: usize) {
        let leader = self.leader().expect("a calm cluster has a leader");
        let view = self.boards[leader].engine.as_ref().expect("it runs").view();
        let cluster = view.cluster().expect("it is there");
        let (token, wants) = if n < MANAGERS {
            (cluster.manager_token.clone(), NodeRole::Manager)
        } else {
            (cluster.worker_token.clone(), NodeRole::Worker)
        };
        let join = NodeJoin {
            token: Some(token),
            node: id(n),
            addr: addr(n),
            description: describe(n),
            availability: Availability::Active,
            wants,
        };
        let answer = self.ask(leader, Request::NodeJoin(Box::new(join)), 5_000);
        let Some(Answer::Joined(joined)) = answer else {
            panic!("{n} is not let in: {answer:?}");
        };
        let Joined {
            cluster,
            role,
            managers,
            ..
        } = *joined;
        let member = Member {
            cluster,
            node: id(n),
            role,
            addr: addr(n),
            managers,
        };
        self.boards[n].member = Some(member.clone());
        self.input(n, Input::Joined(Box::new(member)));
        self.run(2_000);
    }

    /// Links are cut, boards lose power, containers fail, operators go on.
    pub(crate) fn troubled_times(&mut self) {
        self.is_calm = false;
        for _ in 0..TROUBLES {
            let n = self.chance.below(NODES as u64) as usize;
            let other = self.chance.below(NODES as u64) as usize;
            match self.chance.below(9) {
                0 | 1 => self.lose_power(n),
                2 => self.part(n, other),
                3 => {
                    for other in 0..NODES {
                        self.part(n, other);
                        self.part(other, n);
                    }
                }
                4 | 5 => self.cut.clear(),
                6 => self.loss = self.chance.below(30),
                _ => self.operator_acts(),
            }
            let pause = self.chance.below(8_000);
            self.run(pause);
            self.power_on(50);
        }
    }

    /// Faults stop; every promise is to be kept.
    pub(crate) fn quiet_times(&mut self) {
        (self.is_calm, self.loss) = (true, 0);
        self.cut.clear();
        self.power_on(100);
        let end = self.now + SETTLE_MS;
        while self.wrong().is_some() && self.now < end {
            self.run(1_000);
        }
        if let Some(wrong) = self.wrong() {
            panic!("after {SETTLE_MS} ms: {wrong}");
        }
        eprintln!(
            "  {} leads, {} services, settled after {} ms",
            self.leaders.len(),
            self.kept.len(),
            self.now + SETTLE_MS - end
        );
    }

    /// What is not as it shall be.
    fn wrong(&self) -> Option<String> {
        let Some(leader) = self.leader() else {
            return Some("there is no leader".into());
        };
        let view = self.boards[leader].engine.as_ref()?.view();
        for n in 0..MANAGERS {
            let other = self.boards[n].engine.as_ref()?.view();
            if other.state() != view.state() {
                return Some(format!("{n} has other tables than the leader {leader}"));
            }
        }
        for (name, (kept, maybe)) in &self.kept {
            let Some(service) = view.state().service_named(name) else {
                panic!("{name} was acknowledged and is not there");
            };
            let replicas = service.spec.mode.replicas();
            assert!(
                replicas == *kept || maybe.contains(&replicas),
                "{name} has {replicas} replicas, {kept} were acknowledged"
            );
            let running = self
                .boards
                .iter()
                .flat_map(|board| board.executor.running());
            let running = running.filter(|(_, of)| of.service == service.id).count() as u64;
            if running != replicas {
                return Some(format!("{name}: {running} of {replicas} run"));
            }
        }
        None
    }

    fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| {
            let engine = self.boards[*n].engine.as_ref();
            engine.is_some_and(|engine| engine.view().is_leader())
        };
        let mut leaders = (0..MANAGERS).filter(leads);
        leaders.next().filter(|_| leaders.next().is_none())
    }

    fn operator_acts(&mut self) {
        let Some(leader) = self.leader() else { return };
        let view = self.boards[leader].engine.as_ref().expect("it runs").view();
        let known: Vec<Service> = view.state().services().cloned().collect();
        let replicas = self.chance.below(5);
        let mode = |spec: &mut ServiceSpec| {
            spec.mode.replicated = Some(ReplicatedService {
                replicas: Some(replicas),
            });
        };
        let (name, request) = if known.len() < 3 {
            let name = format!("s{}", self.tickets);
            let mut spec = crate::user::spec(&name, 0, "ok", &mut self.chance);
            mode(&mut spec);
            (name, Request::ServiceCreate(Box::new(spec)))
        } else {
            let pick = self.chance.below(known.len() as u64) as usize;
            let service = &known[pick];
            let mut spec = service.spec.clone();
            mode(&mut spec);
            let request = Request::ServiceUpdate {
                service: service.id.0.clone(),
                version: service.meta.version.index,
                spec: Box::new(spec.clone()),
                rollback: false,
            };
            (spec.name, request)
        };
        if let Some((_, maybe)) = self.kept.get_mut(&name) {
            maybe.insert(replicas);
        }
        if self.ask(leader, request, 5_000).is_some() {
            self.kept.insert(name, (replicas, BTreeSet::new()));
        }
    }

    /// Its answer, if it is a good one and comes in time.
    fn ask(&mut self, n: usize, request: Request, most: u64) -> Option<Answer> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(
            n,
            Input::Request {
                ticket: Ticket(ticket),
                request,
            },
        );
        let end = self.now + most;
        while self.now < end {
            let answers = &mut self.boards[n].answers;
            if let Some(at) = answers.iter().position(|(of, _)| *of == ticket) {
                return answers.swap_remove(at).1;
            }
            self.run(20);
        }
        None
    }

    fn part(&mut self, from: usize, to: usize) {
        if from != to && self.cut.insert((from, to)) {
            self.at(SILENCE_MS, Event::Silence(from, to));
            self.at(SILENCE_MS, Event::Silence(to, from));
        }
    }

    fn lose_power(&mut self, n: usize) {
        let board = &mut self.boards[n];
        if board.engine.take().is_none() {
            return;
        }
        board.disk.lose_power(&mut self.chance);
        board.links.clear();
        board.wake_at = None;
        for other in (0..NODES).filter(|other| *other != n) {
            self.at(SILENCE_MS, Event::Silence(other, n));
        }
    }

    fn power_on(&mut self, percent: u64) {
        for n in 0..NODES {
            if self.boards[n].engine.is_none() && self.chance.percent(percent) {
                let lost = self.boards[n].executor.lose_power();
                self.start(n, &lost);
            }
        }
    }

    fn start(&mut self, n: usize, lost: &BTreeSet<TaskId>) {
        let seed = self.chance.seed();
        let board = &mut self.boards[n];
        board.starts += 1;
        let (consensus, node) = board.disk.files();
        let recovered = Recovered {
            consensus,
            node,
            found: board.executor.found(lost),
        };
        let config = Config {
            seed,
            listen_addr: addr(n).to_string(),
            member: board.member.clone(),
            log_key: LogKey::new([9; 32]),
        };
        let engine = Engine::new(Millis(self.now), WallTime(0), config, recovered);
        let mut engine = engine.expect("a torn tail is no damage");
        engine.gossip_with(Box::new(move || Box::new(Seal(id(n)))));
        board.engine = Some(engine);
        self.input(n, Input::Describe(describe(n)));
    }

    fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            let next = self.events.keys().next().map(|(when, _)| *when);
            let wakes = self.boards.iter().enumerate();
            let wakes = wakes.filter_map(|(n, board)| board.wake_at.map(|at| (at, n)));
            let wake = wakes.min();
            let first = next.into_iter().chain(wake.map(|(at, _)| at)).min();
            let Some(when) = first.filter(|when| *when <= until) else {
                break;
            };
            self.now = self.now.max(when);
            match wake {
                Some((at, n)) if next.is_none_or(|next| at < next) => {
                    self.boards[n].wake_at = None;
                    self.input(n, Input::Wake);
                }
                _ => {
                    let (_, event) = self.events.pop_first().expect("it was looked at");
                    self.happen(event);
                }
            }
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Stored(n, start, number) if self.boards[n].starts == start => {
                if self.boards[n].engine.is_some() {
                    self.boards[n].disk.sync(number);
                    self.input(n, Input::Stored(number));
                }
            }
            Event::Fate(n, start, fate) if self.boards[n].starts == start => {
                if self.boards[n].engine.is_none() {
                    return;
                }
                let executor = &mut self.boards[n].executor;
                let (seen, next) = executor.happen(fate, self.is_calm, &mut self.chance);
                if let Some((after, fate)) = next {
                    self.at(after, Event::Fate(n, start, fate));
                }
                if let Some(seen) = seen {
                    self.input(n, Input::Observed(seen));
                }
            }
            Event::Packet(from, start, to, packet) => self.arrive(from, start, to, packet),
            Event::Silence(n, gone) => {
                let is_cut = self.cut.contains(&(n, gone)) || self.cut.contains(&(gone, n));
                let is_off = self.boards[gone].engine.is_none();
                if (is_cut || is_off) && self.boards[n].links.remove(&gone) {
                    self.input(n, Input::Disconnected(id(gone)));
                }
            }
            Event::Stored(..) | Event::Fate(..) => {}
        }
    }

    fn peer(&self, n: usize) -> Option<Peer> {
        let member = self.boards[n].member.as_ref()?;
        Some(Peer {
            node: id(n),
            role: member.role,
            addr: addr(n),
        })
    }

    fn arrive(&mut self, from: usize, start: u64, to: usize, packet: Packet) {
        let is_gone = self.boards[from].engine.is_none() || self.boards[from].starts != start;
        let is_cut = self.cut.contains(&(from, to));
        if is_gone || is_cut || self.boards[to].engine.is_none() {
            return;
        }
        let (Some(peer), Some(own)) = (self.peer(from), self.peer(to)) else {
            return;
        };
        if self.boards[to].links.insert(from) {
            self.input(to, Input::Connected(peer.clone()));
        }
        if self.boards[from].links.insert(to) {
            self.input(from, Input::Connected(own));
        }
        self.input(
            to,
            match packet {
                Packet::Message(message) => Input::Received {
                    from: peer,
                    message,
                },
                Packet::Datagram(bytes) => Input::Datagram { from: peer, bytes },
            },
        );
    }

    fn input(&mut self, n: usize, input: Input) {
        if let Some(engine) = &mut self.boards[n].engine {
            let effects = engine.step(Millis(self.now), WallTime(0), input);
            self.carry_out(n, effects);
        }
    }

    fn carry_out(&mut self, n: usize, effects: Effects) {
        let start = self.boards[n].starts;
        self.boards[n].wake_at = effects.wake_at.map(|at| at.0.max(self.now));
        for step in effects.steps {
            let executor = &mut self.boards[n].executor;
            let (after, fate) = executor.begin(step, self.is_calm, &mut self.chance);
            self.at(after, Event::Fate(n, start, fate));
        }
        if !effects.writes.is_empty() {
            self.boards[n].disk.write(effects.stored, effects.writes);
            let after = 1 + self.chance.below(10);
            self.at(after, Event::Stored(n, start, effects.stored));
        }
        for (Ticket(ticket), answer) in effects.answers {
            self.boards[n].answers.push((ticket, answer.ok()));
        }
        for send in effects.sends {
            self.one_leader_per_term(n, &send.message);
            self.send(n, &send.to.node, Packet::Message(send.message));
        }
        for datagram in effects.datagrams {
            self.send(n, &datagram.to.node, Packet::Datagram(datagram.bytes));
        }
        let wanted = effects.trust.map(|trust| trust.role);
        if let (Some(role), Some(member)) = (wanted, &mut self.boards[n].member)
            && member.role != role
        {
            member.role = role;
            self.input(n, Input::Certified(role));
        }
    }

    fn one_leader_per_term(&mut self, n: usize, message: &Message) {
        let term = match message {
            Message::Assign(assign) => assign.term,
            Message::Bulletin(bulletin) => bulletin.term,
            _ => return,
        };
        let leader = *self.leaders.entry(term).or_insert(n);
        assert_eq!(leader, n, "term {term} has two leaders");
    }

    fn send(&mut self, from: usize, to: &NodeId, packet: Packet) {
        let to = number(to);
        let said = match &packet {
            Packet::Message(message) => format!("{message:?}").into_bytes(),
            Packet::Datagram(bytes) => bytes.clone(),
        };
        for byte in said {
            self.hash = self.hash.wrapping_mul(31).wrapping_add(u64::from(byte));
        }
        let is_datagram = matches!(packet, Packet::Datagram(_));
        if is_datagram && self.chance.percent(self.loss) {
            return;
        }
        let mut at = self.now + 1 + self.chance.below(5);
        if !is_datagram {
            // A lane keeps its order.
            let last = self.lanes.entry((from, to)).or_default();
            at = at.max(*last);
            *last = at;
        }
        let start = self.boards[from].starts;
        self.at(at - self.now, Event::Packet(from, start, to, packet));
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.now + after, self.order), event);
    }
}

fn describe(n: usize) -> NodeDescription {
    NodeDescription {
        hostname: format!("pi{n}"),
        resources: Resources {
            nano_cpus: 4 * SECOND,
            memory_bytes: 1 << 30,
            ..Resources::default()
        },
        ..NodeDescription::default()
    }
}
