//! Connections that a client takes over: attach and exec.
//!
//! Owns the pump between a connection and a process's stdio, and the keys that
//! detach. Invariant: at most one piece of output is under way to a client; a
//! slow one holds back its own stream only. Without an `Upgrade` header the
//! connection cannot change hands, and the client gets the output alone.

use super::call::Call;
use super::reply::{self, Reply};
use super::server::SWITCHING;
use super::stream::{content_type, encode};
use crate::backend::{Attached, ChunkStream, Writer};
use crate::error::{Error, Result};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::upgrade::Upgraded;
use smol::future::FutureExt as _;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::stream::StreamExt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Bytes of stdin read at a time.
const INPUT_BYTES: usize = 16 << 10;
/// Keys in a detach sequence; the longest in use has three.
const DETACH_KEYS_MAX: usize = 16;
/// ctrl-p, ctrl-q.
const DETACH_KEYS_DEFAULT: &[u8] = &[16, 17];

/// What kind of stdio goes over the connection.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) tty: bool,
    /// The output goes as it is, without frames. Follows the terminal, but for
    /// an exec whose start says otherwise.
    pub(super) raw: bool,
    /// The client's end of input closes the process's stdin; else it ends the
    /// session.
    pub(super) close_stdin: bool,
    pub(super) detach_keys: Vec<u8>,
}

/// Answers with the switch and then runs `start` for the stdio to connect. A
/// failure of `start` goes into the stream as text, as the status is out.
pub(super) fn hijack<B, F, A>(mut call: Call<B>, session: Session, start: F) -> Reply
where
    F: FnOnce() -> A + Send + 'static,
    A: Future<Output = Result<Attached>> + Send + 'static,
{
    let raw = session.raw;
    let content_type = content_type(raw, call.version);
    let Some(upgrade) = call.upgrade.take() else {
        return output_only(content_type, raw, start);
    };
    smol::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (input, mut output) = smol::io::split(Taken(upgraded));
        match start().await {
            Ok(attached) => pump(session, attached, input, output).await,
            Err(error) => {
                let _ = output.write_all(failure_text(&error, raw).as_slice()).await;
                let _ = output.close().await;
            }
        }
    })
    .detach();
    let mut reply = reply::empty(SWITCHING);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

fn output_only<F, A>(content_type: &'static str, raw: bool, start: F) -> Reply
where
    F: FnOnce() -> A + Send + 'static,
    A: Future<Output = Result<Attached>> + Send + 'static,
{
    let pieces = smol::stream::once_future(async move {
        let output: ChunkStream = match start().await {
            Ok(attached) => attached.output,
            Err(error) => Box::pin(smol::stream::once(Err(error))),
        };
        output.map(move |chunk| {
            Ok::<_, Error>(match chunk {
                Ok(chunk) => encode(chunk, raw),
                Err(error) => failure_text(&error, raw),
            })
        })
    });
    reply::flowing(content_type, futures_flatten(pieces))
}

/// A stream of one stream, as that stream.
fn futures_flatten<S, T>(streams: S) -> impl smol::stream::Stream<Item = T> + Send
where
    S: smol::stream::Stream + Send,
    S::Item: smol::stream::Stream<Item = T> + Send,
    T: Send,
{
    streams.flat_map(|stream| stream)
}

fn failure_text(error: &Error, raw: bool) -> Vec<u8> {
    let bytes = format!("{error}\r\n").into_bytes();
    encode(
        crate::backend::Chunk {
            stream: crate::backend::StdStream::Stdout,
            bytes,
        },
        raw,
    )
}

async fn pump<I, O>(session: Session, attached: Attached, input: I, mut output: O)
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let raw = session.raw;
    let mut from_process = attached.output;
    let outgoing = async {
        while let Some(chunk) = from_process.next().await {
            let Ok(chunk) = chunk else { break };
            if output.write_all(&encode(chunk, raw)).await.is_err() {
                break;
            }
        }
    };
    let incoming = feed(session, attached.input, input);
    outgoing.or(incoming).await;
    let _ = output.close().await;
}

