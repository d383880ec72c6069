//! One node: engine, disk, executor and clocks, in one queue of events.

use crate::chance::Chance;
use crate::check::Checker;
use crate::disk::Disk;
use crate::executor::{Executor, Fate};
use crate::user::{Users, spec};
use skep_control::engine::{Config, Effects, Engine, Input, LogKey, Recovered, Ticket};
use skep_control::journal::{Log, Write};
use skep_control::model::*;
use skep_control::request::{Answer, Request};
use skep_control::worker::Step;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Things that happened, kept for telling.
const DIARY_LINES: usize = 60;
/// Steps of virtual time in the troubled part.
const TROUBLES: u64 = 60;
/// How long things may take to settle once faults stop.
const SETTLE_MS: u64 = 30 * 60 * 1000;

/// Events in one stretch of time, beyond fifty a millisecond: more is a loop.
const TURNS_MAX: u64 = 10_000;

/// Inputs between two looks at all tasks, which are dear.
const LOOK_EVERY: u64 = 10;

#[derive(Debug)]
enum Event {
    Stored(u64),
    Fate(Fate),
}

/// What a request was about.
type Asked = Option<(String, Option<ServiceSpec>)>;

pub(crate) struct Board {
    chance: Chance,
    engine: Option<Engine>,
    disk: Disk,
    executor: Executor,
    users: Users,
    checker: Checker,
    now: u64,
    wall: i64,
    /// (when, order) → (start of the agent that it is for, event).
    events: BTreeMap<(u64, u64), (u64, Event)>,
    order: u64,
    starts: u64,
    wake_at: Option<u64>,
    /// Until when the executor is at work on a task.
    busy: BTreeMap<TaskId, u64>,
    tickets: BTreeMap<u64, Asked>,
    /// Tickets of those who want to leave the cluster.
    leaving: BTreeSet<u64>,
    next_ticket: u64,
    has_cluster: bool,
    is_calm: bool,
    ever_start_first: bool,
    writes: u64,
    consensus_writes: u64,
    steps: u64,
    inputs: u64,
    diary: VecDeque<String>,
}

impl Board {
    pub(crate) fn new(chance: Chance) -> Self {
        let mut board = Self {
            chance,
            engine: None,
            disk: Disk::default(),
            executor: Executor::default(),
            users: Users::default(),
            checker: Checker::default(),
            now: 1000,
            wall: 0,
            events: BTreeMap::new(),
            order: 0,
            starts: 0,
            wake_at: None,
            busy: BTreeMap::new(),
            tickets: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next_ticket: 0,
            has_cluster: false,
            is_calm: false,
            ever_start_first: false,
            writes: 0,
            consensus_writes: 0,
            steps: 0,
            inputs: 0,
            diary: VecDeque::new(),
        };
        board.start(&BTreeSet::new());
        board
    }

    pub(crate) fn diary(&self) -> impl Iterator<Item = &String> {
        self.diary.iter()
    }
    /// Writes and steps so far.
    pub(crate) fn effort(&self) -> (u64, u64) {
        (self.writes, self.steps)
    }
    pub(crate) fn consensus_writes(&self) -> u64 {
        self.consensus_writes
    }
    pub(crate) fn calm(&mut self) {
        self.is_calm = true;
    }

    /// Users act, containers fail, the agent dies, the power goes.
    pub(crate) fn troubled_times(&mut self) {
        for _ in 0..TROUBLES {
            match self.chance.below(12) {
                _ if self.has_cluster && self.chance.percent(1) => self.leave(),
                10 => self.drain_or_not(Availability::Drain),
                11 => self.drain_or_not(Availability::Active),
                0 => self.kill_agent(),
                1 => self.lose_power(),
                2 => self.kill_one(),
                _ if !self.has_cluster => self.init(),
                _ => self.user_acts(),
            }
            if self.chance.percent(20) {
                // 1970, or some other year.
                self.wall = self.chance.below(1 << 61) as i64;
            }
            let pause = self.chance.below(3000);
            self.run_for_ms(pause);
        }
    }

