//! A container's output on disk: a bounded ring of files.
//!
//! Owns: the format, the writer (in the shim) and the reader and follower (in
//! the agent). stdout and stderr are kept apart by a flag on every record, in
//! the order in which they were read.
//!
//! Invariant: a record is a line, or a part of a line longer than
//! [`LINE_BYTES_MAX`] with the partial flag, as Docker cuts them; a reader sees
//! whole records only, whatever was cut off the tail by a crash.
//!
//! The ring is `max_file` files of `max_size` bytes. The default is 2 of 5 MB:
//! docker's json-file never forgets and fills cards; a board that runs twenty
//! containers gives 200 MB at most to logs here. Nothing is synced: the kernel
//! gathers writes for some thirty seconds, so that a chatty container costs a
//! card few large writes; a power cut loses at most those seconds, a crash of
//! the agent or of the shim nothing.
//!
//! Does not know: containers, the API's framing, time zones.

mod format;
mod reader;
mod tail;
mod writer;

pub(crate) use reader::{Select, follow, read};
pub(crate) use writer::Writer;

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The ring's folder in a task's.
const FOLDER: &str = "log";

/// Bytes of one file of the ring, unless `max-size` says otherwise.
pub(crate) const FILE_BYTES_DEFAULT: u64 = 5_000_000;
/// Files of the ring, unless `max-file` says otherwise.
pub(crate) const FILES_DEFAULT: u32 = 2;

/// How much to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Bytes; 0 keeps nothing at all (the `none` driver).
    pub(crate) max_size: u64,
    pub(crate) max_file: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_size: FILE_BYTES_DEFAULT,
            max_file: FILES_DEFAULT,
        }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Wall nanoseconds since 1970, when the shim read it.
    pub(crate) time: i64,
    pub(crate) stderr: bool,
    /// The line goes on in the next record of the same stream.
    pub(crate) partial: bool,
    /// Without the newline.
    pub(crate) data: Vec<u8>,
}

/// The numbers of a ring's files, oldest first.
fn files(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut numbers: Vec<u64> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn file_name(number: u64) -> String {
    format!("{number:08}")
}
