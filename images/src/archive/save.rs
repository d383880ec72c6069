//! Images out: one tar that is an OCI layout, byte for byte what came in, and
//! has Docker's `manifest.json` beside it for loaders that know only that.

use crate::{
    compression::{Compression, Decoder},
    digest::Digest,
    error::{Error, Result},
    manifest::{
        Descriptor, Document, Index, NAME_ANNOTATION, OCI_INDEX, OCI_MANIFEST, REF_NAME_ANNOTATION,
    },
    platform::Platform,
    reference::Reference,
    store::{Blobs, Image, Inner, Lease, Store, lock},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    sync::Arc,
};
use tar::{Builder, EntryType, Header};

/// Of files nobody should change in place.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// What goes into one archive.
#[derive(Default)]
struct Plan {
    index: Vec<Descriptor>,
    saved: BTreeMap<Digest, Saved>,
    blobs: BTreeSet<Digest>,
    /// Diff id → zstd blob, written unpacked as well: dockerd before 23 reads
    /// no zstd.
    unpacked: BTreeMap<Digest, Digest>,
}

pub(crate) fn save(
    store: &Store,
    inner: &Arc<Inner>,
    names: &[String],
    platform: Option<&Platform>,
    to: &mut dyn Write,
) -> Result<()> {
    // Keeps the blobs while a slow reader takes its time.
    let mut lease = Lease::new(inner);
    let mut plan = Plan::default();
    for name in names {
        plan.add(store, inner, &mut lease, name, platform)?;
    }
    let mut tar = Builder::new(to);
    for folder in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, folder, EntryType::Directory, 0, &mut io::empty())?;
    }
    for digest in &plan.blobs {
        let mut file = inner.blobs.reader(digest)?;
        let size = file.metadata()?.len();
        append(
            &mut tar,
            &Blobs::name(digest),
            EntryType::Regular,
            size,
            &mut file,
        )?;
    }
    for (diff_id, blob) in plan
        .unpacked
        .iter()
        .filter(|(id, _)| !plan.blobs.contains(id))
    {
        // Twice through the decoder: a tar wants the size first.
        let size = io::copy(
            &mut Decoder::new(inner.blobs.reader(blob)?, inner.limits)?,
            &mut io::sink(),
        )?;
        let mut bytes = Decoder::new(inner.blobs.reader(blob)?, inner.limits)?;
        append(
            &mut tar,
            &Blobs::name(diff_id),
            EntryType::Regular,
            size,
            &mut bytes,
        )?;
    }
    let index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests: plan.index,
    };
    let saved: Vec<Saved> = plan.saved.into_values().collect();
    append_json(&mut tar, "index.json", &index)?;
    append_json(&mut tar, "manifest.json", &saved)?;
    append_json(
        &mut tar,
        "oci-layout",
        &BTreeMap::from([("imageLayoutVersion", "1.0.0")]),
    )?;
    tar.finish()?;
    Ok(tar.into_inner()?.flush()?)
}

impl Plan {
    fn add(
        &mut self,
        store: &Store,
        inner: &Inner,
        lease: &mut Lease,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let images = named(store, inner, name, platform)?;
        for (image, names) in images {
            let record = lock(&inner.state)
                .table
                .records
                .get(&image.target.digest)
                .cloned();
            let record =
                record.ok_or_else(|| Error::not_found(format!("No such image: {name}")))?;
            // What cannot be pinned any more is gone, and reading it will say so.
            let blobs: BTreeSet<Digest> = match platform {
                None => record.blobs.clone(),
                Some(_) => parts(inner, &image)?,
            };
            blobs.iter().for_each(|digest| lease.pin(*digest));
            self.blobs.extend(blobs);
            let target = match platform {
                None => record.target.clone(),
                Some(_) => {
                    let size = inner.blobs.size(&image.manifest).unwrap_or(0);
                    let mut target = Descriptor::new(OCI_MANIFEST, image.manifest, size);
                    target.platform = Some(image.platform.clone());
                    target
                }
            };
            self.list(&target, &names);
            self.list_for_docker(inner, &image, &names)?;
        }
        Ok(())
    }