    /// Faults stop; every service is set right; everything is to settle.
    pub(crate) fn quiet_times(&mut self) {
        self.is_calm = true;
        self.run_for_ms(60_000);
        if !self.has_cluster {
            self.init();
            self.run_for_ms(1000);
        }
        self.drain_or_not(Availability::Active);
        self.run_for_ms(1000);
        let names: Vec<String> = self.users.promises.keys().cloned().collect();
        for name in names {
            let found = self.view(|view| view.state().service_named(&name).cloned());
            let Some(service) = found else { continue };
            let mut spec = service.spec;
            spec.task_template.container_spec.image = "ok".into();
            self.ask(
                Request::ServiceUpdate {
                    service: name.clone(),
                    version: service.meta.version.index,
                    spec: Box::new(spec.clone()),
                    rollback: false,
                },
                Some((name, Some(spec))),
            );
            self.run_for_ms(1000);
        }
        self.run_for_ms(SETTLE_MS);
        self.check_settled();
        let (writes, steps) = self.effort();
        self.run_for_ms(SETTLE_MS);
        assert_eq!(self.effort(), (writes, steps), "it does not come to rest");
    }

    fn check_settled(&mut self) {
        let services: Vec<Service> = self.view(|view| view.state().services().cloned().collect());
        let mut wanted = 0;
        for service in &services {
            let replicas = service.spec.mode.replicas();
            let name = &service.spec.name;
            assert_eq!(self.running(name) as u64, replicas, "{name} is not right");
            wanted += replicas as usize;
            if let Some(status) = &service.update_status {
                assert_eq!(status.state, UpdateState::Completed, "{name}");
            }
        }
        assert_eq!(self.executor.running().count(), wanted, "something is left");
        let mut of_slot: BTreeMap<(ServiceId, u64), usize> = BTreeMap::new();
        for task in self.view(|view| view.tasks()) {
            *of_slot.entry((task.service, task.slot)).or_default() += 1;
        }
        for (slot, tasks) in of_slot {
            assert!(tasks <= 5, "{slot:?} keeps {tasks} tasks");
        }
        let known: BTreeSet<TaskId> =
            self.view(|view| view.tasks().into_iter().map(|task| task.id).collect());
        for task in self.executor.containers.keys() {
            assert!(known.contains(task), "container of {task} is left over");
        }
    }

    pub(crate) fn init(&mut self) {
        self.ask(Request::SwarmInit(Box::default()), None);
        self.run_for_ms(100);
    }

    fn leave(&mut self) {
        self.users.asked_to_leave();
        self.ask(Request::SwarmLeave { force: true }, None);
    }

    fn drain_or_not(&mut self, availability: Availability) {
        let node = self.view(|view| view.state().nodes().next().cloned());
        let Some(node) = node else { return };
        let mut spec = node.spec;
        spec.availability = availability;
        let request = Request::NodeUpdate {
            node: "self".into(),
            version: node.meta.version.index,
            spec: Box::new(spec),
        };
        self.ask(request, None);
    }

    pub(crate) fn create(&mut self, name: &str, replicas: u64) {
        let spec = spec(name, replicas, "ok", &mut self.chance);
        let asked = Some((name.to_owned(), Some(spec.clone())));
        self.ask(Request::ServiceCreate(Box::new(spec)), asked);
        self.run_for_ms(100);
    }

    /// Running processes of a service.
    pub(crate) fn running(&self, name: &str) -> usize {
        let id = self.view(|view| view.state().service_named(name).map(|of| of.id.clone()));
        let id = id.unwrap_or_default();
        let running = self.executor.running();
        running.filter(|(_, of)| of.service == id).count()
    }

    /// A process dies for no reason.
    pub(crate) fn kill_one(&mut self) {
        let running: Vec<(TaskId, u64)> = self
            .executor
            .running()
            .map(|(task, container)| (task.clone(), container.run))
            .collect();
        if running.is_empty() {
            return;
        }
        let (task, run) = running[self.chance.below(running.len() as u64) as usize].clone();
        self.note(format!("{task} is killed"));
        self.at(0, Event::Fate(Fate::Die(task, Some(run), 137)));
    }

