//! What the runtime spec needs to know of this machine and of the image, read
//! at the moment of the start.

use super::{cgroup, kernel};
use crate::oci::{Device, Facts, Inputs};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of an /etc/passwd or /etc/group that are looked at.
const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;

/// Devices of one folder that is given to a container, or of all of /dev.
const DEVICES_MAX: usize = 1024;

/// Gathers the facts for a container whose root is mounted at `root`.
pub(super) fn gather(inputs: &Inputs, root: &Path, init: PathBuf) -> std::io::Result<Facts> {
    Ok(Facts {
        root: root.to_owned(),
        passwd: read_inside(root, "etc/passwd"),
        group: read_inside(root, "etc/group"),
        machine: cgroup::machine(),
        devices: devices(inputs)?,
        init,
    })
}

/// The text of a file in the container; links are the container's, not ours.
pub(super) fn read_inside(root: &Path, path: &str) -> String {
    let mut text = String::new();
    let open = || -> std::io::Result<std::fs::File> {
        let folder = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat2(&folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        Ok(fd.into())
    };
    if let Ok(file) = open()
        && file.metadata().is_ok_and(|m| m.is_file())
    {
        let _ = file.take(ACCOUNTS_BYTES_MAX).read_to_string(&mut text);
    }
    text
}

/// Makes the working folder in the container's root, as Docker does (root's,
/// whoever the user is), without following a link out of it.
pub(super) fn make_folder(root: &Path, path: &Path) -> std::io::Result<()> {
    let whole = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mut parent = rustix::io::dup(&whole)?;
    let mut done = PathBuf::new();
    for component in path.components() {
        let std::path::Component::Normal(name) = component else {
            continue;
        };
        done.push(name);
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let inside = ResolveFlags::IN_ROOT;
        let open = || rustix::fs::openat2(&whole, &done, flags, Mode::empty(), inside);
        parent = match open() {
            Ok(folder) => folder,
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                open()?
            }
            Err(e) => return Err(e.into()),
        };
    }
    Ok(())
}

fn devices(inputs: &Inputs) -> std::io::Result<Vec<Device>> {
    let host = &inputs.create.host;
    let mut found = Vec::new();
    if host.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", &mut found);
    }
    for mapping in &host.devices {
        let from = Path::new(&mapping.path_on_host);
        let to = if mapping.path_in_container.is_empty() {
            from
        } else {
            Path::new(&mapping.path_in_container)
        };
        let permissions = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            given => given,
        };
        let resolved = std::fs::canonicalize(from).map_err(|_| missing(from))?;
        if resolved.is_dir() {
            walk(&resolved, to, permissions, &mut found);
        } else {
            let device = device(&resolved, to, permissions).ok_or_else(|| missing(from))?;
            found.push(device);
        }
    }
    // Throttles and weights name devices that the container may not have.
    let throttled = host
        .blkio_device_read_bps
        .iter()
        .chain(&host.blkio_device_write_bps)
        .chain(&host.blkio_device_read_iops)
        .chain(&host.blkio_device_write_iops)
        .map(|t| &t.path);
    for path in throttled.chain(host.blkio_weight_device.iter().map(|w| &w.path)) {
        let path = Path::new(path);
        found.extend(device(path, path, ""));
    }
    Ok(found)
}

fn missing(path: &Path) -> std::io::Error {
    std::io::Error::other(format!(
        "error gathering device information while adding custom device \"{}\": no such file or directory",
        path.display()
    ))
}

fn device(host: &Path, path: &Path, permissions: &str) -> Option<Device> {
    let found = std::fs::metadata(host).ok()?;
    let kind = found.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    let (major, minor) = kernel::device_numbers(found.rdev());
    Some(Device {
        host: host.to_owned(),
        path: path.to_owned(),
        block: kind.is_block_device(),
        major,
        minor,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        permissions: permissions.to_owned(),
    })
}

/// All device nodes below a folder, without what a container has of its own.
fn walk(folder: &Path, target: &Path, permissions: &str, found: &mut Vec<Device>) {
    const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev"];
    const DEFAULT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let known = |list: &[&str]| list.iter().any(|own| name == *own);
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if known(&OWN) || known(&DEFAULT) || found.len() >= DEVICES_MAX {
            continue;
        }
        let (from, to) = (entry.path(), target.join(&name));
        if kind.is_dir() {
            walk(&from, &to, permissions, found);
        } else if !kind.is_symlink() {
            found.extend(device(&from, &to, permissions));
        }
    }
}
