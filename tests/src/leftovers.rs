//! Cleaning up after boards, also after those of a test run that was killed.
//!
//! Everything a board makes carries its name: folder, network namespace and
//! cgroup. The name holds the process id of the test run, so that what belongs
//! to a dead run can be told from what belongs to one that runs beside us.

use crate::program::run;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Short on purpose: a unix socket's path has at most 107 bytes.
const BASE: &str = "/tmp/skep-t";
/// Killed processes are gone in milliseconds; one in the kernel's hands longer
/// than this is a defect to be seen. Seconds.
const DEATH_PATIENCE: Duration = Duration::from_secs(10);

/// What everything of one board, or street, is called.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    text: String,
}

impl Name {
    pub(crate) fn netns(&self) -> String {
        format!("skt-{}", self.text)
    }

    pub(crate) fn cgroup(&self) -> String {
        format!("skt-{}", self.text)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(BASE).join(&self.text)
    }

    /// Ends every process of the board, undoes its mounts and cgroups.
    pub(crate) fn end_everything(&self) {
        self.thaw();
        let deadline = Instant::now() + DEATH_PATIENCE;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                let _ = kill_process(pid, Signal::KILL);
            }
            if Instant::now() > deadline {
                eprintln!(
                    "{}: processes do not die: {:?}",
                    self.text,
                    self.processes()
                );
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        unmount_below(&self.folder());
        for folder in cgroups(&self.cgroup()) {
            remove_cgroup(&folder);
        }
    }

    /// Removes the folder, which also gives the name free.
    pub(crate) fn release(&self) {
        drop(fs::remove_dir_all(self.folder()));
    }

    /// A frozen process does not take its SIGKILL.
    fn thaw(&self) {
        for folder in cgroups(&self.cgroup()) {
            walk_folders(&folder, &mut |folder| {
                drop(fs::write(folder.join("freezer.state"), "THAWED"));
                drop(fs::write(folder.join("cgroup.freeze"), "0"));
            });
        }
    }

    /// The board's processes: in its cgroups, in its network namespace, naming
    /// its folder, or with their root in it.
    fn processes(&self) -> Vec<Pid> {
        let folder = self.folder().to_string_lossy().into_owned();
        let cgroup = format!("/{}", self.cgroup());
        let netns = inode(&Path::new("/run/netns").join(self.netns()));
        let mut found = Vec::new();
        for (number, at) in numbered_processes() {
            if number == 1 || number == std::process::id().cast_signed() || is_dead(&at) {
                continue;
            }
            let read = |file: &str| fs::read(at.join(file)).unwrap_or_default();
            let holds = |bytes: Vec<u8>, word: &str| String::from_utf8_lossy(&bytes).contains(word);
            // Another mount namespace may well see this folder's mounts: only a
            // root that lies in it makes a process a container's.
            let rooted = read_text(&at.join("mountinfo"))
                .lines()
                .any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&folder));
            let ours = holds(read("cgroup"), &cgroup)
                || holds(read("cmdline"), &folder)
                || (netns.is_some() && inode(&at.join("ns/net")) == netns)
                || rooted;
            if ours {
                found.extend(Pid::from_raw(number));
            }
        }
        found
    }
}

/// A name nobody has, with its folder; the first call sweeps.
pub(crate) fn claim(kind: &str) -> Name {
    static SWEEP: Once = Once::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SWEEP.call_once(sweep);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = Name {
        text: format!("{}-{kind}{number}", std::process::id()),
    };
    fs::create_dir_all(name.folder()).expect("a folder under /tmp can be made");
    name
}

/// Deletes a network namespace, if it is there.
pub(crate) fn remove_netns(netns: &str) {
    if Path::new("/run/netns").join(netns).exists() {
        drop(run(Command::new("ip").args(["netns", "del", netns])));
    }
}

/// Ends what test runs left behind whose process is gone.
fn sweep() {
    // Overlay mounts need an upper folder that is no overlay: in a container,
    // /tmp often is one.
    fs::create_dir_all(BASE).expect("a folder under /tmp can be made");
    let kind = run(Command::new("stat").args(["-f", "-c", "%T", BASE]));
    if kind.out.trim() == "overlayfs" {
        run(Command::new("mount").args(["-t", "tmpfs", "skep-t", BASE])).ok();
    }
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    for entry in entries {
        let text = entry.file_name().to_string_lossy().into_owned();
        let owner = text.split('-').next().unwrap_or_default();
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            let name = Name { text };
            name.end_everything();
            remove_netns(&name.netns());
            name.release();
        }
    }
}

/// Undoes every mount below `folder`, the latest first.
pub(crate) fn unmount_below(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| Path::new(at).starts_with(folder));
    let mut below: Vec<&str> = below.collect();
    below.reverse();
    for at in below {
        let _ = unmount(at, UnmountFlags::DETACH);
    }
}

/// The board's folder in each cgroup hierarchy.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let mut bases = vec![base.to_path_buf()];
    bases.extend(
        fs::read_dir(base)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let folders = bases.into_iter().map(|base| base.join(name));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn remove_cgroup(folder: &Path) {
    let mut folders = Vec::new();
    walk_folders(folder, &mut |folder| folders.push(folder.to_path_buf()));
    let deadline = Instant::now() + DEATH_PATIENCE;
    for folder in folders.iter().rev() {
        // A cgroup is busy for a moment after its last process died.
        while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Calls `visit` on `folder` and all below it, parents first.
fn walk_folders(folder: &Path, visit: &mut impl FnMut(&Path)) {
    visit(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk_folders(&entry.path(), visit);
        }
    }
}

fn numbered_processes() -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// A zombie waits for its parent, not for us.
fn is_dead(at: &Path) -> bool {
    let stat = fs::read_to_string(at.join("stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_none_or(|tail| tail.is_empty() || tail.starts_with('Z'))
}

fn read_text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|data| data.ino())
}