    pub(crate) fn run_for_ms(&mut self, ms: u64) {
        let until = self.now + ms;
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < TURNS_MAX + 50 * ms, "it spins");
            let next = self.events.keys().next().map(|(when, _)| *when);
            let wake = self.wake_at.filter(|_| self.engine.is_some());
            let Some(when) = next.into_iter().chain(wake).min() else {
                break;
            };
            if when > until {
                break;
            }
            self.now = self.now.max(when);
            if wake.is_some_and(|wake| wake <= self.now) && next.is_none_or(|next| next > self.now)
            {
                self.wake_at = None;
                self.input(Input::Wake);
            } else if let Some((_, (start, event))) = self.events.pop_first() {
                self.happen(start, event);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, start: u64, event: Event) {
        let is_for_this = start == self.starts;
        match event {
            Event::Stored(number) if is_for_this => {
                self.disk.sync(number);
                self.input(Input::Stored(number));
            }
            // Deaths come whether or not an agent watches; the rest of the
            // executor's work is the agent's and went with it.
            Event::Fate(fate) if is_for_this || matches!(fate, Fate::Die(_, Some(_), _)) => {
                let calm = self.is_calm;
                let (seen, next) = self.executor.happen(fate, calm, &mut self.chance);
                if let Some((after, fate)) = next {
                    self.at(after, Event::Fate(fate));
                }
                self.checker.slots(&self.executor, self.ever_start_first);
                if let Some(seen) = seen {
                    self.note(format!("{seen:?}"));
                    self.input(Input::Observed(seen));
                }
            }
            _ => {}
        }
    }

    fn input(&mut self, input: Input) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let effects = engine.step(Millis(self.now), WallTime(self.wall), input);
        self.checker.effects(&effects);
        self.inputs += 1;
        self.carry_out(effects);
        if self.inputs.is_multiple_of(LOOK_EVERY)
            && let Some(engine) = &self.engine
        {
            let is_written = self.disk.is_written();
            self.checker.tasks(&engine.view(), is_written);
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        self.wake_at = effects.wake_at.map(|at| at.0.max(self.now));
        for step in effects.steps {
            self.steps += 1;
            self.note(short(&step));
            let (after, fate) = self.executor.begin(step, self.is_calm, &mut self.chance);
            // Steps of one task are done one after the other.
            let task = fate.task().clone();
            let begin = self.busy.get(&task).copied().unwrap_or(0).max(self.now);
            self.busy.insert(task, begin + after);
            self.at(begin + after - self.now, Event::Fate(fate));
        }
        if !effects.writes.is_empty() {
            self.writes += effects.writes.len() as u64;
            let of_consensus = |write: &&Write| {
                let (Write::At { log, .. } | Write::Replace { log, .. }) = write;
                *log == Log::Consensus
            };
            self.consensus_writes += effects.writes.iter().filter(of_consensus).count() as u64;
            self.disk.write(effects.stored, effects.writes);
            let after = 1 + self.chance.below(20);
            self.at(after, Event::Stored(effects.stored));
        }
        for (Ticket(ticket), answer) in effects.answers {
            let asked = self.tickets.remove(&ticket).expect("answered once");
            self.note(format!("answer {ticket}: {answer:?}"));
            match (&answer, &asked) {
                (Ok(Answer::Node(_)), _) => self.has_cluster = true,
                (Ok(Answer::Done), None) if self.leaving.remove(&ticket) => {
                    self.has_cluster = false;
                    self.users.left();
                }
                _ => {}
            }
            if let Some((name, wanted)) = asked {
                self.users.answered(&name, wanted, answer.is_ok());
            }
        }
    }

    fn user_acts(&mut self) {
        let Some(engine) = &self.engine else { return };
        let Some((name, wanted, request)) = self.users.act(&engine.view(), &mut self.chance) else {
            return;
        };
        self.ask(request, Some((name, wanted)));
    }

