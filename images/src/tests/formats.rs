//! Every form an image may come in, and that it goes out as it came.

use super::build::*;
use crate::{Digest, ImportOptions, Kind, Platform, Store};
use serde_json::json;
use std::fs;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with(folder.path(), small()).unwrap();
    (folder, store)
}

/// An archive as Docker wrote it before 25.
fn old_docker() -> Vec<u8> {
    let (a, b) = (hello(), Tar::new().file("second", "2").done());
    let config = config(
        &Platform::host().to_string(),
        vec![Digest::of(&a), Digest::of(&b), Digest::of(&a)],
    );
    let hex = Digest::of(&config).hex();
    let saved = json!([{"Config": format!("{hex}.json"), "RepoTags": ["web:1", "web:latest"],
        "Layers": ["aaa/layer.tar", "bbb/layer.tar", "ccc/layer.tar"]}]);
    Tar::new()
        .folder("aaa/")
        .file("aaa/VERSION", "1.0")
        .file("aaa/json", "{}")
        .file("aaa/layer.tar", &a)
        .folder("bbb/")
        .file("bbb/layer.tar", &b)
        .folder("ccc/")
        .symlink("ccc/layer.tar", "../aaa/layer.tar")
        .file(&format!("{hex}.json"), &config)
        .file("manifest.json", saved.to_string())
        .file("repositories", "{}")
        .done()
}

#[test]
fn an_old_docker_archive_with_links_between_layers() {
    let (folder, store) = store();
    let loaded = load(&store, &old_docker()).unwrap();
    let names: Vec<_> = loaded.iter().map(|l| l.name.clone().unwrap()).collect();
    assert_eq!(names, ["web:1", "web:latest"]);
    let image = store.resolve("web", None).unwrap();
    assert_eq!(image.repo_tags, ["web:1", "web:latest"]);
    assert_eq!(store.layers(&image.id).unwrap().len(), 3);
    assert_eq!(
        image.config.config.cmd.as_deref(),
        Some(&["/hello".to_owned()][..])
    );
    assert_eq!(image.size, 15);
    // Only what the image needs stays: two layers, config, manifest.
    assert_eq!(paths(&folder.path().join("blobs/sha256")).len(), 4);
    assert!(
        load(&store, &old_docker())
            .unwrap()
            .iter()
            .all(|l| l.replaced.is_none())
    );
    // The same archive, packed, is the same image to the last digest.
    let (_other_folder, other) = self::store();
    load(&other, &gzip(&old_docker())).unwrap();
    assert_eq!(other.resolve("web:1", None).unwrap().target, image.target);
    let (_third_folder, third) = self::store();
    load(&third, &zstd(&old_docker())).unwrap();
    assert_eq!(third.resolve("web:1", None).unwrap().id, image.id);
}

#[test]
fn layers_of_every_packing_from_tar_and_folder() {
    let tars: Vec<Vec<u8>> = (0..3)
        .map(|n| Tar::new().file(&format!("f{n}"), "x").done())
        .collect();
    let mut layout = Layout::default();
    let layers = [
        (gzip(&tars[0]), tars[0].clone()),
        (zstd(&tars[1]), tars[1].clone()),
        (tars[2].clone(), tars[2].clone()),
    ];
    let image = layout.image(&Platform::host().to_string(), &layers);
    layout.name(image, "mixed:1");
    let (_folder, store) = store();
    let mut heard = Vec::new();
    let loaded = store
        .load(&layout.tar()[..], &mut |p| heard.push(p))
        .unwrap();
    assert_eq!(loaded[0].name.as_deref(), Some("mixed:1"));
    assert!(
        heard
            .iter()
            .any(|p| p.layer == Digest::of(&tars[1]) && p.current == p.total)
    );
    for (n, dir) in store.layers(&loaded[0].id).unwrap().iter().enumerate() {
        assert!(dir.join(format!("f{n}")).exists());
    }

    let (folder, other) = self::store();
    let path = folder.path().join("app");
    layout.index[0]["annotations"]["org.opencontainers.image.ref.name"] = json!("v1");
    layout.write(&path);
    let loaded = other.load_folder(&path, &mut |_| {}).unwrap();
    assert_eq!(loaded[0].name.as_deref(), Some("app:v1"));
    // In a tar a bare tag says of nothing what it is a tag of.
    let unnamed = load(&store, &layout.tar()).unwrap();
    assert_eq!(unnamed[0].name, None);
}

