//! A container as inspect, ps and wait see it.

use super::ExecConfig;
use crate::error::Result;
use skep_control::model::{ContainerCreate, ContainerId, EndpointSettings, PortBinding, WallTime};
use std::collections::BTreeMap;
use std::pin::Pin;

/// One container at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    /// Without the slash that Docker puts before it.
    pub(crate) name: String,
    pub(crate) created: WallTime,
    /// The request with the image's configuration merged in and every default
    /// filled; `config.image` is what the user wrote.
    pub(crate) create: ContainerCreate,
    /// `sha256:…`, the id of the image it was made of.
    pub(crate) image_id: String,
    /// Entrypoint's first word, or the command's.
    pub(crate) path: String,
    /// All words after `path`.
    pub(crate) args: Vec<String>,
    /// `linux`, or `linux/arm64` where it differs from the node's own.
    pub(crate) platform: String,
    pub(crate) state: ContainerState,
    pub(crate) restart_count: u64,
    pub(crate) mounts: Vec<MountPoint>,
    pub(crate) network: NetworkState,
    /// Execs that run now.
    pub(crate) exec_ids: Vec<String>,
    pub(crate) files: HostFiles,
    /// Only when asked for.
    pub(crate) size: Option<ContainerSize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ContainerStatus {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl ContainerStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
    /// A process is there.
    pub(crate) fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerState {
    pub(crate) status: ContainerStatus,
    /// In the node's own pid namespace; 0 when nothing runs.
    pub(crate) pid: u32,
    /// 0 before the first exit.
    pub(crate) exit_code: i64,
    pub(crate) oom_killed: bool,
    /// Why it could not be started.
    pub(crate) error: String,
    pub(crate) started_at: WallTime,
    pub(crate) finished_at: WallTime,
    /// `None` without a health check.
    pub(crate) health: Option<Health>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    pub(crate) failing_streak: u32,
    /// The last five probes, oldest first.
    pub(crate) log: Vec<Probe>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    pub(crate) start: WallTime,
    pub(crate) end: WallTime,
    pub(crate) exit_code: i64,
    /// At most 4096 bytes.
    pub(crate) output: String,
}

/// A mount as it is in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs`.
    pub(crate) kind: String,
    /// The volume's name.
    pub(crate) name: String,
    /// The path on the host; empty for tmpfs.
    pub(crate) source: String,
    pub(crate) destination: String,
    /// `local` for volumes.
    pub(crate) driver: String,
    /// What the short form said after the last colon.
    pub(crate) mode: String,
    pub(crate) writable: bool,
    pub(crate) propagation: String,
}

/// `NetworkSettings` of inspect.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkState {
    /// Network name → its endpoint; addresses are empty while it does not run.
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
    /// `80/tcp` → where it is published; empty: exposed only.
    pub(crate) ports: BTreeMap<String, Vec<PortBinding>>,
    pub(crate) sandbox_id: String,
    /// The network namespace's path.
    pub(crate) sandbox_key: String,
}

/// Files on the host that inspect names.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFiles {
    pub(crate) resolv_conf: String,
    pub(crate) hostname: String,
    pub(crate) hosts: String,
    pub(crate) log: String,
    /// `LowerDir`, `MergedDir`, `UpperDir`, `WorkDir`.
    pub(crate) overlay: BTreeMap<String, String>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerSize {
    pub(crate) writable: i64,
    /// With the image below.
    pub(crate) root: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoveOptions {
    /// Kill it first if it runs.
    pub(crate) force: bool,
    /// Its anonymous volumes too.
    pub(crate) volumes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitCondition {
    /// At once if nothing runs.
    #[default]
    NotRunning,
    /// The next exit, also of a container not started yet.
    NextExit,
    /// The container is gone.
    Removed,
}

/// Resolves at the exit.
pub(crate) type Waiter = Pin<Box<dyn Future<Output = Result<ContainerExit>> + Send>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerExit {
    pub(crate) code: i64,
    /// Why there is no proper code.
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// A difference from the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: String,
    pub(crate) kind: ChangeKind,
}

/// A file in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathStat {
    /// The last part of the path.
    pub(crate) name: String,
    pub(crate) size: i64,
    /// `st_mode` as the kernel has it; the API turns it into Go's bits.
    pub(crate) mode: u32,
    pub(crate) modified: WallTime,
    /// Where a symbolic link leads, resolved inside the container.
    pub(crate) link_target: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchivePut {
    /// Refuse to replace a folder by a file and the other way round.
    pub(crate) no_overwrite_dir_non_dir: bool,
    /// Give files to the container's user instead of the archive's.
    pub(crate) copy_owner: bool,
}

/// An exec session as inspect sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: ContainerId,
    pub(crate) config: ExecConfig,
    pub(crate) running: bool,
    /// `None` until it has ended.
    pub(crate) exit_code: Option<i64>,
    /// 0 before the start.
    pub(crate) pid: u32,
}
