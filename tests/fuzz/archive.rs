//! Any tar as a root file system to import: refused, or unpacked without a
//! panic and without a byte outside the store's folder.
//!
//! Bytes alone would die at the header's checksum. Each entry is made of a few
//! of them instead: kind, name and link target from a list of nasty ones, size
//! and mode.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_images::{ImportOptions, Store};
use std::fs;
use std::path::Path;

const NAMES: &[&str] = &[
    "a",
    "a/b",
    "a/b/c",
    "./a",
    "/a",
    "../a",
    "a/../../b",
    "..",
    ".",
    "",
    "a/.",
    "a/..",
    ".wh.a",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh..",
    ".wh...",
    ".wh..wh.plnk",
    "l",
    "l/x",
    "l/../x",
    "etc/passwd",
    "//x",
    "a//b",
    "a/b/",
    "\u{7f}",
    "dev/null",
    "proc/self/cwd",
    "l/.wh.x",
    "../outside/kept",
];

fuzz_target!(|bytes: &[u8]| {
    // Memory-backed: the store syncs, and a disk would do a dozen a second.
    let base = format!("/dev/shm/skep-fuzz-{}", std::process::id());
    let base = Path::new(&base);
    let (data, outside) = (base.join("data"), base.join("outside"));
    drop(fs::remove_dir_all(base));
    fs::create_dir_all(&outside).expect("/dev/shm can be written");
    fs::write(outside.join("kept"), "kept").expect("/dev/shm can be written");
    let store = Store::open(&data).expect("an empty store opens");
    let tar = archive(bytes);
    if let Ok(id) = store.import(&tar[..], &ImportOptions::default()) {
        drop(store.layers(&id));
    }
    let names: Vec<_> = fs::read_dir(&outside).expect("it is still there").collect();
    assert_eq!(names.len(), 1, "something was made outside");
    assert_eq!(
        fs::read(outside.join("kept")).ok().as_deref(),
        Some(&b"kept"[..])
    );
    assert!(
        !base.join("a").exists() && !base.join("x").exists(),
        "something was made outside"
    );
    drop(store);
    drop(fs::remove_dir_all(base));
});

fn archive(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(6).take(24) {
        let at = |index: usize| chunk.get(index).copied().unwrap_or(0);
        let mut header = tar::Header::new_ustar();
        set(&mut header.as_mut_bytes()[..100], name(at(1)));
        set(&mut header.as_mut_bytes()[157..257], name(at(2)));
        let kinds = b"0123456LKxg7VS\0";
        header.as_mut_bytes()[156] = kinds[usize::from(at(0)) % kinds.len()];
        let size = usize::from(at(3));
        // Sometimes the header lies about what follows.
        let told = if at(4) > 250 {
            u64::MAX >> (at(5) % 64)
        } else {
            size as u64
        };
        header.set_size(told);
        header.set_mode(u32::from(at(4)) << 4);
        header.set_uid(u64::from(at(5)) << 12);
        header.set_gid(0);
        header.set_mtime(u64::from(at(5)));
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend(std::iter::repeat_n(at(5), size.next_multiple_of(512)));
    }
    out.extend([0; 1024]);
    out
}

fn name(byte: u8) -> &'static str {
    NAMES[usize::from(byte) % NAMES.len()]
}

fn set(field: &mut [u8], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}
