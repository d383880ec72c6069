//! One request to another node's API, and its answer.
//!
//! Invariant: an answer that nobody reads any more takes its connection with
//! it, so that the other node stops as well.

use crate::api::body::RequestBody;
use crate::api::call::{self, JSON_BYTES_MAX};
use crate::api::hijack::Taken;
use crate::api::reply::{self, Body, Reply};
use crate::api::server::SWITCHING;
use crate::backend::Backend;
use crate::error::{Error, Kind, Result};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use skep_control::engine::Contact;
use smol::Task;
use smol::future::FutureExt as _;
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use smol_hyper::rt::FuturesIo;
use std::time::Duration;

/// Headers that are of one connection, not of the request.
const HOP_BY_HOP: [HeaderName; 6] = [CONNECTION, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const KEEP_ALIVE: &str = "keep-alive";
/// Bytes that go one way of a connection at a time.
const PIECE_BYTES: usize = 16 << 10;

/// How the other node is asked.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// A request of this node's own.
    pub(super) fn new(method: Method, uri: &str) -> Result<Self> {
        Ok(Self {
            method,
            uri: uri
                .parse()
                .map_err(|e| Error::invalid(format!("address {uri}: {e}")))?,
            headers: HeaderMap::new(),
        })
    }

    /// With `upgrade` the other node's connection may change hands too.
    fn request(&self, body: Body, upgrade: bool) -> Request<Body> {
        let is_whole = matches!(body, Body::Whole(_));
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = end_to_end(&self.headers);
        if is_whole {
            // Said again of what is sent.
            headers.remove(CONTENT_LENGTH);
        }
        headers
            .entry(HOST)
            .or_insert(HeaderValue::from_static("skep"));
        if let Some(protocol) = self.headers.get(UPGRADE).filter(|_| upgrade) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        request
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept.remove(KEEP_ALIVE);
    kept
}

/// A body in memory as one to send.
pub(super) fn whole(bytes: Bytes) -> Body {
    Body::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// A client's body as it comes.
pub(super) fn flowing(body: RequestBody) -> Body {
    Body::Flowing(Box::pin(smol::stream::unfold(body, |mut body| async {
        let piece = call::next_piece(&mut body).await?;
        let piece = piece.map_err(|e| Error::invalid(format!("request body: {e}")));
        Some((piece, body))
    })))
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing was sent.
    Unreached(Error),
    /// What was sent may have been done.
    Lost(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let (Failed::Unreached(error) | Failed::Lost(error)) = failed;
        error
    }
}

/// An answer's head, and the connection that the rest comes over.
pub(in crate::api) struct Answered {
    response: Response<Incoming>,
    connection: Task<()>,
}

/// Asks, and waits for the answer's head; for at most `patience`, if there is
/// a limit at all.
pub(super) async fn ask<B: Backend>(
    node: &B,
    to: &Contact,
    request: Request<Body>,
    patience: Option<Duration>,
) -> Result<Answered, Failed> {
    let stream = node.dial(to).await.map_err(Failed::Unreached)?;
    let place = format!("node {} at {}", to.node, to.addr);
    let lost = |error: hyper::Error| {
        Failed::Lost(Error::unavailable(format!(
            "{place} did not answer: {error}"
        )))
    };
    let shaken = http1::handshake(FuturesIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(lost)?;
    let connection = smol::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            log::debug!("connection to another node: {error}");
        }
    });
    let answer = async { sender.send_request(request).await.map_err(lost) };
    let late = async {
        match patience {
            None => std::future::pending::<()>().await,
            Some(patience) => drop(smol::Timer::after(patience).await),
        }
        Err(Failed::Lost(Error::unavailable(format!(
            "{place} did not answer within {patience:?}"
        ))))
    };
    let response = answer.or(late).await?;
    Ok(Answered {
        response,
        connection,
    })
}

/// Passes a client's request on; `body` goes with it.
pub(super) async fn pass<B: Backend>(
    node: &B,
    to: &Contact,
    head: &Head,
    body: Body,
    upgrade: Option<OnUpgrade>,
) -> Result<Reply> {
    let request = head.request(body, upgrade.is_some());
    let answered = ask(node, to, request, None).await?;
    Ok(answered.into_reply(upgrade))
}

/// The same for a request of which everything is known: it can be sent again.
pub(super) async fn send<B: Backend>(
    node: &B,
    to: &Contact,
    head: &Head,
    body: &Bytes,
    patience: Duration,
) -> Result<Answered, Failed> {
    let request = head.request(whole(body.clone()), false);
    ask(node, to, request, Some(patience)).await
}

