//! Services as they are kept, and what becomes of them: revisions (what a task
//! is made from), assignments (a slot bound to a node).
//!
//! All of this is *wanted* and lives in the log. What a task is doing is *seen*
//! and does not: see [`Task`].

use super::*;

/// A rolling update's state; `docker service update` polls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl UpdateState {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }
    /// Slots are being replaced.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }
    /// It goes back to the previous spec.
    pub fn is_rollback(self) -> bool {
        matches!(
            self,
            Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    pub state: UpdateState,
    pub started_at: WallTime,
    /// `NEVER` while it runs.
    pub completed_at: WallTime,
    pub message: String,
    /// Log index at which it began: assignments born since are its work.
    pub born: u64,
}

/// A service as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub meta: Meta,
    pub spec: ServiceSpec,
    pub previous_spec: Option<ServiceSpec>,
    /// Names the [`Revision`] that new tasks are made from.
    pub revision: u64,
    /// The ports of the endpoint, every published port decided.
    pub ports: Vec<PortConfig>,
    /// `None` before the first update and when an update changed no task.
    pub update_status: Option<UpdateStatus>,
}

/// What the tasks of a service were made from at one time. Assignments point
/// to it, so that a hundred thousand of them are small in the log; it is kept
/// while one does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub service: ServiceId,
    /// Counts from 1 for each service.
    pub number: u64,
    pub service_name: String,
    pub service_labels: Labels,
    /// Networks are ids here, defaults are as the user left them.
    pub task: TaskSpec,
    pub ports: Vec<PortConfig>,
    pub is_global: bool,
}

/// One slot of a service, to be run by one node. The node makes as many
/// attempts as the restart policy allows; each is a [`Task`] to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub id: AssignmentId,
    pub meta: Meta,
    pub service: ServiceId,
    pub revision: u64,
    /// From 1; 0 for a global service, whose slot is its node.
    pub slot: u64,
    /// Set once. `None`: waits for a node that fits.
    pub node: Option<NodeId>,
    /// `Ready`, `Running`, `Shutdown` or `Remove`; only goes forward.
    pub desired: TaskState,
    /// Made in place of one that was well, by a rolling update, which watches
    /// it, or to move it.
    pub by_update: bool,
    /// Log index at which it was made; orders the assignments of a slot.
    pub born: u64,
    /// What it got of its node's generic resources.
    pub generic_resources: Vec<GenericResource>,
}

impl Assignment {
    /// It is meant to run, now or when its turn comes.
    pub fn is_live(&self) -> bool {
        self.desired <= TaskState::Running
    }
}

/// Whether the container answers its health check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// It has no health check: up means healthy.
    #[default]
    None,
    /// No verdict yet.
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub container: ContainerId,
    /// 0 when it does not run.
    pub pid: u32,
    pub exit_code: i64,
}

/// What a node says of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub state: TaskState,
    pub timestamp: WallTime,
    /// What is going on: `started`, `preparing`, `finished`.
    pub message: String,
    /// Why it is not running: `task: non-zero exit (137)`, `No such image: x`.
    pub err: String,
    pub container: Option<ContainerStatus>,
    /// Ports published on the node itself (`mode=host`).
    pub ports: Vec<PortConfig>,
}

/// An address of a container on one network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Id of the network.
    pub network: NetworkId,
    pub ip: std::net::IpAddr,
    pub prefix_len: u8,
}

/// One attempt as `docker service ps` and `/tasks` show it; put together for
/// the reader from assignment, revision and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub assignment: AssignmentId,
    /// From 1.
    pub attempt: u32,
    pub meta: Meta,
    pub service: ServiceId,
    pub slot: u64,
    pub node: Option<NodeId>,
    /// `svc.slot.taskid`, or `svc.nodeid.taskid` for a global service.
    pub name: String,
    pub revision: std::sync::Arc<Revision>,
    pub desired: TaskState,
    pub status: TaskStatus,
    pub addresses: Vec<Address>,
}

/// The name of a task and of its container.
pub fn task_name(service: &str, slot: u64, node: Option<&NodeId>, task: &TaskId) -> String {
    match node {
        Some(node) if slot == 0 => format!("{service}.{node}.{task}"),
        _ => format!("{service}.{slot}.{task}"),
    }
}
