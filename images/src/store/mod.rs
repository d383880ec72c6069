//! The store of one node: blobs by digest, unpacked layers by chain id, and
//! the table of images and tags. `Store` is cheap to clone and may be used
//! from any thread; one process at a time has a store open.

use crate::{
    config::ImageConfig,
    digest::Digest,
    error::{Error, Result},
    manifest::Descriptor,
    platform::Platform,
};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A node's images.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
}

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
    /// Bytes of the unpacked layers.
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

/// Keeps an image and its layers from being removed while it lives.
#[derive(Debug)]
pub struct Hold {
    _private: (),
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

impl Store {
    /// Opens (or makes) the store in a node's data folder, removing what a
    /// crash left half made.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                root: data_dir.to_owned(),
            }),
        })
    }

    /// Finds an image by name, `name@digest`, id or the start of an id; of
    /// several variants the one for `platform`, or the best for this machine.
    pub fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let _ = platform;
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// Keeps the image and its layers in place until the hold is dropped.
    /// Take one between resolving an image and recording its use.
    pub fn hold(&self, id: &Digest) -> Hold {
        let _ = id;
        Hold { _private: () }
    }

    /// The folders of the image's layers, bottom first, ready as overlayfs
    /// lower folders; unpacks what is not there yet.
    pub fn layers(&self, id: &Digest) -> Result<Vec<PathBuf>> {
        Err(Error::not_found(format!(
            "No such image: {id} in {}",
            self.inner.root.display()
        )))
    }

    /// Reads an archive: `docker save`'s, old or new, or an OCI layout's,
    /// plain or compressed. Either all its images are here afterwards or none.
    pub fn load(
        &self,
        from: impl Read,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Loaded>> {
        let _ = (from, progress);
        Ok(Vec::new())
    }

    /// Reads an OCI layout from a folder.
    pub fn load_folder(
        &self,
        from: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Loaded>> {
        let _ = (from, progress);
        Ok(Vec::new())
    }

    /// Writes the named images as one archive that `docker load` accepts.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        to: impl Write,
    ) -> Result<()> {
        let _ = (names, platform, to);
        Ok(())
    }

    /// Makes an image of one layer from a root file system's tar.
    pub fn import(&self, from: impl Read, options: &ImportOptions) -> Result<Digest> {
        let _ = (from, options);
        Err(Error::internal("import"))
    }

    /// Gives an image one more name; gives the image that had it until now.
    pub fn tag(&self, image: &str, name: &str) -> Result<Option<Digest>> {
        let _ = (image, name);
        Ok(None)
    }

    /// Takes a name away, and the image when that was its last one, by
    /// Docker's rules.
    pub fn remove(&self, name: &str, force: bool, uses: &[Use]) -> Result<Vec<Removed>> {
        let _ = (name, force, uses);
        Ok(Vec::new())
    }

    /// Removes unused images: those without a name, or with `all` every one
    /// that no container uses; `keep` spares further ones.
    pub fn prune(&self, all: bool, uses: &[Use], keep: &dyn Fn(&Image) -> bool) -> Result<Pruned> {
        let _ = (all, uses, keep);
        Ok(Pruned::default())
    }

    /// All images, newest first.
    pub fn list(&self) -> Result<Vec<Summary>> {
        Ok(Vec::new())
    }

    /// How an image came to be, newest step first.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<LayerStep>> {
        let _ = (name, platform);
        Ok(Vec::new())
    }

    /// What a registry would tell of the name, told from here.
    pub fn distribution(&self, name: &str) -> Result<Distribution> {
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// What the store takes on disk.
    pub fn disk_usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Removes what no image, no hold and none of `used` (image ids) needs;
    /// gives the bytes freed.
    pub fn gc(&self, used: &BTreeSet<Digest>) -> Result<u64> {
        let _ = used;
        Ok(0)
    }
}
