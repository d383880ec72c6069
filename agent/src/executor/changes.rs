//! What a container changed of its image: its overlay's upper folder read
//! against the layers below.

use super::Executor;
use super::rootfs::{self, Root};
use crate::backend::{Change, ChangeKind};
use crate::disk;
use crate::error::{Error, Result};
use rustix::fs::OFlags;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Entries listed at most.
const CHANGES_MAX: usize = 1_000_000;

/// Places that the runtime makes for its own mounts; nobody changed them.
const MOUNT_PLACES: [&str; 11] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

impl Executor {
    /// What differs from the image, by path.
    pub(crate) async fn changes(&self, wanted: &str) -> Result<Vec<Change>> {
        let container = self.find(wanted)?;
        self.know_layers(&container).await?;
        let (layers, upper) = {
            let life = container.life();
            let mounts: Vec<String> = life
                .record
                .mounts
                .iter()
                .map(|mount| mount.destination.clone())
                .collect();
            (
                (life.layers.clone(), mounts),
                container.folder.join("upper"),
            )
        };
        smol::unblock(move || {
            let below = rootfs::of_image(&layers.0)?;
            list(&upper, &below, &layers.1)
        })
        .await
    }
}

fn list(upper: &Path, below: &Root, mounts: &[String]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    // Folders that overlay copied up, perhaps only for a mount's place.
    let mut doubtful = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let place = upper.join(&folder);
        for entry in fs::read_dir(&place).map_err(|e| disk::failure("read", &place, &e))? {
            let entry = entry.map_err(|e| disk::failure("read", &place, &e))?;
            let relative = folder.join(entry.file_name());
            let path = format!("/{}", relative.display());
            let meta = entry
                .metadata()
                .map_err(|e| disk::failure("read", &place, &e))?;
            let is_place = MOUNT_PLACES.contains(&path.as_str()) || mounts.contains(&path);
            let existed = below.open(&relative, OFlags::PATH | OFlags::NOFOLLOW).ok();
            if meta.is_dir() {
                folders.push(relative);
            }
            if is_place {
                continue;
            }
            // Overlay's mark for something of the image that is gone.
            let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            let kind = match (whiteout, &existed) {
                (true, Some(_)) => ChangeKind::Deleted,
                (true, None) => continue,
                (false, Some(_)) => ChangeKind::Modified,
                (false, None) => ChangeKind::Added,
            };
            if let Some(old) = existed
                && meta.is_dir()
                && rustix::fs::fstat(&old).is_ok_and(|old| {
                    (old.st_mode, old.st_uid, old.st_gid) == (meta.mode(), meta.uid(), meta.gid())
                })
            {
                doubtful.push(path.clone());
            }
            changes.push(Change { path, kind });
            if changes.len() > CHANGES_MAX {
                return Err(Error::internal(format!("more than {CHANGES_MAX} changes")));
            }
        }
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    // Deepest first: a folder counts only for what changed in it.
    doubtful.sort_by(|one, other| other.cmp(one));
    for folder in doubtful {
        let inside = format!("{folder}/");
        let at = changes.partition_point(|change| change.path.as_str() < inside.as_str());
        if !changes
            .get(at)
            .is_some_and(|change| change.path.starts_with(&inside))
        {
            changes.retain(|change| change.path != folder);
        }
    }
    Ok(changes)
}