    /// Entries of `index.json`: one a name, one without for an unnamed image.
    fn list(&mut self, target: &Descriptor, names: &[Reference]) {
        let mut add = |descriptor: Descriptor| {
            if !self.index.contains(&descriptor) {
                self.index.push(descriptor);
            }
        };
        if names.is_empty() {
            add(target.clone());
        }
        for name in names {
            let mut descriptor = target.clone();
            let tag = name.tag.clone().unwrap_or_default();
            descriptor
                .annotations
                .insert(NAME_ANNOTATION.into(), name.to_string());
            descriptor
                .annotations
                .insert(REF_NAME_ANNOTATION.into(), tag);
            add(descriptor);
        }
    }

    /// The entry of `manifest.json`: the one variant that Docker would run.
    fn list_for_docker(&mut self, inner: &Inner, image: &Image, names: &[Reference]) -> Result<()> {
        let Document::Manifest(manifest) =
            Document::parse(&inner.blobs.document(&image.manifest)?)?
        else {
            return Err(Error::internal(format!(
                "{} is not a manifest",
                image.manifest
            )));
        };
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let zstd = inner.blobs.compression(&layer.digest)? == Compression::Zstd;
            if zstd {
                self.unpacked.insert(*diff_id, layer.digest);
            }
            layers.push(Blobs::name(if zstd { diff_id } else { &layer.digest }));
        }
        let config = Blobs::name(&image.id);
        let entry = self.saved.entry(image.id).or_insert_with(|| Saved {
            config,
            repo_tags: Vec::new(),
            layers,
        });
        for name in names.iter().map(Reference::familiar) {
            if !entry.repo_tags.contains(&name) {
                entry.repo_tags.push(name);
            }
        }
        Ok(())
    }
}

/// The images an argument means, with the names it asks for: an id has none,
/// a repository without a tag means all its tags.
fn named(
    store: &Store,
    inner: &Inner,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Vec<(Image, Vec<Reference>)>> {
    let reference = name.parse::<Reference>().ok();
    let reference = reference.filter(|reference| reference.digest.is_none());
    let names: Vec<Reference> = match reference {
        None => Vec::new(),
        Some(reference) if reference.tag.is_some() => vec![reference],
        Some(reference) => {
            let state = lock(&inner.state);
            let all = state
                .table
                .tags
                .keys()
                .filter_map(|name| name.parse::<Reference>().ok());
            all.filter(|known| known.repository() == reference.repository())
                .collect()
        }
    };
    let by_name = |name: &Reference| {
        lock(&inner.state)
            .table
            .tags
            .contains_key(&name.to_string())
    };
    if names.is_empty() || !names.iter().all(by_name) {
        return Ok(vec![(store.resolve(name, platform)?, Vec::new())]);
    }
    let each = names.into_iter().map(|name| {
        let image = store.resolve(&name.to_string(), platform)?;
        Ok((image, vec![name]))
    });
    each.collect()
}

/// The blobs of one variant alone.
fn parts(inner: &Inner, image: &Image) -> Result<BTreeSet<Digest>> {
    let mut parts = BTreeSet::from([image.manifest, image.id]);
    match Document::parse(&inner.blobs.document(&image.manifest)?)? {
        Document::Manifest(manifest) => parts.extend(manifest.layers.iter().map(|l| l.digest)),
        Document::Index(_) => {}
    }
    Ok(parts)
}

fn append_json(
    tar: &mut Builder<&mut dyn Write>,
    path: &str,
    value: &impl Serialize,
) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::internal(e.to_string()))?;
    append(
        tar,
        path,
        EntryType::Regular,
        bytes.len() as u64,
        &mut bytes.as_slice(),
    )
}

fn append(
    tar: &mut Builder<&mut dyn Write>,
    path: &str,
    kind: EntryType,
    size: u64,
    body: &mut dyn Read,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() {
        FOLDER_MODE
    } else {
        FILE_MODE
    });
    header.set_uid(0);
    header.set_gid(0);
    // Of no meaning, and the same bytes each time.
    header.set_mtime(0);
    Ok(tar.append_data(&mut header, path, body)?)
}