/// Gets something of another node in this node's own name, for at most
/// `patience` until the answer's head.
pub(in crate::api) async fn get<B: Backend>(
    node: &B,
    from: &Contact,
    uri: &str,
    patience: Duration,
) -> Result<Answered> {
    let head = Head::new(Method::GET, uri)?;
    Ok(send(node, from, &head, &Bytes::new(), patience).await?)
}

impl Answered {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        self.response.headers().contains_key(name)
    }

    /// The answer as this node's own; with the client's connection when that
    /// one may change hands.
    pub(in crate::api) fn into_reply(self, upgrade: Option<OnUpgrade>) -> Reply {
        if self.status() == SWITCHING {
            return match upgrade {
                Some(client) => self.switch(client),
                None => reply::failure(&Error::internal(
                    "another node switched a connection that was not to switch",
                )),
            };
        }
        let (head, body) = self.response.into_parts();
        let mut reply = reply::empty(head.status);
        *reply.headers_mut() = end_to_end(&head.headers);
        *reply.body_mut() = match hyper::body::Body::is_end_stream(&body) {
            true => Body::Whole(None),
            false => Body::Flowing(Box::pin(pieces(body, self.connection))),
        };
        reply
    }

    fn switch(mut self, client: OnUpgrade) -> Reply {
        let mut reply = reply::empty(SWITCHING);
        *reply.headers_mut() = end_to_end(self.response.headers());
        let headers = reply.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let protocol = self.response.headers().get(UPGRADE);
        headers.insert(
            UPGRADE,
            protocol.map_or(HeaderValue::from_static("tcp"), Clone::clone),
        );
        let other = hyper::upgrade::on(&mut self.response);
        let connection = self.connection;
        smol::spawn(async move {
            if let (Ok(other), Ok(client)) = (other.await, client.await) {
                relay(Taken(client), Taken(other)).await;
            }
            drop(connection);
        })
        .detach();
        reply
    }

    /// The whole answer, if it is one; the other node's refusal otherwise.
    pub(in crate::api) async fn into_bytes(self) -> Result<Vec<u8>> {
        let status = self.status();
        let mut body = RequestBody::new(self.response.into_body());
        let bytes = call::whole(&mut body, JSON_BYTES_MAX).await?;
        drop(self.connection);
        match status.is_success() {
            true => Ok(bytes),
            false => Err(refusal(status, &bytes)),
        }
    }

    /// The body as it comes, of an answer that is one.
    pub(in crate::api) async fn into_stream(self) -> Result<smol::stream::Boxed<Result<Bytes>>> {
        if !self.status().is_success() {
            return match self.into_bytes().await {
                Err(error) => Err(error),
                Ok(_) => Err(Error::internal("another node gave two answers")),
            };
        }
        let body = self.response.into_body();
        Ok(Box::pin(pieces(body, self.connection)))
    }
}

/// The other end's words under the other end's status.
fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let told = serde_json::from_slice::<serde_json::Value>(body).ok();
    let message = told.as_ref().and_then(|told| told.get("message")?.as_str());
    Error {
        kind: match status {
            StatusCode::BAD_REQUEST => Kind::Invalid,
            StatusCode::FORBIDDEN => Kind::Forbidden,
            StatusCode::NOT_FOUND => Kind::NotFound,
            StatusCode::CONFLICT => Kind::Conflict,
            StatusCode::NOT_IMPLEMENTED => Kind::NotImplemented,
            StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
            _ => Kind::Internal,
        },
        message: message.map_or_else(
            || format!("another node answered {status}"),
            |message| message.to_owned(),
        ),
    }
}

fn pieces(
    body: Incoming,
    connection: Task<()>,
) -> impl smol::stream::Stream<Item = Result<Bytes>> + Send {
    let body = RequestBody::cut(body);
    smol::stream::unfold((body, connection), |(mut body, connection)| async {
        let piece = call::next_piece(&mut body).await?;
        let piece =
            piece.map_err(|e| Error::unavailable(format!("the answering node is lost: {e}")));
        Some((piece, (body, connection)))
    })
}

/// Bytes both ways. The client's end of input is passed on and is no end; the
/// end of the other node's output is one.
async fn relay<C, N>(client: C, node: N)
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, mut to_client) = smol::io::split(client);
    let (from_node, mut to_node) = smol::io::split(node);
    let up = async {
        copy(from_client, &mut to_node).await;
        let _ = to_node.close().await;
        std::future::pending().await
    };
    let down = async {
        copy(from_node, &mut to_client).await;
        let _ = to_client.close().await;
    };
    up.or(down).await;
}

async fn copy<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut from: R, to: &mut W) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(count) = from.read(&mut buffer).await {
        let piece = buffer.get(..count).unwrap_or_default();
        // Flushed each time: somebody types at one end.
        if piece.is_empty() || to.write_all(piece).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
}
