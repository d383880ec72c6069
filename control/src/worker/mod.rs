//! The node's half: what it was assigned against what is seen here becomes the
//! next step of each task. Restarts are decided here, with or without managers.
//!
//! **Invariant:** an attempt's number is durable before its first step leaves,
//! so no attempt id is used twice. It does not know how a step is done.

use crate::model::*;
use serde::{Deserialize, Serialize};

/// Everything needed to make one attempt's container, without asking anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRun {
    pub task: TaskId,
    /// Of the task and of its container.
    pub name: String,
    pub slot: u64,
    pub service: ServiceId,
    pub service_name: String,
    pub service_labels: Labels,
    pub node: NodeId,
    /// Networks are ids.
    pub spec: TaskSpec,
    /// All ports of the endpoint; those of mode `host` are published with the
    /// container itself, those of mode `ingress` come as [`crate::routes`].
    pub ports: Vec<PortConfig>,
}

/// What the executor shall do next. Every step is idempotent: doing it again,
/// or for something that is already there or gone, is no error. Steps of one
/// task are done in order; a `Stop` or `Remove` overtakes a `Prepare` that is
/// under way and cancels it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make all but the process: image, root file system, network. Answered
    /// by `Prepared` or `Rejected`.
    Prepare(Box<TaskRun>),
    /// Answered by `Started`, or by `Exited` if the process cannot start.
    Start { task: TaskId },
    /// Stop signal, then kill after `grace_ms`. Answered by `Exited`.
    Stop { task: TaskId, grace_ms: u64 },
    /// Erase the container and its logs, killing it if it still runs.
    /// Answered by `Removed`.
    Remove { task: TaskId },
    /// Start a standalone container again: its restart policy says so.
    RestartLocal { container: ContainerId },
}

/// What the executor saw. Facts, in the order in which they happened for a
/// task; telling one twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Prepared {
        task: TaskId,
        container: ContainerId,
    },
    /// It cannot be prepared; `message` is Docker's: `No such image: x`.
    Rejected {
        task: TaskId,
        message: String,
    },
    Started {
        task: TaskId,
        container: ContainerId,
        pid: u32,
        addresses: Vec<Address>,
        /// Host-mode ports with the port that was really bound.
        ports: Vec<PortConfig>,
        /// `None` when the container has no health check or none is probed.
        health: Health,
    },
    /// A probe's verdict changed.
    Health {
        task: TaskId,
        health: Health,
        /// The last probe's output.
        output: String,
    },
    Exited {
        task: TaskId,
        /// Docker's: 128 + n for signal n; 127, 126, 125 when it did not start.
        code: i64,
        /// Killed for want of memory.
        oom: bool,
        /// Why it did not start; empty for a process that ran.
        message: String,
    },
    Removed {
        task: TaskId,
    },
    /// A standalone container's process is up.
    LocalStarted {
        container: ContainerId,
    },
    /// A standalone container's process is gone, or was found gone when the
    /// agent started.
    LocalExited {
        container: ContainerId,
        policy: HostRestartPolicy,
        code: i64,
        /// A user stopped or killed it; remembered by the executor until a
        /// user starts it.
        by_user: bool,
        /// Found so when the agent started.
        at_boot: bool,
    },
    /// A standalone container is no more, or a user took it into his own
    /// hands (stop, start): a pending restart is off.
    LocalForgotten {
        container: ContainerId,
    },
}
