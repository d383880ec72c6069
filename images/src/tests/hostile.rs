//! How: each archive is honest but for one thing. It is loaded into a store
//! that already holds a good image; the load must fail, the message must name
//! the entry and the reason, nothing outside the store may have changed, and
//! the store must hold exactly the files it held before. `main` of the
//! archives that are legal but dangerous (devices, links) is in `layers`.

use super::build::*;
use crate::{Digest, Platform, Store};
use serde_json::json;
use std::{fs, path::Path};
use tar::EntryType;

/// An archive and what the refusal must say.
struct Case {
    what: &'static str,
    archive: Vec<u8>,
    says: Vec<&'static str>,
}

fn case(what: &'static str, archive: Vec<u8>, says: &[&'static str]) -> Case {
    Case {
        what,
        archive,
        says: says.to_vec(),
    }
}

/// A layer that is wrong, in an archive that is right.
fn layer(what: &'static str, tar: Tar, says: &[&'static str]) -> Case {
    case(what, layout("bad:1", &[hello(), tar.done()]).tar(), says)
}

fn bad_layers() -> Vec<Case> {
    let deep = "d/".repeat(120);
    let link_up = Tar::new()
        .folder("a/")
        .symlink("a/up", "../../../../../../../../../..");
    let size_lie = Tar::header(EntryType::Regular, b"lie", b"", 10_000, 0o644);
    let mut bad_sum = Tar::header(EntryType::Regular, b"sum", b"", 0, 0o644);
    bad_sum.set_mode(0o777);
    let fat_folder = Tar::header(EntryType::Directory, b"fat/", b"", 512, 0o755);
    let strange = Tar::header(EntryType::new(b'Z'), b"strange", b"", 0, 0o644);
    let huge = Tar::header(EntryType::Regular, b"huge", b"", 1 << 40, 0o644);
    let mut many = Tar::new();
    for n in 0..2_100 {
        many = many.file(&format!("f{n}"), "");
    }
    let long = Tar::header(EntryType::GNULongName, b"long", b"", 1 << 30, 0);
    let mut endless = Tar::new().raw(&long, b"").0;
    endless.resize(6 << 20, b'a');
    vec![
        layer(
            "dots",
            Tar::new().file("../../escaped", "x"),
            &["\"../../escaped\"", "outside of the root"],
        ),
        layer(
            "inner dots",
            Tar::new().file("a/../../escaped", "x"),
            &["a/../../escaped", "outside"],
        ),
        layer(
            "dots after a slash",
            Tar::new().file("/../escaped", "x"),
            &["escaped", "outside"],
        ),
        layer(
            "hard link out by dots",
            Tar::new().hard_link("l", "../../../etc/passwd"),
            &["entry \"l\"", "invalid hardlink", "outside"],
        ),
        layer(
            "hard link to a host file",
            Tar::new().hard_link("l", "/etc/hostname"),
            &["entry \"l\"", "invalid hardlink to \"/etc/hostname\""],
        ),
        layer(
            "hard link through a link",
            link_up.hard_link("l", "a/up/etc/passwd"),
            &["entry \"l\"", "invalid hardlink"],
        ),
        layer(
            "hard link to a folder",
            Tar::new().folder("f/").hard_link("l", "f"),
            &["entry \"l\"", "it is a folder"],
        ),
        layer(
            "hard link to itself",
            Tar::new().hard_link("l", "l"),
            &["entry \"l\"", "no such file"],
        ),
        layer(
            "file through a file",
            Tar::new().file("f", "x").file("f/g", "x"),
            &["entry \"f/g\"", "not a directory"],
        ),
        layer(
            "link loop",
            Tar::new().symlink("l", "l").file("l/x", "x"),
            &["entry \"l/x\"", "symbolic link"],
        ),
        layer(
            "too deep",
            Tar::new().file(&format!("{}f", "d/".repeat(300)), "x"),
            &["301 folders deep", "256"],
        ),
        layer(
            "too deep by links",
            {
                let tar = Tar::new()
                    .file(&format!("{deep}f"), "x")
                    .symlink("l", &deep[..80]);
                let tar = tar.file(&format!("l/{deep}f"), "x");
                (0..3).fold(tar, |tar, n| {
                    let before = if n == 0 {
                        "l".to_owned()
                    } else {
                        format!("m{}", n - 1)
                    };
                    tar.symlink(&format!("m{n}"), &format!("{before}/{}", &deep[..80]))
                        .file(&format!("m{n}/{deep}f"), "x")
                })
            },
            &["name too long"],
        ),
        layer(
            "zero byte in a name",
            Tar::new().long_name(b"a\0b").file("short", "x"),
            &["zero byte"],
        ),
        layer(
            "endless name",
            Tar::new().file(&"n/".repeat(4_000), "x"),
            &["longer than the 4096"],
        ),
        layer(
            "component too long",
            Tar::new().file(&"n".repeat(300), "x"),
            &["nnn", "name too long"],
        ),
        layer(
            "headers without end",
            Tar(endless),
            &["headers of one entry exceed"],
        ),
        layer(
            "size beyond the end",
            Tar::new().file("ok", "x").raw(&size_lie, b"short"),
            &["entry \"lie\"", "unexpected EOF"],
        ),
        layer(
            "size beyond any disk",
            Tar::new().raw(&huge, b""),
            &["entry \"huge\"", "unpacks to more than"],
        ),
        layer(
            "bad checksum",
            Tar::new().file("ok", "x").raw(&bad_sum, b""),
            &["after entry \"ok\"", "invalid tar header"],
        ),
        layer(
            "no tar at all",
            Tar(b"no tar ".repeat(300)),
            &["first entry", "invalid tar header"],
        ),
        layer(
            "folder with a body",
            Tar::new().raw(&fat_folder, &[0; 512]),
            &["fat", "without a body"],
        ),
        layer(
            "unknown kind",
            Tar::new().raw(&strange, b""),
            &["entry \"strange\"", "unhandled tar header type 90"],
        ),
        layer(
            "too many entries",
            many,
            &["entry \"f2000\"", "more than 2000 entries"],
        ),
        layer(
            "root as a file",
            Tar::new().file("./", "x").file("/", "x"),
            &["the root itself"],
        ),
        layer(
            "whiteout of nothing",
            Tar::new().file(".wh.", ""),
            &["entry \".wh.\"", "without a name"],
        ),
        layer(
            "whiteout of the parent",
            Tar::new().file("a/.wh...", ""),
            &["entry \"a/.wh...\"", "without a name"],
        ),
        layer(
            "owner beyond 32 bits",
            Tar::new().pax(&[("uid", b"99999999999")]).file("f", ""),
            &["99999999999"],
        ),
        layer(
            "long name for nothing",
            Tar::new().long_name(b"lost"),
            &["invalid tar header"],
        ),
        case(
            "gzip bomb",
            packed("bad:1", &[0; 12 << 20], gzip),
            &["layer sha256:", "entry \"zeros\"", "bomb"],
        ),
        case(
            "zstd bomb",
            packed("bad:1", &[0; 12 << 20], zstd),
            &["layer sha256:", "entry \"zeros\"", "bomb"],
        ),
        case(
            "cut gzip",
            cut_layer(gzip),
            &["layer sha256:", "unexpected EOF"],
        ),
        case(
            "cut zstd",
            cut_layer(zstd),
            &["layer sha256:", "unexpected EOF"],
        ),
        case(
            "xz layer",
            {
                let mut bad = Layout::default();
                let image = bad.image("amd64", &[(b"\xfd7zXZ\0xxxxxxx".to_vec(), hello())]);
                bad.name(image, "bad:1");
                bad.tar()
            },
            &["xz is not supported"],
        ),
    ]
}

