//! Bytes on their way between a container and a client.

use crate::error::{Error, Result};
use skep_control::model::{Labels, WallTime};
use smol::io::{AsyncRead, AsyncWrite};
use smol::stream::Boxed;
use std::pin::Pin;

/// Where a piece of stdio belongs; the numbers are those of Docker's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StdStream {
    Stdout = 1,
    Stderr = 2,
}

/// A piece of what a process wrote; with a terminal all is `Stdout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) stream: StdStream,
    pub(crate) bytes: Vec<u8>,
}

/// A tar stream or the like, in pieces of bounded size (64 KiB is usual).
pub(crate) type ByteStream = Boxed<Result<Vec<u8>>>;
/// A process's output; ends when nothing more can come.
pub(crate) type ChunkStream = Boxed<Result<Chunk>>;
pub(crate) type LogStream = Boxed<Result<LogLine>>;
/// What a client sends: a request's body.
pub(crate) type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// A process's stdin. Closing it (`close`) is its end of file; dropping it
/// without closing is a client that went away, and leaves the stdin open.
pub(crate) type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// Stdio of a running process. Dropping it detaches, and ends nothing else.
pub(crate) struct Attached {
    /// `None` when stdin was not asked for or the process has none.
    pub(crate) input: Option<Writer>,
    pub(crate) output: ChunkStream,
}

impl Attached {
    /// No stdio at all: a detached exec.
    pub(crate) fn nothing() -> Self {
        Self {
            input: None,
            output: Box::pin(smol::stream::empty::<Result<Chunk, Error>>()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttachOptions {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Which log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Lines at or after.
    pub(crate) since: Option<WallTime>,
    /// Lines at or before.
    pub(crate) until: Option<WallTime>,
    /// At most the last so many of those, `None` is all.
    pub(crate) tail: Option<usize>,
    /// Go on with new lines until the container ends.
    pub(crate) follow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) stream: StdStream,
    pub(crate) time: WallTime,
    /// As written, with its line feed; without one it is part of a longer line.
    pub(crate) bytes: Vec<u8>,
    /// What `--details` shows: chosen by log options `labels` and `env`.
    pub(crate) details: Labels,
}

/// Character cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}
