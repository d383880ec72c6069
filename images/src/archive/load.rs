//! What an archive's files say becomes images: OCI's `index.json`, Docker's
//! `manifest.json`, or both. Every digest, size and count is held against
//! every other before anything is given a name, and then all of it appears at
//! once.

use crate::{
    archive::intake::{self, Contents},
    compression::Compression,
    config::{ImageConfig, null_as_default},
    digest::Digest,
    error::{Error, Result},
    manifest::{
        Descriptor, Document, INDEX_ENTRIES_MAX, Index, LAYERS_MAX, Manifest, NAME_ANNOTATION,
        OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
        REF_NAME_ANNOTATION,
    },
    platform::Platform,
    reference::Reference,
    store::{
        Blobs, Inner, Lease, LoadProgress, Loaded, Place, Record, Table, Variant, chain_ids,
        note_layers, now,
    },
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::Path,
    sync::Arc,
};

/// Indexes inside indexes: real ones have two levels.
const NESTING_MAX: usize = 4;

/// An image that is whole in the store but not in its table yet.
struct Incoming {
    record: Record,
    names: Vec<Reference>,
}

/// One entry of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<String>,
}

pub(crate) fn load_stream(
    inner: &Arc<Inner>,
    from: &mut dyn Read,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Vec<Loaded>> {
    let mut lease = Lease::new(inner);
    let contents = intake::from_stream(inner, &mut lease, from)?;
    finish(inner, &mut lease, &contents, None, progress)
}

pub(crate) fn load_folder(
    inner: &Arc<Inner>,
    folder: &Path,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Vec<Loaded>> {
    let mut lease = Lease::new(inner);
    let contents = intake::from_folder(&mut lease, folder)?;
    let base = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    finish(inner, &mut lease, &contents, base.as_deref(), progress)
}

fn finish(
    inner: &Arc<Inner>,
    lease: &mut Lease,
    contents: &Contents,
    base: Option<&str>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Vec<Loaded>> {
    let mut incoming = read_layout(inner, lease, contents, base)?;
    read_saved(inner, lease, contents, &mut incoming)?;
    if incoming.is_empty() {
        return Err(Error::invalid(
            "invalid archive: it contains no image: neither a usable index.json nor a manifest.json",
        ));
    }
    for one in &incoming {
        // The one this node would run; the others wait until they are asked for.
        if let Some(variant) = crate::store::choose(&one.record, None) {
            unpack_variant(inner, lease, variant, progress)?;
        }
    }
    inner.sync()?;
    inner.commit(|table, unpacked| {
        incoming
            .iter()
            .flat_map(|one| enter(table, unpacked, one))
            .collect()
    })
}

/// Puts one image into the table under its names.
fn enter(table: &mut Table, unpacked: &BTreeMap<Digest, u64>, one: &Incoming) -> Vec<Loaded> {
    let target = one.record.target.digest;
    for variant in &one.record.variants {
        note_layers(table, unpacked, &variant.chain);
    }
    let record = table
        .records
        .entry(target)
        .or_insert_with(|| one.record.clone());
    record.is_removed = false;
    for variant in &one.record.variants {
        if !record.variants.contains(variant) {
            record.variants.push(variant.clone());
        }
    }
    record.blobs.extend(&one.record.blobs);
    let Some(id) = crate::store::id_of(table, &target) else {
        return Vec::new();
    };
    if one.names.is_empty() {
        return vec![Loaded {
            name: None,
            id,
            replaced: None,
        }];
    }
    let mut loaded = Vec::new();
    for name in &one.names {
        let before = table.tag(name.to_string(), target, now());
        let replaced = before.and_then(|before| crate::store::id_of(table, &before));
        let replaced = replaced.filter(|before| *before != id);
        loaded.push(Loaded {
            name: Some(name.familiar()),
            id,
            replaced,
        });
    }
    loaded
}

/// Unpacks all layers of a variant that are not unpacked yet.
pub(crate) fn unpack_variant(
    inner: &Inner,
    lease: &mut Lease,
    variant: &Variant,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<()> {
    let manifest = inner.blobs.document(&variant.manifest)?;
    let config = ImageConfig::parse(&inner.blobs.document(&variant.id)?)?;
    let Document::Manifest(manifest) = Document::parse(&manifest)? else {
        return Err(Error::invalid(format!(
            "{} is not a manifest",
            variant.manifest
        )));
    };
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    for (depth, (layer, diff_id)) in layers.enumerate() {
        let place = Place {
            chain: variant.chain.get(..=depth).unwrap_or_default(),
            diff_id: *diff_id,
            blob: layer.digest,
        };
        lease.ensure(place, &mut |current| {
            progress(LoadProgress {
                layer: *diff_id,
                current,
                total: layer.size,
            });
        })?;
    }
    Ok(())
}

/// `index.json`: each entry is an image, or an index of its variants.
fn read_layout(
    inner: &Inner,
    lease: &mut Lease,
    contents: &Contents,
    base: Option<&str>,
) -> Result<Vec<Incoming>> {
    let Some(index) = contents.find("index.json") else {
        return Ok(Vec::new());
    };
    let index =
        Index::parse(&inner.blobs.document(&index.digest)?).map_err(|e| e.within("index.json"))?;
    let mut incoming: Vec<Incoming> = Vec::new();
    for descriptor in index
        .manifests
        .iter()
        .filter(|descriptor| !descriptor.is_attestation())
    {
        let name = name_of(descriptor, base)?;
        let same = |one: &&mut Incoming| one.record.target.digest == descriptor.digest;
        if let Some(known) = incoming.iter_mut().find(same) {
            known.names.extend(name);
            continue;
        }
        let record = gather(inner, lease, descriptor)?;
        incoming.push(Incoming {
            record,
            names: name.into_iter().collect(),
        });
    }
    Ok(incoming)
}

/// The name an index entry is annotated with. OCI's own annotation may be a
/// bare tag: then only a folder's name can say of what.
fn name_of(descriptor: &Descriptor, base: Option<&str>) -> Result<Option<Reference>> {
    let annotation = |key| descriptor.annotations.get(key).map(String::as_str);
    let text = match (
        annotation(NAME_ANNOTATION),
        annotation(REF_NAME_ANNOTATION),
        base,
    ) {
        (Some(name), _, _) => name.to_owned(),
        (None, Some(name), _) if name.contains([':', '/']) => name.to_owned(),
        (None, Some(tag), Some(base)) => format!("{base}:{tag}"),
        _ => return Ok(None),
    };
    named(&text).map(Some)
}

fn named(text: &str) -> Result<Reference> {
    let name: Reference = text
        .parse()
        .map_err(|e: Error| e.within(format_args!("invalid tag {text:?}")))?;
    Ok(Reference {
        digest: None,
        ..name
    }
    .tagged())
}

/// `manifest.json`: names for what the layout brought, or, without one, images
/// whose manifests are still to be written.
fn read_saved(
    inner: &Inner,
    lease: &mut Lease,
    contents: &Contents,
    incoming: &mut Vec<Incoming>,
) -> Result<()> {
    let Some(file) = contents.find("manifest.json") else {
        return Ok(());
    };
    let all: Vec<Saved> = serde_json::from_slice(&inner.blobs.document(&file.digest)?)
        .map_err(|e| Error::invalid(format!("manifest.json: {e}")))?;
    if all.len() > INDEX_ENTRIES_MAX {
        return Err(Error::invalid(format!(
            "manifest.json: {} images, at most {INDEX_ENTRIES_MAX} are allowed",
            all.len()
        )));
    }
    for saved in all {
        let names = saved
            .repo_tags
            .iter()
            .map(|tag| named(tag))
            .collect::<Result<Vec<_>>>()?;
        let id = contents.get(&saved.config)?.digest;
        let is_it = |one: &&mut Incoming| one.record.variants.iter().any(|v| v.id == id);
        let known = match incoming.iter_mut().find(is_it) {
            Some(known) => known,
            None => {
                let target = write_manifest(inner, lease, contents, &saved)?;
                let record = gather(inner, lease, &target)?;
                incoming.push(Incoming {
                    record,
                    names: Vec::new(),
                });
                let Some(added) = incoming.last_mut() else {
                    continue;
                };
                added
            }
        };
        for name in names {
            if !known.names.contains(&name) {
                known.names.push(name);
            }
        }
    }
    Ok(())
}

/// The manifest that an old archive does not have. The same archive gives the
/// same bytes on every node, so their digests can be compared.
fn write_manifest(
    inner: &Inner,
    lease: &mut Lease,
    contents: &Contents,
    saved: &Saved,
) -> Result<Descriptor> {
    if saved.layers.len() > LAYERS_MAX {
        return Err(Error::invalid(format!(
            "manifest.json: {} layers, at most {LAYERS_MAX} are allowed",
            saved.layers.len()
        )));
    }
    let config = contents.get(&saved.config)?;
    let mut layers = Vec::new();
    for path in &saved.layers {
        let layer = contents.get(path)?;
        let compression = inner
            .blobs
            .compression(&layer.digest)
            .map_err(|e| e.within(format_args!("entry {path:?}")))?;
        layers.push(Descriptor::new(
            layer_type(compression),
            layer.digest,
            layer.size,
        ));
    }
    write_document(
        lease,
        &Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, config.digest, config.size),
            layers,
        },
    )
}

pub(super) fn write_document(lease: &mut Lease, manifest: &Manifest) -> Result<Descriptor> {
    let bytes = serde_json::to_vec(manifest).map_err(|e| Error::internal(e.to_string()))?;
    let stored = lease.write(&mut bytes.as_slice(), None)?;
    Ok(Descriptor::new(OCI_MANIFEST, stored.digest, stored.size))
}

pub(super) fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Plain => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    }
}

