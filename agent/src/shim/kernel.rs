//! The few system calls that have no safe wrapper elsewhere.

use crate::oci::seccomp::Instruction;
use std::ffi::{CStr, CString};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Which side of a fork this is.
pub(super) enum Fork {
    Child,
    Parent(i32),
}

/// Forks. Only ever called while the process has one thread, so that the
/// child may go on as if nothing had happened.
pub(super) fn fork() -> Result<Fork> {
    // SAFETY: the shim has a single thread: no lock can be held by another.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Ends the process at once: no destructors, no exit handlers.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
pub(super) fn close_from(first: u32) {
    // SAFETY: nothing in this process owns a descriptor at or above `first`
    // yet: it is called first thing, with only stdio open.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done != 0 {
        // Kernels before 5.9.
        for fd in first..1024 {
            // SAFETY: as above.
            unsafe { libc::close(fd as i32) };
        }
    }
}

/// A mount namespace of this process's own.
pub(super) fn own_mounts() -> Result<()> {
    // SAFETY: a new mount namespace shares no memory or descriptors; the
    // process has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// Blocks SIGCHLD and returns a descriptor that tells of it.
pub(super) fn watch_children() -> Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used, and a
    // descriptor that signalfd returns is ours alone.
    unsafe {
        // A container that closes its stdin must not end its shim.
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Gives signals back their defaults: what a container's process expects.
/// The Rust runtime ignores SIGPIPE, the shim blocks SIGCHLD, and both would
/// be inherited.
pub(super) fn reset_signals() {
    // SAFETY: setting default dispositions and an empty mask is always valid.
    unsafe {
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Sends `signal`; a process that is gone is no failure.
pub(super) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes plain numbers.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// Replaces the process. Returns only when it could not.
pub(super) fn execute(path: &CStr, args: &[CString], env: &[CString]) -> Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        let ends = std::iter::once(std::ptr::null());
        list.iter().map(|s| s.as_ptr()).chain(ends).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null and outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Error::last_os_error()
}

/// Installs a system call filter on this process, for good.
pub(super) fn install_filter(program: &[Instruction]) -> Result<()> {
    let length = u16::try_from(program.len()).map_err(Error::other)?;
    let header = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    const SET_MODE_FILTER: libc::c_uint = 1;
    // SAFETY: Instruction has the layout of sock_filter (repr(C), same
    // fields), and the header and the program outlive the call, which copies.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &header) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// Drops to exactly these capabilities, effective and permitted.
pub(super) fn set_capabilities(bits: u64) -> Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    let wanted = rustix::thread::CapabilitySet::from_bits_retain(bits);
    sets.effective = wanted;
    sets.permitted = wanted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// The device number's halves.
pub(super) fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// Loads a device program and attaches it to a cgroup of version 2.
pub(super) fn attach_device_program(cgroup: &OwnedFd, program: &[u64]) -> Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        program_type: u32,
        instructions: u32,
        program: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    const LOAD: libc::c_int = 5;
    const ATTACH: libc::c_int = 8;
    /// BPF_PROG_TYPE_CGROUP_DEVICE and BPF_CGROUP_DEVICE.
    const TYPE: u32 = 15;
    const KIND: u32 = 6;
    /// Beside what the host itself may have put above: both must allow.
    const MULTI: u32 = 2;
    let license = c"Apache-2.0";
    let load = Load {
        program_type: TYPE,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attributes have the kernel's layout, shorter than its own
    // (the rest counts as zero), and all they point to outlives the calls.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, LOAD, &load, size_of::<Load>());
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        let loaded = OwnedFd::from_raw_fd(fd as i32);
        let attach = Attach {
            target: cgroup.as_raw_fd() as u32,
            program: loaded.as_raw_fd() as u32,
            kind: KIND,
            flags: MULTI,
        };
        if libc::syscall(libc::SYS_bpf, ATTACH, &attach, size_of::<Attach>()) < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}
