//! What the store's calls take and give.

use crate::{config::ImageConfig, digest::Digest, manifest::Descriptor, platform::Platform};

/// One image for one platform, whole and unpackable.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the config: what Docker calls the image's id.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// What tags point to: the manifest, or the index it was chosen from.
    pub target: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// The config document.
    pub config: ImageConfig,
    /// Familiar names, sorted.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`, sorted.
    pub repo_digests: Vec<String>,
    /// Bytes of the unpacked layers' files and links, as Docker counts.
    pub size: u64,
    /// Chain ids of the layers, bottom first.
    pub chain: Vec<Digest>,
    /// Unix seconds at which a tag last came to point here.
    pub tagged_at: i64,
}

/// One line of `docker images`: an image and what it shares.
#[derive(Clone, Debug)]
pub struct Summary {
    pub image: Image,
    /// Bytes of its layers that other images use too.
    pub shared_size: u64,
}

/// One container's use of an image, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Image id.
    pub image: Digest,
    /// Container id, for messages.
    pub container: String,
    /// A running container's image cannot be removed even by force.
    pub running: bool,
}

/// One image that a load brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Familiar name; `None` for an image that came without.
    pub name: Option<String>,
    /// Image id.
    pub id: Digest,
    /// The image that had this name until now.
    pub replaced: Option<Digest>,
}

/// How far a load is, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Uncompressed digest of the layer being unpacked.
    pub layer: Digest,
    /// Bytes of the layer's blob read so far.
    pub current: u64,
    /// Bytes of the layer's blob.
    pub total: u64,
}

/// What a removal did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A familiar name or `name@digest`.
    Untagged(String),
    /// An image or layer, `sha256:…`.
    Deleted(String),
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// Bytes.
    pub reclaimed: u64,
}

/// One line of `docker history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerStep {
    /// The image id for the newest line, else `None` (`<missing>`).
    pub id: Option<Digest>,
    /// RFC 3339, as the image says.
    pub created: Option<String>,
    pub created_by: String,
    pub comment: String,
    pub tags: Vec<String>,
    /// Bytes of the unpacked layer; 0 for steps without one.
    pub size: u64,
}

/// What `docker import` is told beside the tar.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Name to give; `None` leaves it unnamed.
    pub name: Option<String>,
    /// Dockerfile lines (`CMD …`).
    pub changes: Vec<String>,
    /// For the history.
    pub message: Option<String>,
    /// `None`: this machine's.
    pub platform: Option<Platform>,
}

/// What `/distribution/{name}/json` tells.
#[derive(Clone, Debug)]
pub struct Distribution {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

/// What the store takes on disk, for `system df`.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Bytes of all unpacked layers, each once.
    pub layers_size: u64,
    /// Bytes of all blobs.
    pub blobs_size: u64,
    pub images: Vec<Summary>,
}
