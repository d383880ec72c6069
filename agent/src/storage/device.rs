//! What a log needs of a disk, so that a test can pull the plug at any moment.

use crate::disk;
use crate::error::Result;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Zeros written at a time when a file grows, bytes.
const FILL_BYTES: usize = 64 << 10;
/// Tokens and keys may be in a log.
const FILE_MODE: u32 = 0o600;

/// Files in one folder.
pub(crate) trait Device {
    /// The whole file; `None` when there is none. At most `limit` bytes.
    fn read(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>>;
    /// Writes at an offset, making the file if it is not there.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Fills the bytes from `from` to `to` with zeros.
    fn fill(&mut self, name: &str, from: u64, to: u64) -> Result<()>;
    /// Makes a file's bytes, and the file itself, durable.
    fn sync(&mut self, name: &str) -> Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;
    /// No error when it is not there.
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Makes names durable.
    fn sync_folder(&mut self) -> Result<()>;
}

/// A folder of a real disk.
pub(crate) struct Folder {
    path: PathBuf,
    /// The file last written, kept open: its name and it.
    open: Option<(String, File)>,
    /// A file was made whose name is not durable yet.
    new_names: bool,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| disk::failure("mkdir", path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            open: None,
            new_names: false,
        })
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let path = self.path.join(name);
            self.new_names |= !path.exists();
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(FILE_MODE)
                .open(path)?;
            self.open = Some((name.to_owned(), file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn told<T>(&self, action: &str, name: &str, result: io::Result<T>) -> Result<T> {
        result.map_err(|e| disk::failure(action, &self.path.join(name), &e))
    }
}

impl Device for Folder {
    fn read(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = match File::open(self.path.join(name)) {
            Ok(file) => file.take(limit).read_to_end(&mut bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => Err(e),
        };
        self.told("read", name, read).map(|_| Some(bytes))
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self
            .file(name)
            .and_then(|file| file.write_all_at(bytes, offset));
        self.told("write", name, written)
    }

    fn fill(&mut self, name: &str, from: u64, to: u64) -> Result<()> {
        let zeros = vec![0_u8; FILL_BYTES];
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at)
                .unwrap_or(FILL_BYTES)
                .min(FILL_BYTES);
            let piece = zeros.get(..length).unwrap_or(&zeros);
            let written = self
                .file(name)
                .and_then(|file| file.write_all_at(piece, at));
            self.told("write", name, written)?;
            at += length as u64;
        }
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<()> {
        let synced = self.file(name).and_then(File::sync_data);
        self.told("sync", name, synced)?;
        match std::mem::take(&mut self.new_names) {
            true => self.sync_folder(),
            false => Ok(()),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.open = None;
        let renamed = fs::rename(self.path.join(from), self.path.join(to));
        self.told("rename", from, renamed)
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.open = None;
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => self.told("remove", name, other),
        }
    }

    fn sync_folder(&mut self) -> Result<()> {
        let synced = disk::sync_folder(&self.path);
        self.told("sync", "", synced)
    }
}

/// A disk in memory that fails after some operations, and then loses what was
/// not synced as a real one may: any part of it, in any order.
#[cfg(test)]
pub(super) mod crash {
    use super::Device;
    use crate::error::{Error, Result};
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(in super::super) enum Crash {
        /// The process ended; the kernel went on.
        Killed,
        PowerCut,
    }

    type Files = BTreeMap<String, Vec<u8>>;

    #[derive(Clone, Default)]
    struct State {
        seen: Files,
        durable: Files,
        /// Writes since the last sync: (name, offset, bytes).
        loose: Vec<(String, usize, Vec<u8>)>,
        operations: usize,
        fails_after: usize,
        seed: u64,
    }

    #[derive(Clone)]
    pub(in super::super) struct Disk(Arc<Mutex<State>>);

    impl Disk {
        pub(in super::super) fn new(fails_after: usize, seed: u64) -> Self {
            Self(Arc::new(Mutex::new(State {
                fails_after,
                seed,
                ..State::default()
            })))
        }

        pub(in super::super) fn operations(&self) -> usize {
            self.with(|state| state.operations)
        }

        /// The disk after the crash, sound again.
        pub(in super::super) fn crash(&self, how: Crash) -> Self {
            let state = self.with(|state| state.clone());
            let mut files = state.durable.clone();
            if how == Crash::Killed {
                files.clone_from(&state.seen);
            } else {
                let mut random = state.seed;
                for (name, offset, bytes) in &state.loose {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    // Nothing, a part or all of it reached the disk.
                    let length = bytes.len() * ((random >> 33) as usize % 3) / 2;
                    if let Some(file) = files.get_mut(name) {
                        put(file, *offset, &bytes[..length]);
                    }
                }
            }
            let sound = Self::new(usize::MAX, 0);
            sound.with(|state| {
                state.seen.clone_from(&files);
                state.durable = files;
            });
            sound
        }

        fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
            act(&mut self.0.lock().expect("no test panics while it holds it"))
        }

        fn operate<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T> {
            self.with(|state| {
                if state.operations >= state.fails_after {
                    return Err(Error::internal("the disk failed"));
                }
                state.operations += 1;
                Ok(act(state))
            })
        }
    }

    fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset..end].copy_from_slice(bytes);
    }

    impl Device for Disk {
        fn read(&mut self, name: &str, _limit: u64) -> Result<Option<Vec<u8>>> {
            Ok(self.with(|state| state.seen.get(name).cloned()))
        }

        fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
            self.operate(|state| {
                let offset = offset as usize;
                put(state.seen.entry(name.into()).or_default(), offset, bytes);
                state.loose.push((name.into(), offset, bytes.to_vec()));
            })
        }

        fn fill(&mut self, name: &str, from: u64, to: u64) -> Result<()> {
            self.write(name, from, &vec![0; (to - from) as usize])
        }

        fn sync(&mut self, name: &str) -> Result<()> {
            self.operate(|state| {
                if let Some(file) = state.seen.get(name) {
                    state.durable.insert(name.into(), file.clone());
                }
                state.loose.retain(|(loose, ..)| loose != name);
            })
        }

        fn rename(&mut self, from: &str, to: &str) -> Result<()> {
            self.operate(|state| {
                if let Some(file) = state.seen.remove(from) {
                    state.seen.insert(to.into(), file);
                }
                // The old name's loose writes go nowhere any more.
                state.loose.retain(|(loose, ..)| loose != to);
                // A rename may become durable by itself, or wait for the
                // folder's sync; the harder case is kept for the sync.
                if state.seed % 2 == 0
                    && let Some(file) = state.durable.remove(from)
                {
                    state.durable.insert(to.into(), file);
                }
            })
        }

        fn remove(&mut self, name: &str) -> Result<()> {
            if self.with(|state| !state.seen.contains_key(name)) {
                return Ok(());
            }
            self.operate(|state| {
                state.seen.remove(name);
            })
        }

        fn sync_folder(&mut self) -> Result<()> {
            self.operate(|state| {
                let names: Vec<String> = state.durable.keys().cloned().collect();
                for name in names {
                    if !state.seen.contains_key(&name) {
                        // Renamed or removed: its bytes are under the new name.
                        state.durable.remove(&name);
                    }
                }
                for (name, file) in &state.seen {
                    if !state.loose.iter().any(|(loose, ..)| loose == name) {
                        state.durable.insert(name.clone(), file.clone());
                    }
                }
            })
        }
    }
}
