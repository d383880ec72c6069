//! A client's tar stream into a folder of a container: the way in of `cp`.
//! Hostile input: no name leads out of the container's root, and what is there
//! already is replaced, never written through.

use super::archive::{Place, is_dir};
use super::rootfs::Root;
use crate::backend::ArchivePut;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Entries of one archive: more is a bomb.
const ENTRIES_MAX: usize = 1_000_000;

/// Unpacks all of `from` into the place.
pub(super) fn into(place: &Place, options: ArchivePut, from: impl Read) -> Result<()> {
    let mut archive = tar::Archive::new(from);
    let entries = archive
        .entries()
        .map_err(|e| Error::invalid(format!("archive: {e}")))?;
    // Times last, since entries made in a folder change its own.
    let mut folders: Vec<(PathBuf, u64)> = Vec::new();
    for (count, entry) in entries.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(Error::invalid(format!(
                "archive: more than {ENTRIES_MAX} entries"
            )));
        }
        let mut entry = entry.map_err(|e| Error::invalid(format!("archive: {e}")))?;
        let name = entry
            .path()
            .map_err(|e| Error::invalid(format!("archive: {e}")))?
            .into_owned();
        let failed = |e: io::Error| told(&name, &e);
        let path = target(&place.path, &name);
        unpack(&place.root, &path, options, &mut entry, &place.path).map_err(failed)?;
        if entry.header().entry_type().is_dir() {
            folders.push((path, entry.header().mtime().unwrap_or(0)));
        }
    }
    for (path, time) in folders.iter().rev() {
        if let Ok(fd) = place.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            let _ = rustix::fs::futimens(&fd, &times(*time));
        }
    }
    Ok(())
}

fn told(name: &Path, error: &io::Error) -> Error {
    let name = name.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory => {
            Error::invalid(format!("cannot overwrite {name}: {error}"))
        }
        io::ErrorKind::StorageFull => {
            Error::internal(format!("write {name}: no space left on device"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Error::forbidden(format!("write {name}: read-only file system"))
        }
        _ => Error::internal(format!("{name}: {error}")),
    }
}

/// The entry's place; `..` in its name stays below the folder.
fn target(folder: &Path, name: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    folder.join(path)
}

fn unpack<R: Read>(
    root: &Root,
    path: &Path,
    options: ArchivePut,
    entry: &mut tar::Entry<'_, R>,
    folder: &Path,
) -> io::Result<()> {
    let header = entry.header().clone();
    let kind = header.entry_type();
    let Some(name) = path.file_name().filter(|_| path != folder) else {
        // The folder itself: it is there, and stays as it is.
        return Ok(());
    };
    let parent = parent_of(root, path)?;
    make_way(&parent, name, kind.is_dir(), options)?;
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    match kind {
        tar::EntryType::Directory => match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        },
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, Mode::RUSR)?;
            io::copy(entry, &mut std::fs::File::from(fd))?;
        }
        tar::EntryType::Symlink => {
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            rustix::fs::symlinkat(link.as_ref(), &parent, name)?;
        }
        tar::EntryType::Link => {
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            let source = target(folder, &link);
            let from = parent_of(root, &source)?;
            let source = source.file_name().ok_or(io::ErrorKind::InvalidData)?;
            // Not followed: a link to a link is a link.
            return Ok(rustix::fs::linkat(
                &from,
                source,
                &parent,
                name,
                AtFlags::empty(),
            )?);
        }
        tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            let device = rustix::fs::makedev(major.unwrap_or(0), minor.unwrap_or(0));
            let kind = match kind {
                tar::EntryType::Char => FileType::CharacterDevice,
                tar::EntryType::Block => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            rustix::fs::mknodat(&parent, name, kind, mode, device)?;
        }
        // Notes of other programs.
        _ => return Ok(()),
    }
    let owner = |id: io::Result<u64>| u32::try_from(id.unwrap_or(0)).unwrap_or(0);
    let (uid, gid) = match options.copy_owner {
        true => owner_of(&parent)?,
        false => (owner(header.uid()), owner(header.gid())),
    };
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != tar::EntryType::Symlink {
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
    }
    let times = times(header.mtime().unwrap_or(0));
    Ok(rustix::fs::utimensat(
        &parent,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn owner_of(folder: &OwnedFd) -> io::Result<(u32, u32)> {
    let stat = rustix::fs::fstat(folder)?;
    Ok((stat.st_uid, stat.st_gid))
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0) as _,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The folder that an entry is in, made if it is missing.
fn parent_of(root: &Root, path: &Path) -> io::Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match root.open(parent, flags) {
        Err(rustix::io::Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let mut done = PathBuf::from("/");
    for part in parent.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        let folder = root.open(&done, flags)?;
        match rustix::fs::mkdirat(folder.as_fd(), name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        done.push(name);
    }
    Ok(root.open(parent, flags)?)
}

/// Removes what is in an entry's way; a folder stays for a folder.
fn make_way(parent: &OwnedFd, name: &OsStr, for_dir: bool, options: ArchivePut) -> io::Result<()> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    match (is_dir(&stat), for_dir) {
        (true, true) => Ok(()),
        (there, new) if there != new && options.no_overwrite_dir_non_dir => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            match there {
                true => "cannot overwrite directory with non-directory",
                false => "cannot overwrite non-directory with directory",
            },
        )),
        // Only an empty one is replaced: nobody meant to erase a tree.
        (true, false) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?),
        (false, _) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_folder() {
        let folder = Path::new("/data");
        for (name, expected) in [
            ("a/b", "/data/a/b"),
            ("../../etc/passwd", "/data/etc/passwd"),
            ("/abs", "/data/abs"),
            ("./x/../y", "/data/y"),
        ] {
            assert_eq!(target(folder, Path::new(name)), Path::new(expected));
        }
    }
}
