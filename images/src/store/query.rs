//! Questions to the store: which image a name means, what there is, how it
//! was made, what it takes. Nothing here changes anything.

use crate::{
    config::ImageConfig,
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
    reference::Reference,
    store::{
        Distribution, Image, LayerStep, Store, Summary, Usage, lock,
        table::{Record, Table, Variant},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Something a name led to.
pub(crate) struct Found {
    pub(crate) record: Record,
    /// The variant the name itself says (by id or manifest digest).
    pub(crate) variant: Option<Variant>,
    /// It was found by (the start of) its id, not by a name.
    pub(crate) by_id: bool,
}

impl Store {
    /// Finds an image by name, `name@digest`, id or the start of an id; of
    /// several variants the one for `platform`, or the best for this machine,
    /// or, as Docker does, any there is.
    pub fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let state = lock(&self.inner.state);
        let found = find(&state.table, name)?;
        let variant = match (found.variant, platform) {
            (Some(variant), None) => variant,
            (Some(variant), Some(wanted)) if wanted.rank(&variant.platform).is_some() => variant,
            (Some(_), Some(wanted)) => return Err(no_variant(name, wanted)),
            (None, wanted) => choose(&found.record, wanted)
                .ok_or_else(|| no_variant(name, wanted.unwrap_or(&Platform::host())))?
                .clone(),
        };
        self.image(&state.table, &found.record, &variant)
    }

    /// All images, the newest first; those with several names once.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let state = lock(&self.inner.state);
        let mut images: BTreeMap<Digest, Image> = BTreeMap::new();
        for record in state
            .table
            .records
            .values()
            .filter(|record| !record.is_removed)
        {
            let Some(variant) = choose(record, None) else {
                continue;
            };
            if !images.contains_key(&variant.id) {
                match self.image(&state.table, record, variant) {
                    Ok(image) => drop(images.insert(image.id, image)),
                    // One damaged blob must not hide all other images.
                    Err(e) => log::warn!("image {}: {e}", variant.id),
                }
            }
        }
        let mut users: BTreeMap<Digest, u32> = BTreeMap::new();
        for chain in images.values().flat_map(|image| &image.chain) {
            *users.entry(*chain).or_insert(0) += 1;
        }
        let layers = &state.table.layers;
        let shared = |image: &Image| {
            let both = image
                .chain
                .iter()
                .filter(|chain| users.get(chain).is_some_and(|n| *n > 1));
            both.filter_map(|chain| layers.get(chain)).sum()
        };
        let mut all: Vec<Summary> = images
            .into_values()
            .map(|image| Summary {
                shared_size: shared(&image),
                image,
            })
            .collect();
        all.sort_by(|a, b| b.image.config.created.cmp(&a.image.config.created));
        Ok(all)
    }

    /// How many images there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let state = lock(&self.inner.state);
        let live = state
            .table
            .records
            .values()
            .filter(|record| !record.is_removed);
        let ids = live.filter_map(|record| choose(record, None).map(|variant| variant.id));
        ids.collect::<BTreeSet<Digest>>().len()
    }

    /// How an image came to be, newest step first.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<LayerStep>> {
        let image = self.resolve(name, platform)?;
        let state = lock(&self.inner.state);
        let mut sizes = image
            .chain
            .iter()
            .map(|c| state.table.layers.get(c).copied().unwrap_or(0));
        let mut steps = Vec::new();
        for step in &image.config.history {
            let size = if step.empty_layer {
                0
            } else {
                sizes.next().unwrap_or(0)
            };
            steps.push(LayerStep {
                id: None,
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                comment: step.comment.clone(),
                tags: Vec::new(),
                size,
            });
        }
        // Images without a history still have layers to show.
        steps.extend(sizes.map(|size| LayerStep {
            id: None,
            created: image.config.created.clone(),
            created_by: String::new(),
            comment: String::new(),
            tags: Vec::new(),
            size,
        }));
        if let Some(newest) = steps.last_mut() {
            newest.id = Some(image.id);
            newest.tags.clone_from(&image.repo_tags);
        }
        steps.reverse();
        Ok(steps)
    }

    /// What a registry would tell of the name, told from here.
    pub fn distribution(&self, name: &str) -> Result<Distribution> {
        let state = lock(&self.inner.state);
        let record = find(&state.table, name)?.record;
        let platforms = record
            .variants
            .iter()
            .map(|variant| variant.platform.clone())
            .collect();
        Ok(Distribution {
            descriptor: record.target,
            platforms,
        })
    }

    /// What the store takes on disk.
    pub fn disk_usage(&self) -> Result<Usage> {
        let images = self.list()?;
        let layers_size = lock(&self.inner.state).table.layers.values().sum();
        Ok(Usage {
            layers_size,
            blobs_size: self.inner.blobs.total(),
            images,
        })
    }

    /// Everything known of one variant of one record. Its names are those of
    /// all records with the same image in them.
    pub(crate) fn image(&self, table: &Table, record: &Record, variant: &Variant) -> Result<Image> {
        let config = ImageConfig::parse(&self.inner.blobs.document(&variant.id)?)
            .map_err(|e| e.within(variant.id))?;
        let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
        let mut tagged_at = record.loaded_at;
        for (name, tagged) in &table.tags {
            if !table
                .records
                .get(&tagged.target)
                .is_some_and(|r| has(r, &variant.id))
            {
                continue;
            }
            let Ok(name) = name.parse::<Reference>() else {
                continue;
            };
            tags.insert(name.familiar());
            digests.insert(format!("{}@{}", name.familiar_repository(), tagged.target));
            tagged_at = tagged_at.max(tagged.at);
        }
        Ok(Image {
            id: variant.id,
            manifest: variant.manifest,
            target: record.target.clone(),
            platform: variant.platform.clone(),
            config,
            repo_tags: tags.into_iter().collect(),
            repo_digests: digests.into_iter().collect(),
            size: variant
                .chain
                .iter()
                .filter_map(|chain| table.layers.get(chain))
                .sum(),
            chain: variant.chain.clone(),
            tagged_at,
        })
    }
}

