//! One layer's tar, whatever it holds, becomes one folder and a verdict: the
//! digest of its uncompressed bytes and the size of its files. The folder is
//! the caller's to throw away when the verdict is an error.

pub(crate) mod root;
pub(crate) mod stream;
mod tree;

use crate::{
    compression::Decoder,
    digest::{Digest, HashingReader},
    error::Result,
    limits::Limits,
};
use root::Root;
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use stream::{Bounds, each_member, skip};
use tree::Tree;

/// What a layer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// Unpacks `blob` into the empty folder `into`. `below` are the folders of
/// the layers beneath, the nearest first. `progress` hears the bytes read.
pub(crate) fn unpack(
    blob: impl Read,
    into: &Path,
    below: &[PathBuf],
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Unpacked> {
    let parents = below
        .iter()
        .map(|path| Root::open(path))
        .collect::<Result<Vec<_>>>()?;
    let mut tree = Tree::new(Root::open(into)?, parents)?;
    let decoder = Decoder::new(blob, limits)?;
    let read = decoder.read_count();
    let mut bytes = HashingReader::new(decoder);
    let bounds = Bounds {
        entries_max: limits.layer_entries_max,
        bytes_max: limits.layer_bytes_max,
    };
    each_member(&mut bytes, &bounds, &mut |member, body| {
        progress(read.get());
        tree.add(member, body)
    })?;
    skip(&mut bytes)?;
    progress(read.get());
    let (diff_id, _) = bytes.finish();
    Ok(Unpacked {
        diff_id,
        size: tree.finish()?,
    })
}
