//! A crash at any point leaves the whole image or none.
//!
//! How: a load is stopped by a reader that fails after n bytes while the
//! store's folder is copied as a crash would leave it; every copy is opened
//! again and must hold the old image whole, the new one whole or not at all,
//! and no file more.

use super::build::*;
use crate::{Digest, Store};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::Path,
    process::Command,
};

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Reads on, and has the folder copied before every so many bytes.
struct Watched<'a> {
    bytes: &'a [u8],
    step: usize,
    at_step: &'a mut dyn FnMut(),
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (self.at_step)();
        let n = self.step.min(buf.len());
        self.bytes.read(&mut buf[..n])
    }
}

fn assert_whole(folder: &Path, old: Digest, new: Digest) -> bool {
    let store = Store::open_with(folder, small()).unwrap();
    let ids: BTreeSet<Digest> = store.list().unwrap().iter().map(|s| s.image.id).collect();
    assert!(ids.contains(&old), "the old image is gone");
    for id in &ids {
        for dir in store.layers(id).unwrap() {
            assert!(dir.is_dir());
        }
        store.save(&[id.to_string()], None, io::sink()).unwrap();
    }
    // No stray file: removing the images leaves nothing.
    store.prune(true, &[], &|_| false).unwrap();
    assert_eq!(paths(&folder.join("blobs")), ["ingest", "sha256"]);
    assert!(paths(&folder.join("layers")).is_empty());
    ids.contains(&new)
}

#[test]
fn a_crash_while_loading_leaves_all_or_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let store = Store::open_with(&data, small()).unwrap();
    let old = load(&store, &layout("old:1", &[hello()]).tar()).unwrap()[0].id;
    let layers = [
        hello(),
        Tar::new()
            .file("a", "a")
            .file("b", "b")
            .file("big", vec![1; 50_000])
            .done(),
    ];
    let archive = layout("new:1", &layers).tar();
    let mut crashes = 0;
    let mut at_step = || {
        copy(&data, &outer.path().join(format!("crash{crashes}")));
        crashes += 1;
    };
    let reader = Watched {
        bytes: &archive,
        step: 8_000,
        at_step: &mut at_step,
    };
    // Once more in the middle of unpacking.
    let mut unpacking = 0;
    let new = store
        .load(reader, &mut |_| {
            copy(&data, &outer.path().join(format!("unpacking{unpacking}")));
            unpacking += 1;
        })
        .unwrap()[0]
        .id;
    copy(&data, &outer.path().join("after"));
    assert!(crashes > 5 && unpacking > 2);
    for n in 0..crashes {
        assert!(!assert_whole(
            &outer.path().join(format!("crash{n}")),
            old,
            new
        ));
    }
    for n in 0..unpacking {
        assert!(!assert_whole(
            &outer.path().join(format!("unpacking{n}")),
            old,
            new
        ));
    }
    assert!(assert_whole(&outer.path().join("after"), old, new));
}

#[test]
fn what_a_table_does_not_vouch_for_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let id = {
        let store = Store::open_with(data, small()).unwrap();
        load(&store, &layout("x:1", &[hello()]).tar()).unwrap()[0].id
    };
    let before = paths(data);
    fs::write(data.join("blobs/ingest/7"), "half").unwrap();
    fs::write(
        data.join("blobs/sha256").join(Digest::of(b"y").hex()),
        "torn",
    )
    .unwrap();
    fs::create_dir_all(data.join("layers/.draft-3/etc")).unwrap();
    fs::create_dir_all(data.join("layers/.trash-1/etc")).unwrap();
    fs::create_dir_all(data.join("layers").join(Digest::of(b"z").hex())).unwrap();
    fs::write(data.join("images/table.json.new"), "{\"ver").unwrap();
    let store = Store::open_with(data, small()).unwrap();
    fs::remove_file(data.join("images/table.json.new")).ok();
    assert_eq!(paths(data), before);
    // A layer lost by hand is unpacked again when it is asked for.
    fs::remove_dir_all(&store.layers(&id).unwrap()[0]).unwrap();
    drop(store);
    let store = Store::open_with(data, small()).unwrap();
    assert!(store.layers(&id).unwrap()[0].join("hello").exists());
    assert!(
        Store::open_with(data, small()).is_err(),
        "a second opener must be refused"
    );
    drop(store);
    fs::write(data.join("images/table.json"), "{").unwrap();
    let error = Store::open_with(data, small()).err().unwrap();
    assert!(
        error.message.contains("damaged")
            && data.join("blobs/sha256").read_dir().unwrap().count() > 0
    );
}

#[test]
fn nothing_is_written_when_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with(folder.path(), small()).unwrap();
    let archive = layout("x:1", &[hello()]).tar();
    load(&store, &archive).unwrap();
    let table = || {
        fs::metadata(folder.path().join("images/table.json"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = table();
    load(&store, &archive).unwrap();
    store.tag("x:1", "x:1").unwrap();
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(table(), before);
}
