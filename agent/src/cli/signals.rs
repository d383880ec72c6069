//! Signals as something to read: they are blocked in every thread and one
//! thread takes them from the kernel, in order.

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::FromRawFd;

/// Signals that mean something to a container, and the terminal's resize.
const WATCHED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
    libc::SIGPROF,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
    libc::SIGPWR,
    libc::SIGIO,
    libc::SIGSTKFLT,
];

/// Signals that arrive.
pub(super) struct Signals(File);

impl Signals {
    /// Takes the given signals over, for this thread and those it starts: to
    /// be called before there are others.
    pub(super) fn take(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set it is given; the pointer is valid.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in signals {
            // SAFETY: the set was initialised above; sigaddset only checks the number.
            unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
        }
        // SAFETY: the set is initialised; the old mask is not asked for.
        let failed =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Every signal a container may be sent, and the resize.
    pub(super) fn take_all() -> io::Result<Self> {
        Self::take(WATCHED)
    }

    /// Waits for the next signal.
    pub(super) fn next(&mut self) -> io::Result<i32> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut info)?;
        // The number is the record's first field, in the machine's order.
        let [a, b, c, d, ..] = info;
        i32::try_from(u32::from_ne_bytes([a, b, c, d])).map_err(io::Error::other)
    }
}

/// The name the API takes; a number where there is none.
pub(super) fn name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "HUP",
        libc::SIGINT => "INT",
        libc::SIGQUIT => "QUIT",
        libc::SIGTERM => "TERM",
        libc::SIGUSR1 => "USR1",
        libc::SIGUSR2 => "USR2",
        libc::SIGALRM => "ALRM",
        libc::SIGCONT => "CONT",
        libc::SIGTSTP => "TSTP",
        libc::SIGTTIN => "TTIN",
        libc::SIGTTOU => "TTOU",
        _ => return signal.to_string(),
    };
    name.to_owned()
}
