//! The shim's ends of one process's stdio: three pipes, or a terminal.
//!
//! Invariant: what a client sent is written to the process before anything
//! more is taken from that client; at most one packet waits here.

use super::maker::Ends;
use super::wire::Source;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::pipe::PipeFlags;
use std::io::Result;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// One process's stdio, the outside of it.
#[derive(Default)]
pub(super) struct Session {
    /// Where the terminal's master will arrive, until it has.
    console: Option<(UnixListener, PathBuf)>,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Taken from a client and not yet by the process.
    unwritten: Vec<u8>,
    /// Close stdin when `unwritten` is written.
    ending: bool,
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// A pipe whose first end is ours and does not block.
fn pipe(ours_reads: bool) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (ours, theirs) = if ours_reads {
        (reader, writer)
    } else {
        (writer, reader)
    };
    nonblocking(&ours)?;
    Ok((ours, theirs))
}

impl Session {
    /// Opens both ends. With a terminal the process has none of its own yet:
    /// its master arrives on `console`, to be taken after the start.
    pub(super) fn open(tty: bool, stdin: bool, console: &Path) -> Result<(Self, Ends)> {
        let mut session = Self::default();
        let mut ends = Ends::default();
        if tty {
            let _ = std::fs::remove_file(console);
            let (folder, name) = (console.parent(), console.file_name());
            // The path may be longer than an address can be.
            std::env::set_current_dir(folder.unwrap_or(Path::new("/")))?;
            let listener = UnixListener::bind(Path::new(name.unwrap_or_default()))?;
            std::env::set_current_dir("/")?;
            session.console = Some((listener, console.to_owned()));
            return Ok((session, ends));
        }
        if stdin {
            let (ours, theirs) = pipe(false)?;
            (session.stdin, ends.stdin) = (Some(ours), Some(theirs));
        } else {
            ends.stdin = Some(std::fs::File::open("/dev/null")?.into());
        }
        let (ours, theirs) = pipe(true)?;
        (session.stdout, ends.stdout) = (Some(ours), Some(theirs));
        let (ours, theirs) = pipe(true)?;
        (session.stderr, ends.stderr) = (Some(ours), Some(theirs));
        Ok((session, ends))
    }

    /// Takes the terminal's master, which the started process has sent.
    pub(super) fn take_terminal(&mut self) -> Result<()> {
        let Some((listener, path)) = self.console.take() else {
            return Ok(());
        };
        let _ = std::fs::remove_file(path);
        listener.set_nonblocking(true)?;
        let (connection, _) = listener.accept()?;
        connection.set_nonblocking(false)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 64];
        rustix::net::recvmsg(
            &connection,
            &mut [std::io::IoSliceMut::new(&mut name)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    nonblocking(&fd)?;
                    self.terminal = Some(fd);
                }
            }
        }
        match self.terminal {
            Some(_) => Ok(()),
            None => Err(std::io::Error::other("no terminal came")),
        }
    }

    /// Gives the terminal to the process's user: it was made by root, and a
    /// user may open `/dev/pts/0` again only if it is its.
    pub(super) fn give_terminal(&self, pid: i32) {
        use std::os::unix::fs::{MetadataExt, chown};
        /// The major numbers of pseudo-terminals' slaves.
        const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;
        let input = format!("/proc/{pid}/fd/0");
        if self.terminal.is_some()
            && let Ok(process) = std::fs::metadata(format!("/proc/{pid}"))
            && let Ok(terminal) = std::fs::metadata(&input)
            && SLAVES.contains(&super::kernel::device_numbers(terminal.rdev()).0)
            && process.uid() != terminal.uid()
        {
            let _ = chown(&input, Some(process.uid()), None);
        }
    }

    /// Sets the terminal's size; without a terminal, or with none of the two
    /// numbers, nothing happens.
    pub(super) fn resize(&self, height: u16, width: u16) {
        if let Some(terminal) = &self.terminal
            && (height, width) != (0, 0)
        {
            let size = rustix::termios::Winsize {
                ws_row: height,
                ws_col: width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// What can be read from.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let out = self.terminal.as_ref().or(self.stdout.as_ref());
        let out = out.map(|fd| (Source::Stdout, fd.as_fd()));
        let err = self.stderr.as_ref().map(|fd| (Source::Stderr, fd.as_fd()));
        out.into_iter().chain(err)
    }

    /// Reads what one output has. `Ok(0)` when there is nothing now or any
    /// more; an output that has ended is closed.
    pub(super) fn read(&mut self, source: Source, buffer: &mut [u8]) -> usize {
        let slot = match source {
            Source::Stderr => &mut self.stderr,
            Source::Stdout if self.terminal.is_some() => &mut self.terminal,
            Source::Stdout => &mut self.stdout,
        };
        let Some(fd) = slot else { return 0 };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(length) if length > 0 => length,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // A terminal whose last user is gone says EIO.
            _ => {
                *slot = None;
                0
            }
        }
    }

    /// Where to wait until more of stdin can be written.
    pub(super) fn blocked_stdin(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.terminal.as_ref().or(self.stdin.as_ref())?;
        (!self.unwritten.is_empty()).then(|| fd.as_fd())
    }

    /// Whether a client may send more.
    pub(super) fn takes_input(&self) -> bool {
        self.unwritten.is_empty()
    }

    pub(super) fn write_stdin(&mut self, data: &[u8]) {
        self.unwritten.extend_from_slice(data);
        self.flush_stdin();
    }

    /// Writes what waits; input for a process that closed its end is dropped.
    pub(super) fn flush_stdin(&mut self) {
        while let Some(fd) = self.terminal.as_ref().or(self.stdin.as_ref())
            && !self.unwritten.is_empty()
        {
            match rustix::io::write(fd, &self.unwritten) {
                Ok(length) => drop(self.unwritten.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.unwritten.clear();
                    self.stdin = None;
                }
            }
        }
        if self.stdin.is_none() && self.terminal.is_none() {
            self.unwritten.clear();
        }
        self.unwritten.shrink_to(0);
        if self.ending {
            self.stdin = None;
        }
    }

    /// The process sees the end of its input, after what is on its way. A
    /// terminal has no such end.
    pub(super) fn end_stdin(&mut self) {
        self.ending = true;
        self.flush_stdin();
    }
}
