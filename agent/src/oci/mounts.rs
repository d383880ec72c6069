//! The mount table: Docker's own, then the user's, sorted so that a mount
//! never hides one that lies below it.

use super::{BindMount, Inputs};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bytes of /dev/shm when nobody says: Docker's 64 MB.
const SHM_BYTES_DEFAULT: i64 = 64 << 20;

/// Hidden behind an empty file or folder, unless `masked_paths` says otherwise.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// To be read only, unless `readonly_paths` says otherwise.
pub(crate) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": source, "options": options})
}

/// All mounts of the container.
pub(super) fn mounts(inputs: &Inputs, init: Option<&Path>) -> Result<Vec<Value>> {
    let user = user_mounts(inputs, init)?;
    let taken = |target: &Value| user.iter().any(|m| &m["destination"] == target);
    let mut all: Vec<Value> = system_mounts(inputs)
        .into_iter()
        .filter(|m| !taken(&m["destination"]))
        .collect();
    let mut user = user;
    // Stable: of two mounts at one depth the later one of the user's wins.
    user.sort_by_key(|m| depth(m["destination"].as_str().unwrap_or_default()));
    all.extend(user);
    Ok(all)
}

fn depth(target: &str) -> usize {
    Path::new(target).components().count()
}

fn system_mounts(inputs: &Inputs) -> Vec<Value> {
    let host = &inputs.create.host;
    let writable = if host.privileged { "rw" } else { "ro" };
    let mut table = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
    ];
    table.push(mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", writable],
    ));
    let options = ["nosuid", "noexec", "nodev", "relatime", writable];
    table.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options));
    if host.ipc_mode == "host" {
        let options = ["rbind", "nosuid", "noexec", "nodev"];
        table.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &options));
        table.push(mount("/dev/shm", "bind", "/dev/shm", &options));
        return table;
    }
    table.push(mount(
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ));
    // With `container:…` the System V objects and queues are shared, /dev/shm
    // is not: a mount of another mount namespace cannot be bound here.
    if host.ipc_mode != "none" {
        let bytes = if host.shm_size > 0 {
            host.shm_size
        } else {
            SHM_BYTES_DEFAULT
        };
        let size = format!("size={bytes}");
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        table.push(mount("/dev/shm", "tmpfs", "shm", &options));
    }
    table
}

fn user_mounts(inputs: &Inputs, init: Option<&Path>) -> Result<Vec<Value>> {
    let mut table = Vec::new();
    for bind in &inputs.mounts {
        table.push(bind_mount(bind)?);
    }
    if let Some(binary) = init {
        table.push(bind_mount(&BindMount {
            source: binary.to_owned(),
            target: PathBuf::from(super::process::INIT_PATH),
            read_only: true,
            ..BindMount::default()
        })?);
    }
    let host = &inputs.create.host;
    for (target, options) in &host.tmpfs {
        let given = options.split(',').filter(|o| !o.is_empty());
        table.push(tmpfs(target, given.map(str::to_owned).collect())?);
    }
    for wanted in host.mounts.iter().filter(|m| m.kind == "tmpfs") {
        let mut options = Vec::new();
        if wanted.read_only {
            options.push("ro".to_owned());
        }
        if let Some(tmpfs) = &wanted.tmpfs_options {
            if tmpfs.size_bytes > 0 {
                options.push(format!("size={}", tmpfs.size_bytes));
            }
            if tmpfs.mode != 0 {
                options.push(format!("mode={:o}", tmpfs.mode));
            }
            options.extend(tmpfs.options.iter().map(|pair| pair.join("=")));
        }
        table.push(tmpfs(&wanted.target, options)?);
    }
    Ok(table)
}

/// Docker's flags, over which the user's words win.
fn tmpfs(target: &str, given: Vec<String>) -> Result<Value> {
    absolute(Path::new(target))?;
    let mut options = Vec::new();
    for (default, opposite) in [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")] {
        if !given.iter().any(|o| o == opposite) {
            options.push(default.to_owned());
        }
    }
    options.extend(given);
    Ok(json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}))
}

