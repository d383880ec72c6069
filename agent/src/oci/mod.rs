//! From a container as Docker describes it to an OCI runtime spec; pure.
//!
//! Owns: Docker's defaults on Linux (capabilities, seccomp list, masked and
//! read-only paths, devices, mounts), the merge of an image's configuration
//! into a create call, users by name from the image's own files, and the
//! translation of a service's task into a create call.
//!
//! Invariant: same inputs, same spec. What this machine cannot do (a limit
//! whose cgroup controller is missing) is left out and named in a warning;
//! it is never a failure.
//!
//! Does not know: files, processes, libcontainer. The spec is built as JSON,
//! the form in which the specification defines it and libcontainer reads it.

mod capabilities;
mod live;
mod merge;
mod mounts;
mod process;
mod resources;
pub(crate) mod seccomp;
mod spec;
pub(crate) mod task;
pub(crate) mod user;

pub(crate) use capabilities::Capabilities;
pub(crate) use live::live_settings;
pub(crate) use merge::merge;
pub(crate) use mounts::{MASKED, READ_ONLY};
pub(crate) use process::{Tenant, tenant_process};
pub(crate) use spec::runtime_spec;

use serde::{Deserialize, Serialize};
use skep_control::model::ContainerCreate;
use std::path::PathBuf;

/// A folder or file of the host seen in the container: binds, named and
/// anonymous volumes (their folder), and the files that the agent generates
/// (/etc/hosts, /etc/hostname, /etc/resolv.conf, secrets, configs).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BindMount {
    pub(crate) source: PathBuf,
    /// Absolute, in the container.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    /// `rprivate` when empty, as Docker's.
    pub(crate) propagation: String,
    pub(crate) non_recursive: bool,
}

/// A namespace of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Namespace {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Joined: `/proc/PID/ns/…` of another container, RUN/netns/ID.
    Path(PathBuf),
}

/// What the runtime spec is made from: all that the agent resolved before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// 64 hexadecimal characters.
    pub(crate) id: String,
    /// With the image's configuration merged in ([`merge()`]).
    pub(crate) create: ContainerCreate,
    /// Binds and volumes with their host folders, and generated files; tmpfs
    /// mounts are read from `create`.
    pub(crate) mounts: Vec<BindMount>,
    pub(crate) network: Namespace,
    /// Only read when the mode in `create` is `container:…`.
    pub(crate) pid: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    /// `/PARENT/ID`, in every hierarchy.
    pub(crate) cgroup_path: PathBuf,
    /// The text of the file that `seccomp=FILE` named, if one did and the
    /// client did not send its text itself.
    pub(crate) seccomp_profile: Option<String>,
}

/// A device node of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    /// Where the host has it.
    pub(crate) host: PathBuf,
    /// Where the container shall have it.
    pub(crate) path: PathBuf,
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of `r`, `w`, `m`.
    pub(crate) permissions: String,
}

/// What was found on this machine and in the image when the container was
/// about to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The mounted root.
    pub(crate) root: PathBuf,
    /// The image's own `/etc/passwd` and `/etc/group`; empty when missing.
    pub(crate) passwd: String,
    pub(crate) group: String,
    pub(crate) machine: Machine,
    /// What `create`'s devices, throttles and weights name; with `privileged`
    /// all of the host's.
    pub(crate) devices: Vec<Device>,
    /// A file that is this binary, for `--init`.
    pub(crate) init: PathBuf,
}

/// What the kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cgroup_v2: bool,
    pub(crate) memory: bool,
    /// `memsw` on v1, `memory.swap` on v2.
    pub(crate) swap: bool,
    pub(crate) pids: bool,
    pub(crate) cpu: bool,
    pub(crate) cpuset: bool,
    pub(crate) blkio: bool,
    /// The device controller of v1; on v2 a program of the shim's own.
    pub(crate) devices: bool,
    /// What this node has itself and can therefore give.
    pub(crate) capabilities: Capabilities,
    pub(crate) seccomp: bool,
}

/// All that makes a container's first process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The runtime spec, `config.json`.
    pub(crate) spec: serde_json::Value,
    pub(crate) user: user::Identity,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: seccomp::Choice,
    pub(crate) warnings: Vec<String>,
}
