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

/// The two folders of an overlay that are the container's own.
pub(crate) struct Own {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

impl Own {
    /// Makes them in the task's folder.
    pub(crate) fn create(task_dir: &Path) -> Result<Self> {
        let own = Self {
            upper: task_dir.join("upper"),
            work: task_dir.join("work"),
        };
        for folder in [&own.upper, &own.work] {
            std::fs::create_dir_all(folder)?;
        }
        Ok(own)
    }
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
        fsconfig_set_string(&context, "upperdir", &own.upper)?;
        fsconfig_set_string(&context, "workdir", &own.work)?;
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
    match detached(layers, Some(own)) {
        Ok(overlay) => Ok(rustix::mount::move_mount(
            &overlay,
            "",
            rustix::fs::CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?),
        Err(_) => mount_by_links(layers, own, target, links),
    }
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
    link("u", &own.upper)?;
    link("w", &own.work)?;
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
                    let own = Own::create(&base.join(way)).unwrap();
                    if way == "one" {
                        mount(&layers, &own, &target, &base.join("links")).unwrap();
                    } else {
                        mount_by_links(&layers, &own, &target, &base.join("links")).unwrap();
                    }
                    assert_eq!(std::fs::read_to_string(target.join("top")).unwrap(), "129");
                    assert!(target.join("f0").exists());
                    std::fs::write(target.join("mine"), "x").unwrap();
                    assert!(own.upper.join("mine").exists());
                    unmount(&target);
                }
            }
        })
        .join();
        std::fs::remove_dir_all(&base).unwrap();
        done.unwrap();
    }
}
