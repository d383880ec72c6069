//! The one loop that calls the engine.
//!
//! Owns the engine, on a thread of its own. Invariants: inputs are taken one
//! at a time, in the order in which they came; what an effect's writes make
//! durable is told back only after it is; an answer that the engine withheld
//! until then reaches its asker, or the asker learns why not. Decides nothing.

use super::keeper::Keeper;
use super::swarm::Swarm;
use crate::backend::{Event, EventKind, EventLog};
use crate::error::{Error, Kind, Result};
use crate::executor::Executor;
use crate::metrics::Metrics;
use skep_control::engine::{Answer, Effects, Engine, Input, Request, Ticket, View};
use skep_control::model::{Event as ModelEvent, Millis, Network};
use skep_control::request;
use skep_control::routes::Routes;
use skep_control::worker::{Observation, Step};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Inputs that wait for the engine: a burst of fifty containers makes some two
/// hundred; more makes the senders wait.
const INPUTS_MAX: usize = 1024;
/// Batches of outward effects under way; the engine is far faster than they.
const BATCHES_MAX: usize = 256;

type Asker = Sender<Result<Answer>>;
type Reading = Box<dyn FnOnce(View<'_>) + Send>;

/// What the loop is told.
pub(super) enum Message {
    Input(Input),
    Request(Request, Asker),
    View(Reading),
    /// The disk does not take what was to be stored.
    NotStored(Error),
    Stop,
}

/// The way to the loop; clones lead to the same.
#[derive(Clone)]
pub(super) struct Spine(Sender<Message>);

/// What goes out of the loop, in order.
struct Batch {
    networks: Option<Vec<Network>>,
    routes: Option<Routes>,
    steps: Vec<Step>,
}

impl Spine {
    pub(super) fn new() -> (Self, Receiver<Message>) {
        let (to, from) = bounded(INPUTS_MAX);
        (Self(to), from)
    }

    pub(super) async fn send(&self, message: Message) {
        // Closed only after the end.
        let _ = self.0.send(message).await;
    }

    pub(super) fn send_blocking(&self, message: Message) {
        let _ = self.0.send_blocking(message);
    }

    /// Tells if there is room; for what is said again anyway.
    pub(super) fn try_send(&self, message: Message) {
        let _ = self.0.try_send(message);
    }

    /// Asks the engine; resolves when the answer is durable.
    pub(super) async fn request(&self, request: Request) -> Result<Answer> {
        let (asker, answer) = bounded(1);
        self.send(Message::Request(request, asker)).await;
        answer.recv().await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads the engine's tables at one moment.
    pub(super) async fn view<T, F>(&self, read: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> T + Send + 'static,
    {
        let (to, from) = bounded(1);
        let reading: Reading = Box::new(move |view| {
            let _ = to.try_send(read(view));
        });
        self.send(Message::View(reading)).await;
        match from.recv().await {
            Ok(value) => value,
            // The agent ends: the request that asks ends with it.
            Err(_) => std::future::pending().await,
        }
    }
}

fn stopping() -> Error {
    Error::unavailable("the agent is stopping")
}

/// The loop's own state.
pub(super) struct Loop {
    engine: Engine,
    keeper: Keeper,
    swarm: Swarm,
    events: EventLog,
    metrics: Metrics,
    batches: Sender<Batch>,
    askers: BTreeMap<Ticket, Asker>,
    tickets: u64,
    wake_at: Option<Millis>,
    /// (id, version) of the cluster's networks as they were last handed on.
    networks: Vec<(String, u64)>,
}

impl Loop {
    pub(super) fn new(
        engine: Engine,
        keeper: Keeper,
        swarm: Swarm,
        executor: Executor,
        events: EventLog,
        metrics: Metrics,
    ) -> Self {
        let (batches, outward) = bounded(BATCHES_MAX);
        smol::spawn(carry_out(outward, executor)).detach();
        Self {
            engine,
            keeper,
            swarm,
            events,
            metrics,
            batches,
            askers: BTreeMap::new(),
            tickets: 0,
            wake_at: None,
            networks: Vec::new(),
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(
        mut self,
        messages: Receiver<Message>,
        observations: Receiver<Observation>,
    ) {
        self.step(Input::Wake).await;
        loop {
            let message = async { messages.recv().await.unwrap_or(Message::Stop) };
            let observed = async {
                match observations.recv().await {
                    Ok(observation) => Message::Input(Input::Observed(observation)),
                    Err(_) => std::future::pending().await,
                }
            };
            let due = async {
                self.due().await;
                Message::Input(Input::Wake)
            };
            match message.or(observed).or(due).await {
                Message::Input(input) => self.step(input).await,
                Message::Request(request, asker) => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    self.askers.insert(ticket, asker);
                    self.step(Input::Request { ticket, request }).await;
                }
                Message::View(read) => read(self.engine.view()),
                Message::NotStored(error) => self.tell_all(&error),
                Message::Stop => break,
            }
        }
        self.tell_all(&stopping());
    }

    /// Resolves when the engine wants to be woken.
    async fn due(&self) {
        match self.wake_at {
            None => std::future::pending().await,
            Some(at) => {
                let wait = at.since(monotonic());
                smol::Timer::after(Duration::from_millis(wait)).await;
            }
        }
    }

    async fn step(&mut self, input: Input) {
        let begun = Instant::now();
        let effects = self.engine.step(monotonic(), crate::executor::now(), input);
        self.metrics.stepped(begun.elapsed());
        let Effects {
            routes,
            steps,
            writes,
            stored,
            answers,
            events,
            sends,
            datagrams,
            trust,
            wake_at,
        } = effects;
        self.wake_at = wake_at;
        let networks = self.changed_networks();
        if routes.is_some() || networks.is_some() || !steps.is_empty() {
            // Bounded: when the world is slower than the engine, it waits.
            let _ = self
                .batches
                .send(Batch {
                    networks,
                    routes,
                    steps,
                })
                .await;
        }
        if !writes.is_empty() {
            self.keeper.keep(writes, stored).await;
        }
        self.swarm.carry_out(&sends, datagrams, trust);
        for (ticket, answer) in answers {
            if let Some(asker) = self.askers.remove(&ticket) {
                let _ = asker.try_send(answer.map_err(refused));
            }
        }
        for event in events {
            self.events.publish(translate(event));
        }
    }

    /// The cluster's networks, if they are not as last handed on.
    fn changed_networks(&mut self) -> Option<Vec<Network>> {
        let now: Vec<Network> = self.engine.view().state().networks().cloned().collect();
        let versions: Vec<(String, u64)> = now
            .iter()
            .map(|network| (network.id.0.clone(), network.meta.version.index))
            .collect();
        if versions == self.networks {
            return None;
        }
        self.networks = versions;
        Some(now)
    }

    /// Nobody who waits shall wait for a disk that is full.
    fn tell_all(&mut self, error: &Error) {
        for asker in std::mem::take(&mut self.askers).into_values() {
            let _ = asker.try_send(Err(error.clone()));
        }
    }
}

/// Does what the engine wants done outside, in its order: who is where, before
/// what starts there.
async fn carry_out(batches: Receiver<Batch>, executor: Executor) {
    while let Ok(batch) = batches.recv().await {
        if let Some(networks) = batch.networks
            && let Err(error) = executor.network().set_cluster_networks(networks).await
        {
            log::error!("networks of the cluster: {error}");
        }
        if let Some(routes) = batch.routes
            && let Err(error) = executor.network().set_routes(routes).await
        {
            log::error!("routes: {error}");
        }
        for step in batch.steps {
            log::debug!("step {}", brief(&step));
            executor.perform(step);
        }
    }
}

/// A step without the spec that it carries.
fn brief(step: &Step) -> String {
    match step {
        Step::Prepare(run) => format!("prepare {}", run.name),
        Step::Start { task } => format!("start {task}"),
        Step::Stop { task, grace_ms } => format!("stop {task} within {grace_ms} ms"),
        Step::Remove { task } => format!("remove {task}"),
        Step::RestartLocal { container } => format!("restart container {container}"),
    }
}

/// Milliseconds of the clock that the engine decides by: it runs on while the
/// machine sleeps.
pub(super) fn monotonic() -> Millis {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let millis = i128::from(at.tv_sec) * 1000 + i128::from(at.tv_nsec) / 1_000_000;
    Millis(u64::try_from(millis).unwrap_or(0))
}

fn refused(refusal: request::Refusal) -> Error {
    let kind = match refusal.kind {
        request::Kind::Invalid => Kind::Invalid,
        request::Kind::NotFound => Kind::NotFound,
        request::Kind::Conflict => Kind::Conflict,
        request::Kind::Internal => Kind::Internal,
        request::Kind::NotImplemented => Kind::NotImplemented,
        request::Kind::Unavailable | request::Kind::NotLeader => Kind::Unavailable,
    };
    Error {
        kind,
        message: refusal.message,
    }
}

fn translate(event: ModelEvent) -> Event {
    Event {
        kind: match event.kind {
            "node" => EventKind::Node,
            "network" => EventKind::Network,
            "secret" => EventKind::Secret,
            "config" => EventKind::Config,
            _ => EventKind::Service,
        },
        action: event.action.to_owned(),
        id: event.id,
        attributes: event.attributes,
        swarm: true,
        time: event.time,
    }
}
