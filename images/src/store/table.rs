//! The one small file that says which images there are: records by the digest
//! that tags point to, tags, and the unpacked layers known to be durable.
//! Written whole beside the old one and renamed over it, after everything it
//! speaks of has reached the disk; so it is always true.

use crate::{
    config::null_as_default,
    digest::Digest,
    error::{Error, Result},
    manifest::Descriptor,
    platform::Platform,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Of the file's layout; an unknown one is refused, not guessed at.
const VERSION: u32 = 1;
const FILE: &str = "table.json";
const DRAFT: &str = "table.json.new";

/// One image for one platform inside a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variant {
    /// Digest of the config: the image id.
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    pub(crate) platform: Platform,
    /// Chain ids, bottom first.
    pub(crate) chain: Vec<Digest>,
}

/// What a tag can point to: a manifest, or an index with its whole variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) target: Descriptor,
    pub(crate) variants: Vec<Variant>,
    /// Every blob the record needs, its own included.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Unix seconds.
    pub(crate) loaded_at: i64,
    /// Removed by force while a container used it: kept for that container
    /// and shown to no one.
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) is_removed: bool,
}

/// Where a canonical name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tagged {
    pub(crate) target: Digest,
    /// Unix seconds.
    pub(crate) at: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    version: u32,
    pub(crate) records: BTreeMap<Digest, Record>,
    /// By canonical `domain/path:tag`.
    pub(crate) tags: BTreeMap<String, Tagged>,
    /// Chain id of each unpacked layer → bytes of its files.
    pub(crate) layers: BTreeMap<Digest, u64>,
}

impl Table {
    /// Reads the table of a store; a store without one has an empty table.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let damaged = |why: String| {
            Error::internal(format!(
                "image table {} is damaged: {why}; remove it to go on with no images",
                path.display()
            ))
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::from(e).within(path.display())),
        };
        let table: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if table.version != VERSION {
            return Err(damaged(format!(
                "version {} is not {VERSION}",
                table.version
            )));
        }
        Ok(table)
    }

    /// Makes this table the one that a next start reads.
    pub(crate) fn write(&mut self, folder: &Path) -> Result<()> {
        self.version = VERSION;
        let draft = folder.join(DRAFT);
        let within = |e: std::io::Error| Error::from(e).within(draft.display());
        let bytes = serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))?;
        let mut file = File::create(&draft).map_err(within)?;
        file.write_all(&bytes).map_err(within)?;
        file.sync_all().map_err(within)?;
        fs::rename(&draft, folder.join(FILE)).map_err(within)?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(within)
    }

    /// All blobs that some record needs.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        self.records
            .values()
            .flat_map(|record| record.blobs.iter().copied())
            .collect()
    }

    /// All layers that some record would need unpacked.
    pub(crate) fn chains(&self) -> BTreeSet<Digest> {
        let variants = self.records.values().flat_map(|record| &record.variants);
        variants
            .flat_map(|variant| variant.chain.iter().copied())
            .collect()
    }

    /// Canonical names that lead to a record.
    pub(crate) fn names_of<'a>(&'a self, target: &'a Digest) -> impl Iterator<Item = &'a String> {
        self.tags
            .iter()
            .filter(move |(_, tagged)| tagged.target == *target)
            .map(|(name, _)| name)
    }

    /// Points a name at a record; gives where it pointed before, if elsewhere.
    pub(crate) fn tag(&mut self, name: String, target: Digest, at: i64) -> Option<Digest> {
        if let Some(record) = self.records.get_mut(&target) {
            record.is_removed = false;
        }
        match self.tags.get(&name) {
            Some(tagged) if tagged.target == target => None,
            _ => self
                .tags
                .insert(name, Tagged { target, at })
                .map(|before| before.target),
        }
    }
}
