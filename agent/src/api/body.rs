//! A request's body that is read to its end, whatever its handler does.
//!
//! A refusal is often known before the body is read. A connection that closes
//! with half a request unread breaks the client's write, and many clients then
//! tell of the broken pipe and not of the refusal. What a handler leaves is
//! therefore read and dropped in the background, within limits.

use hyper::body::{Body as _, Bytes, Frame, Incoming};
use smol::future::FutureExt as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A client that has been answered stops sending soon; one that does not is
/// cut off after so long, or so many bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_BYTES_MAX: usize = 256 << 20;

pub(super) struct RequestBody(Source);

enum Source {
    Coming(Incoming),
    /// Another node's answer: dropped is not read.
    Answer(Incoming),
    /// Read already, to be read once more.
    Here(Bytes),
    Gone,
}

impl RequestBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Source::Coming(body))
    }

    /// The body of another node's answer, which ends when nobody reads it.
    pub(super) fn cut(body: Incoming) -> Self {
        Self(Source::Answer(body))
    }

    /// A body that was read already.
    pub(super) fn read(bytes: Bytes) -> Self {
        Self(Source::Here(bytes))
    }

    /// There is nothing, or nothing more.
    pub(super) fn is_ended(&self) -> bool {
        match &self.0 {
            Source::Coming(body) | Source::Answer(body) => body.is_end_stream(),
            Source::Here(bytes) => bytes.is_empty(),
            Source::Gone => true,
        }
    }

    /// The next piece of data; `None` at the end.
    pub(super) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Bytes>>> {
        match &mut self.0 {
            Source::Coming(body) | Source::Answer(body) => poll_data(body, context),
            Source::Here(bytes) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(std::mem::take(bytes))))
            }
            Source::Here(_) | Source::Gone => Poll::Ready(None),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Source::Coming(body) = std::mem::replace(&mut self.0, Source::Gone)
            && !body.is_end_stream()
        {
            smol::spawn(drain(body)).detach();
        }
    }
}

fn poll_data(body: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
    loop {
        let next = ready!(Pin::new(&mut *body).poll_frame(context));
        match next.map(|frame| frame.map(Frame::into_data)) {
            None => return Poll::Ready(None),
            Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
            // Trailers: nobody asked for any.
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
        }
    }
}

async fn drain(mut body: Incoming) {
    let reading = async {
        let mut total = 0;
        while let Some(Ok(data)) =
            std::future::poll_fn(|context| poll_data(&mut body, context)).await
        {
            total += data.len();
            if total > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    let late = async {
        smol::Timer::after(DRAIN_TIMEOUT).await;
    };
    reading.or(late).await;
}
