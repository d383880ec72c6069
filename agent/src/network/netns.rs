//! Network namespaces: made, kept alive by a mount, entered by a thread of
//! their own.
//!
//! Owns RUN/netns. Invariant: no thread of the agent ever changes its
//! namespace; whoever must act inside one is a thread that lives for that act
//! and ends. Sockets opened there stay there, whichever thread uses them.

use crate::error::{Error, Result};
use rustix::fs::Mode;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Stack of a short-lived thread, bytes: it encodes and sends a few messages.
const THREAD_STACK_BYTES: usize = 128 << 10;

/// RUN/netns: one mount a container.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder a mount of its own that passes unmounts on to copies
    /// of the mount table: else each running shim's copy would keep the
    /// namespaces of containers that are long gone.
    pub(super) fn open(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join("netns");
        fs::create_dir_all(&path).map_err(|e| failed("make", &path, &e))?;
        if !is_mount(&path)? {
            rustix::mount::mount_bind_recursive(&path, &path)
                .map_err(|e| failed("mount", &path, &e.into()))?;
        }
        let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        rustix::mount::mount_change(&path, shared)
            .map_err(|e| failed("share the mounts of", &path, &e.into()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self, container: &str) -> PathBuf {
        self.0.join(container)
    }

    /// Names of the namespaces that are there.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.0).map_err(|e| failed("read", &self.0, &e))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }

    /// Makes a new namespace, or takes the one that is there.
    pub(super) fn make(&self, container: &str) -> Result<PathBuf> {
        let path = self.path(container);
        if exists(&path) {
            return Ok(path);
        }
        // A file without a namespace on it: left by a reboot or a crash.
        let _ = fs::remove_file(&path);
        File::create(&path).map_err(|e| failed("make", &path, &e))?;
        let target = path.clone();
        let made = on_own_thread(move || {
            // SAFETY: this thread was made for this and ends after it; it
            // shares no namespace-bound state with the others.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &target)
        })?;
        if let Err(e) = made {
            let _ = fs::remove_file(&path);
            return Err(failed("make the network namespace", &path, &e.into()));
        }
        Ok(path)
    }

    /// Lets it go: it ends with its last process. Idempotent.
    pub(super) fn remove(&self, container: &str) {
        let path = self.path(container);
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::warn!("network: cannot remove {}: {e}", path.display());
        }
    }
}

/// Whether a namespace is mounted at the path.
pub(super) fn exists(path: &Path) -> bool {
    /// Magic number of the file system that namespaces are files of.
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|at| at.f_type as u64 == NSFS_MAGIC)
}

fn is_mount(path: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let path = path.canonicalize()?;
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|at| Path::new(at) == path))
}

/// Runs `act` inside the namespace at `path`, and waits for it.
pub(super) fn within<T: Send>(path: &Path, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let namespace = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| failed("open the network namespace", path, &e.into()))?;
    on_own_thread(move || {
        rustix::thread::move_into_link_name_space(
            namespace.as_fd(),
            Some(LinkNameSpaceType::Network),
        )
        .map_err(|e| failed("enter the network namespace", path, &e.into()))?;
        act()
    })?
}

fn on_own_thread<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn_scoped(scope, act)
            .map_err(|e| Error::internal(format!("network: no thread for a namespace: {e}")))?
            .join()
            .map_err(|_| Error::internal("network: a namespace's thread panicked"))
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::internal(format!(
        "network: cannot {what} {}: {error}",
        path.display()
    ))
}
