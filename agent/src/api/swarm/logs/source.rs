//! One container's log, wherever the container is.
//!
//! Owns the reading of what another node sends: Docker's frames of
//! `TIME DETAILS TEXT`. Invariant: a frame that is too long, or a line that
//! does not read, ends the stream with an error; nothing is guessed.

use super::Source;
use crate::api::pass_on;
use crate::api::query::escape;
use crate::api::time::parse_timestamp;
use crate::backend::{Backend, LogLine, LogQuery, LogStream, StdStream};
use crate::error::{Error, Kind, Result};
use hyper::body::Bytes;
use skep_control::model::{Labels, SECOND, WallTime};
use smol::stream::StreamExt as _;
use std::time::Duration;

/// A node answers by then, or is taken for lost.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Longest frame that is taken; a line's piece has 16 KiB at most, and what is
/// before it some hundred bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes before each frame.
const FRAME_HEAD_BYTES: usize = 8;

/// The log of one container; an empty one when the container is gone.
///
/// # Errors
/// Its node is not in reach.
pub(super) async fn open<B: Backend>(
    node: &B,
    query: &LogQuery,
    source: &Source,
) -> Result<LogStream> {
    let (own, contact) = {
        let wanted = source.node.clone();
        node.view(move |view| (view.node_id() == Some(&wanted), view.contact(&wanted)))
            .await
    };
    let opened = match (own, contact) {
        (true, _) => node.logs(&source.container, query.clone()).await,
        (false, None) => return Err(unavailable(source)),
        (false, Some(contact)) => {
            let uri = address(&source.container, query);
            match pass_on::get(node, &contact, &uri, ANSWER_PATIENCE).await {
                Ok(answered) => answered.into_stream().await.map(lines),
                Err(error) => {
                    log::debug!("logs: {error}");
                    return Err(unavailable(source));
                }
            }
        }
    };
    let log = match opened {
        Ok(log) => log,
        // Gone with its task's history: nothing to show.
        Err(error) if error.kind == Kind::NotFound => return Ok(Box::pin(smol::stream::empty())),
        Err(error) => return Err(error),
    };
    let details = source.details.clone();
    Ok(Box::pin(log.map(move |line| {
        line.map(|mut line| {
            line.details.extend(details.clone());
            line
        })
    })))
}

/// Docker's words for it.
pub(super) fn unavailable(source: &Source) -> Error {
    Error::unavailable(format!("node {} is not available", source.node))
}

fn address(container: &str, query: &LogQuery) -> String {
    let mut address = format!(
        "/skep/v1/containers/{}/logs?stdout={}&stderr={}&follow={}",
        escape(container),
        u8::from(query.stdout),
        u8::from(query.stderr),
        u8::from(query.follow)
    );
    if let Some(tail) = query.tail {
        address += &format!("&tail={tail}");
    }
    for (name, time) in [("since", query.since), ("until", query.until)] {
        if let Some(time) = time {
            let (seconds, nanos) = (time.0.div_euclid(SECOND), time.0.rem_euclid(SECOND));
            address += &format!("&{name}={seconds}.{nanos:09}");
        }
    }
    address
}

/// Another node's answer as lines.
fn lines(pieces: smol::stream::Boxed<Result<Bytes>>) -> LogStream {
    let state = (pieces, Vec::new());
    Box::pin(smol::stream::unfold(
        state,
        |(mut pieces, mut buffer)| async {
            loop {
                match take_frame(&mut buffer) {
                    Ok(None) => {}
                    Ok(Some((stream, bytes))) => {
                        return Some((line(stream, &bytes), (pieces, buffer)));
                    }
                    Err(error) => return Some((Err(error), (ended(), Vec::new()))),
                }
                match pieces.next().await {
                    Some(Ok(bytes)) => buffer.extend_from_slice(&bytes),
                    Some(Err(error)) => return Some((Err(error), (ended(), Vec::new()))),
                    None if buffer.is_empty() => return None,
                    None => return Some((Err(unreadable()), (ended(), Vec::new()))),
                }
            }
        },
    ))
}

fn ended() -> smol::stream::Boxed<Result<Bytes>> {
    Box::pin(smol::stream::empty())
}

