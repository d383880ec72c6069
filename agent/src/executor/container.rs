//! One container in memory: its record and state, who waits for it, and the
//! lock that keeps operations on it serial.

use super::record::{Record, State};
use crate::backend::{AttachOptions, Attached, ContainerExit, Health};
use crate::disk::{self, Durability};
use crate::error::Result;
use crate::network::Sandbox;
use crate::shim::Shim;
use skep_control::model::ContainerId;
use smol::channel::{Receiver, Sender, bounded};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Clients that wait at a container for its start, attached; as many as the
/// shim takes over.
pub(super) const WAITING_CLIENTS_MAX: usize = 32;

pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) folder: PathBuf,
    /// Held by whoever starts, stops, renames, updates or removes it.
    pub(super) serial: smol::lock::Mutex<()>,
    /// Held while what only a run needs is given back: a new run and the
    /// removal wait for it, the engine need not.
    pub(super) release: smol::lock::Mutex<()>,
    life: Mutex<Life>,
}

/// What changes. Never held across an await.
#[derive(Default)]
pub(super) struct Life {
    pub(super) record: Record,
    pub(super) state: State,
    /// The state as it is on disk, where none is a pristine one: an equal one
    /// is not written again.
    saved: State,
    pub(super) shim: Option<Shim>,
    /// Of the last start; addresses are empty when it does not run.
    pub(super) sandbox: Sandbox,
    /// Layer folders, lowest first, once they are known.
    pub(super) layers: Vec<PathBuf>,
    pub(super) waiting: Vec<WaitingClient>,
    /// `None` without a health check.
    pub(super) health: Option<Health>,
    /// A user restarts it: the exit on the way is not the end.
    pub(super) stays: bool,
    exits: Vec<Sender<ContainerExit>>,
    removals: Vec<Sender<ContainerExit>>,
}

/// A client that attached before the start.
pub(super) struct WaitingClient {
    pub(super) options: AttachOptions,
    pub(super) to: Sender<Result<Attached>>,
}

impl Container {
    pub(super) fn new(folder: PathBuf, record: Record, state: State) -> Self {
        let saved = state.clone();
        Self {
            id: record.id.clone(),
            folder,
            serial: smol::lock::Mutex::new(()),
            release: smol::lock::Mutex::new(()),
            life: Mutex::new(Life {
                record,
                state,
                saved,
                ..Life::default()
            }),
        }
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> String {
        self.life().record.name.clone()
    }

    /// Resolves at the next exit.
    pub(super) fn next_exit(&self) -> Receiver<ContainerExit> {
        let (to, from) = bounded(1);
        self.life().exits.push(to);
        from
    }

    /// Resolves when the container is gone.
    pub(super) fn removal(&self) -> Receiver<ContainerExit> {
        let (to, from) = bounded(1);
        self.life().removals.push(to);
        from
    }

    /// Tells everybody who waits for the exit.
    pub(super) fn tell_exit(&self, exit: &ContainerExit) {
        for waiter in std::mem::take(&mut self.life().exits) {
            // A waiter that went away needs no answer.
            let _ = waiter.try_send(exit.clone());
        }
    }

    pub(super) fn tell_removal(&self) {
        let (waiters, exit) = {
            let mut life = self.life();
            let exit = ContainerExit {
                code: life.state.exit_code,
                error: None,
            };
            let mut waiters = std::mem::take(&mut life.removals);
            // It never started and never will: whoever waited for its exit
            // learns of the removal.
            waiters.append(&mut life.exits);
            (waiters, exit)
        };
        for waiter in waiters {
            let _ = waiter.try_send(exit.clone());
        }
    }

    /// Writes the state if it changed.
    pub(super) fn save_state(&self, durability: Durability) -> Result<()> {
        let state = {
            let life = self.life();
            if life.saved == life.state {
                return Ok(());
            }
            life.state.clone()
        };
        disk::write_record(&state_path(&self.folder), &state, durability)?;
        self.life().saved = state;
        Ok(())
    }

    /// Writes that it runs, where anything but its root's being there must
    /// tell so after a crash: of a first run that does (see
    /// [`crate::shim::rootfs::ever_mounted`]).
    pub(super) fn save_started(&self, durability: Durability) -> Result<()> {
        let is_first = self.life().saved == State::default();
        match is_first && durability == Durability::Cached {
            true => Ok(()),
            false => self.save_state(durability),
        }
    }

    /// The same where a failure (a full disk) must not stop what goes on.
    pub(super) fn save_state_or_log(&self) {
        if let Err(error) = self.save_state(Durability::Cached) {
            log::error!("container {}: its state is not kept: {error}", self.id);
        }
    }
}

impl Life {
    /// Nobody was told of it before it was durable, or it may as well be lost.
    pub(super) fn durability(&self) -> Durability {
        durability(&self.record)
    }
}

/// A user was told of a standalone container that stays; the engine knows of
/// a task's, and one that removes itself would be gone after a reboot anyway.
pub(super) fn durability(record: &Record) -> Durability {
    match record.task.is_some() || record.create.host.auto_remove {
        true => Durability::Cached,
        false => Durability::Synced,
    }
}

pub(super) fn state_path(folder: &Path) -> PathBuf {
    folder.join("state")
}
