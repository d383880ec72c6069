//! How a container ended, on disk. Written whole or not at all; read by
//! whoever comes later, with or without a shim.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// The record's name in the task's folder.
pub(crate) const FILE: &str = "exit";

/// The end of one run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    /// Docker's: the process's own, or 128 + the signal that ended it.
    pub(crate) code: i32,
    /// The signal that ended it; 0 when none did.
    pub(crate) signal: i32,
    /// The kernel killed a process of this container for memory.
    pub(crate) oom_killed: bool,
    /// What the shim could not do (write the log, say); empty when all is well.
    pub(crate) error: String,
    /// Wall nanoseconds since 1970.
    pub(crate) started: i64,
    pub(crate) finished: i64,
    /// The first process's pid: tells one run from the next.
    pub(crate) pid: i32,
}

impl ExitRecord {
    /// The record of the last run in `task_dir`; `None` while it runs, before
    /// the first start, and after a reboot that left no time to write one.
    pub(crate) fn read(task_dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(task_dir.join(FILE)).ok()?;
        postcard::from_bytes(&bytes).ok()
    }

    /// Forgets the record: a new run begins.
    pub(crate) fn remove(task_dir: &Path) -> Result<()> {
        match std::fs::remove_file(task_dir.join(FILE)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Old name or new, never half: data reaches the disk before the name.
    pub(super) fn write(&self, task_dir: &Path) -> std::io::Result<()> {
        let bytes = postcard::to_allocvec(self).map_err(std::io::Error::other)?;
        let temporary = task_dir.join("exit.new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&temporary, task_dir.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_can_be_forgotten() {
        let dir = std::env::temp_dir().join(format!("skep-record-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(ExitRecord::read(&dir), None);
        let record = ExitRecord {
            code: 137,
            signal: 9,
            oom_killed: true,
            ..ExitRecord::default()
        };
        record.write(&dir).unwrap();
        assert_eq!(ExitRecord::read(&dir), Some(record));
        ExitRecord::remove(&dir).unwrap();
        ExitRecord::remove(&dir).unwrap();
        assert_eq!(ExitRecord::read(&dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
