//! The one binary of a node: agent, client and per-container shim.
//!
//! Which of the three it is gets decided here, before any thread exists: the
//! shim clones a container's first process, and a clone of a process with
//! threads may inherit a lock that nobody will ever release.

mod api;
mod backend;
mod cli;
mod daemon;
mod disk;
mod error;
mod executor;
mod identity;
mod logs;
mod metrics;
mod network;
mod oci;

mod shim;
mod storage;
mod transport;
mod volumes;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// What this process is, by the name it was called by and its first word.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Agent,
    Shim,
    Client,
}

fn role(called_as: Option<&OsStr>, first: Option<&OsStr>) -> Role {
    let name = called_as.and_then(|path| Path::new(path).file_name());
    match first.and_then(OsStr::to_str) {
        _ if name == Some(OsStr::new("docker")) => Role::Client,
        _ if name == Some(OsStr::new(shim::INIT_NAME)) => Role::Shim,
        Some("agent") => Role::Agent,
        Some("shim") => Role::Shim,
        _ => Role::Client,
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let first = args.get(1).map(OsString::as_os_str);
    match role(args.first().map(OsString::as_os_str), first) {
        Role::Agent => daemon::main(args.get(1..).unwrap_or_default()),
        Role::Shim => shim::main(&args),
        Role::Client => cli::main(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(called_as: &str, first: Option<&str>) -> Role {
        role(Some(OsStr::new(called_as)), first.map(OsStr::new))
    }

    #[test]
    fn name_and_first_word_pick_the_role() {
        assert_eq!(of("/usr/bin/skep", Some("agent")), Role::Agent);
        assert_eq!(of("skep", Some("shim")), Role::Shim);
        assert_eq!(of("/sbin/docker-init", Some("--")), Role::Shim);
        assert_eq!(of("skep", Some("ps")), Role::Client);
        assert_eq!(of("skep", None), Role::Client);
        assert_eq!(of("/usr/local/bin/docker", Some("agent")), Role::Client);
        assert_eq!(role(None, None), Role::Client);
    }
}
