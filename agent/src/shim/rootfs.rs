//! A container's root: an overlay of its image's layers and its own folder.
//!
//! Invariant: layers are never written; what the container changes is in
//! `upper`. Works for as many layers as overlayfs takes (500): by the mount
//! calls that name them one at a time, or, on kernels before 6.7, by short
//! links, since one option string holds a page.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};
use std::io::{BufRead, Error, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What the container changed.
pub(crate) const UPPER: &str = "upper";
/// What overlayfs works in while mounted. It makes it itself, so that it is
/// there once the container has ever run.
pub(crate) const WORK: &str = "work";
/// Ends the name, beside the task's folder, of what the container changed
/// while it is mounted.
pub(crate) const APART_SUFFIX: &str = ".upper";

/// The two folders of an overlay that are the container's own.
///
/// Overlayfs wants to be given a work folder, makes `work` in it and wants the
/// upper folder elsewhere. Every folder costs a card 8 kB (itself, and itself
/// in the journal), so that the task's folder is what it is given, and the
/// upper folder is moved aside for the moment of mounting: overlayfs keeps to
/// the folders, wherever they are.
pub(crate) struct Own {
    task_dir: PathBuf,
    upper: PathBuf,
    /// Where `upper` is while the overlay is being mounted.
    apart: PathBuf,
}

impl Own {
    pub(crate) fn of(task_dir: &Path) -> Self {
        let mut apart = task_dir.as_os_str().to_owned();
        apart.push(APART_SUFFIX);
        Self {
            task_dir: task_dir.to_owned(),
            upper: task_dir.join(UPPER),
            apart: apart.into(),
        }
    }

    /// Makes or moves what overlayfs wants to be there.
    fn part(&self) -> Result<()> {
        self.join()?;
        std::fs::create_dir_all(&self.task_dir)?;
        match std::fs::rename(&self.upper, &self.apart) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir(&self.apart),
            moved => moved,
        }
    }

    /// Brings the two together, also after a crash between.
    pub(crate) fn join(&self) -> Result<()> {
        match std::fs::rename(&self.apart, &self.upper) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Whether the container of that folder was ever given its root: evidence that
/// needs no record.
pub(crate) fn ever_mounted(task_dir: &Path) -> Option<std::time::SystemTime> {
    let meta = std::fs::metadata(task_dir.join(WORK)).ok()?;
    meta.modified().ok()
}

/// The overlay as a mount that is nowhere in the tree: gone when its
/// descriptor is closed. `own` absent makes it read only.
///
/// # Errors
/// `ENOSYS` or `EINVAL` on kernels that do not take layers one at a time.
pub(crate) fn detached(layers: &[PathBuf], own: Option<&Own>) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    // Overlayfs wants the highest first.
    for layer in layers.iter().rev() {
        fsconfig_set_string(&context, "lowerdir+", layer)?;
    }
    if let Some(own) = own {
        fsconfig_set_string(&context, "upperdir", &own.apart)?;
        fsconfig_set_string(&context, "workdir", &own.task_dir)?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// Mounts the overlay at `target`. `links` is a folder for short names.
pub(super) fn mount(layers: &[PathBuf], own: &Own, target: &Path, links: &Path) -> Result<()> {
    if layers.is_empty() {
        return Err(Error::other("the image has no layers"));
    }
    std::fs::create_dir_all(target)?;
    own.part()?;
    let mounted = match detached(layers, Some(own)) {
        Ok(overlay) => rustix::mount::move_mount(
            &overlay,
            "",
            rustix::fs::CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(Error::from),
        Err(_) => mount_by_links(layers, own, target, links),
    };
    own.join().and(mounted)
}

fn mount_by_links(layers: &[PathBuf], own: &Own, target: &Path, links: &Path) -> Result<()> {
    std::fs::create_dir_all(links)?;
    let link = |name: &str, to: &Path| {
        let at = links.join(name);
        let _ = std::fs::remove_file(&at);
        std::os::unix::fs::symlink(to, at)
    };
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate().rev() {
        let name = format!("{at:x}");
        link(&name, layer)?;
        names.push(name);
    }
    link("u", &own.apart)?;
    link("w", &own.task_dir)?;
    let options = format!("lowerdir={},upperdir=u,workdir=w", names.join(":"));
    let options = std::ffi::CString::new(options)?;
    // The names are relative: the kernel resolves them from here.
    std::env::set_current_dir(links)?;
    let mounted = rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    );
    std::env::set_current_dir("/")?;
    Ok(mounted?)
}

/// Takes the overlay away, so that the next run may mount the same folders.
pub(super) fn unmount(target: &Path) {
    let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
}

/// Lets go of the network namespaces that this mount namespace has copies of:
/// on a host whose mounts are private they would keep other containers'
/// networks alive as long as this shim lives.
pub(super) fn forget_namespaces() {
    // Line by line: the table of a machine with many mounts would otherwise
    // stay in the shim's memory as long as the shim.
    let Ok(table) = std::fs::File::open("/proc/self/mountinfo") else {
        return;
    };
    let lines = std::io::BufReader::with_capacity(4096, table).lines();
    let namespace = |line: String| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        kind.starts_with("nsfs ").then(|| PathBuf::from(path))
    };
    let found: Vec<PathBuf> = lines.map_while(Result::ok).filter_map(namespace).collect();
    for path in found {
        unmount(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root; mounts only in a namespace of the test's own thread.
    #[test]
    fn many_layers_mount_by_both_ways() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = std::env::temp_dir().join(format!("skep-rootfs-{}", std::process::id()));
        let done = std::thread::spawn({
            let base = base.clone();
            move || {
                super::super::kernel::own_mounts().unwrap();
                let flags = rustix::mount::MountPropagationFlags::PRIVATE
                    | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags).unwrap();
                let layers: Vec<PathBuf> = (0..130)
                    .map(|n| base.join(format!("layers/sha256-{n:064}")))
                    .collect();
                for (n, layer) in layers.iter().enumerate() {
                    std::fs::create_dir_all(layer).unwrap();
                    std::fs::write(layer.join("top"), n.to_string()).unwrap();
                    std::fs::write(layer.join(format!("f{n}")), "").unwrap();
                }
                let target = base.join("root");
                for way in ["one", "two"] {
                    let own = Own::of(&base.join(way));
                    if way == "one" {
                        mount(&layers, &own, &target, &base.join("links")).unwrap();
                    } else {
                        own.part().unwrap();
                        mount_by_links(&layers, &own, &target, &base.join("links")).unwrap();
                        own.join().unwrap();
                    }
                    assert_eq!(std::fs::read_to_string(target.join("top")).unwrap(), "129");
                    assert!(target.join("f0").exists());
                    std::fs::write(target.join("mine"), "x").unwrap();
                    assert!(own.upper.join("mine").exists());
                    // All that overlayfs needs its work folder for.
                    assert!(own.task_dir.join(WORK).exists() && !own.apart.exists());
                    assert_eq!(std::fs::read_dir(&own.task_dir).unwrap().count(), 2);
                    std::fs::write(target.join("f1"), "copied up").unwrap();
                    std::fs::remove_file(target.join("f2")).unwrap();
                    std::fs::create_dir(target.join("f2")).unwrap();
                    std::fs::rename(target.join("f3"), target.join("f2/f3")).unwrap();
                    assert!(!target.join("f3").exists() && target.join("f2/f3").exists());
                    unmount(&target);
                }
            }
        })
        .join();
        std::fs::remove_dir_all(&base).unwrap();
        done.unwrap();
    }
}
