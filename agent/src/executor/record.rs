//! What is kept of a container, and how its state may change.
//!
//! Two files: the record (what it is; written at create, rename and update)
//! and the state (what became of it; small, written when it changes). Pure: no
//! clock and no disk here.
//!
//! ```text
//!             start            exit (no restart)
//!  Created ─────────► Running ─────────────────► Exited ──► Removing ──► gone
//!     ▲ │ failed       │   ▲ │ exit, restart       │ ▲  start │
//!     └─┘        pause ▼   │ └──────► Restarting ──┘ └────────┘
//!                    Paused                │
//!                          ▲ start again   │
//!                          └───────────────┘
//! ```

use crate::backend::{ContainerStatus, MountPoint};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use skep_control::model::{
    ContainerCreate, ContainerId, HostRestartPolicy, PortConfig, TaskId, WallTime,
};

/// Exit code of a container whose end nobody saw: the machine went down.
pub(super) const UNSEEN_EXIT: i64 = 255;

/// What a container is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: WallTime,
    /// The request with the image's configuration merged in.
    pub(crate) create: ContainerCreate,
    /// `sha256:…`.
    pub(crate) image_id: String,
    pub(crate) image_manifest: Option<String>,
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    pub(crate) platform: String,
    pub(crate) mounts: Vec<Mounted>,
    /// The service's task that it runs, if it is no standalone one.
    pub(crate) task: Option<TaskId>,
    /// Ports that the task publishes on this node (`mode=host`).
    pub(crate) host_ports: Vec<PortConfig>,
}

/// A mount, resolved at create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mounted {
    /// `bind`, `volume`, `tmpfs`.
    pub(crate) kind: String,
    /// The volume.
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// What the short form said after the last colon.
    pub(crate) mode: String,
    pub(crate) writable: bool,
    pub(crate) propagation: String,
    /// Made for this container alone.
    pub(crate) anonymous: bool,
    /// An empty volume takes the image's content.
    pub(crate) copy_up: bool,
    /// Part of a volume.
    pub(crate) subpath: String,
    /// Without what is mounted below the source.
    pub(crate) non_recursive: bool,
    /// Mount options of a tmpfs.
    pub(crate) options: Vec<String>,
}

impl Mounted {
    pub(crate) fn snapshot(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.clone(),
            name: self.name.clone(),
            source: match self.kind.as_str() {
                "tmpfs" => String::new(),
                _ => self.source.clone(),
            },
            destination: self.destination.clone(),
            driver: match self.kind.as_str() {
                "volume" => "local".into(),
                _ => String::new(),
            },
            mode: self.mode.clone(),
            writable: self.writable,
            propagation: self.propagation.clone(),
        }
    }
}

/// [`ContainerStatus`] with a form on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    Created,
    Running,
    Paused,
    /// Exited, and will be started again after a delay.
    Restarting,
    Removing,
    Exited,
    Dead,
}

/// What became of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) pid: u32,
    pub(crate) exit_code: i64,
    pub(crate) oom_killed: bool,
    pub(crate) error: String,
    pub(crate) started_at: WallTime,
    pub(crate) finished_at: WallTime,
    /// Starts by the restart policy since a user last started it.
    pub(crate) restart_count: u64,
    /// A user stopped it: no restart policy brings it back, save `always`
    /// when the agent starts.
    pub(crate) stopped_by_user: bool,
}

/// How a container's process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i64,
    pub(crate) oom_killed: bool,
    pub(crate) at: WallTime,
    pub(crate) error: String,
}

