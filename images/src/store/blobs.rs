//! Blobs on disk: `blobs/sha256/<hex>`, each written under another name
//! first and renamed when its digest is known and, where one was promised,
//! right. A name in the folder therefore tells what is in the file.

use crate::{
    compression::Compression,
    digest::{Digest, Hasher, HashingReader},
    error::{Error, Result},
    limits::COPY_BYTES,
    manifest::DOCUMENT_BYTES_MAX,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

pub(crate) struct Blobs {
    folder: PathBuf,
    drafts: PathBuf,
    serial: AtomicU64,
}

/// A blob's name and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
}

impl Blobs {
    /// Opens the folders and throws unfinished writes away.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("blobs/sha256");
        let drafts = root.join("blobs/ingest");
        make_folder(&folder)?;
        if drafts.exists() {
            fs::remove_dir_all(&drafts).map_err(|e| at(&drafts, e))?;
        }
        make_folder(&drafts)?;
        Ok(Self {
            folder,
            drafts,
            serial: AtomicU64::new(0),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|data| data.len())
    }

    /// The name under which messages know a blob, as in an OCI layout.
    pub(crate) fn name(digest: &Digest) -> String {
        format!("blobs/sha256/{}", digest.hex())
    }

    /// Opens a blob; an absent one is told in Docker's words.
    pub(crate) fn reader(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::invalid(format!(
                "open {}: no such file or directory",
                Self::name(digest)
            )),
            _ => Error::from(e).within(Self::name(digest)),
        })
    }

    /// A JSON document's bytes, checked again: flash forgets.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.reader(digest)?;
        let within = |e: io::Error| Error::from(e).within(Self::name(digest));
        file.take(DOCUMENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(within)?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "{}: more than {DOCUMENT_BYTES_MAX} bytes are too many for a JSON document",
                Self::name(digest)
            )));
        }
        if Digest::of(&bytes) != *digest {
            let message = format!(
                "{}: damaged on disk: load the image again",
                Self::name(digest)
            );
            return Err(Error::internal(message));
        }
        Ok(bytes)
    }

    /// How a blob is packed, by its first bytes.
    pub(crate) fn compression(&self, digest: &Digest) -> Result<Compression> {
        let mut head = Vec::new();
        let within = |e: io::Error| Error::from(e).within(Self::name(digest));
        self.reader(digest)?
            .take(8)
            .read_to_end(&mut head)
            .map_err(within)?;
        Compression::sniff(&head).map_err(within)
    }

    /// Writes a stream to its place. `claim` is called with the digest before
    /// the blob appears under it, so that a collection running beside this
    /// cannot take it away again. Says whether the blob is new here.
    pub(crate) fn write(
        &self,
        from: &mut dyn Read,
        expected: Option<Digest>,
        claim: &mut dyn FnMut(Digest),
    ) -> Result<(Stored, bool)> {
        if let Some(digest) = expected {
            claim(digest);
            if self.path(&digest).exists() {
                // Already here: its copy is only checked, which spares flash.
                let mut bytes = HashingReader::new(from);
                io::copy(&mut bytes, &mut io::sink())?;
                let (found, size) = bytes.finish();
                check(found, digest)?;
                return Ok((Stored { digest, size }, false));
            }
        }
        let draft = Draft(
            self.drafts
                .join(self.serial.fetch_add(1, Ordering::Relaxed).to_string()),
        );
        let (digest, size) = draft.fill(from)?;
        if let Some(expected) = expected {
            check(digest, expected)?;
        }
        claim(digest);
        let path = self.path(&digest);
        let is_new = !path.exists();
        fs::rename(&draft.0, &path).map_err(|e| at(&path, e))?;
        Ok((Stored { digest, size }, is_new))
    }

    /// Removes a blob; gives the bytes freed.
    pub(crate) fn remove(&self, digest: &Digest) -> u64 {
        let size = self.size(digest).unwrap_or(0);
        match fs::remove_file(self.path(digest)) {
            Ok(()) => size,
            Err(_) => 0,
        }
    }

    /// Removes every blob not in `keep`; gives the bytes freed.
    pub(crate) fn sweep(&self, keep: &BTreeSet<Digest>) -> Result<u64> {
        let mut freed = 0;
        for entry in fs::read_dir(&self.folder).map_err(|e| at(&self.folder, e))? {
            let entry = entry.map_err(|e| at(&self.folder, e))?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_some_and(|digest| keep.contains(&digest)) {
                continue;
            }
            freed += entry.metadata().map_or(0, |data| data.len());
            fs::remove_file(entry.path()).map_err(|e| at(&entry.path(), e))?;
        }
        Ok(freed)
    }

    /// Bytes of all blobs.
    pub(crate) fn total(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|data| data.len())
            .sum()
    }
}

/// A file that is gone again unless renamed away.
struct Draft(PathBuf);

impl Draft {
    fn fill(&self, from: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut file = File::create_new(&self.0).map_err(|e| at(&self.0, e))?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        let mut size = 0;
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                return Ok((hasher.finish(), size));
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            hasher.update(bytes);
            file.write_all(bytes)?;
            size += n as u64;
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Absent when it was renamed to its place.
        let _ = fs::remove_file(&self.0);
    }
}

fn check(found: Digest, expected: Digest) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "its content has the digest {found}, its name says {expected}"
    )))
}

/// A folder of the store: root's alone, as layers contain set-id programs.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| at(path, e))
}

pub(crate) fn at(path: &Path, e: io::Error) -> Error {
    Error::from(e).within(path.display())
}