fn has(record: &Record, id: &Digest) -> bool {
    !record.is_removed && record.variants.iter().any(|variant| variant.id == *id)
}

/// The variant for `wanted`; without a wish the best for this machine, else
/// the first.
pub(crate) fn choose<'a>(record: &'a Record, wanted: Option<&Platform>) -> Option<&'a Variant> {
    let best = |platform: &Platform| {
        let ranked = record
            .variants
            .iter()
            .filter_map(|v| Some((platform.rank(&v.platform)?, v)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, variant)| variant)
    };
    match wanted {
        Some(platform) => best(platform),
        None => best(&Platform::host()).or_else(|| record.variants.first()),
    }
}

/// By exact image id, also among the removed but used.
pub(crate) fn find_id(table: &Table, id: &Digest) -> Option<(Record, Variant)> {
    let mut records: Vec<&Record> = table.records.values().collect();
    records.sort_by_key(|record| record.is_removed);
    records.into_iter().find_map(|record| {
        let variant = record.variants.iter().find(|variant| variant.id == *id)?;
        Some((record.clone(), variant.clone()))
    })
}

/// The image id that stands for a target in `docker images`.
pub(crate) fn id_of(table: &Table, target: &Digest) -> Option<Digest> {
    choose(table.records.get(target)?, None).map(|variant| variant.id)
}

/// Docker's order: a whole id or digest, a name, the start of an id.
pub(crate) fn find(table: &Table, name: &str) -> Result<Found> {
    let exact = name.strip_prefix("sha256:").unwrap_or(name);
    if let Ok(digest) = Digest::from_hex(exact) {
        return by_digest(table, &digest)
            .map(|found| Found {
                by_id: true,
                ..found
            })
            .ok_or_else(|| Error::not_found(format!("No such image: {digest}")));
    }
    let reference = name.parse::<Reference>();
    if let Ok(reference) = &reference {
        let by_name = match &reference.digest {
            // The digest says it all: a tag beside it may have moved on.
            Some(digest) => by_digest(table, digest),
            None => {
                let tagged = table.tags.get(&reference.clone().tagged().to_string());
                tagged
                    .and_then(|tagged| table.records.get(&tagged.target))
                    .map(|record| Found {
                        record: record.clone(),
                        variant: None,
                        by_id: false,
                    })
            }
        };
        if let Some(found) = by_name {
            return Ok(found);
        }
    }
    if let Some(found) = by_prefix(table, exact)? {
        return Ok(found);
    }
    let familiar = reference?.tagged().familiar();
    Err(Error::not_found(format!("No such image: {familiar}")))
}

fn by_digest(table: &Table, digest: &Digest) -> Option<Found> {
    let live = || table.records.values().filter(|record| !record.is_removed);
    if let Some(record) = live().find(|record| record.target.digest == *digest) {
        return Some(Found {
            record: record.clone(),
            variant: None,
            by_id: false,
        });
    }
    live().find_map(|record| {
        let is_it = |v: &&Variant| v.id == *digest || v.manifest == *digest;
        let variant = record.variants.iter().find(is_it)?;
        Some(Found {
            record: record.clone(),
            variant: Some(variant.clone()),
            by_id: false,
        })
    })
}

fn by_prefix(table: &Table, start: &str) -> Result<Option<Found>> {
    if start.is_empty() || !start.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut matches: BTreeMap<Digest, Found> = BTreeMap::new();
    for record in table.records.values().filter(|record| !record.is_removed) {
        for variant in record
            .variants
            .iter()
            .filter(|v| v.id.hex().starts_with(start))
        {
            let (record, variant) = (record.clone(), Some(variant.clone()));
            matches.insert(
                variant
                    .as_ref()
                    .map_or(record.target.digest, |variant| variant.id),
                Found {
                    record,
                    variant,
                    by_id: true,
                },
            );
        }
        let target = record.target.digest;
        if target.hex().starts_with(start)
            && let Some(id) = id_of(table, &target)
        {
            let found = Found {
                record: record.clone(),
                variant: None,
                by_id: true,
            };
            matches.entry(id).or_insert(found);
        }
    }
    if matches.len() > 1 {
        return Err(Error::invalid(format!(
            "ambiguous reference: multiple IDs found with provided prefix: {start}"
        )));
    }
    Ok(matches.into_values().next())
}

fn no_variant(name: &str, wanted: &Platform) -> Error {
    Error::not_found(format!(
        "image with reference {name} was found but does not provide the specified platform ({wanted})"
    ))
}
