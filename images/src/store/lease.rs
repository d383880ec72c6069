//! What is being worked on stays: a lease pins the digests one operation has
//! touched, and when it ends takes away what the operation added and no image
//! came to need. A failed load therefore leaves the store as it was.

use crate::{
    digest::Digest,
    error::Result,
    store::{
        Inner,
        blobs::Stored,
        layers::{Place, empty_trash},
        lock,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::Arc,
};

/// Digests in use by running operations, counted. Blobs, chain ids and image
/// ids share the map: no two of them can be equal by chance.
pub(crate) type Pins = BTreeMap<Digest, usize>;

/// One operation's pins.
pub(crate) struct Lease {
    inner: Arc<Inner>,
    pinned: BTreeSet<Digest>,
    new_blobs: BTreeSet<Digest>,
    new_layers: BTreeSet<Digest>,
}

impl Lease {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            pinned: BTreeSet::new(),
            new_blobs: BTreeSet::new(),
            new_layers: BTreeSet::new(),
        }
    }

    pub(crate) fn pin(&mut self, digest: Digest) {
        if self.pinned.insert(digest) {
            *lock(&self.inner.state).pins.entry(digest).or_insert(0) += 1;
        }
    }

    /// Stores a stream as a blob.
    pub(crate) fn write(
        &mut self,
        from: &mut dyn Read,
        expected: Option<Digest>,
    ) -> Result<Stored> {
        let inner = Arc::clone(&self.inner);
        let (stored, is_new) = inner
            .blobs
            .write(from, expected, &mut |digest| self.pin(digest))?;
        if is_new {
            self.new_blobs.insert(stored.digest);
        }
        Ok(stored)
    }

    /// Makes a layer be there, and sure that the blob is one for it.
    pub(crate) fn ensure(&mut self, place: Place<'_>, progress: &mut dyn FnMut(u64)) -> Result<()> {
        for chain in place.chain {
            self.pin(*chain);
        }
        let inner = Arc::clone(&self.inner);
        let unpacked = inner
            .layers
            .ensure(&inner.blobs, place, inner.limits, progress)?;
        if let (Some(size), Some(own)) = (unpacked, place.chain.last()) {
            self.new_layers.insert(*own);
            lock(&self.inner.state).unpacked.insert(*own, size);
            return Ok(());
        }
        // The layer was here, so nobody has looked into this blob yet.
        if lock(&self.inner.state).table.blobs().contains(&place.blob) {
            return Ok(());
        }
        inner.layers.check(&inner.blobs, place, inner.limits)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut trash = Vec::new();
        {
            let mut state = lock(&self.inner.state);
            for digest in &self.pinned {
                if let Some(count) = state.pins.get_mut(digest) {
                    *count -= 1;
                    if *count == 0 {
                        state.pins.remove(digest);
                    }
                }
            }
            let needed = state.table.blobs();
            for digest in &self.new_blobs {
                if !needed.contains(digest) && !state.pins.contains_key(digest) {
                    self.inner.blobs.remove(digest);
                }
            }
            for chain in &self.new_layers {
                if !state.table.layers.contains_key(chain) && !state.pins.contains_key(chain) {
                    state.unpacked.remove(chain);
                    trash.extend(self.inner.layers.discard(chain).ok().flatten());
                }
            }
        }
        empty_trash(trash);
    }
}
