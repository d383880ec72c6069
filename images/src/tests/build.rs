//! Archives made by hand, so that they can be wrong in any one way.

use crate::{
    Digest, Platform, Store,
    config::{ImageConfig, RootFs},
    limits::Limits,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Write, path::Path};
use tar::{EntryType, Header};

/// A tar under construction. Names are taken as they are.
#[derive(Clone, Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn header(
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        size: u64,
        mode: u32,
    ) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        header
    }

    /// A member as it is; the body is padded.
    pub(super) fn raw(mut self, header: &Header, body: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let size = body.len() as u64;
        let named = if name.len() > 100 {
            self.long_name(name.as_bytes())
        } else {
            self
        };
        let short = &name.as_bytes()[..name.len().min(100)];
        named.raw(
            &Self::header(EntryType::Regular, short, b"", size, 0o644),
            body,
        )
    }

    pub(super) fn long_name(self, name: &[u8]) -> Self {
        let header = Self::header(
            EntryType::GNULongName,
            b"././@LongLink",
            b"",
            name.len() as u64 + 1,
            0,
        );
        self.raw(&header, &[name, b"\0"].concat())
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.raw(
            &Self::header(EntryType::Directory, name.as_bytes(), b"", 0, 0o755),
            b"",
        )
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        let header = Self::header(
            EntryType::Symlink,
            name.as_bytes(),
            target.as_bytes(),
            0,
            0o777,
        );
        self.raw(&header, b"")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        let header = Self::header(
            EntryType::Link,
            name.as_bytes(),
            target.as_bytes(),
            0,
            0o644,
        );
        self.raw(&header, b"")
    }

    pub(super) fn device(self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, name.as_bytes(), b"", 0, 0o600);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.raw(&header, b"")
    }

    /// PAX records for the next member.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            length = rest + length.to_string().len();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let header = Self::header(EntryType::XHeader, b"pax", b"", body.len() as u64, 0o644);
        self.raw(&header, &body)
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Blobs and index entries on their way into an archive.
#[derive(Clone, Default)]
pub(super) struct Layout {
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    pub(super) index: Vec<Value>,
}

/// A descriptor's JSON.
pub(super) fn link(bytes: &[u8]) -> Value {
    json!({"digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

impl Layout {
    pub(super) fn blob(&mut self, bytes: &[u8]) -> Value {
        self.blobs.insert(Digest::of(bytes).hex(), bytes.to_vec());
        link(bytes)
    }

    /// Stores an image's blobs; gives its manifest's descriptor. Layers are
    /// (as stored, uncompressed).
    pub(super) fn image(&mut self, platform: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> Value {
        let config = config(
            platform,
            layers.iter().map(|(_, plain)| Digest::of(plain)).collect(),
        );
        let config = self.blob(&config);
        let layers: Vec<Value> = layers.iter().map(|(stored, _)| self.blob(stored)).collect();
        // No media types at all, as umoci writes.
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut descriptor = self.blob(manifest.to_string().as_bytes());
        let platform: Platform = platform.parse().unwrap();
        descriptor["platform"] = serde_json::to_value(platform).unwrap();
        descriptor
    }

    pub(super) fn name(&mut self, mut descriptor: Value, name: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.index.push(descriptor);
    }

    pub(super) fn tar(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.index}).to_string();
        let mut tar = Tar::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        tar = tar
            .folder("blobs/")
            .folder("blobs/sha256/")
            .file("index.json", index);
        for (hex, bytes) in &self.blobs {
            tar = tar.file(&format!("blobs/sha256/{hex}"), bytes);
        }
        tar.done()
    }

    pub(super) fn write(&self, to: &Path) {
        fs::create_dir_all(to.join("blobs/sha256")).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": self.index}).to_string();
        fs::write(to.join("index.json"), index).unwrap();
        for (hex, bytes) in &self.blobs {
            fs::write(to.join("blobs/sha256").join(hex), bytes).unwrap();
        }
    }
}

pub(super) fn config(platform: &str, diff_ids: Vec<Digest>) -> Vec<u8> {
    let platform: Platform = platform.parse().unwrap();
    let mut config = ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        created: Some("2024-01-02T03:04:05Z".into()),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids,
        },
        ..ImageConfig::default()
    };
    config.config.cmd = Some(vec!["/hello".into()]);
    serde_json::to_vec(&config).unwrap()
}

/// Layers stored as they are.
pub(super) fn plain(layers: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    layers
        .iter()
        .map(|layer| (layer.clone(), layer.clone()))
        .collect()
}

/// A one-image layout for this machine.
pub(super) fn layout(name: &str, layers: &[Vec<u8>]) -> Layout {
    let mut layout = Layout::default();
    let image = layout.image(&Platform::host().to_string(), &plain(layers));
    layout.name(image, name);
    layout
}

pub(super) fn hello() -> Vec<u8> {
    Tar::new()
        .folder("etc/")
        .file("etc/hello", "hello")
        .file("hello", "#!")
        .done()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Limits that a test's archives can reach.
pub(super) fn small() -> Limits {
    Limits {
        layer_entries_max: 2_000,
        layer_bytes_max: 16 << 20,
        expansion_max: 50,
        expansion_free_bytes: 1 << 20,
        archive_entries_max: 200,
        archive_bytes_max: 64 << 20,
    }
}

/// Every path below a folder, sorted.
pub(super) fn paths(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, base: &Path, all: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            all.push(
                entry
                    .path()
                    .strip_prefix(base)
                    .unwrap()
                    .display()
                    .to_string(),
            );
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), base, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(folder, folder, &mut all);
    all.sort();
    all
}

pub(super) fn load(store: &Store, archive: &[u8]) -> crate::Result<Vec<crate::Loaded>> {
    store.load(archive, &mut |_| {})
}
