//! The node's spine: wires the organs together and runs the one loop that
//! calls the engine. It knows every organ and decides nothing itself.
//!
//! ```text
//!   api ──request──► spine ──step──► engine
//!    ▲                 │ writes ► keeper ─► storage ──Stored──► spine
//!    └────answer───────┤ routes ► network
//!                      └ steps ─► executor ──observations─────► spine
//! ```

mod address;
mod facts;
mod flags;
mod keeper;
mod logger;
mod measure;
mod node;
mod spine;
mod swarm;

pub(crate) use flags::Flags;

use crate::api::Server;
use crate::backend::{EventLog, NodeFacts};
use crate::error::{Error, Result};
use crate::executor::{Executor, Settings};
use crate::identity::{GossipKeys, Identity, vault};
use crate::metrics::{self, Metrics};
use crate::network::Network;
use crate::storage::{self, Log};
use async_signal::{Signal, Signals};
use clap::Parser;
use keeper::{Keeper, Logs};
use node::{Node, Parts};
use skep_control::engine::{Config, Engine, Input, Recovered};
use smol::stream::StreamExt as _;
use spine::{Loop, Message, Spine};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use swarm::Swarm;

/// Observations that wait for the loop.
const OBSERVATIONS_MAX: usize = 1024;
/// Streams of other nodes that wait to be served; more wait at the other end.
const PEER_STREAMS_MAX: usize = 64;
/// Only root may look into a node's data: layers hold set-id programs, and
/// records environments.
const FOLDER_MODE: u32 = 0o711;
/// Exit code for wrong flags, as Docker's.
const USAGE: u8 = 125;

/// Runs the agent; `args` begins with the word `agent`.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    logger::install(flags.log_level);
    match smol::block_on(run(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<()> {
    for folder in [&flags.data_dir, &flags.run_dir] {
        make_folder(folder)?;
    }
    let _lock = storage::lock(&flags.data_dir)?;
    let mut signals = Signals::new([Signal::Term, Signal::Int])?;
    // Bound first: a second agent on the same socket must not get any further.
    let server = Server::bind(&flags.api_hosts())?;
    let scraped = flags.metrics_addr.map(metrics::Server::bind).transpose()?;
    let metrics = Metrics::default();
    let facts = facts::read(&flags)?;
    introduce(&facts);
    let data_dir = flags.data_dir.clone();
    let images = smol::unblock(move || skep_images::Store::open(&data_dir)).await?;
    let events = EventLog::default();
    let (observe, observations) = smol::channel::bounded(OBSERVATIONS_MAX);
    let executor = open_executor(&flags, &images, &events, observe).await?;
    let found = executor.adopt().await?;
    let (spine, messages) = Spine::new();
    let identity = Identity::open(&flags.data_dir)?;
    let (engine, logs) = open_engine(&flags, &identity, found)?;
    let keeper = Keeper::start(logs, spine.clone(), metrics.clone())?;
    let (peers, from_peers) = smol::channel::bounded(PEER_STREAMS_MAX);
    let about = facts::describe(&facts);
    let swarm = Swarm::new(&flags, spine.clone(), about, identity, peers);
    let engine_loop = Loop::new(
        engine,
        keeper,
        swarm.clone(),
        executor.clone(),
        events.clone(),
        metrics.clone(),
    );
    let engine_thread = std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || smol::block_on(engine_loop.run(messages, observations)))
        .map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?;
    spine
        .send(Message::Input(Input::Describe(swarm.about())))
        .await;
    swarm.start()?;
    let parts = Parts {
        executor: executor.clone(),
        images,
        events,
        spine: spine.clone(),
        facts,
        swarm: swarm.clone(),
        metrics,
    };
    let node = Node(Arc::new(parts));
    measure::serve(scraped, &node);
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let serving = smol::spawn(server.run(node, from_peers, stopped));
    log::info!("serving {}", flags.api_hosts().join(", "));
    wait_for(&mut signals).await;
    log::info!("stopping; containers {}", fate(flags.drain_on_exit));
    drop(stop);
    smol::future::zip(serving, swarm.hand_over()).await;
    swarm.close().await;
    // Before the containers go: the engine must not take it for failures.
    spine.send(Message::Stop).await;
    let _ = smol::unblock(move || engine_thread.join()).await;
    if flags.drain_on_exit {
        executor.stop_all().await;
    }
    log::info!("stopped");
    Ok(())
}

/// The containers and networks of the node; not yet adopted.
async fn open_executor(
    flags: &Flags,
    images: &skep_images::Store,
    events: &EventLog,
    observe: smol::channel::Sender<skep_control::worker::Observation>,
) -> Result<Executor> {
    let network = Network::open(crate::network::Options {
        data_dir: flags.data_dir.clone(),
        run_dir: flags.run_dir.clone(),
    })
    .await?;
    let settings = Settings {
        data_dir: flags.data_dir.clone(),
        run_dir: flags.run_dir.clone(),
        cgroup_parent: flags.cgroup_parent.clone(),
    };
    Executor::new(settings, images.clone(), network, events.clone(), observe)
}

/// The log's first lines.
fn introduce(facts: &NodeFacts) {
    log::info!("skep {} on {}", env!("CARGO_PKG_VERSION"), facts.hostname);
    for warning in &facts.warnings {
        log::warn!("{}", warning.trim_start_matches("WARNING: "));
    }
}

/// What becomes of the containers.
fn fate(drains: bool) -> &'static str {
    match drains {
        true => "are stopped too",
        false => "run on",
    }
}

/// The engine as it was left, and the files that it is kept in.
fn open_engine(
    flags: &Flags,
    identity: &Identity,
    found: Vec<skep_control::worker::Observation>,
) -> Result<(Engine, Logs)> {
    let (consensus, consensus_bytes) = Log::open(&flags.data_dir.join("consensus"))?;
    let (node, node_bytes) = Log::open(&flags.data_dir.join("node"))?;
    let mut seed = [0_u8; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    let config = Config {
        seed,
        listen_addr: flags.listen.to_string(),
        member: identity.engine_member()?,
        log_key: vault::open(&flags.data_dir.join("node"))?,
    };
    let recovered = Recovered {
        consensus: consensus_bytes,
        node: node_bytes,
        found,
    };
    let mut engine = Engine::new(spine::monotonic(), crate::executor::now(), config, recovered)
        .map_err(|corrupt| {
            Error::internal(format!(
                "{corrupt}; the swarm's state in {} cannot be trusted: move the file away to start without a swarm",
                flags.data_dir.display()
            ))
        })?;
    let key = identity.key.clone();
    engine.gossip_with(Box::new(move || Box::new(GossipKeys(key.clone()))));
    Ok((engine, Logs { consensus, node }))
}

fn make_folder(folder: &Path) -> Result<()> {
    let existed = folder.exists();
    fs::create_dir_all(folder).map_err(|e| crate::disk::failure("mkdir", folder, &e))?;
    if !existed {
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
            .map_err(|e| crate::disk::failure("chmod", folder, &e))?;
    }
    Ok(())
}

/// Resolves at the first signal; a second one ends the process at once.
async fn wait_for(signals: &mut Signals) {
    if let Some(Ok(signal)) = signals.next().await {
        log::info!("{signal:?} received");
    }
}
