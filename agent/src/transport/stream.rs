//! A stream both ways, as HTTP wants it.

use super::frame::meaning;
use super::link::Link;
use quinn::{RecvStream, SendStream, WriteError};
use smol::io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// Bytes to and from another node. Closing ends the own half; dropping it
/// without closing does, too.
pub(crate) struct Stream {
    send: SendStream,
    receive: RecvStream,
    _held: Held,
}

/// Keeps a connection that was replaced until its last stream is done.
pub(super) struct Held(Arc<Link>);

impl Held {
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn new(send: SendStream, receive: RecvStream, held: Held) -> Self {
        Self {
            send,
            receive,
            _held: held,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.receive
            .poll_read(context, buffer)
            .map_err(|e| match e {
                quinn::ReadError::Reset(code) => told(code),
                e => e.into(),
            })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = Pin::new(&mut self.send);
        send.poll_write(context, bytes).map_err(|e| match e {
            WriteError::Stopped(code) => told(code),
            e => e.into(),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // QUIC sends what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closed already is closed.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}

fn told(code: quinn::VarInt) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, meaning(code))
}
