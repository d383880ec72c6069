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

/// Overlay's mark for a folder that replaced the image's.
fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(folder, "trusted.overlay.opaque", &mut value[..]).is_ok()
        && value == *b"y"
}

/// What an opaque folder hides of the image's.
fn hidden(folder: &Path, below: &Root, relative: &Path, changes: &mut Vec<Change>) {
    let old = below.folder(relative);
    let entries = old.and_then(|old| fs::read_dir(old.path()).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        if fs::symlink_metadata(folder.join(&name)).is_err() {
            changes.push(Change {
                path: format!("/{}", relative.join(name).display()),
                kind: ChangeKind::Deleted,
            });
        }
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
                if is_opaque(&entry.path()) {
                    hidden(&entry.path(), below, &relative, &mut changes);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root: only it may set overlay's marks.
    #[test]
    fn a_folder_that_was_replaced_shows_what_is_gone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = std::env::temp_dir().join(format!("skep-changes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        for file in [
            "image/data/old",
            "image/data/kept",
            "upper/data/kept",
            "upper/data/new",
        ] {
            let path = base.join(file);
            fs::create_dir_all(path.parent().expect("has one")).expect("makes");
            fs::write(path, file).expect("writes");
        }
        let image = [base.join("image")];
        let below = rootfs::of_image(&image).expect("opens");
        let of = |changes: Vec<Change>| -> Vec<(String, ChangeKind)> {
            changes
                .into_iter()
                .map(|one| (one.path, one.kind))
                .collect()
        };
        let listed = list(&base.join("upper"), &below, &[]).expect("lists");
        assert!(!of(listed).iter().any(|(path, _)| path == "/data/old"));

        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(
            base.join("upper/data"),
            "trusted.overlay.opaque",
            b"y",
            flags,
        )
        .expect("marks");
        let listed = list(&base.join("upper"), &below, &[]).expect("lists");
        let wanted = [
            ("/data", ChangeKind::Modified),
            ("/data/kept", ChangeKind::Modified),
            ("/data/new", ChangeKind::Added),
            ("/data/old", ChangeKind::Deleted),
        ];
        assert_eq!(
            of(listed),
            wanted.map(|(path, kind)| (path.to_owned(), kind))
        );
        let _ = fs::remove_dir_all(&base);
    }
}
