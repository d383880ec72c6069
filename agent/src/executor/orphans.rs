//! What a shim that was killed leaves: processes of its own making that wait
//! for it for ever, and hold what the container's next start needs.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

/// How a shim's process calls itself; its last word is the container's id.
const SHIM: &[u8] = b"skep-shim";
/// A killed process is gone in a millisecond or is stuck in the kernel.
const DEATH_TRIES: u32 = 50;
const DEATH_PAUSE: Duration = Duration::from_millis(10);

/// Kills every shim process of a container. To be called only when its run is
/// over for the executor. Blocks.
pub(super) fn kill(id: &str) {
    for _ in 0..DEATH_TRIES {
        let pids = processes(id);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            log::warn!(
                "container {id}: killing process {}, which its shim left",
                pid.as_raw_nonzero()
            );
            // It may be gone by now.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(DEATH_PAUSE);
    }
}

fn processes(id: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if is_of(&line, id) {
            found.extend(Pid::from_raw(number));
        }
    }
    found
}

/// `skep-shim shim ID`, zero-separated as the kernel shows it.
fn is_of(line: &[u8], id: &str) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    words.next() == Some(SHIM) && words.nth(1) == Some(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_containers_shims_are_meant() {
        assert!(is_of(b"skep-shim\0shim\0abc\0", "abc"));
        assert!(!is_of(b"skep-shim\0shim\0abcd\0", "abc"));
        assert!(!is_of(b"sh\0shim\0abc\0", "abc"));
        assert!(!is_of(b"", "abc"));
    }
}