/// Follows a target to all it needs. Variants that are not wholly here are
/// left out, unless it is the very one this node wants.
pub(super) fn gather(inner: &Inner, lease: &mut Lease, target: &Descriptor) -> Result<Record> {
    let mut walk = Walk {
        blobs: &inner.blobs,
        lease,
        variants: Vec::new(),
        needed: BTreeSet::new(),
        missing: Vec::new(),
        visited: 0,
    };
    let media_type = walk.visit(target, 0)?;
    let Walk {
        variants,
        needed,
        missing,
        ..
    } = walk;
    let host = Platform::host();
    let best = variants
        .iter()
        .filter_map(|v| host.rank(&v.platform))
        .min()
        .unwrap_or(usize::MAX);
    for (platform, error) in missing {
        let is_wanted =
            platform.is_some_and(|platform| host.rank(&platform).is_some_and(|rank| rank < best));
        if is_wanted || variants.is_empty() {
            return Err(error);
        }
    }
    if variants.is_empty() {
        let message = format!("image index {} has no image in it", target.digest);
        return Err(Error::invalid(message));
    }
    let size = inner.blobs.size(&target.digest).unwrap_or(target.size);
    Ok(Record {
        target: Descriptor::new(&media_type, target.digest, size),
        variants,
        blobs: needed,
        loaded_at: now(),
        is_removed: false,
    })
}