impl State {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }

    /// May it be started? `by_user`: also ends a pending restart's count.
    pub(crate) fn check_start(&self) -> Result<()> {
        match self.status {
            Status::Running => Err(Error::not_modified("container is running")),
            Status::Paused => Err(Error::conflict(
                "cannot start a paused container, try unpause instead",
            )),
            Status::Removing | Status::Dead => Err(Error::conflict(
                "container is marked for removal and cannot be started",
            )),
            Status::Created | Status::Restarting | Status::Exited => Ok(()),
        }
    }

    pub(crate) fn started(&mut self, pid: u32, at: WallTime) {
        *self = Self {
            status: Status::Running,
            pid,
            started_at: at,
            finished_at: self.finished_at,
            restart_count: self.restart_count,
            ..Self::default()
        };
    }

    /// The start failed. A container that never ran stays created, as Docker
    /// leaves it.
    pub(crate) fn failed(&mut self, code: i64, error: &str) {
        if self.status != Status::Created {
            self.status = Status::Exited;
        }
        self.pid = 0;
        self.exit_code = code;
        error.clone_into(&mut self.error);
    }

    pub(crate) fn exited(&mut self, exit: &Exit) {
        if self.status != Status::Removing {
            self.status = Status::Exited;
        }
        self.pid = 0;
        self.exit_code = exit.code;
        self.oom_killed = exit.oom_killed;
        exit.error.clone_into(&mut self.error);
        self.finished_at = exit.at;
    }

    /// It ran, and nobody knows how it ended.
    pub(crate) fn lost(&mut self, at: WallTime) {
        self.exited(&Exit {
            code: UNSEEN_EXIT,
            at,
            ..Exit::default()
        });
    }

    /// Whether a standalone container is to come back after this exit; when,
    /// the engine says.
    pub(crate) fn will_restart(&self, policy: &HostRestartPolicy) -> bool {
        let tries_left = policy.maximum_retry_count <= 0
            || i64::try_from(self.restart_count).is_ok_and(|n| n < policy.maximum_retry_count);
        !self.stopped_by_user
            && match policy.name.as_str() {
                "always" | "unless-stopped" => true,
                "on-failure" => self.exit_code != 0 && tries_left,
                _ => false,
            }
    }

    pub(crate) fn check_kill(&self, name: &str, id: &str) -> Result<()> {
        match self.is_running() {
            true => Ok(()),
            false => Err(Error::conflict(format!(
                "cannot kill container: {name}: container {id} is not running"
            ))),
        }
    }

    pub(crate) fn pause(&mut self, id: &str) -> Result<()> {
        match self.status {
            Status::Running => {
                self.status = Status::Paused;
                Ok(())
            }
            Status::Paused => Err(Error::conflict(format!("container {id} is already paused"))),
            Status::Restarting => Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            ))),
            _ => Err(Error::conflict(format!("container {id} is not running"))),
        }
    }

    pub(crate) fn unpause(&mut self, id: &str) -> Result<()> {
        match self.status {
            Status::Paused => {
                self.status = Status::Running;
                Ok(())
            }
            _ => Err(Error::conflict(format!("container {id} is not paused"))),
        }
    }

    /// May something be run in it?
    pub(crate) fn check_exec(&self, id: &str) -> Result<()> {
        match self.status {
            Status::Running => Ok(()),
            Status::Paused => Err(Error::conflict(format!(
                "container {id} is paused, unpause the container before exec"
            ))),
            Status::Restarting => Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            ))),
            _ => Err(Error::conflict(format!("container {id} is not running"))),
        }
    }

    /// Marks it for removal. `name` has no slash.
    pub(crate) fn remove(&mut self, name: &str, force: bool) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::conflict(format!(
                "cannot remove container \"/{name}\": container is {what}"
            )))
        };
        match self.status {
            Status::Removing => {
                return Err(Error::conflict(format!(
                    "removal of container {name} is already in progress"
                )));
            }
            Status::Paused if !force => return refuse("paused and must be unpaused first"),
            Status::Running if !force => {
                return refuse("running: stop the container before removing or force remove");
            }
            Status::Restarting if !force => {
                return refuse("restarting: stop the container before removing or force remove");
            }
            _ => {}
        }
        self.status = Status::Removing;
        Ok(())
    }

    pub(crate) fn snapshot_status(&self) -> ContainerStatus {
        match self.status {
            Status::Created => ContainerStatus::Created,
            Status::Running => ContainerStatus::Running,
            Status::Paused => ContainerStatus::Paused,
            Status::Restarting => ContainerStatus::Restarting,
            Status::Removing => ContainerStatus::Removing,
            Status::Exited => ContainerStatus::Exited,
            Status::Dead => ContainerStatus::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn running() -> State {
        let mut state = State::default();
        state.started(7, WallTime(1));
        state
    }

    #[test]
    fn a_life_from_created_to_removed() {
        let mut state = State::default();
        state.check_start().expect("created ones start");
        state.started(7, WallTime(1));
        assert_eq!(
            state.check_start().expect_err("runs").kind,
            Kind::NotModified
        );
        state.pause("id").expect("pauses");
        assert!(state.pause("id").is_err() && state.check_exec("id").is_err());
        state.unpause("id").expect("goes on");
        state.exited(&Exit {
            code: 3,
            at: WallTime(2),
            ..Exit::default()
        });
        assert_eq!(
            (state.status, state.pid, state.exit_code),
            (Status::Exited, 0, 3)
        );
        state.started(8, WallTime(3));
        assert_eq!((state.exit_code, state.finished_at), (0, WallTime(2)));
        assert!(state.remove("n", false).is_err());
        state.remove("n", true).expect("forced");
        state.exited(&Exit::default());
        assert_eq!(state.status, Status::Removing);
        assert!(state.check_start().is_err());
        assert_eq!(
            state.remove("n", true).expect_err("once").kind,
            Kind::Conflict
        );
    }

    #[test]
    fn a_failed_first_start_leaves_it_created() {
        let mut state = State::default();
        state.failed(127, "exec: \"x\": executable file not found in $PATH");
        assert_eq!((state.status, state.exit_code), (Status::Created, 127));
        let mut state = running();
        state.exited(&Exit::default());
        state.failed(126, "permission denied");
        assert_eq!(state.status, Status::Exited);
    }

    #[test]
    fn refusals_are_dockers() {
        let told = running().remove("web", false).expect_err("runs").message;
        assert_eq!(
            told,
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
        let told = State::default()
            .check_kill("web", "1f")
            .expect_err("does not run")
            .message;
        assert_eq!(
            told,
            "cannot kill container: web: container 1f is not running"
        );
        assert_eq!(
            State::default()
                .check_exec("1f")
                .expect_err("does not run")
                .message,
            "container 1f is not running"
        );
    }

    #[test]
    fn what_ran_at_a_reboot_exited_255() {
        let mut state = running();
        state.lost(WallTime(9));
        assert_eq!(
            (state.status, state.exit_code),
            (Status::Exited, UNSEEN_EXIT)
        );
    }
}
