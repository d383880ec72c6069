//! The files of an archive or folder become blobs under their digests, and a
//! list says which path had which. Order does not matter, memory is constant,
//! and a file named by a digest must have it.

use crate::{
    compression::Decoder,
    digest::Digest,
    error::{Error, Result},
    store::{Inner, Lease, Stored},
    unpack::{
        root::{Root, clean},
        stream::{Bounds, each_member, skip},
    },
};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::{collections::BTreeMap, fs::File, io::Read, os::fd::AsFd, path::Path};

/// Links followed to find one file: old Docker chains none of them.
const LINKS_MAX: usize = 8;
const BLOB_FOLDER: &str = "blobs/sha256/";

/// Where the files of an archive are now.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    files: BTreeMap<String, Stored>,
    /// Link → path it leads to, both from the archive's root.
    links: BTreeMap<String, String>,
}

impl Contents {
    /// The file at a path, through links.
    pub(crate) fn find(&self, path: &str) -> Option<Stored> {
        let mut path = normal(path.as_bytes()).ok()?;
        for _ in 0..LINKS_MAX {
            if let Some(stored) = self.files.get(&path) {
                return Some(*stored);
            }
            path.clone_from(self.links.get(&path)?);
        }
        None
    }

    /// The same, or Docker's words for a file that is not there.
    pub(crate) fn get(&self, path: &str) -> Result<Stored> {
        self.find(path)
            .ok_or_else(|| Error::invalid(format!("open {path}: no such file or directory")))
    }
}

/// Reads a tar, packed or not, to its end.
pub(crate) fn from_stream(
    inner: &Inner,
    lease: &mut Lease,
    from: &mut dyn Read,
) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut bytes = Decoder::new(from, inner.limits)?;
    let bounds = Bounds {
        entries_max: inner.limits.archive_entries_max,
        bytes_max: inner.limits.archive_bytes_max,
    };
    each_member(&mut bytes, &bounds, &mut |member, body| {
        let kind = member.kind;
        if kind.is_pax_global_extensions() || kind.is_dir() {
            return clean(&member.name).map(|_| ());
        }
        let path = normal(&member.name)?;
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let stored = lease.write(body, promised(&path)?)?;
            contents.links.remove(&path);
            contents.files.insert(path, stored);
        } else if kind.is_symlink() || kind.is_hard_link() {
            let from_root = kind.is_hard_link() || member.link.starts_with(b"/");
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = if from_root { "" } else { folder };
            let target = [folder.as_bytes(), b"/", &member.link].concat();
            let target = normal(&target).map_err(|e| e.within("its link"))?;
            contents.files.remove(&path);
            contents.links.insert(path, target);
        } else {
            return Err(Error::invalid(format!(
                "an image archive has files, folders and links only, not type {}",
                kind.as_byte()
            )));
        }
        Ok(())
    })?;
    skip(&mut bytes)?;
    Ok(contents)
}

/// Reads an OCI layout's folder. Links are not followed.
pub(crate) fn from_folder(lease: &mut Lease, folder: &Path) -> Result<Contents> {
    let within = |e: Error| e.within(folder.display());
    let root = Root::open(folder).map_err(within)?;
    let mut contents = Contents::default();
    for sub in ["", BLOB_FOLDER] {
        let Ok(fd) = root.folder_without_links(&clean(sub.as_bytes())?) else {
            continue;
        };
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let path = format!("{sub}{}", entry.file_name().to_string_lossy());
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(fd.as_fd(), entry.file_name(), flags, Mode::empty())
            else {
                continue;
            };
            let mode = rustix::fs::fstat(&file)?.st_mode;
            if FileType::from_raw_mode(mode) == FileType::RegularFile {
                let entry = |e: Error| e.within(format_args!("entry {path:?}"));
                let expected = promised(&path).map_err(entry)?;
                let stored = lease
                    .write(&mut File::from(file), expected)
                    .map_err(entry)?;
                contents.files.insert(path, stored);
            }
        }
    }
    Ok(contents)
}

/// The digest a path promises for its content, if it is a blob's.
fn promised(path: &str) -> Result<Option<Digest>> {
    match path.strip_prefix(BLOB_FOLDER) {
        Some(hex) => Digest::from_hex(hex).map(Some),
        None => Ok(None),
    }
}

/// A cleaned path as text.
fn normal(path: &[u8]) -> Result<String> {
    let components = clean(path)?;
    String::from_utf8(components.join(&b'/')).map_err(|_| Error::invalid("its name is not UTF-8"))
}