struct Walk<'a> {
    blobs: &'a Blobs,
    lease: &'a mut Lease,
    variants: Vec<Variant>,
    needed: BTreeSet<Digest>,
    /// Variants that cannot be used: the platform if its manifest is here.
    missing: Vec<(Option<Platform>, Error)>,
    visited: usize,
}

impl Walk<'_> {
    /// Takes in a manifest or index; gives its media type, found out where
    /// the document does not say it.
    fn visit(&mut self, link: &Descriptor, depth: usize) -> Result<String> {
        self.visited += 1;
        if depth > NESTING_MAX || self.visited > INDEX_ENTRIES_MAX {
            let message = format!("index {} nests too deep or is too long", link.digest);
            return Err(Error::invalid(message));
        }
        if let Err(e) = self.check(link) {
            if depth == 0 || self.blobs.size(&link.digest).is_some() {
                return Err(e);
            }
            self.missing.push((None, e));
            return Ok(String::new());
        }
        let within = |e: Error| e.within(Blobs::name(&link.digest));
        let document = Document::parse(&self.blobs.document(&link.digest)?).map_err(within)?;
        match document {
            Document::Index(index) => {
                self.needed.insert(link.digest);
                for child in &index.manifests {
                    if child.is_attestation() {
                        self.keep_attestation(child);
                    } else {
                        self.visit(child, depth + 1)?;
                    }
                }
                Ok(or(index.media_type, OCI_INDEX))
            }
            Document::Manifest(manifest) => {
                self.take(link, &manifest).map_err(within)?;
                Ok(or(manifest.media_type, OCI_MANIFEST))
            }
        }
    }

    /// One variant: all of it is here and agrees, or it is missing.
    fn take(&mut self, link: &Descriptor, manifest: &Manifest) -> Result<()> {
        if let Err(e) = self.check(&manifest.config) {
            self.missing.push((link.platform.clone(), e));
            return Ok(());
        }
        let config = ImageConfig::parse(&self.blobs.document(&manifest.config.digest)?)
            .map_err(|e| e.within(Blobs::name(&manifest.config.digest)))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let platform = platform_of(link, &config);
        for layer in &manifest.layers {
            if let Err(e) = self.check(layer) {
                if self.blobs.size(&layer.digest).is_some() {
                    return Err(e);
                }
                self.missing.push((Some(platform), e));
                return Ok(());
            }
        }
        self.needed.extend([link.digest, manifest.config.digest]);
        self.needed
            .extend(manifest.layers.iter().map(|layer| layer.digest));
        let variant = Variant {
            id: manifest.config.digest,
            manifest: link.digest,
            platform,
            chain: chain_ids(diff_ids),
        };
        if !self.variants.contains(&variant) {
            self.variants.push(variant);
        }
        Ok(())
    }

    /// Provenance goes out again as it came in, if it is here.
    fn keep_attestation(&mut self, link: &Descriptor) {
        if self.check(link).is_err() {
            return;
        }
        let document = self
            .blobs
            .document(&link.digest)
            .and_then(|bytes| Document::parse(&bytes));
        let Ok(Document::Manifest(manifest)) = document else {
            return;
        };
        let parts: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
        if parts.iter().all(|part| self.check(part).is_ok()) {
            self.needed.insert(link.digest);
            self.needed.extend(parts.iter().map(|part| part.digest));
        }
    }

    /// The blob is here and as long as its descriptor says. Pinned first, so
    /// that it stays.
    fn check(&mut self, link: &Descriptor) -> Result<()> {
        self.lease.pin(link.digest);
        let name = Blobs::name(&link.digest);
        match self.blobs.size(&link.digest) {
            None => Err(Error::invalid(format!(
                "open {name}: no such file or directory"
            ))),
            Some(size) if size != link.size => Err(Error::invalid(format!(
                "{name}: it has {size} bytes, its descriptor says {}",
                link.size
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// The config's word; an index may add the variant an old config lacks.
fn platform_of(link: &Descriptor, config: &ImageConfig) -> Platform {
    let own = config.platform();
    match &link.platform {
        Some(listed) if config.architecture.is_empty() => listed.clone().normalised(),
        Some(listed) if config.variant.is_empty() => {
            let listed = listed.clone().normalised();
            if listed.architecture == own.architecture {
                listed
            } else {
                own
            }
        }
        _ => own,
    }
}

fn or(text: String, default: &str) -> String {
    if text.is_empty() {
        default.into()
    } else {
        text
    }
}