#[test]
fn of_nested_variants_the_nodes_own_is_unpacked_and_the_others_kept() {
    let host = Platform::host().to_string();
    let foreign = if host.contains("arm64") {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    let mut layout = Layout::default();
    let own = layout.image(&host, &plain(&[hello()]));
    let other = layout.image(foreign, &plain(&[Tar::new().file("foreign", "x").done()]));
    // Listed, but its blobs are not in the archive.
    let mut absent = json!({"digest": Digest::of(b"absent").to_string(), "size": 9});
    absent["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let config = layout.blob(b"{}");
    let statement = layout.blob(b"{\"predicate\":1}");
    let attestation = json!({"config": config, "layers": [statement]}).to_string();
    let mut attestation = layout.blob(attestation.as_bytes());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let inner = json!({"manifests": [other, attestation, absent, own]}).to_string();
    let inner = layout.blob(inner.as_bytes());
    let outer = layout.blob(json!({"manifests": [inner]}).to_string().as_bytes());
    layout.name(outer.clone(), "multi:1");

    let (folder, store) = store();
    load(&store, &layout.tar()).unwrap();
    let image = store.resolve("multi:1", None).unwrap();
    assert_eq!(image.platform.to_string(), host);
    assert_eq!(image.target.digest.to_string(), outer["digest"]);
    assert_eq!(store.distribution("multi:1").unwrap().platforms.len(), 2);
    let foreign: Platform = foreign.parse().unwrap();
    let theirs = store.resolve("multi:1", Some(&foreign)).unwrap();
    assert_eq!(theirs.platform, foreign);
    assert_eq!(
        paths(&folder.path().join("layers"))
            .iter()
            .filter(|p| !p.contains('/'))
            .count(),
        1
    );
    assert!(
        store.layers(&theirs.id).unwrap()[0]
            .join("foreign")
            .exists()
    );
    let none: Platform = "linux/riscv64".parse().unwrap();
    let error = store.resolve("multi:1", Some(&none)).unwrap_err();
    assert!(
        error
            .message
            .ends_with("does not provide the specified platform (linux/riscv64)")
    );

    // Out and in again: same target, same variants, attestation included.
    let mut saved = Vec::new();
    store.save(&["multi:1".into()], None, &mut saved).unwrap();
    let (_other_folder, other) = self::store();
    load(&other, &saved).unwrap();
    let again = other.resolve("multi:1", None).unwrap();
    assert_eq!((again.id, &again.target), (image.id, &image.target));
    assert!(other.resolve("multi:1", Some(&foreign)).is_ok());
    // One variant alone.
    let mut one = Vec::new();
    store
        .save(&["multi:1".into()], Some(&foreign), &mut one)
        .unwrap();
    let (_third_folder, third) = self::store();
    load(&third, &one).unwrap();
    assert_eq!(third.resolve("multi:1", None).unwrap().id, theirs.id);
}

#[test]
fn saving_gives_what_an_old_docker_can_read() {
    let tar = hello();
    let mut layout = Layout::default();
    let image = layout.image(&Platform::host().to_string(), &[(zstd(&tar), tar.clone())]);
    layout.name(image, "z:1");
    let (_folder, store) = store();
    load(&store, &layout.tar()).unwrap();
    store.tag("z:1", "z:2").unwrap();
    let mut saved = Vec::new();
    store.save(&["z".into()], None, &mut saved).unwrap();
    let mut archive = tar::Archive::new(&saved[..]);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["z:1", "z:2"]));
    let layer = manifest[0]["Layers"][0].as_str().unwrap();
    assert!(files[layer] == tar, "dockerd before 23 knows no zstd");
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn importing_a_root_file_system() {
    let (_folder, store) = store();
    let changes = ["CMD [\"/hello\"]", "ENV A=1", "EXPOSE 80"]
        .map(String::from)
        .to_vec();
    let name = Some("own/base:1".to_owned());
    let options = ImportOptions {
        name,
        changes,
        message: Some("why".into()),
        platform: None,
    };
    let id = store.import(&gzip(&hello())[..], &options).unwrap();
    let image = store.resolve("own/base:1", None).unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.config.config.env, ["A=1"]);
    assert_eq!(image.platform, Platform::host());
    let history = store.history("own/base:1", None).unwrap();
    assert_eq!(
        (history.len(), history[0].size, history[0].comment.as_str()),
        (1, 7, "why")
    );
    assert_eq!(history[0].id, Some(id));
    let dirs = store.layers(&id).unwrap();
    assert_eq!(fs::read(dirs[0].join("etc/hello")).unwrap(), b"hello");
    let bad = ImportOptions {
        changes: vec!["RUN x".into()],
        ..ImportOptions::default()
    };
    assert_eq!(
        store.import(&hello()[..], &bad).unwrap_err().kind,
        Kind::Invalid
    );
    let before = store.list().unwrap().len();
    assert!(
        store
            .import(
                &Tar::new().file("../x", "").done()[..],
                &ImportOptions::default()
            )
            .is_err()
    );
    assert_eq!(store.list().unwrap().len(), before);
}

#[test]
fn loads_of_the_same_layers_at_the_same_time() {
    let (_folder, store) = store();
    let shared: Vec<Vec<u8>> = (0..4)
        .map(|n| Tar::new().file(&format!("f{n}"), vec![n; 200_000]).done())
        .collect();
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let (store, shared) = (store.clone(), shared.clone());
            scope.spawn(move || {
                let own = Tar::new().file("own", [n]).done();
                let layers = [shared, vec![own]].concat();
                let mut archive = layout(&format!("x{n}:1"), &layers).tar();
                // Half of them fail at the very end.
                if n % 2 == 1 {
                    let cut = archive.len() - 600;
                    archive.truncate(cut);
                    archive.extend([1; 2048]);
                    assert!(load(&store, &archive).is_err());
                } else {
                    load(&store, &archive).unwrap();
                }
            });
        }
    });
    let all = store.list().unwrap();
    assert_eq!(all.len(), 4);
    for summary in all {
        assert_eq!(summary.shared_size, 800_000);
        assert_eq!(summary.image.size, 800_001);
        assert!(
            store
                .layers(&summary.image.id)
                .unwrap()
                .iter()
                .all(|dir| dir.is_dir())
        );
    }
    store.prune(true, &[], &|_| false).unwrap();
    assert_eq!(store.disk_usage().unwrap().blobs_size, 0);
    assert_eq!(store.disk_usage().unwrap().layers_size, 0);
}
