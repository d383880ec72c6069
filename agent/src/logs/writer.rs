//! The shim's half: lines into the ring.

use super::{Entry, Options};
use std::path::Path;

/// Appends to the ring in a folder.
pub(crate) struct Writer {}

impl Writer {
    /// Goes on after what is there.
    pub(crate) fn open(folder: &Path, options: &Options) -> std::io::Result<Self> {
        let _ = (folder, options);
        Ok(Self {})
    }

    /// One write call for all of them.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        let _ = entries;
        Ok(())
    }
}
