//! Manifests and indexes, OCI's and Docker's schema 2, read by their content:
//! several tools leave `mediaType` out, indexes nest, and BuildKit puts
//! attestations for `unknown/unknown` beside the images. Pure.

use crate::{
    config::null_as_default,
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The annotation under which containerd and Docker keep the full name.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// OCI's annotation for a name or only a tag.
pub(crate) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Docker's own limit on layers; overlayfs takes 500, mount options fewer.
pub(crate) const LAYERS_MAX: usize = 127;
/// Descriptors in one index; real ones hold two a platform.
pub(crate) const INDEX_ENTRIES_MAX: usize = 1024;
/// Bytes of one JSON document; a registry's limit is 4 MiB.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// A typed, sized, digested link to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// BuildKit's provenance and the like: listed beside images, not images.
    pub(crate) fn is_attestation(&self) -> bool {
        let unknown = |p: &Platform| p.os == "unknown" && p.architecture == "unknown";
        self.platform.as_ref().is_some_and(unknown)
            || self
                .annotations
                .get("vnd.docker.reference.type")
                .is_some_and(|t| t.starts_with("attestation"))
    }
}

/// One image for one platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) schema_version: u32,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) layers: Vec<Descriptor>,
}

/// Several images, or further indexes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) schema_version: u32,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) media_type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a blob that should describe an image turned out to be.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Told apart by what is in it, as the media type may be absent or wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Shape {
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
            #[serde(rename = "fsLayers")]
            fs_layers: Option<serde::de::IgnoredAny>,
        }
        let wrong = |e: serde_json::Error| Error::invalid(format!("not a manifest: {e}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(wrong)?;
        match shape {
            // Both at once is how one document is made to mean two images.
            Shape {
                manifests: Some(_),
                config: Some(_),
                ..
            } => Err(Error::invalid(
                "not a manifest: it has both \"manifests\" and \"config\"",
            )),
            Shape {
                manifests: Some(_), ..
            } => Index::parse(bytes).map(Self::Index),
            Shape {
                config: Some(_), ..
            } => Manifest::parse(bytes).map(Self::Manifest),
            Shape {
                fs_layers: Some(_), ..
            } => Err(Error::invalid(
                "manifest of schema version 1 is not supported",
            )),
            _ => Err(Error::invalid(
                "not a manifest: neither \"config\" nor \"manifests\" is in it",
            )),
        }
    }
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("not a manifest: {e}")))?;
        if manifest.layers.len() > LAYERS_MAX {
            return Err(Error::invalid(format!(
                "manifest has {} layers, at most {LAYERS_MAX} are allowed",
                manifest.layers.len()
            )));
        }
        Ok(manifest)
    }
}

impl Index {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("not an image index: {e}")))?;
        if index.manifests.len() > INDEX_ENTRIES_MAX {
            return Err(Error::invalid(format!(
                "image index has {} entries, at most {INDEX_ENTRIES_MAX} are allowed",
                index.manifests.len()
            )));
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_known_by_their_content() {
        let digest = Digest::of(b"x");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":null}}"#
        );
        assert!(matches!(
            Document::parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        let index = format!(
            r#"{{"manifests":[{{"mediaType":null,"digest":"{digest}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#
        );
        match Document::parse(index.as_bytes()) {
            Ok(Document::Index(index)) => assert!(index.manifests[0].is_attestation()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_documents_say_what_is_wrong() {
        for (bytes, part) in [
            ("", "EOF"),
            ("{}", "neither"),
            (r#"{"manifests":[],"config":{}}"#, "both"),
            (r#"{"fsLayers":[]}"#, "schema version 1"),
            (
                r#"{"config":{"digest":"sha256:../../x","size":1}}"#,
                "checksum digest",
            ),
            (
                r#"{"config":{"digest":"sha256:../../x","size":-1}}"#,
                "digest",
            ),
        ] {
            let refused = Document::parse(bytes.as_bytes()).expect_err(bytes);
            assert!(refused.message.contains(part), "{refused}");
        }
    }
}
