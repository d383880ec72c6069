//! The last steps before a container's process becomes the user's program:
//! finding it, installing the filter, giving back the lent capability.
//!
//! libcontainer calls this in the new process, inside all its namespaces, with
//! the user's identity: what cannot be found or executed here cannot by the
//! user. Its own filter code is compiled out (it needs a C library), and
//! would start the container unconfined with nothing but a warning.

use super::kernel;
use super::verdict::Verdict;
use super::wire::Failure;
use crate::oci::seccomp::Instruction;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;

/// What Docker's daemon puts before a reason, and runc before its own.
const CREATE_PREFIX: &str = "failed to create task for container: failed to create shim task: \
                             OCI runtime create failed: unable to start container process: ";
const EXEC_PREFIX: &str =
    "OCI runtime exec failed: exec failed: unable to start container process: ";

/// The wording of a start that failed.
pub(super) fn start_failure(tenant: bool, exit_code: i32, reason: &str) -> Failure {
    let prefix = if tenant { EXEC_PREFIX } else { CREATE_PREFIX };
    Failure {
        exit_code,
        message: format!("{prefix}{reason}: unknown"),
    }
}

/// Starts the program under a filter.
#[derive(Clone)]
pub(super) struct Confined {
    /// Empty: unconfined.
    pub(super) filter: Vec<Instruction>,
    /// What the process keeps.
    pub(super) capabilities: u64,
    /// Whether CAP_SYS_ADMIN was lent for the filter.
    pub(super) lent: bool,
    pub(super) tenant: bool,
    pub(super) verdict: Verdict,
}

impl Executor for Confined {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match find(spec) {
            Ok(_) => Ok(()),
            Err((exit_code, reason)) => {
                let failure = start_failure(self.tenant, exit_code, &reason);
                self.verdict.fail(&failure);
                Err(ExecutorValidationError::ArgValidationError(reason))
            }
        }
    }

    /// The environment goes with `execve`, in its own order.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let fail = |reason: String| {
            self.verdict.fail(&start_failure(self.tenant, 128, &reason));
            ExecutorError::Other(reason)
        };
        let path = find(spec).map_err(|(_, reason)| fail(reason))?;
        let text = |s: &str| CString::new(s).map_err(|_| fail(format!("{s:?} has a zero byte")));
        let texts = |list: Vec<String>| list.iter().map(|s| text(s)).collect::<Result<Vec<_>, _>>();
        let program = text(&path.to_string_lossy())?;
        let (args, env) = (texts(args(spec))?, texts(env(spec))?);
        kernel::reset_signals();
        if !self.filter.is_empty() {
            kernel::install_filter(&self.filter)
                .map_err(|e| fail(format!("error installing the seccomp filter: {e}")))?;
        }
        if self.lent {
            kernel::set_capabilities(self.capabilities)
                .map_err(|e| fail(format!("error dropping capabilities: {e}")))?;
        }
        let error = kernel::execute(&program, &args, &env);
        // As runc: the container has started, and its program could not.
        let reason = reason(&error);
        eprintln!("exec {}: {reason}", path.display());
        kernel::exit_now(255)
    }
}

/// The system's words without Rust's "(os error 8)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or_default();
    bare.to_lowercase()
}

fn args(spec: &Spec) -> Vec<String> {
    let process = spec.process().as_ref();
    process.and_then(|p| p.args().clone()).unwrap_or_default()
}

fn env(spec: &Spec) -> Vec<String> {
    let process = spec.process().as_ref();
    process.and_then(|p| p.env().clone()).unwrap_or_default()
}

/// Looks the program up as the user would, with Go's words for what goes
/// wrong, since those are the ones that Docker shows; and Docker's exit code.
fn find(spec: &Spec) -> Result<PathBuf, (i32, String)> {
    use rustix::fs::{Access, access};
    let args = args(spec);
    let name = args.first().map(String::as_str).unwrap_or_default();
    let executable = |path: &str| access(path, Access::EXEC_OK);
    if name.contains('/') {
        let found = std::fs::metadata(name).map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => {
                (126, format!("exec: \"{name}\": permission denied"))
            }
            _ => (
                127,
                format!("exec: \"{name}\": stat {name}: {}", reason(&e)),
            ),
        })?;
        if found.is_dir() {
            return Err((126, format!("exec: \"{name}\": is a directory")));
        }
        return match executable(name) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(_) => Err((126, format!("exec: \"{name}\": permission denied"))),
        };
    }
    let env = env(spec);
    let folders = env
        .iter()
        .find_map(|v| v.strip_prefix("PATH="))
        .unwrap_or_default();
    for folder in folders.split(':').filter(|_| !name.is_empty()) {
        let folder = if folder.is_empty() { "." } else { folder };
        let path = format!("{folder}/{name}");
        let file = std::fs::metadata(&path).is_ok_and(|m| m.is_file());
        if file && executable(&path).is_ok() {
            return Ok(PathBuf::from(path));
        }
    }
    Err((
        127,
        format!("exec: \"{name}\": executable file not found in $PATH"),
    ))
}
