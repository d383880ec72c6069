//! Answers: status, headers and a body, whole or flowing.
//!
//! Invariant: a flowing body is pulled: the next piece is asked for when the
//! socket has taken the one before, so a slow client holds back its own source
//! and costs no memory.

use crate::error::{Error, Kind};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use smol::stream::{Boxed, Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};

pub(super) const JSON: &str = "application/json";
pub(super) const TAR: &str = "application/x-tar";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
pub(super) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

pub(super) type Reply = Response<Body>;

/// The body of a reply.
pub(super) enum Body {
    Whole(Option<Bytes>),
    Flowing(Boxed<Result<Bytes, Error>>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Flowing(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Flowing(_) => SizeHint::default(),
        }
    }
}

/// No body: 204, or what is asked.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::Whole(None));
    *reply.status_mut() = status;
    reply
}

pub(super) fn no_content() -> Reply {
    empty(StatusCode::NO_CONTENT)
}

pub(super) fn text(text: impl Into<String>) -> Reply {
    whole(StatusCode::OK, TEXT, text.into().into_bytes())
}

/// 200 with a value.
pub(super) fn json(value: &impl Serialize) -> Reply {
    json_with(StatusCode::OK, value)
}

/// 201 with a value.
pub(super) fn created(value: &impl Serialize) -> Reply {
    json_with(StatusCode::CREATED, value)
}

pub(super) fn json_with(status: StatusCode, value: &impl Serialize) -> Reply {
    whole(status, JSON, line(value))
}

/// A value a line; a failure becomes Docker's last line,
/// `{"errorDetail":{"message":…},"error":…}`.
pub(super) fn ndjson<T, S>(values: S) -> Reply
where
    T: Serialize + Send + 'static,
    S: Stream<Item = Result<T, Error>> + Send + 'static,
{
    flowing(
        JSON,
        values.map(|value| match value {
            Ok(value) => Ok(line(&value)),
            Err(error) => Ok(line(&json!({
                "errorDetail": {"message": error.message}, "error": error.message
            }))),
        }),
    )
}

/// A tar stream; a failure on the way cuts the connection, so that the client
/// cannot take the part for the whole.
pub(super) fn tar<S>(pieces: S) -> Reply
where
    S: Stream<Item = Result<Vec<u8>, Error>> + Send + 'static,
{
    flowing(TAR, pieces)
}

/// 200 with a body that comes as it is made.
pub(super) fn flowing<S>(content_type: &'static str, pieces: S) -> Reply
where
    S: Stream<Item = Result<Vec<u8>, Error>> + Send + 'static,
{
    let pieces = pieces.map(|piece| piece.map(Bytes::from));
    with_type(Response::new(Body::Flowing(Box::pin(pieces))), content_type)
}

/// Docker's `{"message": …}` under the right status.
pub(super) fn failure(error: &Error) -> Reply {
    let status = status(error.kind);
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    json_with(status, &json!({"message": error.message}))
}

pub(super) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// JSON and a line feed, as Go's encoder writes it.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are no strings can fail; there are none.
    let mut bytes = serde_json::to_vec(value)
        .unwrap_or_else(|e| json!({"message": e.to_string()}).to_string().into_bytes());
    bytes.push(b'\n');
    bytes
}

/// The object without its empty members, for Go's `omitempty`.
pub(super) fn omit_empty(mut object: Value, names: &[&str]) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|name, value| !names.contains(&name.as_str()) || !is_empty(value));
    }
    object
}

/// The object with null for its empty members, for Go's nil lists and maps.
pub(super) fn null_empty(mut object: Value, names: &[&str]) -> Value {
    for name in names {
        if let Some(member) = object.get_mut(*name).filter(|member| is_empty(member)) {
            *member = Value::Null;
        }
    }
    object
}

/// What Go's `omitempty` leaves out.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn whole(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Reply {
    let mut reply = Response::new(Body::Whole(Some(Bytes::from(bytes))));
    *reply.status_mut() = status;
    with_type(reply, content_type)
}

fn with_type(mut reply: Reply, content_type: &'static str) -> Reply {
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_dockers_shape() {
        let reply = failure(&Error::not_found("No such container: x"));
        assert_eq!(reply.status(), 404);
        let Body::Whole(Some(bytes)) = reply.into_body() else {
            panic!("no body")
        };
        assert_eq!(&bytes[..], b"{\"message\":\"No such container: x\"}\n");
        assert_eq!(failure(&Error::not_modified("")).status(), 304);
    }

    #[test]
    fn ndjson_ends_with_the_failure() {
        let values = smol::stream::iter(vec![Ok(json!({"a": 1})), Err(Error::internal("no"))]);
        let Body::Flowing(stream) = ndjson(values).into_body() else {
            panic!("no stream")
        };
        let lines: Vec<_> = smol::block_on(stream.map(|line| line.unwrap()).collect());
        assert_eq!(&lines[0][..], b"{\"a\":1}\n");
        let last: Value = serde_json::from_slice(&lines[1]).unwrap();
        assert_eq!(
            last,
            json!({"errorDetail": {"message": "no"}, "error": "no"})
        );
    }

    #[test]
    fn empties_are_left_out_where_named() {
        let object = json!({"A": "", "B": 0, "C": [], "D": ""});
        assert_eq!(omit_empty(object, &["A", "B", "C"]), json!({"D": ""}));
    }
}
