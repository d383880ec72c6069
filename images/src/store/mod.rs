//! The store of one node: blobs by digest, unpacked layers by chain id, and
//! the table of images and tags. `Store` is cheap to clone and may be used
//! from any thread; one process at a time has a store open.
//!
//! How a crash leaves either a whole image or none: blobs and layers appear
//! under their names first, then the file system is synced, then the table
//! that makes them an image is renamed into place. What a table does not
//! mention when a store is opened is thrown away, as nobody knows whether it
//! reached the disk.

mod blobs;
mod face;
mod layers;
mod lease;
mod query;
mod remove;
mod table;

use crate::{
    archive,
    digest::Digest,
    error::{Error, Result},
    limits::Limits,
    platform::Platform,
};
use rustix::fs::FlockOperation;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub(crate) use blobs::{Blobs, Stored};
pub use face::{
    Distribution, Image, ImportOptions, LayerStep, LoadProgress, Loaded, Pruned, Removed, Summary,
    Usage, Use,
};
pub(crate) use layers::{Place, chain_ids};
pub(crate) use lease::Lease;
pub(crate) use query::{choose, id_of};
pub(crate) use table::{Record, Table, Variant};

/// A second in all: longer than a process takes to end.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A node's images.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Keeps an image and its layers from being removed while it lives.
pub struct Hold {
    _lease: Lease,
}

pub(crate) struct Inner {
    pub(crate) blobs: Blobs,
    pub(crate) layers: layers::Layers,
    pub(crate) limits: Limits,
    pub(crate) state: Mutex<State>,
    /// Folder of the table and of the lock.
    folder: PathBuf,
    /// Locked for as long as the store is open.
    lock: File,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) pins: lease::Pins,
    /// Layers unpacked since the store was opened, with their bytes; durable
    /// only once the table has them too.
    pub(crate) unpacked: BTreeMap<Digest, u64>,
}

