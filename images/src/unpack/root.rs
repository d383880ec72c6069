//! A folder that hostile names cannot leave. Every name from outside is
//! cleaned to components first, every parent is opened with the kernel's
//! `openat2(RESOLVE_IN_ROOT)` (or, where the kernel has none, walked one
//! component at a time with the same meaning), and the last component is only
//! ever used relative to that open parent, never followed.

use crate::{
    error::{Error, Result},
    limits::{DEPTH_MAX, NAME_BYTES_MAX},
};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// Links followed in one walk, the kernel's own number.
const LINKS_MAX: usize = 40;

/// An entry's place below the root: components without `.`, `..` or `/`.
pub(crate) type Place = Vec<Vec<u8>>;

/// Cleans a name from an archive as Docker does: leading slashes mean the
/// root, inner `..` are resolved by text, and one that would leave is refused.
pub(crate) fn clean(name: &[u8]) -> Result<Place> {
    if name.contains(&0) {
        return Err(Error::invalid("its name has a zero byte in it"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "its name of {} bytes is longer than the {NAME_BYTES_MAX} a path may have",
            name.len()
        )));
    }
    let mut place = Place::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if place.pop().is_none() {
                    return Err(Error::invalid(
                        "its name leads outside of the root by \"..\"",
                    ));
                }
            }
            component => place.push(component.to_vec()),
        }
    }
    if place.len() > DEPTH_MAX {
        return Err(Error::invalid(format!(
            "it is {} folders deep, at most {DEPTH_MAX} are allowed",
            place.len()
        )));
    }
    Ok(place)
}

/// An open folder and the promise above.
pub(crate) struct Root {
    fd: OwnedFd,
    /// Components of the root's own path, to measure depth below it.
    depth: usize,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let depth = real_depth(fd.as_fd()).unwrap_or(0);
        Ok(Self { fd, depth })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens the folder at `place`; links on the way are followed inside the
    /// root. `ENOENT` and `ENOTDIR` are told as such.
    pub(crate) fn folder(&self, place: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        if place.is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&self.fd, 0);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(self.fd(), &join(place), flags, plain) {
            Err(Errno::LOOP) => {}
            Err(Errno::NOSYS) => return self.walk(place),
            result => return result,
        }
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(self.fd(), &join(place), flags, within)?;
        // Links to links could pile up folders deeper than any one name says.
        match real_depth(fd.as_fd()) {
            Ok(depth) if depth > self.depth + DEPTH_MAX => Err(Errno::NAMETOOLONG),
            Err(Errno::NAMETOOLONG) => Err(Errno::NAMETOOLONG),
            _ => Ok(fd),
        }
    }

    /// The folder at `place` if it is one and no link is on the way.
    pub(crate) fn folder_without_links(&self, place: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let mut fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for component in place {
            fd = rustix::fs::openat(&fd, component.as_slice(), flags, Mode::empty())?;
        }
        Ok(fd)
    }

    /// What `RESOLVE_IN_ROOT` means, for kernels (and emulators) without it.
    fn walk(&self, place: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut todo: Vec<Vec<u8>> = place.iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                stack.pop();
                continue;
            }
            let here = stack.last().unwrap_or(&self.fd);
            let fd = rustix::fs::openat(here, component.as_slice(), flags, Mode::empty())?;
            match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
                FileType::Directory if stack.len() >= DEPTH_MAX => return Err(Errno::NAMETOOLONG),
                FileType::Directory => stack.push(fd),
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes();
                    if target.first() == Some(&b'/') {
                        stack.clear();
                    }
                    let components = target.split(|byte| *byte == b'/').rev();
                    let named = components.filter(|c| !c.is_empty() && *c != b".");
                    todo.extend(named.map(<[u8]>::to_vec));
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = stack.last().unwrap_or(&self.fd);
        rustix::fs::openat(here, c".", readable, Mode::empty())
    }
}

/// Removes what `name` is in `parent`, with all below it; never follows it.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => remove_tree(folder.as_fd(), name)?,
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

pub(crate) fn join(place: &[Vec<u8>]) -> Vec<u8> {
    place.join(&b'/')
}

fn openat2(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    static ABSENT: AtomicBool = AtomicBool::new(false);
    if ABSENT.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename somewhere on the machine raced with a `..`: ask again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => {
                ABSENT.store(true, Ordering::Relaxed);
                return Err(Errno::NOSYS);
            }
            result => return result,
        }
    }
}

/// Components of the real path of an open folder.
fn real_depth(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(path.to_bytes().iter().filter(|byte| **byte == b'/').count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn names_are_cleaned_or_refused() {
        let place = |name: &[u8]| clean(name).map(|place| join(&place));
        assert_eq!(place(b"./a//b/../c/").unwrap(), b"a/c");
        assert_eq!(place(b"/etc/passwd").unwrap(), b"etc/passwd");
        assert_eq!(place(b".").unwrap(), b"");
        for bad in [
            &b"../x"[..],
            b"a/../../x",
            b"/..",
            b"a\0b",
            &b"a/".repeat(300),
            &[b'x'; 5000],
        ] {
            assert!(clean(bad).is_err());
        }
    }

    #[test]
    fn links_stay_inside_with_and_without_openat2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("etc/deep")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        for (link, target) in [
            ("abs", "/etc"),
            ("up", "../../../../../etc"),
            ("chain", "abs/deep"),
            ("loop", "loop"),
            ("dangling", "/no"),
        ] {
            symlink(target, path.join(link)).unwrap();
        }
        let root = Root::open(path).unwrap();
        let same = |fd: OwnedFd, to: &str| {
            let (a, b) = (
                rustix::fs::fstat(fd).unwrap(),
                rustix::fs::stat(path.join(to)).unwrap(),
            );
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        };
        type Opener<'a> = &'a dyn Fn(&[u8]) -> Result<OwnedFd, Errno>;
        let ways: [Opener<'_>; 2] = [&|name| root.folder(&clean(name).unwrap()), &|name| {
            root.walk(&clean(name).unwrap())
        }];
        for open in ways {
            for (name, to) in [
                ("abs", "etc"),
                ("up", "etc"),
                ("chain", "etc/deep"),
                ("etc/deep", "etc/deep"),
                ("", "."),
            ] {
                assert!(same(open(name.as_bytes()).unwrap(), to), "{name}");
            }
            assert_eq!(open(b"loop/x").unwrap_err(), Errno::LOOP);
            assert_eq!(open(b"dangling").unwrap_err(), Errno::NOENT);
            assert_eq!(open(b"file").unwrap_err(), Errno::NOTDIR);
            assert_eq!(open(b"etc/none").unwrap_err(), Errno::NOENT);
        }
        assert!(
            root.folder_without_links(&clean(b"abs/deep").unwrap())
                .is_err()
        );
        remove_tree(root.fd(), b"etc").unwrap();
        remove_tree(root.fd(), b"abs").unwrap();
        assert!(!path.join("etc").exists() && Path::new("/etc").exists());
    }
}
