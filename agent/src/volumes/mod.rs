//! Named volumes of this node: folders that outlive containers.
//!
//! Owns `volumes/<name>/`: the data in `_data`, beside it a record of labels
//! and options, and in memory who uses which volume. Invariant: data is
//! removed only by [`Volumes::remove`], and never while somebody uses it; a
//! damaged record costs the labels, not the data. Knows no container but its
//! id. Calls block on the disk.

mod copy;
mod options;

use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use options::DeviceMount;
use serde::{Deserialize, Serialize};
use skep_control::model::{Labels, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[allow(unused_imports, reason = "the executor, its user, lands next")]
pub(crate) use copy::{copy_up, tree_size};

/// Shortest and longest name, characters: Docker's lower bound, and what a
/// file name can hold.
const NAME_CHARS_MIN: usize = 2;
const NAME_CHARS_MAX: usize = 255;
/// The folder that containers see.
const DATA: &str = "_data";
const RECORD: &str = "record";

/// A volume as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) created: WallTime,
    pub(crate) labels: Labels,
    /// `type`, `device`, `o` of the local driver; empty is a plain folder.
    pub(crate) options: Labels,
    /// Made for a container that named none; goes with it.
    pub(crate) anonymous: bool,
}

/// All volumes of a node.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<String, Volume>,
    /// Volume → containers, running or not, that mount it.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Volumes {
    /// Reads what is there. A volume with a damaged record is taken with its
    /// data and without its labels, and told in the log.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| disk::failure("create", root, &e))?;
        let mut state = State::default();
        let entries = fs::read_dir(root).map_err(|e| disk::failure("read", root, &e))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let folder = entry.path();
            if !folder.join(DATA).is_dir() {
                continue;
            }
            let volume = disk::read_record::<Volume>(&folder.join(RECORD)).unwrap_or_else(|e| {
                log::warn!("volume {name}: its labels are lost: {e}");
                None
            });
            let volume = Volume {
                name: name.clone(),
                ..volume.unwrap_or_default()
            };
            state.volumes.insert(name, volume);
        }
        Ok(Self {
            root: root.to_owned(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a volume, or returns the one of that name: Docker's create is
    /// not an error the second time.
    pub(crate) fn create(&self, volume: Volume) -> Result<Volume> {
        check_name(&volume.name)?;
        DeviceMount::parse(&volume.options)
            .map_err(|e| e.within(format!("create {}", volume.name)))?;
        let mut state = self.state();
        if let Some(there) = state.volumes.get(&volume.name) {
            return Ok(there.clone());
        }
        let folder = self.root.join(&volume.name);
        let made = self.make(&folder, &volume);
        if made.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        made.map_err(|e| e.within(format!("create {}", volume.name)))?;
        state.volumes.insert(volume.name.clone(), volume.clone());
        Ok(volume)
    }

    fn make(&self, folder: &Path, volume: &Volume) -> Result<()> {
        let data = folder.join(DATA);
        fs::create_dir_all(&data).map_err(|e| disk::failure("mkdir", &data, &e))?;
        // An anonymous one is found again through its container's record.
        let durability = match volume.anonymous {
            true => Durability::Cached,
            false => Durability::Synced,
        };
        disk::write_record(&folder.join(RECORD), volume, durability)?;
        if durability == Durability::Synced {
            disk::sync_folder(&self.root).map_err(|e| disk::failure("sync", &self.root, &e))?;
        }
        Ok(())
    }

    /// The volume of that name.
    pub(crate) fn get(&self, name: &str) -> Result<Volume> {
        self.state()
            .volumes
            .get(name)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    pub(crate) fn list(&self) -> Vec<Volume> {
        self.state().volumes.values().cloned().collect()
    }

    /// Containers that mount it, running or not.
    pub(crate) fn users(&self, name: &str) -> Vec<String> {
        let state = self.state();
        state
            .users
            .get(name)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Binds a volume to a container, so that nobody removes it.
    pub(crate) fn acquire(&self, name: &str, container: &str) -> Result<()> {
        let mut state = self.state();
        if !state.volumes.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        state
            .users
            .entry(name.to_owned())
            .or_default()
            .insert(container.to_owned());
        Ok(())
    }

    /// Unbinds all that a container uses.
    pub(crate) fn release(&self, container: &str) {
        let mut state = self.state();
        state.users.retain(|_, users| {
            users.remove(container);
            !users.is_empty()
        });
    }

    /// Erases a volume and its data.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        if !state.volumes.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        if let Some(users) = state.users.get(name) {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        unmount(&self.path(name))?;
        let folder = self.root.join(name);
        // First out of the way in one step: a crash leaves no half a volume.
        let doomed = self.root.join(format!(".{name}.removed"));
        fs::rename(&folder, &doomed).map_err(|e| disk::failure("remove", &folder, &e))?;
        state.volumes.remove(name);
        drop(state);
        fs::remove_dir_all(&doomed).map_err(|e| disk::failure("remove", &folder, &e))
    }

    /// Where its data is on the host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name).join(DATA)
    }

    /// Bytes that its files take.
    pub(crate) fn size(&self, name: &str) -> u64 {
        tree_size(&self.path(name))
    }

    /// Mounts a volume that has driver options; nothing to do for others, or
    /// when it is mounted already.
    pub(crate) fn mount(&self, name: &str) -> Result<()> {
        let volume = self.get(name)?;
        let Some(device) = DeviceMount::parse(&volume.options)? else {
            return Ok(());
        };
        let target = self.path(name);
        if options::is_mounted(&target) {
            return Ok(());
        }
        device.mount(&target).map_err(|reason| {
            Error::internal(format!(
                "error while mounting volume '{}': failed to mount local volume: mount {}:{}, {reason}",
                target.display(),
                device.source,
                target.display()
            ))
        })
    }

    /// Takes a volume with driver options off the tree again.
    pub(crate) fn unmount(&self, name: &str) -> Result<()> {
        match self.get(name)?.options.is_empty() {
            true => Ok(()),
            false => unmount(&self.path(name)),
        }
    }
}

fn unmount(target: &Path) -> Result<()> {
    if !options::is_mounted(target) {
        return Ok(());
    }
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)
        .map_err(|e| disk::failure("unmount", target, &e.into()))
}

/// Docker's rule for names of the local driver.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.chars().count() < NAME_CHARS_MIN {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !first || !rest || name.len() > NAME_CHARS_MAX {
        return Err(Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn named(name: &str) -> Volume {
        Volume {
            name: name.into(),
            ..Volume::default()
        }
    }

    #[test]
    fn names_are_dockers() {
        assert!(check_name("data_1.x-y").is_ok());
        for bad in ["a", "-ab", "a/b", "a b", ".ab"] {
            assert_eq!(check_name(bad).expect_err(bad).kind, Kind::Invalid);
        }
    }

    #[test]
    fn volumes_outlive_the_process_and_their_users_guard_them() {
        let folder = Folder::new("volumes");
        let volumes = Volumes::open(&folder.0).expect("opens");
        let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
        volumes
            .create(Volume {
                labels: labels.clone(),
                ..named("data")
            })
            .expect("creates");
        fs::write(volumes.path("data").join("file"), "kept").expect("writes");

        let volumes = Volumes::open(&folder.0).expect("opens again");
        assert_eq!(volumes.get("data").expect("is there").labels, labels);
        volumes.create(named("data")).expect("twice is no error");
        volumes.acquire("data", "c1").expect("binds");
        let told = volumes.remove("data").expect_err("in use");
        assert_eq!(told.message, "remove data: volume is in use - [c1]");
        volumes.release("c1");
        volumes.remove("data").expect("free now");
        assert_eq!(volumes.get("data").expect_err("gone").kind, Kind::NotFound);
        assert_eq!(fs::read_dir(&folder.0).expect("lists").count(), 0);
    }

    #[test]
    fn a_damaged_record_costs_no_data() {
        let folder = Folder::new("volumes-torn");
        let volumes = Volumes::open(&folder.0).expect("opens");
        volumes.create(named("data")).expect("creates");
        fs::write(folder.0.join("data").join(RECORD), "torn").expect("tears");
        let volumes = Volumes::open(&folder.0).expect("opens all the same");
        assert_eq!(volumes.get("data").expect("is there"), named("data"));
    }
}
