//! Docker's framing of stdout and stderr on one connection, and log lines.

use super::reply::{self, MULTIPLEXED_STREAM, RAW_STREAM, Reply};
use crate::backend::{Chunk, LogLine, StdStream};
use crate::error::Error;
use skep_control::model::Labels;
use smol::stream::{Stream, StreamExt};

/// The frame that carries a failure; the client stops at it.
const SYSTEM_ERROR: u8 = 3;
/// The version that names the framing in the content type.
const MULTIPLEXED_SINCE: u16 = 42;

/// Eight bytes (stream, three zeros, length in big endian), then the bytes.
pub(super) fn frame(stream: StdStream, bytes: &[u8]) -> Vec<u8> {
    framed(stream as u8, bytes)
}

/// A failure in the middle of a framed stream.
pub(super) fn error_frame(error: &Error) -> Vec<u8> {
    framed(
        SYSTEM_ERROR,
        format!("Error grabbing logs: {error}\n").as_bytes(),
    )
}

fn framed(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(8 + bytes.len());
    frame.extend_from_slice(&[stream, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// A piece of output as it goes over the wire.
pub(super) fn encode(chunk: Chunk, tty: bool) -> Vec<u8> {
    if tty {
        chunk.bytes
    } else {
        frame(chunk.stream, &chunk.bytes)
    }
}

pub(super) fn content_type(tty: bool, version: u16) -> &'static str {
    if !tty && version >= MULTIPLEXED_SINCE {
        MULTIPLEXED_STREAM
    } else {
        RAW_STREAM
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LogStyle {
    pub(super) tty: bool,
    pub(super) timestamps: bool,
    pub(super) details: bool,
}

/// One line: `[time ][details ]text`.
pub(super) fn log_line(line: &LogLine, style: LogStyle) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.bytes.len() + 64);
    if style.timestamps {
        bytes.extend_from_slice(line.time.to_string().as_bytes());
        bytes.push(b' ');
    }
    if style.details {
        bytes.extend_from_slice(details(&line.details).as_bytes());
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&line.bytes);
    if style.tty {
        bytes
    } else {
        frame(line.stream, &bytes)
    }
}

/// `k=v,k=v`, sorted, each escaped as in a query.
fn details(details: &Labels) -> String {
    let escape = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pairs: Vec<String> = details
        .iter()
        .map(|(k, v)| format!("{}={}", escape(k), escape(v)))
        .collect();
    pairs.join(",")
}

/// Log lines as an answer.
pub(super) fn log_reply<S>(lines: S, style: LogStyle, version: u16) -> Reply
where
    S: Stream<Item = Result<LogLine, Error>> + Send + 'static,
{
    let pieces = lines.map(move |line| match line {
        Ok(line) => Ok(log_line(&line, style)),
        Err(error) if style.tty => Ok(format!("Error grabbing logs: {error}\n").into_bytes()),
        Err(error) => Ok(error_frame(&error)),
    });
    reply::flowing(content_type(style.tty, version), pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::WallTime;

    #[test]
    fn frames() {
        assert_eq!(frame(StdStream::Stderr, b"hi"), b"\x02\0\0\0\0\0\0\x02hi");
        let chunk = Chunk {
            stream: StdStream::Stdout,
            bytes: b"x".to_vec(),
        };
        assert_eq!(encode(chunk.clone(), true), b"x");
        assert_eq!(encode(chunk, false), b"\x01\0\0\0\0\0\0\x01x");
        assert_eq!(content_type(false, 41), RAW_STREAM);
        assert_eq!(content_type(false, 42), MULTIPLEXED_STREAM);
        assert_eq!(content_type(true, 51), RAW_STREAM);
    }

    #[test]
    fn log_lines() {
        let line = LogLine {
            stream: StdStream::Stdout,
            time: WallTime(1_700_000_000_000_000_000),
            bytes: b"hello\n".to_vec(),
            details: [("b", "x y"), ("a", "1,2")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        };
        let tty = LogStyle {
            tty: true,
            timestamps: true,
            details: true,
        };
        assert_eq!(
            String::from_utf8(log_line(&line, tty)).unwrap(),
            "2023-11-14T22:13:20.000000000Z a=1%2C2,b=x+y hello\n"
        );
        let plain = log_line(&line, LogStyle::default());
        assert_eq!(&plain[8..], b"hello\n");
    }
}
