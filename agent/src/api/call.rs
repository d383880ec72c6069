//! One request, as a handler gets it.
//!
//! Invariant: nothing of the request is in memory but its head until a handler
//! asks for it, and then never more than a named limit.

use super::body::RequestBody;
use super::filters::Filters;
use super::query::Query;
use super::router::Params;
use crate::backend::Reader;
use crate::error::{Error, Result};
use hyper::body::Bytes;
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smol::future::FutureExt as _;
use smol::io::AsyncRead;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A JSON body: the largest is a config of 1000 KiB in base64 (1.4 MB).
pub(super) const JSON_BYTES_MAX: usize = 4 << 20;
/// A body that is kept in memory must be here by then; a client that sends it
/// byte by byte is cut off.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody at one of this node's sockets.
    Client,
    /// Another node, for its own client: never passed on a second time, so
    /// that nodes that believe different things send nothing in circles.
    Peer,
}

pub(super) struct Call<B> {
    pub(super) node: B,
    pub(super) origin: Origin,
    pub(super) query: Query,
    /// The minor number of the API version asked for; the newest without one.
    pub(super) version: u16,
    pub(super) params: Params,
    pub(super) body: RequestBody,
    /// The connection itself, when the client asked to take it over.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl<B> Call<B> {
    /// A parameter of the route's pattern.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    /// The `filters` parameter, of these keys only.
    pub(super) fn filters(&self, known: &[&str]) -> Result<Filters> {
        Filters::parse(self.query.text("filters"), known)
    }

    /// The body as JSON; nulls count as absent, as they do in Go.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        parse_json(&self.bytes(JSON_BYTES_MAX).await?)
    }

    /// The same, where no body at all is the default.
    pub(super) async fn optional_json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let bytes = self.bytes(JSON_BYTES_MAX).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        parse_json(&bytes)
    }

    /// The whole body, refused above the limit.
    pub(super) async fn bytes(&mut self, limit: usize) -> Result<Vec<u8>> {
        whole(&mut self.body, limit).await
    }

    /// The body as it comes.
    pub(super) fn into_reader(self) -> Reader {
        Box::pin(BodyReader {
            body: self.body,
            left: Bytes::new(),
        })
    }
}

/// A body in memory, refused above the limit.
pub(super) async fn whole(body: &mut RequestBody, limit: usize) -> Result<Vec<u8>> {
    let late = async {
        smol::Timer::after(BODY_TIMEOUT).await;
        Err(Error::invalid(format!(
            "request body did not come within {BODY_TIMEOUT:?}"
        )))
    };
    collect(body, limit).or(late).await
}

async fn collect(body: &mut RequestBody, limit: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = next_piece(body).await {
        let piece = piece.map_err(|e| Error::invalid(format!("request body: {e}")))?;
        if all.len() + piece.len() > limit {
            return Err(Error::invalid(format!(
                "request body is larger than {limit} bytes"
            )));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

pub(super) async fn next_piece(body: &mut RequestBody) -> Option<hyper::Result<Bytes>> {
    std::future::poll_fn(|context| body.poll_piece(context)).await
}

/// Names the field and what is wrong with it.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    as_go_reads(&mut value);
    from_value(value)
}

/// A part of a body; its nulls are stripped already.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        match path.as_str() {
            "." => Error::invalid(format!("invalid JSON: {}", e.inner())),
            path => Error::invalid(format!("invalid JSON: {path}: {}", e.inner())),
        }
    })
}

/// Members whose keys are the user's own.
const MAPS: &[&str] = &[
    "Labels",
    "Options",
    "DriverOpts",
    "Sysctls",
    "AuxiliaryAddresses",
    "Annotations",
    "ExposedPorts",
    "Volumes",
    "PortBindings",
    "EndpointsConfig",
    "Config",
    "StorageOpt",
    "Tmpfs",
];

/// In Go's decoder a null leaves the field as it was, and the case of a name
/// does not matter: docker-py writes `{"Mode": {"global": {}}}`.
fn as_go_reads(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            let small = |name: &&String| name.starts_with(|c: char| c.is_ascii_lowercase());
            let names: Vec<String> = members.keys().filter(small).cloned().collect();
            for name in names {
                let mut proper = name.clone();
                if let Some(first) = proper.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                if !members.contains_key(&proper)
                    && let Some(member) = members.remove(&name)
                {
                    members.insert(proper, member);
                }
            }
            for (name, member) in members {
                match member {
                    Value::Object(entries) if MAPS.contains(&name.as_str()) => {
                        entries.retain(|_, entry| !entry.is_null());
                        // An entry is an object again, or a list of them.
                        entries.values_mut().for_each(as_go_reads);
                    }
                    other => as_go_reads(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(as_go_reads),
        _ => {}
    }
}

struct BodyReader {
    body: RequestBody,
    left: Bytes,
}

impl AsyncRead for BodyReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.left.is_empty() {
            match ready!(this.body.poll_piece(context)) {
                None => return Poll::Ready(Ok(0)),
                Some(Ok(data)) => this.left = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = buffer.len().min(this.left.len());
        let taken = this.left.split_to(count);
        for (to, from) in buffer.iter_mut().zip(taken) {
            *to = from;
        }
        Poll::Ready(Ok(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::ServiceSpec;

    #[test]
    fn nulls_are_absent() {
        let spec: ServiceSpec = parse_json(
            br#"{"Name":"a","Labels":null,"TaskTemplate":{"ContainerSpec":{"Env":null}}}"#,
        )
        .unwrap();
        assert_eq!(spec.name, "a");
    }

    #[test]
    fn names_may_begin_small_but_the_users_stay_as_they_are() {
        let spec: ServiceSpec = parse_json(
            br#"{"name":"a","Labels":{"tier":"x"},"Mode":{"global":{}},
                "rollbackConfig":{"order":"start-first"}}"#,
        )
        .unwrap();
        assert!(spec.name == "a" && spec.mode.global.is_some());
        assert_eq!(spec.labels.keys().collect::<Vec<_>>(), ["tier"]);
        assert_eq!(spec.rollback_config.unwrap().order, "start-first");
    }

    #[test]
    fn errors_name_the_field() {
        let message = |bytes: &[u8]| parse_json::<ServiceSpec>(bytes).unwrap_err().message;
        assert_eq!(
            message(br#"{"Mode":{"Replicated":{"Replicas":"x"}}}"#),
            "invalid JSON: Mode.Replicated.Replicas: invalid type: string \"x\", expected u64"
        );
        assert_eq!(
            message(b""),
            "invalid JSON: got EOF while reading request body"
        );
        assert!(message(b"{").starts_with("invalid JSON: EOF while parsing an object"));
    }
}
