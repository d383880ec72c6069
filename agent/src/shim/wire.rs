//! What the agent and a shim say to each other.
//!
//! A launch goes over the shim's fd 0 (one request, one answer, end of file);
//! everything else over the control socket, a `SOCK_SEQPACKET` unix socket
//! where a packet is a message, so that neither side keeps framing buffers.
//! A connection carries one request. Attach and exec turn theirs into a
//! stream: packets to the shim are stdin as they are, shutdown of the writing
//! half is stdin's end; packets from it are a tag byte and bytes.
//!
//! Both sides are the same program but not always the same version: an agent
//! may be upgraded under a running shim. [`PROTOCOL`] is therefore checked on
//! every request, and variants and fields are only ever added at the end.

use crate::{logs, oci};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Raised when an older shim could misread a request. Bytes; first in a request.
pub(super) const PROTOCOL: u8 = 1;

/// Bytes of one request. The kernel's default socket buffer is 208 kB with its
/// own bookkeeping inside; 96 kB is more than execve takes for a usual line.
pub(super) const REQUEST_BYTES_MAX: usize = 96 * 1024;

/// Bytes of stdio in one packet, tag apart: a pipe hands out no more at once
/// on most kernels, and two such buffers keep a shim small.
pub(super) const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a launch: specs with long environments, bounded all the same.
pub(super) const LAUNCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Clients that may wait for a start: what one message may carry of file
/// descriptors is 253, and nobody needs more than a few.
pub(super) const WAITING_MAX: usize = 32;

/// Tags of the packets that a stream carries to the client.
pub(super) const TAG_STDOUT: u8 = 1;
pub(super) const TAG_STDERR: u8 = 2;

/// Which of a process's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// A piece of output as it was read: not a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) source: Source,
    pub(crate) data: Vec<u8>,
}

/// All that a shim needs to make its container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// 64 hexadecimal characters.
    pub(crate) id: String,
    /// DATA/tasks/ID: `upper/` and `work/` of the overlay, `log/`, `exit`.
    pub(crate) task_dir: PathBuf,
    /// RUN/shim: the control socket `ID.sock` and the bundle `ID/`.
    pub(crate) run_dir: PathBuf,
    /// Unpacked layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// What the runtime spec is made from.
    pub(crate) inputs: oci::Inputs,
    pub(crate) log: logs::Options,
    /// Clients that attached before the start, as `docker run` does: not a
    /// byte of output may pass them by. Their connections come as
    /// `SCM_RIGHTS` with the launch's first byte, in this order, and are then
    /// what a connection is after [`Request::Attach`] was answered.
    pub(crate) waiting: Vec<Attach>,
}

/// The container runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The container's first process, as the host numbers it.
    pub(crate) pid: i32,
    /// Wall nanoseconds since 1970.
    pub(crate) started: i64,
    /// Asked for and not to be had here (a limit without its controller).
    pub(crate) warnings: Vec<String>,
}

/// Why a container or an exec did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Docker's: 127 no such file, 126 not executable, 128 anything else.
    pub(crate) exit_code: i32,
    /// Docker's words, without its leading "failed to create task …".
    pub(crate) message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for crate::error::Error {
    /// As dockerd sorts them: a wrong command is the caller's fault.
    fn from(failure: Failure) -> Self {
        match failure.exit_code {
            126 | 127 => Self::invalid(failure.message),
            _ => Self::internal(failure.message),
        }
    }
}

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// Names the exec in `resize`; unique in its container.
    pub(crate) id: String,
    pub(crate) args: Vec<String>,
    /// `K=V`, over the container's own.
    pub(crate) env: Vec<String>,
    /// `name|uid[:group|gid]`; empty is the container's user.
    pub(crate) user: String,
    /// Empty is the container's.
    pub(crate) working_dir: String,
    pub(crate) tty: bool,
    pub(crate) privileged: bool,
    /// Which streams to pass on; all false is detached.
    pub(crate) attach: Attach,
    /// Rows and columns; zero leaves the terminal's own.
    pub(crate) height: u16,
    pub(crate) width: u16,
}

/// What a client may ask of a running shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Answer: [`Answer::State`].
    State,
    /// Answer: [`Answer::Exited`], once it has.
    Wait,
    /// To the first process, or to all in the cgroup. Answer: [`Answer::Done`].
    Signal { signal: i32, all: bool },
    /// Of the container's terminal, or of an exec's. Answer: [`Answer::Done`].
    Resize {
        exec: Option<String>,
        height: u16,
        width: u16,
    },
    /// Answer: [`Answer::Done`], then the stream.
    Attach(Attach),
    /// Answer: [`Answer::Started`] or [`Answer::Failed`], then the stream.
    Exec(ExecSpec),
    /// Answer: [`Answer::ExecExited`], once it has.
    ExecWait { exec: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    State(Started),
    Started(Started),
    Failed(Failure),
    Exited(super::ExitRecord),
    ExecExited(i32),
}
