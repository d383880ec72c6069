//! A container's cgroup as the agent and the shim use it: what the kernel
//! offers, freezing, limits on the fly, pids, and the sweep of what is left.
//! Version 1, hybrid and 2.
//!
//! Does not know: libcontainer, which must not run in the agent's threads. It
//! creates the cgroup; from then on it is read and written here.

use crate::error::{Error, Result};
use crate::oci::{Capabilities, Machine};
use skep_control::model::HostConfig;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that a container may have a folder of under version 1.
const V1: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpu,cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
];

/// How long killed processes may take to leave their cgroup.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

fn relative(cgroup: &Path) -> &Path {
    cgroup.strip_prefix("/").unwrap_or(cgroup)
}

/// The folder of a container in version 2's hierarchy, where that is the one
/// in charge.
pub(super) fn unified(cgroup: &Path) -> Option<PathBuf> {
    is_v2().then(|| Path::new(ROOT).join(relative(cgroup)))
}

/// The folder of a container for one controller.
pub(super) fn folder(cgroup: &Path, controller: &str) -> PathBuf {
    match unified(cgroup) {
        Some(folder) => folder,
        None => Path::new(ROOT).join(controller).join(relative(cgroup)),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| {
        Error::internal(format!(
            "cannot write \"{text}\" to {}: {e}",
            path.display()
        ))
    })
}

/// The capabilities that this process could hand on.
pub(crate) fn capabilities() -> Capabilities {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    Capabilities(bits.unwrap_or(0))
}

/// What this kernel offers.
pub(crate) fn machine() -> Machine {
    let v2 = is_v2();
    let root = Path::new(ROOT);
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| {
        if v2 {
            let name = if name == "blkio" { "io" } else { name };
            controllers.split_whitespace().any(|c| c == name)
        } else {
            root.join(name).join("cgroup.procs").exists()
        }
    };
    Machine {
        cgroup_v2: v2,
        memory: has("memory"),
        swap: if v2 {
            has("memory") && Path::new("/proc/swaps").exists()
        } else {
            root.join("memory/memory.memsw.limit_in_bytes").exists()
        },
        pids: has("pids"),
        cpu: has("cpu"),
        cpuset: has("cpuset"),
        blkio: has("blkio"),
        devices: !v2 && has("devices"),
        capabilities: capabilities(),
        seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
    }
}

/// Stops or resumes every process, and waits until it is so.
pub(crate) fn freeze(cgroup: &Path, frozen: bool) -> Result<()> {
    let folder = folder(cgroup, "freezer");
    if is_v2() {
        write(
            &folder.join("cgroup.freeze"),
            if frozen { "1" } else { "0" },
        )?;
    } else {
        write(
            &folder.join("freezer.state"),
            if frozen { "FROZEN" } else { "THAWED" },
        )?;
    }
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    while is_frozen(cgroup) != frozen {
        if Instant::now() > deadline {
            return Err(Error::internal(format!(
                "{} does not freeze",
                folder.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether it is frozen, as the kernel sees it.
pub(crate) fn is_frozen(cgroup: &Path) -> bool {
    let folder = folder(cgroup, "freezer");
    let read = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    if is_v2() {
        read("cgroup.events").lines().any(|line| line == "frozen 1")
    } else {
        read("freezer.state").trim() == "FROZEN"
    }
}

/// Lets the kernel have its grace period before a container's process is moved
/// into its cgroups. The first such move after a quiet moment waits for one,
/// some 10 ms, and those that follow soon do not: so this process is moved to
/// where it is anyway, while a start's other work is done. Blocks; a failure
/// costs the time that it would have saved.
pub(crate) fn warm_up() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let hierarchies = own.lines().filter_map(|line| {
        let (_, named) = line.split_once(':')?;
        named.split_once(':')
    });
    let wanted = if is_v2() { "" } else { "pids" };
    for (controllers, path) in hierarchies.filter(|(name, _)| *name == wanted) {
        let folder = Path::new(ROOT)
            .join(controllers)
            .join(relative(Path::new(path)));
        let _ = std::fs::write(folder.join("cgroup.procs"), std::process::id().to_string());
    }
}

/// The pids of the container's processes, as the host numbers them; also
/// those in cgroups of its own below.
pub(crate) fn pids(cgroup: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    collect(&some_folder(cgroup), &mut pids)
        .map_err(|e| Error::internal(format!("cgroup {}: {e}", cgroup.display())))?;
    Ok(pids)
}

/// Any hierarchy tells the pids.
fn some_folder(cgroup: &Path) -> PathBuf {
    let mut all = V1.iter().map(|controller| folder(cgroup, controller));
    all.find(|folder| folder.exists())
        .unwrap_or_else(|| folder(cgroup, "freezer"))
}

fn collect(folder: &Path, pids: &mut Vec<i32>) -> std::io::Result<()> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs"))?;
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// Kills every process in it.
pub(crate) fn kill(cgroup: &Path) -> Result<()> {
    if let Some(folder) = unified(cgroup)
        && std::fs::write(folder.join("cgroup.kill"), "1").is_ok()
    {
        return Ok(());
    }
    for pid in pids(cgroup).unwrap_or_default() {
        let _ = super::kernel::kill(pid, libc::SIGKILL);
    }
    if is_frozen(cgroup) {
        freeze(cgroup, false)?;
    }
    Ok(())
}

/// Kills what is left in a cgroup and removes it from all hierarchies.
pub(crate) fn sweep(cgroup: &Path) -> Result<()> {
    if relative(cgroup).as_os_str().is_empty() {
        return Err(Error::internal("the root cgroup is nobody's to sweep"));
    }
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    loop {
        let mut folders: Vec<PathBuf> = V1.iter().map(|c| folder(cgroup, c)).collect();
        folders.dedup();
        let left = folders.iter().filter(|f| f.exists() && !remove(f)).count();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::internal(format!(
                "cgroup {} is busy",
                cgroup.display()
            )));
        }
        kill(cgroup)?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes a cgroup and those below it.
fn remove(folder: &Path) -> bool {
    if std::fs::remove_dir(folder).is_ok() {
        return true;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    std::fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// How often the kernel killed one of its processes for memory.
pub(crate) fn oom_kills(cgroup: &Path) -> u64 {
    let folder = folder(cgroup, "memory");
    let name = if is_v2() {
        "memory.events"
    } else {
        "memory.oom_control"
    };
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// Applies the limits that are set (not zero) in `host` to a running
/// container; returns what could not be.
///
/// # Errors
/// The kernel refuses a number: less memory than is in use, say.
pub(crate) fn update(cgroup: &Path, host: &HostConfig) -> Result<Vec<String>> {
    let machine = machine();
    let facts = crate::oci::Facts {
        machine,
        ..Default::default()
    };
    let settings = crate::oci::live_settings(host, &facts);
    // Memory with swap may never be less than memory: which of the two goes
    // first depends on whether they grow. What is refused is tried once more.
    let mut refused = Vec::new();
    for (controller, file, value) in &settings.values {
        let path = folder(cgroup, controller).join(file);
        if write(&path, value).is_err() {
            refused.push((path, value));
        }
    }
    for (path, value) in refused.iter().rev() {
        write(path, value)?;
    }
    Ok(settings.warnings)
}