/// Ends when the session shall end, and not before: a client that only ends
/// its input still wants the output.
async fn feed<I: AsyncRead + Unpin>(session: Session, stdin: Option<Writer>, mut input: I) {
    let Some(mut stdin) = stdin else {
        return std::future::pending().await;
    };
    let mut keys = DetachKeys::new(session.detach_keys);
    let mut buffer = vec![0; INPUT_BYTES];
    loop {
        let read = match input.read(&mut buffer).await {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(_) => return,
        };
        if session.tty {
            let (bytes, detach) = keys.pass(read);
            if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                break;
            }
            if detach {
                return;
            }
        } else if stdin.write_all(read).await.is_err() || stdin.flush().await.is_err() {
            // The process closed its stdin; its output may go on.
            break;
        }
    }
    if session.close_stdin && !session.tty {
        let _ = stdin.close().await;
        std::future::pending().await
    }
}

/// Watches the input for the keys that detach.
struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachKeys {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// What goes on to the process, and whether the sequence is complete. The
    /// begin of a sequence is held back until it is one or is none.
    fn pass(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len() + self.seen);
        for &byte in input {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(self.keys.get(..self.seen).unwrap_or_default());
            self.seen = usize::from(self.keys.first() == Some(&byte));
            if self.seen == 0 {
                out.push(byte);
            } else if self.keys.len() == 1 {
                return (out, true);
            }
        }
        (out, false)
    }
}

/// `ctrl-p,ctrl-q` or `a,b`; empty is the default.
pub(super) fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DETACH_KEYS_DEFAULT.to_vec());
    }
    let key = |name: &str| -> Option<u8> {
        match (name.strip_prefix("ctrl-"), name.as_bytes()) {
            (None, [one]) => Some(*one),
            (Some(control), _) => match control.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [b'@'] => Some(0),
                [sign @ (b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'[' + 27),
                _ => None,
            },
            _ => None,
        }
    };
    text.split(',')
        .map(key)
        .collect::<Option<Vec<u8>>>()
        .filter(|keys| keys.len() <= DETACH_KEYS_MAX)
        .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
}

/// The connection in the terms of futures-io.
pub(super) struct Taken(pub(super) Upgraded);

impl AsyncRead for Taken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(context, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_docker_writes_them() {
        assert_eq!(parse_detach_keys("").unwrap(), [16, 17]);
        assert_eq!(
            parse_detach_keys("ctrl-a,b,ctrl-@,ctrl-\\").unwrap(),
            [1, b'b', 0, 28]
        );
        let error = parse_detach_keys("shift-a").unwrap_err();
        assert_eq!(error.message, "Invalid detach keys (shift-a) provided");
        assert!(parse_detach_keys("a,").is_err());
    }

    #[test]
    fn a_broken_sequence_is_passed_on_whole() {
        let mut keys = DetachKeys::new(vec![16, 17]);
        assert_eq!(keys.pass(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.pass(&[16]), (vec![], false));
        assert_eq!(keys.pass(b"x"), (vec![16, b'x'], false));
        assert_eq!(keys.pass(&[16, 16]), (vec![16], false));
        assert_eq!(keys.pass(&[17, b'z']), (vec![], true));
    }

    fn session(tty: bool) -> Session {
        Session {
            tty,
            raw: tty,
            close_stdin: true,
            detach_keys: vec![16, 17],
        }
    }

    #[test]
    fn output_is_framed_and_ends_the_session() {
        let chunks = vec![
            Ok(crate::backend::Chunk {
                stream: crate::backend::StdStream::Stdout,
                bytes: b"a".to_vec(),
            }),
            Ok(crate::backend::Chunk {
                stream: crate::backend::StdStream::Stderr,
                bytes: b"b".to_vec(),
            }),
        ];
        let attached = Attached {
            input: None,
            output: Box::pin(smol::stream::iter(chunks)),
        };
        let mut out = smol::io::Cursor::new(Vec::new());
        smol::block_on(pump(session(false), attached, smol::io::empty(), &mut out));
        assert_eq!(
            out.into_inner(),
            b"\x01\0\0\0\0\0\0\x01a\x02\0\0\0\0\0\0\x01b"
        );
    }

    #[test]
    fn the_keys_end_a_terminal_session() {
        let attached = Attached {
            input: Some(Box::pin(smol::io::sink())),
            output: Box::pin(smol::stream::pending()),
        };
        let keys: &[u8] = &[b'l', b's', 16, 17];
        let mut out = smol::io::Cursor::new(Vec::new());
        smol::block_on(pump(session(true), attached, keys, &mut out));
    }
}