fn packed(name: &str, body: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let tar = Tar::new().file("zeros", body).done();
    let mut layout = Layout::default();
    let image = layout.image(&Platform::host().to_string(), &[(pack(&tar), tar)]);
    layout.name(image, name);
    layout.tar()
}

/// The blob is what its digest says, but ends in the middle.
fn cut_layer(pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let noise: Vec<u8> = (0..60_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let tar = Tar::new().file("noise", noise).done();
    let mut packed = pack(&tar);
    packed.truncate(packed.len() / 2);
    let mut layout = Layout::default();
    let image = layout.image(&Platform::host().to_string(), &[(packed, tar)]);
    layout.name(image, "bad:1");
    layout.tar()
}

fn bad_layouts() -> Vec<Case> {
    // Nothing of it is in the store yet: what is here need not be sent.
    let good = || layout("bad:1", &[Tar::new().file("new", "x").done()]);
    let host = Platform::host().to_string();
    let mut lying_blob = good();
    let hex = lying_blob.blobs.keys().next().unwrap().clone();
    lying_blob.blobs.insert(hex, b"something else".to_vec());
    let absent = Tar::new().file("absent", "x").done();
    let mut missing = layout("bad:1", &[hello(), absent.clone()]);
    missing.blobs.remove(&Digest::of(&absent).hex());
    let mut bad_name = good();
    bad_name
        .blobs
        .insert("../../../escaped".into(), b"x".to_vec());
    let mut strange_hex = good();
    strange_hex.blobs.insert("abc".into(), b"x".to_vec());
    // A config that promises other layers than it has.
    let mut lying_diff = Layout::default();
    let image = lying_diff.image(&host, &[(hello(), Tar::new().file("other", "x").done())]);
    lying_diff.name(image, "bad:1");
    let mut fewer = Layout::default();
    let config = fewer.blob(&config(&host, vec![]));
    let only = fewer.blob(&hello());
    let manifest = fewer.blob(
        json!({"config": config, "layers": [only]})
            .to_string()
            .as_bytes(),
    );
    fewer.name(manifest, "bad:1");
    let mut lying_size = Layout::default();
    let config = lying_size.blob(&super::build::config(&host, vec![Digest::of(&hello())]));
    let mut layer = lying_size.blob(&hello());
    layer["size"] = json!(7);
    let manifest = lying_size.blob(
        json!({"config": config, "layers": [layer]})
            .to_string()
            .as_bytes(),
    );
    lying_size.name(manifest, "bad:1");
    let mut no_image = Layout::default();
    let empty = no_image.blob(br#"{"manifests":[]}"#);
    no_image.name(empty, "bad:1");
    let mut both = Layout::default();
    let document = both.blob(br#"{"manifests":[],"config":{}}"#);
    both.name(document, "bad:1");
    let mut named = Layout::default();
    let image = named.image(&host, &plain(&[hello()]));
    named.name(image, "Bad/NAME:1");
    // Two indexes cannot hold each other's digest, but each can hold many.
    let mut nested = Layout::default();
    let mut inner = nested.image(&host, &plain(&[hello()]));
    for _ in 0..6 {
        inner = nested.blob(json!({"manifests": [inner]}).to_string().as_bytes());
    }
    nested.name(inner, "bad:1");
    let whole = good().tar();
    vec![
        case(
            "lying digest",
            lying_blob.tar(),
            &[
                "entry \"blobs/sha256/",
                "its content has the digest",
                "its name says",
            ],
        ),
        case(
            "missing layer",
            missing.tar(),
            &["open blobs/sha256/", "no such file or directory"],
        ),
        case(
            "escape in the outer archive",
            bad_name.tar(),
            &["escaped", "entry"],
        ),
        case(
            "blob name that is no digest",
            strange_hex.tar(),
            &["entry \"blobs/sha256/abc\"", "digest"],
        ),
        case(
            "lying diff id",
            lying_diff.tar(),
            &["layer sha256:", "the image's config says"],
        ),
        case(
            "fewer diff ids than layers",
            fewer.tar(),
            &["layers length mismatch: expected 1, got 0"],
        ),
        case("lying size", lying_size.tar(), &["its descriptor says 7"]),
        case("index without images", no_image.tar(), &["has no image"]),
        case("document of two meanings", both.tar(), &["both"]),
        case("upper-case name", named.tar(), &["must be lowercase"]),
        case("indexes in indexes", nested.tar(), &["nests too deep"]),
        case(
            "cut archive",
            whole[..whole.len() / 2 + 100].to_vec(),
            &["unexpected EOF"],
        ),
        case(
            "cut packed archive",
            {
                let packed = gzip(&whole);
                packed[..packed.len() / 2].to_vec()
            },
            &["unexpected EOF"],
        ),
        case("nothing", Vec::new(), &["contains no image"]),
        case(
            "an archive of something else",
            Tar::new().file("readme", "x").done(),
            &["contains no image"],
        ),
        case(
            "a device in the outer archive",
            Tar::new().device(EntryType::Char, "null", 1, 3).done(),
            &["entry \"null\"", "files, folders and links only"],
        ),
        case(
            "a link out of the outer archive",
            Tar::new()
                .symlink("manifest.json", "../../etc/passwd")
                .done(),
            &["entry \"manifest.json\"", "outside"],
        ),
        case(
            "broken manifest.json",
            Tar::new().file("manifest.json", "[{]").done(),
            &["manifest.json"],
        ),
        case(
            "manifest.json naming nothing",
            Tar::new()
                .file(
                    "manifest.json",
                    r#"[{"Config":"c.json","Layers":["l.tar"]}]"#,
                )
                .done(),
            &["open c.json: no such file or directory"],
        ),
        case(
            "manifest.json naming a host file",
            Tar::new()
                .file("manifest.json", r#"[{"Config":"/etc/passwd","Layers":[]}]"#)
                .done(),
            &["open /etc/passwd: no such file"],
        ),
        case(
            "links in a circle",
            Tar::new()
                .file("manifest.json", r#"[{"Config":"a","Layers":[]}]"#)
                .symlink("a", "b")
                .symlink("b", "a")
                .done(),
            &["open a: no such file"],
        ),
    ]
}

#[test]
fn every_hostile_archive_is_refused_and_leaves_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("a/b/c/data");
    fs::create_dir_all(&data).unwrap();
    let archives = outer.path().join("archives");
    fs::create_dir_all(&archives).unwrap();
    let store = Store::open_with(&data, small()).unwrap();
    load(&store, &layout("good:1", &[hello()]).tar()).unwrap();
    let before = paths(&data);
    let host_before = fs::metadata("/etc/passwd").unwrap();
    for Case {
        what,
        archive,
        says,
    } in bad_layers().into_iter().chain(bad_layouts())
    {
        let file = archives.join(what.replace(' ', "-"));
        fs::write(&file, &archive).unwrap();
        let error = match store.load(fs::File::open(&file).unwrap(), &mut |_| {}) {
            Ok(loaded) => panic!("{what}: loaded {loaded:?}"),
            Err(error) => error,
        };
        for part in says {
            assert!(
                error.message.contains(part),
                "{what}: {error:?} does not say {part:?}"
            );
        }
        assert_eq!(paths(&data), before, "{what}: the store is not clean");
        assert!(
            !exists_outside(outer.path(), &data),
            "{what}: wrote outside"
        );
    }
    use std::os::unix::fs::MetadataExt;
    let host_after = fs::metadata("/etc/passwd").unwrap();
    assert_eq!(
        (host_before.nlink(), host_before.mtime()),
        (host_after.nlink(), host_after.mtime())
    );
    assert_eq!(store.list().unwrap().len(), 1);
    let names: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|s| s.image.repo_tags)
        .collect();
    assert_eq!(names, [["good:1"]]);
}

/// Anything beside the archives and the store's own folder.
fn exists_outside(outer: &Path, data: &Path) -> bool {
    let own = data.strip_prefix(outer).unwrap().display().to_string();
    paths(outer).iter().any(|path| {
        !path.starts_with("archives") && !path.starts_with(&own) && !own.starts_with(path.as_str())
    })
}

#[test]
fn noise_never_panics_and_never_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with(folder.path(), small()).unwrap();
    let before = paths(folder.path());
    let good = layout("x:1", &[hello()]).tar();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..1 + next() % 8 {
            let at = next() % bad.len();
            bad[at] = u8::try_from(next() % 256).unwrap();
        }
        if load(&store, &bad).is_ok() {
            store.remove("x:1", true, &[]).ok();
            store.prune(true, &[], &|_| false).unwrap();
        }
        let left: Vec<String> = paths(folder.path())
            .into_iter()
            .filter(|p| !p.ends_with("table.json"))
            .collect();
        assert_eq!(left, before);
    }
}