fn unreadable() -> Error {
    Error::unavailable("a log that another node sent does not read")
}

/// The first whole frame: its stream's number and its content.
fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>> {
    let Some((&[stream, _, _, _, a, b, c, d], rest)) =
        buffer.split_first_chunk::<FRAME_HEAD_BYTES>()
    else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(unreadable());
    }
    let Some(content) = rest.get(..length).map(<[u8]>::to_vec) else {
        return Ok(None);
    };
    buffer.drain(..FRAME_HEAD_BYTES + length);
    Ok(Some((stream, content)))
}

/// `TIME DETAILS TEXT`, or a failure in the other node's words.
fn line(stream: u8, bytes: &[u8]) -> Result<LogLine> {
    let stream = match stream {
        1 => StdStream::Stdout,
        2 => StdStream::Stderr,
        _ => {
            let told = String::from_utf8_lossy(bytes);
            return Err(Error::unavailable(told.trim().to_owned()));
        }
    };
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let mut part = || parts.next().ok_or_else(unreadable);
    let (time, details, text) = (part()?, part()?, part()?);
    let time = std::str::from_utf8(time).ok().and_then(parse_timestamp);
    Ok(LogLine {
        stream,
        time: time.ok_or_else(unreadable)?,
        bytes: text.to_vec(),
        details: read_details(details),
    })
}

/// `k=v,k=v`, each escaped as in a query.
fn read_details(bytes: &[u8]) -> Labels {
    let pairs = bytes.split(|byte| *byte == b',');
    pairs
        .filter(|pair| !pair.is_empty())
        .flat_map(|pair| form_urlencoded::parse(pair).into_owned())
        .collect()
}

/// The query for what comes after a moment.
pub(super) fn after(query: &LogQuery, time: Option<WallTime>) -> LogQuery {
    let mut query = query.clone();
    if let Some(time) = time {
        query.since = Some(WallTime(time.0 + 1));
        query.tail = None;
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stream::{LogStyle, log_line};

    fn sent() -> Vec<LogLine> {
        let line = |time, text: &str, details: &[(&str, &str)]| LogLine {
            stream: StdStream::Stderr,
            time: WallTime(time),
            bytes: text.as_bytes().to_vec(),
            details: details
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        vec![
            line(
                1_700_000_000_000_000_001,
                "a b  c\n",
                &[("k,1", "v =2"), ("x", "")],
            ),
            line(1_700_000_001_000_000_000, "", &[]),
            line(1_700_000_002_000_000_000, "no end", &[]),
        ]
    }

    fn received(bytes: &[u8], piece: usize) -> Vec<Result<LogLine>> {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        smol::block_on(lines(Box::pin(smol::stream::iter(pieces))).collect())
    }

    #[test]
    fn lines_survive_the_way() {
        let style = LogStyle {
            tty: false,
            timestamps: true,
            details: true,
        };
        let bytes: Vec<u8> = sent()
            .iter()
            .flat_map(|line| log_line(line, style))
            .collect();
        for piece in [1, 7, 4096] {
            let lines: Vec<LogLine> = received(&bytes, piece).into_iter().flatten().collect();
            assert_eq!(lines, sent(), "in pieces of {piece}");
        }
        let cut = received(&bytes[..bytes.len() - 1], 64);
        assert_eq!(cut.len(), 3);
        assert!(cut[2].is_err(), "a cut stream says so");
    }

    #[test]
    fn hostile_frames_end_the_stream() {
        assert!(received(b"\x01\0\0\0\xff\xff\xff\xff", 8)[0].is_err());
        assert!(received(b"\x01\0\0\0\0\0\0\x03a b", 64)[0].is_err());
        let told = received(b"\x03\0\0\0\0\0\0\x03no\n", 64);
        assert_eq!(told[0].as_ref().unwrap_err().message, "no");
    }

    #[test]
    fn the_query_goes_with_it() {
        let query = LogQuery {
            stdout: true,
            tail: Some(3),
            since: Some(WallTime(1_500_000_000)),
            ..LogQuery::default()
        };
        assert_eq!(
            address("c1", &query),
            "/skep/v1/containers/c1/logs?stdout=1&stderr=0&follow=0&tail=3&since=1.500000000"
        );
    }
}
