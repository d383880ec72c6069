//! The tiny first process of a container that asked for one (`--init`): passes
//! signals on to its child, reaps whatever is orphaned, ends as its child does.

use super::kernel::{self, Fork};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

/// Runs `command`; `docker-init -- COMMAND…`.
pub(super) fn run(command: &[OsString]) -> ! {
    let fail = |reason: &str, code: i32| -> ! {
        eprintln!("docker-init: {reason}");
        kernel::exit_now(code)
    };
    let Some(program) = command.first() else {
        fail("no command", 1);
    };
    let signals = block_all();
    match kernel::fork() {
        Err(e) => fail(&e.to_string(), 1),
        Ok(Fork::Child) => {
            kernel::reset_signals();
            // A session's terminal goes to the child's own process group, so
            // that Ctrl-C reaches the command and not its init.
            let _ = rustix::process::setpgid(None, None);
            if let Ok(own) = rustix::process::getpgid(None) {
                let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), own);
            }
            let path = find(program);
            let env: Vec<CString> = std::env::vars_os()
                .filter_map(|(k, v)| {
                    let pair = [k.as_bytes(), b"=", v.as_bytes()].concat();
                    CString::new(pair).ok()
                })
                .collect();
            let args: Vec<CString> = command
                .iter()
                .filter_map(|a| CString::new(a.as_bytes()).ok())
                .collect();
            let error = kernel::execute(&path, &args, &env);
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            fail(&format!("exec {}: {error}", program.display()), code)
        }
        Ok(Fork::Parent(child)) => watch(child, &signals),
    }
}

/// The program's path, looked up as a shell does.
fn find(program: &OsString) -> CString {
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    if program.as_bytes().contains(&b'/') {
        return text(program.as_bytes());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&folders) {
        let path = folder.join(program);
        if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file() {
            return text(path.as_os_str().as_bytes());
        }
    }
    text(program.as_bytes())
}

fn block_all() -> libc::sigset_t {
    // SAFETY: sigfillset initialises the set before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        set
    }
}

fn watch(child: i32, signals: &libc::sigset_t) -> ! {
    loop {
        // SAFETY: the set is initialised and the information is not asked for.
        let signal = unsafe { libc::sigwaitinfo(signals, std::ptr::null_mut()) };
        if signal == libc::SIGCHLD {
            reap(child);
        } else if signal > 0 {
            let _ = kernel::kill(child, signal);
        }
    }
}

/// Reaps all there is; ends when the command itself is among them.
fn reap(child: i32) {
    use rustix::process::{WaitOptions, wait};
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == child {
            let signal = status.terminating_signal().map(|s| 128 + s);
            kernel::exit_now(status.exit_status().or(signal).unwrap_or(255));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};

    /// This test binary under the init's name (see `tests::BECOME_SHIM`).
    fn init(script: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(super::super::INIT_NAME)
            .args(["--", "sh", "-c", script]);
        command
    }

    #[test]
    fn it_ends_as_its_child_does() {
        assert_eq!(init("exit 7").status().unwrap().code(), Some(7));
        assert_eq!(init("kill -9 $$").status().unwrap().code(), Some(137));
    }

    #[test]
    fn signals_are_passed_on() {
        let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
        let mut child = init(script).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        super::kernel::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(5), None));
    }
}
