//! Real containers on this machine: made from a busybox root, checked from
//! the inside. They need root and a static busybox and are passed over
//! without; `tests/run` sees to it that neither is missing.

mod inside;
mod life;
mod streams;

use super::wire::Chunk;
use super::*;
use crate::{logs, oci};
use skep_control::model::{Argv, ContainerCreate};
use smol::stream::StreamExt;
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A test binary is its own shim: when it is started as one, it becomes one
/// before the test harness makes a thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BECOME_SHIM: extern "C" fn(c_int, *const *const c_char) = become_shim;

extern "C" fn become_shim(count: c_int, pointers: *const *const c_char) {
    let argument = |at: usize| {
        // SAFETY: the C library passes `count` pointers to strings.
        let text = unsafe { CStr::from_ptr(*pointers.add(at)) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    let args: Vec<OsString> = (0..count as usize).map(argument).collect();
    let name = args.first().and_then(|a| Path::new(a).file_name());
    if name == Some("skep-shim".as_ref()) || name == Some(INIT_NAME.as_ref()) {
        main(&args);
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine of one container, with its own folders and cgroup parent.
struct Lab {
    base: PathBuf,
    launch: Launch,
}

/// `None` where no container can run.
fn lab(command: &[&str]) -> Option<Lab> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|b| Path::new(b).exists())?;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", std::process::id());
    let base = std::env::temp_dir().join(format!("skep-shim-{name}"));
    let layer = base.join("layer");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::copy(busybox, layer.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "echo", "sleep", "id", "env", "grep", "ls", "hostname", "stty", "head", "seq",
        "mount", "tty", "dd", "pwd", "kill", "sync", "tail", "wc", "mknod", "ps", "touch",
        "unshare", "readlink",
    ] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(
        layer.join("etc/group"),
        "root:x:0:\nwww:x:33:\nstaff:x:50:web\n",
    )
    .unwrap();
    std::fs::write(layer.join("bin/text"), "no program").unwrap();
    std::fs::create_dir_all(base.join("run")).unwrap();
    std::fs::create_dir_all(base.join("task")).unwrap();
    let mut create = ContainerCreate::default();
    create.config.cmd = Some(Argv(command.iter().map(|w| (*w).to_owned()).collect()));
    let id = format!(
        "{:0>64}",
        format!(
            "{:x}",
            u64::from(std::process::id()) << 16 | u64::from(number)
        )
    );
    let inputs = oci::Inputs {
        id: id.clone(),
        create,
        cgroup_path: PathBuf::from(format!("/skep-test-{name}/{id}")),
        ..oci::Inputs::default()
    };
    let launch = Launch {
        id,
        task_dir: base.join("task"),
        run_dir: base.join("run"),
        layers: vec![layer],
        inputs,
        log: logs::Options::default(),
        waiting: Vec::new(),
    };
    Some(Lab { base, launch })
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = cgroup::sweep(self.launch.inputs.cgroup_path.parent().unwrap());
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

impl Lab {
    fn start(&self) -> Shim {
        smol::block_on(launch(self.launch.clone())).unwrap().0
    }

    /// Runs to the end; exit record and what was logged.
    fn run(&self) -> (ExitRecord, String) {
        let shim = self.start();
        let record = smol::block_on(shim.wait()).unwrap();
        (record, self.log(true))
    }

    fn log(&self, stdout: bool) -> String {
        let select = logs::Select {
            stdout,
            stderr: !stdout,
            ..logs::Select::default()
        };
        let entries = logs::read(&self.launch.task_dir, &select).unwrap();
        entries
            .map(|e| String::from_utf8_lossy(&e.data).into_owned() + "\n")
            .collect()
    }
}

fn text(chunks: &[Chunk], source: Source) -> String {
    let chosen = chunks.iter().filter(|c| c.source == source);
    chosen
        .map(|c| String::from_utf8_lossy(&c.data).into_owned())
        .collect()
}

const BOTH: Attach = Attach {
    stdin: false,
    stdout: true,
    stderr: true,
};
