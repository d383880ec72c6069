//! What one layer's entries become on disk, and how layers lie on each other.

use super::build::*;
use crate::Store;
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tar::EntryType;

fn unpacked(folder: &Path, layers: &[Vec<u8>]) -> Vec<PathBuf> {
    let store = Store::open_with(folder, small()).unwrap();
    let loaded = load(&store, &layout("x:1", layers).tar()).unwrap();
    store.layers(&loaded[0].id).unwrap()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..n].to_vec())
}

#[test]
fn owners_modes_times_links_and_devices_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut suid = Tar::header(EntryType::Regular, b"bin/su", b"", 2, 0o4755);
    suid.set_uid(12);
    suid.set_gid(34);
    suid.set_cksum();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .folder("bin/")
        .raw(&suid, b"su")
        .hard_link("bin/su2", "bin/su")
        .symlink("link", "/etc/passwd")
        .symlink("up", "../../../../x")
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 8, 1)
        .device(EntryType::Fifo, "pipe", 0, 0)
        .pax(&[
            ("mtime", b"1600000000.25"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.note", b"kept"),
        ])
        .file("ping", "ping")
        .folder("etc/")
        .file("etc/a", "first")
        .file("etc/a", "second")
        .folder("etc/dir/")
        .file("etc/dir/x", "")
        .file("etc/dir", "a file now")
        .done();
    let dirs = unpacked(folder.path(), &[tar]);
    let root = &dirs[0];
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!(
        (su.uid(), su.gid(), su.mode() & 0o7777, su.nlink()),
        (12, 34, 0o4755, 2)
    );
    assert_eq!(su.mtime(), 1_700_000_000);
    assert_eq!(
        fs::metadata(root.join("bin")).unwrap().mtime(),
        1_700_000_000
    );
    assert_eq!(
        fs::read_link(root.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    let null = fs::metadata(root.join("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    assert!(
        fs::metadata(root.join("disk"))
            .unwrap()
            .file_type()
            .is_block_device()
    );
    assert!(
        fs::metadata(root.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let ping = root.join("ping");
    assert_eq!(fs::metadata(&ping).unwrap().mtime_nsec(), 250_000_000);
    assert_eq!(
        xattr(&ping, "security.capability"),
        Some(capability.to_vec())
    );
    assert_eq!(xattr(&ping, "trusted.overlay.redirect"), None);
    assert_eq!(fs::read(root.join("etc/a")).unwrap(), b"second");
    assert_eq!(fs::read(root.join("etc/dir")).unwrap(), b"a file now");
    // Nobody but root may reach set-id programs of images.
    let mode = fs::metadata(root.parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn writing_through_links_stays_inside_the_layer() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    fs::create_dir(&data).unwrap();
    let victim = outer.path().join("victim");
    fs::create_dir(&victim).unwrap();
    let tar = Tar::new()
        .folder("in/")
        .symlink("abs", victim.to_str().unwrap())
        .symlink("up", "../../../../../../../../../../../in")
        .file("up/through", "x")
        .symlink("file", "/etc/passwd")
        .file("file", "replaces the link")
        .hard_link("hard", "up/through")
        .done();
    let dirs = unpacked(&data, &[tar]);
    assert_eq!(fs::read(dirs[0].join("in/through")).unwrap(), b"x");
    assert_eq!(fs::metadata(dirs[0].join("hard")).unwrap().nlink(), 2);
    assert!(
        !fs::symlink_metadata(dirs[0].join("file"))
            .unwrap()
            .is_symlink()
    );
    // A link that leaves by name is only text, until it is written through:
    // then it means the same path inside.
    let store = Store::open_with(&outer.path().join("data2"), small()).unwrap();
    let tar = Tar::new()
        .symlink("abs", victim.to_str().unwrap())
        .file("abs/x", "x")
        .done();
    assert!(load(&store, &layout("x:1", &[tar]).tar()).is_err());
    assert!(paths(&victim).is_empty());
}

#[test]
fn whiteouts_become_overlays_own() {
    let folder = tempfile::tempdir().unwrap();
    let lower = Tar::new()
        .folder("gone/")
        .file("gone/x", "")
        .file("file", "")
        .folder("opaque/")
        .file("opaque/old", "")
        .folder("again/")
        .file("again/old", "")
        .folder("later/")
        .file("later/old", "")
        .file("implied/x", "")
        .file("implied/y", "")
        .done();
    let upper = Tar::new()
        .file(".wh.gone", "")
        .file(".wh.file", "")
        .folder("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "")
        .file(".wh.again", "")
        .folder("again/")
        .file("again/new", "")
        .folder("later/")
        .file("later/new", "")
        .file(".wh.later", "")
        .file(".wh..wh.plnk", "")
        .file("implied/.wh.x", "")
        .file("unknown/.wh.none", "")
        .done();
    let dirs = unpacked(folder.path(), &[lower, upper]);
    for hidden in ["gone", "file", "implied/x"] {
        let data = fs::symlink_metadata(dirs[1].join(hidden)).unwrap();
        assert!(
            data.file_type().is_char_device() && data.rdev() == 0,
            "{hidden}"
        );
    }
    for opaque in ["opaque", "again", "later"] {
        let mark = xattr(&dirs[1].join(opaque), "trusted.overlay.opaque");
        assert_eq!(mark.as_deref(), Some(&b"y"[..]), "{opaque}");
        assert!(dirs[1].join(opaque).join("new").exists());
    }
    assert!(!dirs[1].join(".wh..wh.plnk").exists() && !dirs[1].join("unknown").exists());
    let seen = overlay(folder.path(), &dirs);
    assert_eq!(
        seen,
        [
            "again",
            "again/new",
            "implied",
            "implied/y",
            "later",
            "later/new",
            "opaque",
            "opaque/new"
        ]
    );
}

#[test]
fn an_opaque_root_hides_all_below() {
    let folder = tempfile::tempdir().unwrap();
    let lower = Tar::new().folder("a/").file("a/x", "").file("b", "").done();
    let upper = Tar::new()
        .folder("a/")
        .file("a/y", "")
        .file(".wh..wh..opq", "")
        .done();
    let dirs = unpacked(folder.path(), &[lower, upper]);
    assert_eq!(overlay(folder.path(), &dirs), ["a", "a/y"]);
}

/// What the kernel shows of the stack.
fn overlay(folder: &Path, dirs: &[PathBuf]) -> Vec<String> {
    let view = folder.join("view");
    fs::create_dir_all(&view).unwrap();
    let lower: Vec<String> = dirs
        .iter()
        .rev()
        .map(|dir| dir.display().to_string())
        .collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount("overlay", &view, "overlay", flags, Some(options.as_c_str())).unwrap();
    let seen = paths(&view);
    rustix::mount::unmount(&view, rustix::mount::UnmountFlags::DETACH).unwrap();
    seen
}

#[test]
fn implied_folders_look_like_those_below() {
    let folder = tempfile::tempdir().unwrap();
    let mut secret = Tar::header(EntryType::Directory, b"secret/", b"", 0, 0o1770);
    secret.set_uid(7);
    secret.set_cksum();
    let mut root = Tar::header(EntryType::Directory, b"./", b"", 0, 0o711);
    root.set_gid(9);
    root.set_cksum();
    let lower = Tar::new().raw(&root, b"").raw(&secret, b"").done();
    let upper = Tar::new()
        .file("secret/file", "x")
        .file("new/file", "x")
        .done();
    let dirs = unpacked(folder.path(), &[lower, upper]);
    let secret = fs::metadata(dirs[1].join("secret")).unwrap();
    assert_eq!((secret.uid(), secret.mode() & 0o7777), (7, 0o1770));
    let root = fs::metadata(&dirs[1]).unwrap();
    assert_eq!((root.gid(), root.mode() & 0o7777), (9, 0o711));
    assert_eq!(
        fs::metadata(dirs[1].join("new")).unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn a_sparse_file_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(512);
    {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..6].copy_from_slice(b"sparse");
        gnu.set_real_size(4096 + 512);
        gnu.sparse[0].set_offset(4096);
        gnu.sparse[0].set_length(512);
    }
    header.set_cksum();
    let dirs = unpacked(folder.path(), &[Tar::new().raw(&header, &[7; 512]).done()]);
    let bytes = fs::read(dirs[0].join("sparse")).unwrap();
    assert!(bytes.len() == 4608 && bytes[..4096].iter().all(|b| *b == 0) && bytes[4096] == 7);
}
