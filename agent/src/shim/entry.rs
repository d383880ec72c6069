//! Where the binary becomes a shim, or a container's tiny init: before any
//! thread exists.

use super::kernel::{self, Fork};
use super::maker::{self, Bundle};
use super::monitor::Monitor;
use super::record::ExitRecord;
use super::session::Session;
use super::verdict;
use super::wire::{Answer, Failure, LAUNCH_BYTES_MAX, Launch, Started, WAITING_MAX};
use super::{cgroup, init, rootfs};
use rustix::mount::MountPropagationFlags;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The tiny init's name in a container; the binary knows itself by it.
pub(crate) const INIT_NAME: &str = "docker-init";

/// The shim is the last that the kernel should kill for memory: whoever
/// watches over a container must survive it.
const OOM_SCORE: &str = "-999";

/// The life of a shim. `args` are all of the process's arguments. The launch
/// on fd 0 is read with `recvmsg`: its first byte may carry the connections of
/// clients that attached before the start ([`super::wire::Launch::waiting`]).
pub(crate) fn main(args: &[OsString]) -> ! {
    let called = args.first().and_then(|path| Path::new(path).file_name());
    if called == Some(OsStr::new(INIT_NAME)) {
        let rest = args.get(1..).unwrap_or_default();
        init::run(rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest));
    }
    // The agent waits for this process only: the shim is nobody's child, so
    // that no agent ever has to reap it.
    match kernel::fork() {
        Ok(Fork::Child) => {}
        Ok(Fork::Parent(_)) => kernel::exit_now(0),
        Err(_) => kernel::exit_now(1),
    }
    kernel::close_from(3);
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir("/");
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let Some((launch, connections)) = read_launch() else {
        kernel::exit_now(1);
    };
    if super::monitor::alive(&launch.run_dir, &launch.id) {
        let error = format!("container {} is already running", launch.id);
        answer(&Answer::Failed(failure("shim", error)));
        kernel::exit_now(0);
    }
    match begin(&launch) {
        Ok((mut monitor, started)) => {
            monitor.attach_waiting(&launch.waiting, connections);
            answer(&Answer::Started(started));
            drop(launch);
            monitor.run()
        }
        Err(failure) => {
            clean_up(&launch);
            answer(&Answer::Failed(failure));
            kernel::exit_now(0)
        }
    }
}

/// The launch, and the connections of those who wait for it.
fn read_launch() -> Option<(Launch, Vec<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = Vec::new();
    let mut connections = Vec::new();
    let mut buffer = [0; 8 * 1024];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(WAITING_MAX))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [std::io::IoSliceMut::new(&mut buffer)];
        let stdin = rustix::stdio::stdin();
        let message = recvmsg(stdin, pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                connections.extend(fds);
            }
        }
        if message.bytes == 0 {
            break;
        }
        bytes.extend(buffer.iter().take(message.bytes));
        if bytes.len() > LAUNCH_BYTES_MAX {
            return None;
        }
    }
    Some((postcard::from_bytes(&bytes).ok()?, connections))
}

/// Answers the launch and gives fd 0 to /dev/null: the agent reads to the end
/// of file.
fn answer(answer: &Answer) {
    let bytes = postcard::to_allocvec(answer).unwrap_or_default();
    if let Ok(socket) = rustix::io::dup(rustix::stdio::stdin()) {
        let mut socket = std::fs::File::from(socket);
        let _ = socket.write_all(&bytes);
    }
    if let Ok(null) = std::fs::File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
}

fn failure(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure {
        exit_code: 128,
        message: format!("{what}: {error}"),
    }
}

/// This binary as a mount: also after an upgrade has taken its name away.
fn own_binary() -> std::io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(
        rustix::fs::CWD,
        "/proc/self/exe",
        flags,
    )?)
}

/// Makes the container. On failure nothing of it runs.
fn begin(launch: &Launch) -> Result<(Monitor, Started), Failure> {
    let bundle = Bundle::of(launch);
    let prepare = || -> std::io::Result<OwnedFd> {
        std::fs::create_dir_all(&bundle.0)?;
        let init = launch.inputs.create.host.init == Some(true);
        // Taken while still in the mount namespace that the binary came from.
        let binary = init.then(own_binary).transpose()?;
        // Own mounts, seen by nobody; the host's still come in (slave).
        kernel::own_mounts()?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags)?;
        if let Some(binary) = binary {
            std::fs::File::create(bundle.init())?;
            let empty = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(&binary, "", rustix::fs::CWD, bundle.init(), empty)?;
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        super::monitor::bind(&launch.run_dir, &launch.id)
    };
    let listener = prepare().map_err(|e| failure("shim", e))?;
    ExitRecord::remove(&launch.task_dir).map_err(|e| failure("exit record", e))?;
    maker::mount_root(launch)?;
    let children = kernel::watch_children().map_err(|e| failure("shim", e))?;
    let config = &launch.inputs.create.config;
    let (mut session, ends) = Session::open(config.tty, config.open_stdin, &bundle.console())
        .map_err(|e| failure("stdio", e))?;
    let (mut pending, verdict) = verdict::pipe().map_err(|e| failure("shim", e))?;
    match kernel::fork().map_err(|e| failure("shim", e))? {
        Fork::Child => {
            drop(pending);
            maker::make(launch, ends, &verdict)
        }
        Fork::Parent(_) => {
            drop(verdict);
            drop(ends);
        }
    }
    let mut started = pending
        .read()
        .unwrap_or_else(|| Err(failure("shim", "no verdict")))?;
    started.started = super::monitor::wall();
    let size = &launch.inputs.create.host.console_size;
    session
        .take_terminal()
        .map_err(|e| failure("terminal", e))?;
    session.give_terminal(started.pid);
    if let [height, width] = size.as_slice() {
        session.resize(
            u16::try_from(*height).unwrap_or(0),
            u16::try_from(*width).unwrap_or(0),
        );
    }
    let monitor = Monitor::new(launch, &started, session, listener, children);
    Ok((monitor, started))
}

/// What a failed start left.
fn clean_up(launch: &Launch) {
    let bundle = Bundle::of(launch);
    let _ = cgroup::sweep(&launch.inputs.cgroup_path);
    rootfs::unmount(&bundle.root());
    rootfs::unmount(&bundle.init());
    // Only an empty mount point may go: never delete through a mount.
    let root = bundle.root();
    if !root.exists() || std::fs::remove_dir(&root).is_ok() {
        let _ = std::fs::remove_dir_all(&bundle.0);
    }
    let _ = std::fs::remove_file(launch.run_dir.join(format!("{}.sock", launch.id)));
}
