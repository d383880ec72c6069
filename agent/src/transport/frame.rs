//! Frames on streams: four bytes of length, little-endian, then postcard. The
//! first frame of a stream is a [`Hello`].

use super::limits::{FRAME_STALL, HELLO_MAX, PIECE};
use super::queue::Frame;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_control::wire::{FRAME_MAX, Hello, Kind, VERSION};
use smol::future::or;
use std::fmt;
use std::time::Duration;

const LENGTH_BYTES: usize = 4;

/// Why a stream was ended before its end; the code that its other end sees.
/// Codes from [`VERSION_CODES`] on carry the version that is spoken instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum StreamCode {
    /// Nobody is interested any more.
    Gone = 0,
    UnknownKind = 1,
}
const VERSION_CODES: u64 = 0x100;

/// What is wrong with what came.
#[derive(Debug)]
pub(super) enum Fault {
    TooLarge {
        bytes: usize,
        max: usize,
    },
    /// The stream ended, or stood still, inside a frame.
    Half,
    /// It cannot be read as what it should be.
    Garbage(&'static str),
    /// A stream of a newer program.
    Version(u16),
    /// A stream for something that this program does not know.
    Kind {
        version: u16,
        number: u8,
    },
    /// The stream or the connection is gone; nobody's fault.
    Gone(String),
}

impl Fault {
    /// The code for the stream alone, when the connection can go on.
    pub(super) fn stream_code(&self) -> Option<VarInt> {
        match self {
            Self::Version(_) => VarInt::from_u64(VERSION_CODES + u64::from(VERSION)).ok(),
            Self::Kind { .. } => Some(VarInt::from_u32(StreamCode::UnknownKind as u32)),
            Self::TooLarge { .. } | Self::Half | Self::Garbage(_) | Self::Gone(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, max } => {
                write!(f, "a frame of {bytes} bytes, where {max} are allowed")
            }
            Self::Half => write!(f, "half a frame"),
            Self::Garbage(what) => write!(f, "a {what} that cannot be read"),
            Self::Version(version) => write!(
                f,
                "a stream of version {version}; this program speaks {VERSION}"
            ),
            Self::Kind { version, number } => write!(
                f,
                "a stream of kind {number}, which version {version} has and this program's {VERSION} does not know"
            ),
            Self::Gone(why) => f.write_str(why),
        }
    }
}

/// What a peer meant by ending a stream.
pub(super) fn meaning(code: VarInt) -> String {
    match code.into_inner() {
        0 => "the other end is not interested any more".into(),
        1 => format!("the other end does not know this kind of stream of version {VERSION}"),
        code if code >= VERSION_CODES => format!(
            "the other end speaks version {}, this program {VERSION}",
            code - VERSION_CODES
        ),
        code => format!("the other end gave up with code {code}"),
    }
}

/// A value with its length in front. `None`: it is larger than any frame.
pub(super) fn encode<T: Serialize>(value: &T) -> Option<Frame> {
    let mut frame = postcard::to_extend(value, vec![0; LENGTH_BYTES]).ok()?;
    let length = frame.len() - LENGTH_BYTES;
    if length > FRAME_MAX {
        return None;
    }
    frame[..LENGTH_BYTES].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(frame)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Fault> {
    postcard::from_bytes(bytes).map_err(|_| Fault::Garbage(what))
}

/// Opens a stream's conversation.
pub(super) async fn write_hello(stream: &mut SendStream, kind: Kind) -> Result<(), Fault> {
    let hello = Hello {
        version: VERSION,
        kind,
    };
    let frame = encode(&hello).ok_or(Fault::Garbage("hello"))?;
    write(stream, &frame).await
}

pub(super) async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), Fault> {
    stream.write_all(frame).await.map_err(|e| match e {
        WriteError::Stopped(code) => Fault::Gone(meaning(code)),
        e => Fault::Gone(e.to_string()),
    })
}

/// What a stream is for. Must come soon.
pub(super) async fn read_hello(stream: &mut RecvStream) -> Result<Kind, Fault> {
    let bytes = soon(FRAME_STALL, read(stream, |_| HELLO_MAX)).await?;
    let bytes = bytes.ok_or(Fault::Half)?;
    let (version, kind) =
        postcard::take_from_bytes::<u16>(&bytes).map_err(|_| Fault::Garbage("hello"))?;
    if version > VERSION {
        return Err(Fault::Version(version));
    }
    postcard::from_bytes(kind).map_err(|_| Fault::Kind {
        version,
        number: kind.first().copied().unwrap_or_default(),
    })
}

/// The next frame; `None` at the stream's end. `max` is told the length that
/// the frame claims, and says how much is allowed.
pub(super) async fn read(
    stream: &mut RecvStream,
    max: impl FnOnce(usize) -> usize,
) -> Result<Option<Vec<u8>>, Fault> {
    let Some(length) = read_length(stream).await? else {
        return Ok(None);
    };
    let max = max(length);
    if length > max {
        return Err(Fault::TooLarge { bytes: length, max });
    }
    read_body(stream, length).await.map(Some)
}

/// The length of the next frame; `None` at the stream's end.
pub(super) async fn read_length(stream: &mut RecvStream) -> Result<Option<usize>, Fault> {
    let mut length = [0; LENGTH_BYTES];
    let Some(mut filled) = stream.read(&mut length).await.map_err(lost)? else {
        return Ok(None);
    };
    while filled < LENGTH_BYTES {
        let rest = length.get_mut(filled..).unwrap_or_default();
        filled += some(stream, rest).await?;
    }
    Ok(Some(u32::from_le_bytes(length) as usize))
}

/// The rest of a frame.
pub(super) async fn read_body(stream: &mut RecvStream, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let filled = bytes.len();
        // Grows with what has come, so that a claim costs nothing.
        let wanted = length.min((filled * 2).max(PIECE));
        bytes.reserve_exact(wanted - filled);
        bytes.resize(wanted, 0);
        let mut at = filled;
        while at < wanted {
            at += some(stream, bytes.get_mut(at..).unwrap_or_default()).await?;
        }
    }
    Ok(bytes)
}

/// At least one byte, within the time that a frame may stand still.
async fn some(stream: &mut RecvStream, buffer: &mut [u8]) -> Result<usize, Fault> {
    let read = async { stream.read(buffer).await.map_err(lost) };
    soon(FRAME_STALL, read).await?.ok_or(Fault::Half)
}

/// What comes within a time, or half a frame.
pub(super) async fn soon<T>(
    time: Duration,
    future: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    or(future, async {
        smol::Timer::after(time).await;
        Err(Fault::Half)
    })
    .await
}

fn lost(error: ReadError) -> Fault {
    Fault::Gone(match error {
        ReadError::Reset(code) => meaning(code),
        error => error.to_string(),
    })
}
