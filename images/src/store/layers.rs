//! Unpacked layers: `layers/<chain id>` is a folder overlayfs can use as it
//! is. Each is filled under another name and renamed when its tar had the
//! digest the image's config promises. Two callers that need one layer at the
//! same time unpack it once.

use crate::{
    compression::Decoder,
    digest::{Digest, HashingReader},
    error::{Error, Result},
    limits::Limits,
    store::{
        blobs::{Blobs, at, make_folder},
        lock,
    },
    unpack::{Unpacked, unpack},
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Names that start so are unfinished or on their way out.
const DRAFT: &str = ".draft-";
const TRASH: &str = ".trash-";

pub(crate) struct Layers {
    folder: PathBuf,
    serial: AtomicU64,
    /// Layers being unpacked right now.
    busy: Mutex<BTreeSet<Digest>>,
    done: Condvar,
}

/// Where a layer is in its image, and what it must turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Chain ids of the image up to and with this layer.
    pub(crate) chain: &'a [Digest],
    pub(crate) diff_id: Digest,
    pub(crate) blob: Digest,
}

impl Place<'_> {
    fn expect(&self, found: Digest) -> Result<()> {
        if found == self.diff_id {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "layer {}: its content has the digest {found}, the image's config says {}",
            self.blob, self.diff_id
        )))
    }
}

/// Chain ids of layers by their diff ids, bottom first: OCI's definition.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}

impl Layers {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("layers");
        make_folder(&folder)?;
        Ok(Self {
            folder,
            serial: AtomicU64::new(0),
            busy: Mutex::default(),
            done: Condvar::new(),
        })
    }

    pub(crate) fn path(&self, chain: &Digest) -> PathBuf {
        self.folder.join(chain.hex())
    }

    /// Makes the layer be there. `Some` bytes if this call unpacked it; its
    /// folder is then whole but not yet known to be durable.
    pub(crate) fn ensure(
        &self,
        blobs: &Blobs,
        place: Place<'_>,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<u64>> {
        let Some((own, below)) = place.chain.split_last() else {
            return Ok(None);
        };
        let _turn = self.turn(*own);
        if self.path(own).exists() {
            return Ok(None);
        }
        let draft = Draft(self.unused(DRAFT));
        make_folder(&draft.0)?;
        let parents: Vec<PathBuf> = below.iter().rev().map(|chain| self.path(chain)).collect();
        let blob = blobs.reader(&place.blob)?;
        let Unpacked { diff_id, size } = unpack(blob, &draft.0, &parents, limits, progress)
            .map_err(|e| e.within(format_args!("layer {}", place.blob)))?;
        place.expect(diff_id)?;
        let path = self.path(own);
        fs::rename(&draft.0, &path).map_err(|e| at(&path, e))?;
        Ok(Some(size))
    }

    /// Holds a blob against the digest its layer must have, without unpacking.
    pub(crate) fn check(&self, blobs: &Blobs, place: Place<'_>, limits: Limits) -> Result<()> {
        if place.blob == place.diff_id {
            return Ok(());
        }
        let within = |e: io::Error| Error::from(e).within(format_args!("layer {}", place.blob));
        let decoder = Decoder::new(blobs.reader(&place.blob)?, limits).map_err(within)?;
        let mut bytes = HashingReader::new(decoder);
        io::copy(&mut bytes, &mut io::sink()).map_err(within)?;
        place.expect(bytes.finish().0)
    }

    /// Moves a layer out of sight; the caller removes the rest without haste.
    pub(crate) fn discard(&self, chain: &Digest) -> Result<Option<PathBuf>> {
        let trash = self.unused(TRASH);
        match fs::rename(self.path(chain), &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&self.path(chain), e)),
        }
    }

    /// Moves every layer not in `keep` out of sight, unfinished ones too when
    /// nobody is at work yet.
    pub(crate) fn discard_all_but(
        &self,
        keep: &BTreeSet<Digest>,
        unfinished_too: bool,
    ) -> Result<Vec<PathBuf>> {
        let mut trash = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|e| at(&self.folder, e))? {
            let entry = entry.map_err(|e| at(&self.folder, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match Digest::from_hex(&name) {
                Ok(chain) if keep.contains(&chain) => {}
                Ok(chain) => trash.extend(self.discard(&chain)?),
                Err(_) if unfinished_too || name.starts_with(TRASH) => trash.push(entry.path()),
                Err(_) => {}
            }
        }
        Ok(trash)
    }

    /// Waits until no one else unpacks the layer.
    fn turn(&self, chain: Digest) -> Turn<'_> {
        let mut busy = lock(&self.busy);
        while !busy.insert(chain) {
            busy = self
                .done
                .wait(busy)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        Turn {
            layers: self,
            chain,
        }
    }

    fn unused(&self, prefix: &str) -> PathBuf {
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let path = self.folder.join(format!("{prefix}{serial}"));
            if !path.exists() {
                return path;
            }
        }
    }
}

/// Removes discarded folders. What cannot be removed now is found again at
/// the next start.
pub(crate) fn empty_trash(trash: Vec<PathBuf>) {
    for path in trash {
        if let Err(e) = fs::remove_dir_all(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {e}", path.display());
        }
    }
}

struct Turn<'a> {
    layers: &'a Layers,
    chain: Digest,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.layers.busy).remove(&self.chain);
        self.layers.done.notify_all();
    }
}

struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        if self.0.exists() {
            empty_trash(vec![self.0.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_ocis() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain, [a, Digest::of(format!("{a} {b}").as_bytes())]);
        assert!(chain_ids(&[]).is_empty());
    }
}
