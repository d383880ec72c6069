//! The engine's two logs on disk, and a node's lock on its data.
//!
//! Owns `consensus/log` and `node/log`: pre-allocated files of which the
//! engine says which bytes go where. Invariants: bytes are durable before the
//! caller is told so; one data sync for a batch, however many writes; a whole
//! file is replaced in one step; nothing is written when nothing changes. What
//! the bytes mean is the engine's business (`skep_control::journal`), torn
//! tails included: beyond the last write a log reads as zeros or as what a
//! torn write left.

mod device;

pub(crate) use device::{Device, Folder};

use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::path::Path;

/// A log grows by zero-filled pieces of so many bytes: writing within a file's
/// size needs no change of its metadata, which saves the card two thirds of a
/// commit; a piece lasts for several hundred commits.
const SEGMENT_BYTES: u64 = 256 << 10;
/// Largest log that is read back, bytes: the engine compacts far below.
const LOG_BYTES_MAX: u64 = 1 << 30;

const FILE: &str = "log";
const STAGED: &str = "log.new";

/// One log of the engine. Calls block on the disk.
pub(crate) struct Log<D: Device = Folder> {
    device: D,
    /// Bytes that the file has.
    allocated: u64,
    /// Written and not yet synced.
    dirty: bool,
}

impl Log<Folder> {
    /// Opens the log in `folder` and reads all of it.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<u8>)> {
        Self::on(Folder::open(folder)?)
    }
}

impl<D: Device> Log<D> {
    /// The log on a device, and what it holds.
    pub(crate) fn on(mut device: D) -> Result<(Self, Vec<u8>)> {
        // A replacement that was not finished never happened.
        device.remove(STAGED)?;
        let bytes = device.read(FILE, LOG_BYTES_MAX)?.unwrap_or_default();
        let log = Self {
            device,
            allocated: bytes.len() as u64,
            dirty: false,
        };
        Ok((log, bytes))
    }

    /// Puts bytes at an offset; durable after [`Log::sync`].
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > LOG_BYTES_MAX {
            return Err(Error::internal(format!(
                "a log of {end} bytes is more than {LOG_BYTES_MAX}"
            )));
        }
        self.dirty = true;
        if end > self.allocated {
            let wanted = end.next_multiple_of(SEGMENT_BYTES);
            self.device.fill(FILE, self.allocated, wanted)?;
            self.allocated = wanted;
        }
        self.device.write(FILE, offset, bytes)
    }

    /// Makes all writes durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.dirty {
            self.device.sync(FILE)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Replaces everything; durable when it returns.
    pub(crate) fn replace(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            self.device.remove(FILE)?;
            self.device.sync_folder()?;
            (self.allocated, self.dirty) = (0, false);
            return Ok(());
        }
        let length = bytes.len() as u64;
        // With its room: the next write need not grow it.
        let wanted = length.next_multiple_of(SEGMENT_BYTES);
        let staged = self
            .device
            .write(STAGED, 0, bytes)
            .and_then(|()| self.device.fill(STAGED, length, wanted))
            .and_then(|()| self.device.sync(STAGED))
            .and_then(|()| self.device.rename(STAGED, FILE));
        if staged.is_err() {
            // A full disk needs the space more than the next try does.
            let _ = self.device.remove(STAGED);
        }
        staged?;
        self.device.sync_folder()?;
        (self.allocated, self.dirty) = (wanted, false);
        Ok(())
    }
}

/// Takes a node's data for this process; until the file is dropped no other
/// agent can.
pub(crate) fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(|e| crate::disk::failure("open", &path, &e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::conflict(format!(
            "{}: another agent uses this data folder; stop it or give this one another --data-dir",
            data_dir.display()
        ))
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::device::crash::{Crash, Disk};
    use super::*;

    /// One history: commits of numbered bytes at growing offsets, with a
    /// replacement in the middle. Returns what was promised when it ended.
    fn history(disk: &Disk) -> Vec<u8> {
        let mut promised = Vec::new();
        let Ok((mut log, _)) = Log::on(disk.clone()) else {
            return promised;
        };
        for round in 0..12_u8 {
            let bytes = [round + 1; 7];
            let done = match round {
                5 => log.replace(&[99; 21]).map(|()| vec![99; 21]),
                _ => log
                    .write(promised.len() as u64, &bytes)
                    .and_then(|()| log.sync())
                    .map(|()| [promised.as_slice(), &bytes].concat()),
            };
            match done {
                Ok(now) => promised = now,
                Err(_) => return promised,
            }
        }
        promised
    }

    #[test]
    fn after_a_crash_at_any_operation_what_was_promised_is_there() {
        let operations = {
            let disk = Disk::new(usize::MAX, 0);
            history(&disk);
            disk.operations()
        };
        assert!(operations > 20, "the history is worth crashing");
        for fails_after in 0..operations {
            for seed in 0..8 {
                let disk = Disk::new(fails_after, seed);
                let promised = history(&disk);
                let (_, found) = Log::on(disk.crash(Crash::PowerCut)).expect("opens again");
                let in_place = found.get(..promised.len());
                let replaced = found.get(..21) == Some(&[99; 21][..]);
                assert!(
                    in_place == Some(&promised[..]) || (replaced && promised.len() == 35),
                    "failed after {fails_after}, seed {seed}: {promised:?} became {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_killed_agent_loses_nothing_it_wrote() {
        let disk = Disk::new(usize::MAX, 0);
        let (mut log, _) = Log::on(disk.clone()).expect("opens");
        log.write(0, b"unsynced").expect("writes");
        let (_, found) = Log::on(disk.crash(Crash::Killed)).expect("opens again");
        assert!(found.starts_with(b"unsynced") && found.len() as u64 == SEGMENT_BYTES);
        assert!(found.iter().skip(8).all(|byte| *byte == 0));
    }

    #[test]
    fn nothing_is_written_when_nothing_changes() {
        let disk = Disk::new(usize::MAX, 0);
        let (mut log, _) = Log::on(disk.clone()).expect("opens");
        let before = disk.operations();
        log.write(0, b"").expect("nothing");
        log.sync().expect("nothing");
        assert_eq!(disk.operations(), before);
    }

    #[test]
    fn two_agents_cannot_have_one_folder() {
        let folder = std::env::temp_dir().join(format!("skep-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("makes");
        let held = lock(&folder).expect("is free");
        assert!(
            lock(&folder)
                .expect_err("is taken")
                .message
                .contains("--data-dir")
        );
        drop(held);
        assert!(lock(&folder).is_ok());
        let _ = std::fs::remove_dir_all(&folder);
    }
}