    fn ask(&mut self, request: Request, asked: Asked) {
        if let Some((name, wanted)) = &asked {
            self.users.asked(name, wanted.clone());
            let order = wanted.as_ref().and_then(|spec| spec.update_config.as_ref());
            self.ever_start_first |= order.is_some_and(|of| of.order == "start-first");
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let what = asked.as_ref().map(|(name, wanted)| {
            let image = wanted
                .as_ref()
                .map(|spec| spec.task_template.container_spec.image.clone());
            (
                name.clone(),
                image,
                wanted.as_ref().map(|spec| spec.mode.replicas()),
            )
        });
        self.note(format!("ask {ticket}: {what:?}"));
        self.tickets.insert(ticket, asked);
        if matches!(request, Request::SwarmLeave { .. }) {
            self.leaving.insert(ticket);
        }
        self.input(Input::Request {
            ticket: Ticket(ticket),
            request,
        });
    }

    /// The agent is killed; containers go on.
    fn kill_agent(&mut self) {
        self.note("the agent is killed".into());
        // What it had handed to the kernel is written, sooner or later.
        if self.chance.percent(50) {
            self.disk.sync(u64::MAX);
        } else {
            self.disk.lose_power(&mut self.chance);
            self.checker.power_lost();
        }
        self.tickets.clear();
        self.start(&BTreeSet::new());
    }

    fn lose_power(&mut self) {
        self.note("the power goes".into());
        self.disk.lose_power(&mut self.chance);
        self.checker.power_lost();
        let lost = self.executor.lose_power();
        self.tickets.clear();
        // The monotonic clock starts anew; the queue keeps its own time.
        self.start(&lost);
    }

    fn start(&mut self, lost: &BTreeSet<TaskId>) {
        self.starts += 1;
        self.busy.clear();
        let (consensus, node) = self.disk.files();
        let recovered = Recovered {
            consensus,
            node,
            found: self.executor.found(lost),
        };
        let config = Config {
            seed: self.chance.seed(),
            listen_addr: "10.0.0.1:2377".into(),
            member: None,
            log_key: LogKey::new([9; 32]),
        };
        let (now, wall) = (Millis(self.now), WallTime(self.wall));
        let engine = Engine::new(now, wall, config, recovered);
        self.engine = Some(engine.expect("a torn tail is no damage"));
        self.input(Input::Describe(describe()));
        self.has_cluster_again();
    }

    /// Lets the log be read back, and holds the engine to its promises.
    fn has_cluster_again(&mut self) {
        let until = self.now + 200;
        while self.now < until {
            self.run_for_ms(20);
        }
        let has = self.view(|view| view.cluster().is_some());
        let may_have_left = self.users.may_have_left();
        if !has && may_have_left {
            self.users.left();
        } else {
            assert!(has || !self.has_cluster, "the cluster is forgotten");
        }
        self.has_cluster = has;
        if let Some(engine) = &self.engine {
            self.users.hold(&engine.view());
        }
    }

    fn view<T>(&self, look: impl FnOnce(skep_control::engine::View<'_>) -> T) -> T {
        look(self.engine.as_ref().expect("an agent runs").view())
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        let when = (self.now + after, self.order);
        self.events.insert(when, (self.starts, event));
    }

    fn note(&mut self, what: String) {
        if self.diary.len() == DIARY_LINES {
            self.diary.pop_front();
        }
        self.diary.push_back(format!("{:>8} {what}", self.now));
    }
}

fn short(step: &Step) -> String {
    match step {
        Step::Prepare(run) => format!("prepare {}", run.name),
        other => format!("{other:?}"),
    }
}

fn describe() -> NodeDescription {
    NodeDescription {
        hostname: "pi".into(),
        resources: Resources {
            nano_cpus: 4 * SECOND,
            memory_bytes: 1 << 30,
            ..Resources::default()
        },
        ..NodeDescription::default()
    }
}
