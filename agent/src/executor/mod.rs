//! Containers' life: image → root file system → network → shim, and exits and
//! probes back into observations. One path makes every container: a service's
//! task is turned into the same request as `docker create`'s.
//!
//! Owns the table of this node's containers, their records (one log for all,
//! see `ledger`) and what each has under `tasks/<id>/`. Invariants: operations that change one container are serial
//! (its `serial` lock), those on different ones are parallel; after a failed
//! operation nothing half-made is left; a container's exit is recorded before
//! anybody is told. Knows neither HTTP nor the engine's tables: it is told
//! steps and tells observations.
//!
//! What is durable, and why: the record of a standalone container is synced at
//! create, rename, update and removal, since a user was told that it exists;
//! its state only when a user's stop or start changes what a reboot shall do.
//! Everything else of a state, and all of a task's container, may be lost by a
//! power cut: the engine knows what shall run. What a reboot ends anyway (the
//! network's state) is in the run folder, which costs no flash.
//!
//! | file | owns |
//! |---|---|
//! | `record`, `names` | what is kept, the state machine, names; pure |
//! | `ledger` | the records on disk |
//! | `table`, `container` | who is there, under which name |
//! | `create`, `mounts`, `image` | making one |
//! | `start`, `exit`, `stop`, `remove`, `adopt` | its life |
//! | `exec`, `stdio`, `health` | processes and streams in it |
//! | `rootfs`, `archive`, `changes` | its files |
//! | `task` | the engine's steps |
//! | `snapshot`, `stats` | how others see it |

mod adopt;
mod archive;
mod changes;
mod container;
mod create;
mod event;
mod exec;
mod exit;
mod health;
mod image;
mod ledger;
mod mounts;
mod names;
mod networks;
mod orphans;
mod record;
mod remove;
mod rootfs;
mod signal;
mod snapshot;
mod start;
mod stats;
mod stdio;
mod stop;
mod table;
mod task;
mod unpack;
mod update;
mod volume;

use crate::backend::EventLog;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::volumes::Volumes;
use container::Container;
use skep_control::model::WallTime;
use skep_control::worker::Observation;
use smol::channel::Sender;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use table::Table;

/// Where the places of the runtime's own mounts are, in the node's folder.
const PLACES: &str = "places";
/// Containers that start at the same time: each costs a process and some
/// milliseconds of CPU; more at once only makes all of them late.
const STARTS_AT_ONCE: usize = 8;

/// Where a node keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    /// Without slashes at its ends.
    pub(crate) cgroup_parent: String,
}

/// A node's containers; clones share them.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Inner>);

struct Inner {
    settings: Settings,
    images: skep_images::Store,
    network: Network,
    volumes: Volumes,
    ledger: ledger::Ledger,
    /// What the ledger held at the start, until it is adopted.
    inherited: Mutex<ledger::Inherited>,
    events: EventLog,
    observations: Sender<Observation>,
    table: Mutex<Table>,
    execs: Mutex<exec::Execs>,
    tasks: Mutex<task::Queues>,
    starts: smol::lock::Semaphore,
}

impl Executor {
    /// An executor without containers; [`Executor::adopt`] finds them.
    pub(crate) fn new(
        settings: Settings,
        images: skep_images::Store,
        network: Network,
        events: EventLog,
        observations: Sender<Observation>,
    ) -> Result<Self> {
        let node = settings.data_dir.join("node");
        rootfs::make_places(&node.join(PLACES))?;
        let (ledger, inherited) = ledger::Ledger::open(&node.join("containers"))?;
        for folder in [
            settings.data_dir.join("tasks"),
            settings.run_dir.join("shim"),
            settings.run_dir.join("tasks"),
        ] {
            std::fs::create_dir_all(&folder)
                .map_err(|e| crate::disk::failure("mkdir", &folder, &e))?;
        }
        let volumes = Volumes::open(&settings.data_dir.join("volumes"))?;
        Ok(Self(Arc::new(Inner {
            settings,
            images,
            network,
            volumes,
            ledger,
            inherited: Mutex::new(inherited),
            events,
            observations,
            table: Mutex::default(),
            execs: Mutex::default(),
            tasks: Mutex::default(),
            starts: smol::lock::Semaphore::new(STARTS_AT_ONCE),
        })))
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container that a user means: by full id, name or unique prefix.
    fn find(&self, wanted: &str) -> Result<Arc<Container>> {
        self.table().find(wanted)
    }

    /// All of them, in no order.
    fn all(&self) -> Vec<Arc<Container>> {
        self.table().all()
    }

    /// Tells the engine; only at shutdown is nobody there to hear it.
    async fn observe(&self, observation: Observation) {
        if self.0.observations.send(observation).await.is_err() {
            log::debug!("an observation came after the end");
        }
    }

    /// The folder of a container that survives a reboot.
    fn folder(&self, id: &str) -> PathBuf {
        self.0.settings.data_dir.join("tasks").join(id)
    }

    /// The lowest layer of every container; see [`rootfs::make_places`].
    fn places(&self) -> PathBuf {
        self.0.settings.data_dir.join("node").join(PLACES)
    }

    /// The folder of a container that does not.
    fn run_folder(&self, id: &str) -> PathBuf {
        self.0.settings.run_dir.join("tasks").join(id)
    }

    fn shim_folder(&self) -> PathBuf {
        self.0.settings.run_dir.join("shim")
    }
}

/// The wall clock, for people to read.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }))
}

/// A fresh id of 64 hexadecimal characters.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