impl Store {
    /// Opens (or makes) the store in a node's data folder, removing what a
    /// crash left half made. Fails if another process has it open.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Self::open_with(data_dir, Limits::default())
    }

    pub(crate) fn open_with(data_dir: &Path, limits: Limits) -> Result<Self> {
        let folder = data_dir.join("images");
        blobs::make_folder(&folder)?;
        let lock = File::create(folder.join("lock")).map_err(|e| blobs::at(&folder, e))?;
        take_lock(&lock).map_err(|e| e.within(data_dir.display()))?;
        let state = State {
            table: Table::read(&folder)?,
            ..State::default()
        };
        let inner = Inner {
            blobs: Blobs::open(data_dir)?,
            layers: layers::Layers::open(data_dir)?,
            limits,
            state: Mutex::new(state),
            folder,
            lock,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.inner.recover()?;
        Ok(store)
    }

    /// Keeps the image and its layers in place until the hold is dropped.
    /// Take one between resolving an image and recording its use.
    #[must_use]
    pub fn hold(&self, id: &Digest) -> Hold {
        let mut lease = Lease::new(&self.inner);
        lease.pin(*id);
        Hold { _lease: lease }
    }

    /// The folders of the image's layers, bottom first, ready as overlayfs
    /// lower folders; unpacks what is not there yet. Also for an image that
    /// was removed by force while a container uses it.
    pub fn layers(&self, id: &Digest) -> Result<Vec<PathBuf>> {
        let (record, variant) = query::find_id(&lock(&self.inner.state).table, id)
            .ok_or_else(|| Error::not_found(format!("No such image: {id}")))?;
        let absent = |chain: &Digest| !lock(&self.inner.state).table.layers.contains_key(chain);
        if variant.chain.iter().any(absent) {
            let mut lease = Lease::new(&self.inner);
            archive::unpack_variant(&self.inner, &mut lease, &variant, &mut |_| {})?;
            self.inner.sync()?;
            self.inner.commit(|table, unpacked| {
                if table.records.contains_key(&record.target.digest) {
                    note_layers(table, unpacked, &variant.chain);
                }
            })?;
        }
        Ok(variant
            .chain
            .iter()
            .map(|chain| self.inner.layers.path(chain))
            .collect())
    }

    /// Where the image's layers are or will be, bottom first, unpacked or not.
    #[must_use]
    pub fn layer_folders(&self, image: &Image) -> Vec<PathBuf> {
        image
            .chain
            .iter()
            .map(|chain| self.inner.layers.path(chain))
            .collect()
    }

    /// Reads an archive: `docker save`'s, old or new, or an OCI layout's,
    /// plain or compressed. Either all its images are here afterwards or none.
    pub fn load(
        &self,
        mut from: impl Read,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Loaded>> {
        archive::load_stream(&self.inner, &mut from, progress)
    }

    /// Reads an OCI layout from a folder.
    pub fn load_folder(
        &self,
        from: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Loaded>> {
        archive::load_folder(&self.inner, from, progress)
    }

    /// Writes the named images as one archive that `docker load` accepts: an
    /// OCI layout with Docker's `manifest.json`. All variants that are here,
    /// or the one for `platform`.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        mut to: impl Write,
    ) -> Result<()> {
        archive::save(self, &self.inner, names, platform, &mut to)
    }

    /// Makes an image of one layer from a root file system's tar.
    pub fn import(&self, mut from: impl Read, options: &ImportOptions) -> Result<Digest> {
        archive::import(&self.inner, &mut from, options)
    }

    /// Gives an image one more name; gives the image that had it until now.
    pub fn tag(&self, image: &str, name: &str) -> Result<Option<Digest>> {
        let reference: crate::Reference = name.parse().map_err(|e: Error| {
            e.within(format_args!(
                "Error parsing reference: {name:?} is not a valid repository/tag"
            ))
        })?;
        if reference.digest.is_some() {
            return Err(Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let found = self.resolve(image, None)?;
        let (target, name) = (found.target.digest, reference.tagged().to_string());
        let before = self.inner.commit(|table, _| {
            table
                .records
                .contains_key(&target)
                .then(|| table.tag(name, target, now()))
        })?;
        let before = before.ok_or_else(|| Error::not_found(format!("No such image: {image}")))?;
        let state = lock(&self.inner.state);
        Ok(before.and_then(|before| query::id_of(&state.table, &before)))
    }

    /// Removes what no image, no hold and none of `used` (image ids) needs;
    /// gives the bytes freed. Images removed by force while in use go here
    /// once their last container is gone.
    pub fn gc(&self, used: &BTreeSet<Digest>) -> Result<u64> {
        let is_due = {
            let state = lock(&self.inner.state);
            state
                .table
                .records
                .values()
                .any(|record| state.is_forgotten(record, used))
        };
        // Called at each container's end: most leave nothing to do.
        if !is_due {
            return Ok(0);
        }
        self.inner.collect(used).map(|(_, freed)| freed)
    }
}

impl State {
    /// Removed by force, and its last container is gone.
    fn is_forgotten(&self, record: &Record, used: &BTreeSet<Digest>) -> bool {
        let is_used = |v: &Variant| used.contains(&v.id) || self.pins.contains_key(&v.id);
        record.is_removed && !record.variants.iter().any(is_used)
    }
}

impl Inner {
    /// Makes what was written so far durable: before a table speaks of it.
    /// Takes no lock, as a slow card must not hold up those who only read.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(&self.lock)?)
    }

    /// Applies a change to the table and makes it durable. Nothing is written
    /// when nothing changes. New blobs and layers must be synced before.
    pub(crate) fn commit<T>(
        &self,
        change: impl FnOnce(&mut Table, &BTreeMap<Digest, u64>) -> T,
    ) -> Result<T> {
        let mut state = lock(&self.state);
        let mut table = state.table.clone();
        let result = change(&mut table, &state.unpacked);
        if table != state.table {
            table.write(&self.folder)?;
            state.table = table;
        }
        Ok(result)
    }

    /// At the start: what the table does not vouch for goes.
    fn recover(&self) -> Result<()> {
        let mut state = lock(&self.state);
        // A folder someone removed by hand is unpacked again when needed.
        let layers = &self.layers;
        state
            .table
            .layers
            .retain(|chain, _| layers.path(chain).is_dir());
        let keep: BTreeSet<Digest> = state.table.layers.keys().copied().collect();
        let freed = self.blobs.sweep(&state.table.blobs())?;
        let trash = self.layers.discard_all_but(&keep, true)?;
        drop(state);
        if freed > 0 || !trash.is_empty() {
            log::info!(
                "image store: removed {freed} bytes of blobs and {} layers left unfinished",
                trash.len()
            );
        }
        layers::empty_trash(trash);
        Ok(())
    }

    /// Forgets removed records that are no longer used, then sweeps. Gives
    /// the layers (chain ids) that went, and the bytes freed.
    pub(crate) fn collect(&self, used: &BTreeSet<Digest>) -> Result<(Vec<Digest>, u64)> {
        let mut state = lock(&self.state);
        let mut table = state.table.clone();
        table
            .records
            .retain(|_, record| !state.is_forgotten(record, used));
        let needed = table.chains();
        let pinned = |digest: &Digest| state.pins.contains_key(digest);
        let gone: Vec<(Digest, u64)> = table
            .layers
            .iter()
            .filter(|(chain, _)| !needed.contains(chain) && !pinned(chain))
            .map(|(chain, size)| (*chain, *size))
            .collect();
        for (chain, _) in &gone {
            table.layers.remove(chain);
        }
        if table != state.table {
            // The table first: what it mentions must be there at every moment.
            table.write(&self.folder)?;
            state.table = table;
        }
        let keep: BTreeSet<Digest> = state
            .table
            .blobs()
            .into_iter()
            .chain(state.pins.keys().copied())
            .collect();
        let mut freed = self.blobs.sweep(&keep)?;
        let mut trash = Vec::new();
        for (chain, size) in &gone {
            state.unpacked.remove(chain);
            trash.extend(self.layers.discard(chain)?);
            freed += size;
        }
        drop(state);
        layers::empty_trash(trash);
        Ok((gone.into_iter().map(|(chain, _)| chain).collect(), freed))
    }
}

/// The one who had it may be about to end: an upgrade starts the new agent
/// while the old one still goes.
fn take_lock(lock: &File) -> Result<()> {
    for attempt in 0.. {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(_) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return Err(Error::conflict("image store is open in another process")),
        }
    }
    Ok(())
}

/// Puts layers that are unpacked and synced into the table.
pub(crate) fn note_layers(table: &mut Table, unpacked: &BTreeMap<Digest, u64>, chain: &[Digest]) {
    for layer in chain {
        if let Some(size) = unpacked.get(layer) {
            table.layers.insert(*layer, *size);
        }
    }
}

/// A panic elsewhere does not make the state wrong: it is changed whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix seconds, for people only: nothing is decided by it.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
