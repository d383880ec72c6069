//! The agent's half: records out of the ring.

use super::Entry;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Which records. All of them by default but for the streams, which are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Select {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The last so many lines; `None` is all.
    pub(crate) tail: Option<u64>,
    /// Wall nanoseconds since 1970; inclusive.
    pub(crate) since: Option<i64>,
    /// Wall nanoseconds since 1970; inclusive.
    pub(crate) until: Option<i64>,
}

/// Reads the ring in a task's folder from old to new; blocking.
pub(crate) struct Reader {}

impl Iterator for Reader {
    type Item = Entry;
    fn next(&mut self) -> Option<Entry> {
        None
    }
}

/// What is there now. `task_dir` is DATA/tasks/ID. Blocking: `smol::unblock`
/// or `blocking::Unblock` it.
pub(crate) fn read(task_dir: &Path, select: &Select) -> Result<Reader> {
    let _ = (task_dir, select);
    Ok(Reader {})
}

/// What is there now and what comes, until the container's run has ended.
pub(crate) fn follow(
    task_dir: PathBuf,
    select: Select,
) -> impl smol::stream::Stream<Item = Result<Entry>> + Send {
    let _ = (task_dir, select);
    smol::stream::empty()
}
