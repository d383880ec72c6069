//! A container's or an image's file system, seen from the agent.
//!
//! Owns the way in: an open root folder below which every path is resolved as
//! the container would (`openat2` with `RESOLVE_IN_ROOT`), so that no link in
//! it leads out. A stopped container's overlay is mounted in a mount namespace
//! that ends with the thread that made it: the open folder keeps the mount
//! alive, nobody else sees it, and nothing is left to clean up after a crash.

use super::Executor;
use super::container::Container;
use crate::error::{Error, Result};
use crate::shim::rootfs::UPPER;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The kernel takes one page of mount options.
const OPTIONS_BYTES_MAX: usize = 4095;

/// Overlay's work folder of a stopped container that somebody looks at.
const VIEW_WORK: &str = "view";

/// An open root folder.
pub(super) struct Root {
    fd: OwnedFd,
}

/// An open entry below a root.
pub(super) struct Entry {
    fd: OwnedFd,
}

impl Root {
    /// Opens a path as the container would see it.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, Mode::empty())
    }

    pub(super) fn open_with(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, path, flags, mode, ResolveFlags::IN_ROOT)
    }

    /// The folder at a path; `None` when there is no folder there.
    pub(super) fn folder(&self, path: &Path) -> Option<Entry> {
        let fd = self.open(path, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        Some(Entry { fd })
    }
}

impl Entry {
    /// A name of it for calls that take a path.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.fd.as_raw_fd()))
    }
}

impl Executor {
    /// The container's root: its process's own while it runs, its overlay
    /// otherwise. Blocks.
    pub(super) fn root_of(&self, container: &Container) -> Result<Root> {
        let (pid, layers) = {
            let life = container.life();
            (
                life.state.is_running().then_some(life.state.pid),
                life.layers.clone(),
            )
        };
        match pid {
            Some(pid) if pid > 0 => open_root(Path::new(&format!("/proc/{pid}/root"))),
            _ => of_container(&with_places(self.places(), &layers), &container.folder),
        }
    }

    /// Makes sure that the layers of a container are known.
    pub(super) async fn know_layers(&self, container: &Container) -> Result<()> {
        let image = {
            let life = container.life();
            if !life.layers.is_empty() {
                return Ok(());
            }
            life.record.image_id.clone()
        };
        let layers = self.layers(&image).await?;
        container.life().layers = layers;
        Ok(())
    }
}

/// A path below a folder of the host, resolved so that it stays there.
pub(super) fn inside(folder: &Path, below: &Path) -> Result<PathBuf> {
    let failed = |e: rustix::io::Errno| {
        crate::disk::failure("cannot access subpath", &folder.join(below), &e.into())
    };
    let root = open_root(folder)?;
    let fd = root.open(below, OFlags::PATH).map_err(failed)?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(&link).map_err(|e| crate::disk::failure("read", Path::new(&link), &e))
}

fn open_root(path: &Path) -> Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|e| crate::disk::failure("open", path, &e.into()))?;
    Ok(Root { fd })
}

/// An image's file system, to be read only. Blocks.
pub(super) fn of_image(layers: &[PathBuf]) -> Result<Root> {
    match layers {
        [] => Err(Error::internal("the image has no layers")),
        [only] => open_root(only),
        _ => mounted(options(layers, None)?, layers),
    }
}

/// A stopped container's file system. Blocks.
fn of_container(layers: &[PathBuf], folder: &Path) -> Result<Root> {
    super::create::make_upper(folder, layers)?;
    // Not where a run has it: that tells of a run.
    let work = folder.join(VIEW_WORK);
    std::fs::create_dir_all(&work).map_err(|e| crate::disk::failure("mkdir", &work, &e))?;
    let upper = folder.join(UPPER);
    mounted(options(layers, Some((&upper, &work)))?, layers)
}

