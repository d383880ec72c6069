//! The monitor of one container, and the face by which the agent drives it.
//!
//! Owns: making a container with libcontainer (its only caller), the
//! container's stdio, log ring, exit record and exec'd processes, and the
//! reading and writing of its cgroup. One shim process per container, started
//! by re-executing this binary, single-threaded from birth to end, in a
//! session and a mount namespace of its own: the agent may be killed and
//! replaced at any moment and neither the container nor a line of its output
//! notices.
//!
//! Invariant: a container that has ended has an exit record on disk before
//! anybody is told, and no shim. A shim therefore never waits for an agent.
//!
//! Does not know: images, networks (a namespace is a path), volumes (a mount
//! is a source and a target), services, restart policies.
//!
//! ```text
//! agent (threads)                       shim (one thread)
//! client::launch ── Launch on fd 0 ──►  mount overlay, fork the maker
//!                                          maker: libcontainer, then gone
//!                ◄── Started | Failed ──  poll loop: stdio, SIGCHLD, socket
//! client::connect ── RUN/shim/<id>.sock ─► state, wait, signal, attach, exec
//!                                        exit: TASK/exit, then the shim ends
//! ```

pub(crate) mod cgroup;
pub(crate) mod client;
mod client_side;
mod devices;
mod entry;
mod executor;
mod facts;
mod init;
mod kernel;
mod maker;
mod monitor;
mod record;
mod requests;
pub(crate) mod rootfs;
mod session;
pub(crate) mod stats;
mod verdict;
mod wire;

pub(crate) use client::{Attachment, Shim, Stdin, connect, launch};
pub(crate) use entry::{INIT_NAME, main};
pub(crate) use record::ExitRecord;
pub(crate) use wire::{Attach, ExecSpec, Failure, Launch, Source};

#[cfg(test)]
mod tests;
