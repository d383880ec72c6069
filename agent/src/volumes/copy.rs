//! Copy-up: an empty volume takes what the image has at its mount point, with
//! owners, modes, times and extended attributes.

use crate::disk;
use crate::error::Result;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timestamps, Uid, XattrFlags, chmodat, chownat, linkat,
    mknodat, utimensat,
};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Entries copied at most: a bound against a loop in a broken file system.
const ENTRIES_MAX: usize = 2_000_000;
/// Longest list of extended attribute names and longest value, bytes; the
/// kernel's own limit for both.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Fills `volume` from `image` (a folder in a mounted view of the image)
/// when the volume is empty; otherwise touches nothing. Says whether it did.
pub(crate) fn copy_up(image: &Path, volume: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(volume).map_err(|e| disk::failure("read", volume, &e))?;
    if entries.next().is_some() {
        return Ok(false);
    }
    let from = match fs::symlink_metadata(image) {
        Ok(from) if from.is_dir() => from,
        _ => return Ok(false),
    };
    copy_tree(image, volume).map_err(|(path, e)| disk::failure("copy", &path, &e))?;
    attributes(image, volume, &from).map_err(|e| disk::failure("copy", image, &e))?;
    Ok(true)
}

/// Copies what is in `from` into `to`, depth first.
fn copy_tree(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    // (device, inode) → the first copy: hard links stay hard links.
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    let mut finished: Vec<(PathBuf, PathBuf, Metadata)> = Vec::new();
    let mut count = 0;
    while let Some((source, target)) = folders.pop() {
        let at = |e| (source.clone(), e);
        for entry in fs::read_dir(&source).map_err(at)? {
            count += 1;
            if count > ENTRIES_MAX {
                return Err((source, io::Error::other("too many entries to copy")));
            }
            let path = entry.map_err(at)?.path();
            let copy = target.join(path.file_name().unwrap_or_default());
            let meta = fs::symlink_metadata(&path).map_err(|e| (path.clone(), e))?;
            if meta.is_dir() {
                fs::create_dir(&copy).map_err(|e| (copy.clone(), e))?;
                folders.push((path.clone(), copy.clone()));
                finished.push((path, copy, meta));
            } else {
                copy_entry(&path, &copy, &meta, &mut links).map_err(|e| (path, e))?;
            }
        }
    }
    // Last, since entries made inside a folder change its times.
    for (path, copy, meta) in finished.iter().rev() {
        attributes(path, copy, meta).map_err(|e| (path.clone(), e))?;
    }
    Ok(())
}

fn copy_entry(
    from: &Path,
    to: &Path,
    meta: &Metadata,
    links: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    if meta.nlink() > 1 {
        let key = (meta.dev(), meta.ino());
        if let Some(first) = links.get(&key) {
            return Ok(linkat(CWD, first, CWD, to, AtFlags::empty())?);
        }
        links.insert(key, to.to_owned());
    }
    let kind = meta.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        io::copy(&mut fs::File::open(from)?, &mut fs::File::create(to)?)?;
    } else {
        let made = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_socket() {
            FileType::Socket
        } else if kind.is_char_device() {
            FileType::CharacterDevice
        } else {
            FileType::BlockDevice
        };
        mknodat(CWD, to, made, Mode::from_raw_mode(meta.mode()), meta.rdev())?;
    }
    attributes(from, to, meta)
}

/// Owner, mode, times and extended attributes.
fn attributes(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    let owner = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    chownat(
        CWD,
        to,
        Some(owner.0),
        Some(owner.1),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if !meta.file_type().is_symlink() {
        // After the owner: a change of owner clears the set-id bits.
        chmodat(
            CWD,
            to,
            Mode::from_raw_mode(meta.mode() & 0o7777),
            AtFlags::empty(),
        )?;
    }
    extended_attributes(from, to)?;
    let times = Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: meta.atime(),
            tv_nsec: meta.atime_nsec() as _,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: meta.mtime(),
            tv_nsec: meta.mtime_nsec() as _,
        },
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn extended_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        // A file system without them has none to copy.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        // Overlay's own marks mean nothing outside it.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let name = CString::new(name).map_err(io::Error::other)?;
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(from, &name, &mut value[..])?;
        let value = value.get(..length).unwrap_or_default();
        match rustix::fs::lsetxattr(to, &name, value, XattrFlags::empty()) {
            // The volume's file system may not know this kind.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Bytes that the files under `root` take; what cannot be read counts nothing.
pub(crate) fn tree_size(root: &Path) -> u64 {
    let mut total = 0_u64;
    let mut seen: HashMap<(u64, u64), ()> = HashMap::new();
    let mut folders = vec![root.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            count += 1;
            if count > ENTRIES_MAX {
                return total;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino()), ()).is_none() {
                total = total.saturating_add(meta.size());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_empty_volume_takes_the_images_tree_and_a_full_one_does_not() {
        let base = std::env::temp_dir().join(format!("skep-copy-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let (image, volume) = (base.join("image"), base.join("volume"));
        fs::create_dir_all(image.join("sub")).expect("makes");
        fs::create_dir_all(&volume).expect("makes");
        fs::write(image.join("sub/a"), "text").expect("writes");
        fs::set_permissions(image.join("sub/a"), fs::Permissions::from_mode(0o4711)).expect("sets");
        fs::hard_link(image.join("sub/a"), image.join("b")).expect("links");
        std::os::unix::fs::symlink("/nowhere", image.join("l")).expect("links");

        assert!(copy_up(&image, &volume).expect("copies"));
        let copy = fs::metadata(volume.join("sub/a")).expect("is there");
        assert_eq!(copy.permissions().mode() & 0o7777, 0o4711);
        assert_eq!(
            copy.ino(),
            fs::metadata(volume.join("b")).expect("is there").ino()
        );
        assert_eq!(
            fs::read_link(volume.join("l")).expect("is a link"),
            Path::new("/nowhere")
        );
        assert_eq!(tree_size(&volume), 4 + 8);

        fs::write(image.join("later"), "x").expect("writes");
        assert!(!copy_up(&image, &volume).expect("leaves it"));
        assert!(!volume.join("later").exists());
        let _ = fs::remove_dir_all(&base);
    }
}