/// Makes the places that the runtime mounts on, as a layer to lie below all of
/// an image: what the image has of them counts, and what it lacks need not be
/// made in every container's own folder, at four blocks of a card each.
pub(super) fn make_places(layer: &Path) -> Result<()> {
    let failed = |path: &Path, e: &std::io::Error| crate::disk::failure("mkdir", path, e);
    for folder in ["dev", "proc", "sys", "etc"] {
        let path = layer.join(folder);
        std::fs::create_dir_all(&path).map_err(|e| failed(&path, &e))?;
    }
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        let path = layer.join(file);
        if !path.exists() {
            std::fs::File::create(&path).map_err(|e| failed(&path, &e))?;
        }
    }
    Ok(())
}

/// An image's layers with the places below them.
pub(super) fn with_places(places: PathBuf, layers: &[PathBuf]) -> Vec<PathBuf> {
    std::iter::once(places)
        .chain(layers.iter().cloned())
        .collect()
}

/// Overlay's options, with layers relative to [`common`]: a page holds more.
fn options(layers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<CString> {
    let base = common(layers);
    let escaped = |path: &Path| -> Vec<u8> {
        let bytes = path.as_os_str().as_bytes();
        bytes
            .iter()
            .flat_map(|b| match b {
                b':' | b',' | b'\\' => vec![b'\\', *b],
                _ => vec![*b],
            })
            .collect()
    };
    let mut text = b"lowerdir=".to_vec();
    for (count, layer) in layers.iter().rev().enumerate() {
        if count > 0 {
            text.push(b':');
        }
        text.extend(escaped(layer.strip_prefix(&base).unwrap_or(layer)));
    }
    if let Some((upper, work)) = upper {
        text.extend(b",upperdir=");
        text.extend(escaped(upper));
        text.extend(b",workdir=");
        text.extend(escaped(work));
    }
    if text.len() > OPTIONS_BYTES_MAX {
        return Err(Error::internal(format!(
            "{} layers are more than overlayfs can be told of",
            layers.len()
        )));
    }
    CString::new(text).map_err(|_| Error::internal("a layer's path holds a zero byte"))
}

/// The folder that all layers are in.
fn common(layers: &[PathBuf]) -> PathBuf {
    let mut base = layers
        .first()
        .and_then(|first| first.parent())
        .map(Path::to_owned)
        .unwrap_or_default();
    while !layers.iter().all(|layer| layer.starts_with(&base)) && base.pop() {}
    base
}

/// Mounts an overlay where nobody else sees it.
fn mounted(options: CString, layers: &[PathBuf]) -> Result<Root> {
    let base = common(layers);
    // Over the layers' own parent: only this thread's namespace shows it.
    let place = base.clone();
    let thread = std::thread::Builder::new()
        .name("view".into())
        .spawn(move || {
            // SAFETY: only this thread's own view of the file system changes: its
            // root, working folder and mounts. It ends right after.
            unsafe {
                rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS)?;
            }
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private)?;
            rustix::process::chdir(&base)?;
            rustix::mount::mount("overlay", &place, "overlay", MountFlags::empty(), &*options)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, &place, flags, Mode::empty())
        });
    let opened = thread
        .map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?
        .join()
        .map_err(|_| Error::internal("the thread that mounts a view ended early"))?;
    let fd = opened.map_err(|e| Error::internal(format!("cannot mount the file system: {e}")))?;
    Ok(Root { fd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_the_top_layer_first_and_are_relative() {
        let layers = ["/d/layers/a/fs", "/d/layers/b:c/fs"].map(PathBuf::from);
        assert_eq!(common(&layers), Path::new("/d/layers"));
        let text = options(&layers, Some((Path::new("/t/upper"), Path::new("/t/work"))));
        assert_eq!(
            text.expect("fits").to_str().expect("is text"),
            "lowerdir=b\\:c/fs:a/fs,upperdir=/t/upper,workdir=/t/work"
        );
        let many: Vec<PathBuf> = (0..100).map(|n| format!("/d/{n:064}").into()).collect();
        assert!(options(&many, None).is_err());
    }
}
