//! A root file system's tar becomes an image of one layer.

use crate::{
    archive::load::{gather, layer_type, write_document},
    changes::apply,
    compression::Decoder,
    config::{HistoryStep, ImageConfig, RootFs},
    digest::Digest,
    digest::HashingReader,
    error::{Error, Result},
    manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST},
    platform::Platform,
    reference::Reference,
    store::{ImportOptions, Inner, Lease, Place, note_layers, now},
};
use std::{
    io::{self, Read},
    sync::Arc,
    time::SystemTime,
};

/// The comment Docker gives where the caller has none.
const COMMENT: &str = "Imported from -";

pub(crate) fn import(
    inner: &Arc<Inner>,
    from: &mut dyn Read,
    options: &ImportOptions,
) -> Result<Digest> {
    // What is cheap to refuse is refused before the tar is read.
    let name = match &options.name {
        None => None,
        Some(name) => Some(name.parse::<Reference>()?.tagged()),
    };
    if name.as_ref().is_some_and(|name| name.digest.is_some()) {
        return Err(Error::invalid("cannot import digest reference"));
    }
    let mut config = described(options)?;

    let mut lease = Lease::new(inner);
    let layer = lease.write(from, None)?;
    let diff_id = uncompressed_digest(inner, &layer.digest)?;
    let place = Place {
        chain: &[diff_id],
        diff_id,
        blob: layer.digest,
    };
    lease.ensure(place, &mut |_| {})?;
    config.rootfs = RootFs {
        kind: "layers".into(),
        diff_ids: vec![diff_id],
    };
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::internal(e.to_string()))?;
    let stored = lease.write(&mut bytes.as_slice(), None)?;
    let compression = inner.blobs.compression(&layer.digest)?;
    let target = write_document(
        &mut lease,
        &Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, stored.digest, stored.size),
            layers: vec![Descriptor::new(
                layer_type(compression),
                layer.digest,
                layer.size,
            )],
        },
    )?;
    let record = gather(inner, &mut lease, &target)?;
    inner.sync()?;
    inner.commit(|table, unpacked| {
        note_layers(table, unpacked, &[diff_id]);
        table.records.insert(target.digest, record);
        if let Some(name) = name {
            table.tag(name.to_string(), target.digest, now());
        }
    })?;
    Ok(stored.digest)
}

/// The config but for its layer.
fn described(options: &ImportOptions) -> Result<ImageConfig> {
    let platform = options
        .platform
        .clone()
        .unwrap_or_else(Platform::host)
        .normalised();
    let created = timestamp();
    let comment = options
        .message
        .clone()
        .filter(|m| !m.is_empty())
        .unwrap_or(COMMENT.into());
    let mut config = ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        created: Some(created.clone()),
        comment: comment.clone(),
        history: vec![HistoryStep {
            created: Some(created),
            comment,
            ..HistoryStep::default()
        }],
        ..ImageConfig::default()
    };
    for line in &options.changes {
        apply(line, &mut config.config)?;
    }
    Ok(config)
}

fn uncompressed_digest(inner: &Inner, blob: &Digest) -> Result<Digest> {
    let mut bytes = HashingReader::new(Decoder::new(inner.blobs.reader(blob)?, inner.limits)?);
    io::copy(&mut bytes, &mut io::sink())?;
    Ok(bytes.finish().0)
}

/// RFC 3339 with nanoseconds, as Docker writes it.
fn timestamp() -> String {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp(seconds, since.subsec_nanos()).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}