fn bind_mount(bind: &BindMount) -> Result<Value> {
    absolute(&bind.target)?;
    let kind = if bind.non_recursive { "bind" } else { "rbind" };
    let propagation = match bind.propagation.as_str() {
        "" => "rprivate",
        known @ ("private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared") => known,
        other => {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": invalid propagation mode: {other}"
            )));
        }
    };
    let mut options = vec![kind, propagation];
    if bind.read_only {
        options.push("ro");
    }
    Ok(json!({
        "destination": bind.target, "type": "bind", "source": bind.source, "options": options,
    }))
}

fn absolute(target: &Path) -> Result<()> {
    if target.is_absolute() && target != Path::new("/") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid mount path: '{}' mount path must be absolute and not '/'",
        target.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Mount, TmpfsOptions};

    fn find<'a>(table: &'a [Value], target: &str) -> Vec<&'a Value> {
        table
            .iter()
            .filter(|m| m["destination"] == target)
            .collect()
    }

    #[test]
    fn the_users_mounts_follow_by_depth_and_replace_dockers() {
        let mut inputs = Inputs::default();
        for (source, target) in [("/a", "/data/deep"), ("/b", "/data"), ("/c", "/dev/shm")] {
            inputs.mounts.push(BindMount {
                source: source.into(),
                target: target.into(),
                read_only: target == "/data",
                ..BindMount::default()
            });
        }
        inputs
            .create
            .host
            .tmpfs
            .insert("/run".to_owned(), "size=1m,exec".to_owned());
        inputs.create.host.mounts.push(Mount {
            kind: "tmpfs".to_owned(),
            target: "/cache".to_owned(),
            tmpfs_options: Some(TmpfsOptions {
                size_bytes: 4096,
                mode: 0o700,
                ..Default::default()
            }),
            ..Mount::default()
        });
        let table = mounts(&inputs, Some(Path::new("/skep"))).unwrap();
        let at = |target: &str| {
            table
                .iter()
                .position(|m| m["destination"] == target)
                .unwrap()
        };
        assert!(at("/data") < at("/data/deep"));
        assert_eq!(find(&table, "/dev/shm").len(), 1);
        assert_eq!(find(&table, "/dev/shm")[0]["source"], "/c");
        assert_eq!(
            find(&table, "/data")[0]["options"],
            json!(["rbind", "rprivate", "ro"])
        );
        let options = &find(&table, "/run")[0]["options"];
        assert_eq!(*options, json!(["nosuid", "nodev", "size=1m", "exec"]));
        let options = &find(&table, "/cache")[0]["options"];
        assert_eq!(
            *options,
            json!(["noexec", "nosuid", "nodev", "size=4096", "mode=700"])
        );
        assert_eq!(find(&table, "/sbin/docker-init")[0]["source"], "/skep");
    }

    #[test]
    fn bad_targets_and_propagation_are_refused() {
        for target in ["relative", "/"] {
            let bind = BindMount {
                target: target.into(),
                ..BindMount::default()
            };
            assert!(bind_mount(&bind).is_err());
        }
        let bind = BindMount {
            target: "/x".into(),
            propagation: "sideways".to_owned(),
            ..BindMount::default()
        };
        assert!(bind_mount(&bind).unwrap_err().message.contains("sideways"));
    }

    #[test]
    fn host_ipc_and_no_ipc_have_no_private_shm() {
        let mut inputs = Inputs::default();
        inputs.create.host.ipc_mode = "host".to_owned();
        let table = mounts(&inputs, None).unwrap();
        assert_eq!(find(&table, "/dev/shm")[0]["type"], "bind");
        inputs.create.host.ipc_mode = "none".to_owned();
        let table = mounts(&inputs, None).unwrap();
        assert!(find(&table, "/dev/shm").is_empty());
    }
}
