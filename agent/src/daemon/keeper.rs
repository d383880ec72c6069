//! The thread that makes the engine's writes durable.
//!
//! Invariant: batches are done in order, each with one sync a log, and only
//! then is `Stored` told. A disk that fails is told to those who wait, and
//! tried again: the agent keeps working meanwhile, since what runs does not
//! depend on it.

use super::spine::{Message, Spine};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::Log;
use skep_control::engine::{self, Input, Write};
use smol::channel::{Receiver, Sender, bounded};
use std::time::Duration;

/// Batches that wait for the disk: one a request or restart, so that a node
/// with a full disk still answers while users find out why.
const BATCHES_MAX: usize = 1024;
/// Between two tries of a disk that is full or failing.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

type Batch = (Vec<Write>, u64);

/// The way to the thread.
pub(super) struct Keeper(Sender<Batch>);

/// The engine's two logs.
pub(super) struct Logs {
    pub(super) consensus: Log,
    pub(super) node: Log,
}

impl Keeper {
    pub(super) fn start(logs: Logs, spine: Spine, metrics: Metrics) -> Result<Self> {
        let (to, from) = bounded(BATCHES_MAX);
        std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || keep(&from, logs, &spine, &metrics))
            .map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?;
        Ok(Self(to))
    }

    pub(super) async fn keep(&self, writes: Vec<Write>, stored: u64) {
        // Closed only when its thread has ended, and then so does the agent.
        let _ = self.0.send((writes, stored)).await;
    }
}

fn keep(batches: &Receiver<Batch>, mut logs: Logs, spine: &Spine, metrics: &Metrics) {
    while let Ok((mut writes, mut stored)) = batches.recv_blocking() {
        // Whatever else waits goes with the same sync.
        while let Ok((more, later)) = batches.try_recv() {
            writes.extend(more);
            stored = later;
        }
        let mut told = false;
        while let Err(error) = logs.apply(&writes, metrics) {
            if !told {
                log::error!("the swarm's state cannot be stored: {error}; trying again");
                told = true;
            }
            // Never waited for: the loop may itself wait for this thread.
            spine.try_send(Message::NotStored(error));
            std::thread::sleep(RETRY_PAUSE);
            if batches.is_closed() && batches.is_empty() {
                return;
            }
        }
        if told {
            log::info!("the swarm's state is stored again");
        }
        spine.send_blocking(Message::Input(Input::Stored(stored)));
    }
}

impl Logs {
    /// Does all writes, in order; trying them again does no harm.
    fn apply(&mut self, writes: &[Write], metrics: &Metrics) -> Result<()> {
        for write in writes {
            let (log, bytes) = match write {
                Write::At { log, offset, bytes } => {
                    self.log(*log).write(*offset, bytes)?;
                    (log, bytes)
                }
                Write::Replace { log, bytes } => {
                    self.log(*log).replace(bytes)?;
                    (log, bytes)
                }
            };
            metrics.wrote(name(*log), bytes.len());
        }
        self.consensus.sync()?;
        self.node.sync()?;
        metrics.synced();
        Ok(())
    }

    fn log(&mut self, which: engine::Log) -> &mut Log {
        match which {
            engine::Log::Consensus => &mut self.consensus,
            engine::Log::Node => &mut self.node,
        }
    }
}

/// What the metrics call a log.
fn name(log: engine::Log) -> &'static str {
    match log {
        engine::Log::Consensus => "consensus",
        engine::Log::Node => "node",
    }
}
