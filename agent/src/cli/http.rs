//! HTTP/1.1 to the node's socket: one connection a request, version
//! negotiation by `/_ping`, bodies read as blocking streams, and connections
//! taken over (`hijack`) for attach and exec.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, StatusCode};
use smol::io::AsyncReadExt;
use smol_hyper::rt::FuturesIo;

use super::exit::Exit;
use super::host::Host;
use super::json::Value;

/// The newest Engine API this client speaks.
const API_VERSION: (u32, u32) = (1, 51);
/// The version it speaks to a daemon that does not name one.
const OLDEST_VERSION: (u32, u32) = (1, 24);
/// Bytes of an upload read and sent at a time.
const UPLOAD_CHUNK_BYTES: usize = 64 * 1024;
/// An error body longer than this is not shown whole.
const ERROR_BODY_BYTES_MAX: u64 = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Stream = smol::Async<UnixStream>;

/// A request that did not succeed.
#[derive(Debug)]
pub(super) struct Fault {
    /// The status, when the daemon answered at all.
    pub(super) status: Option<u16>,
    /// The daemon's own words, or what happened on the way.
    pub(super) message: String,
}

impl Fault {
    fn local(message: impl Into<String>) -> Self {
        Self {
            status: None,
            message: message.into(),
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(_) => write!(f, "Error response from daemon: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<Fault> for Exit {
    fn from(fault: Fault) -> Self {
        Self::failure(fault.to_string())
    }
}

pub(super) type Answer<T> = Result<T, Fault>;

/// What the daemon said of itself when first asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Ping {
    pub(super) version: (u32, u32),
}

/// A node's API.
pub(super) struct Client {
    host: Host,
    ping: OnceLock<Ping>,
}

/// An upload.
pub(super) enum Upload {
    Nothing,
    Json(String),
    Tar(Box<dyn Read + Send + 'static>),
}

/// The query of a request under construction.
#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0 += key;
        self.0.push('=');
        self.0 += &escape(value.as_ref());
        self
    }

    /// Adds `key=1` when the flag is set.
    pub(super) fn flag(self, key: &str, set: bool) -> Self {
        if set { self.with(key, "1") } else { self }
    }

    /// Adds the pair unless the value is empty.
    pub(super) fn some(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.with(key, value)
        }
    }

    /// Adds Docker's filter document unless there is none.
    pub(super) fn filters(self, filters: &super::filters::Filters) -> Self {
        if filters.is_empty() {
            self
        } else {
            self.with("filters", filters.to_json())
        }
    }

    pub(super) fn on(self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// Percent-encodes everything but unreserved characters; for queries and for
/// one segment of a path alike.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

impl Client {
    pub(super) fn new(host: Host) -> Self {
        Self {
            host,
            ping: OnceLock::new(),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn api_version(&self) -> Answer<(u32, u32)> {
        Ok(self.ping()?.version)
    }

    /// Asks the daemon once which API it speaks.
    fn ping(&self) -> Answer<&Ping> {
        if let Some(ping) = self.ping.get() {
            return Ok(ping);
        }
        let response = smol::block_on(self.send(Method::HEAD, "/_ping", Vec::new(), empty()))?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("")
        };
        let server = parse_version(header("api-version")).unwrap_or(OLDEST_VERSION);
        let asked = std::env::var("DOCKER_API_VERSION").ok();
        let version = match asked.as_deref().filter(|v| !v.is_empty()) {
            Some(text) => parse_version(text.trim_start_matches('v')).ok_or_else(|| {
                Fault::local(format!("invalid API version in DOCKER_API_VERSION: {text}"))
            })?,
            None => server.min(API_VERSION),
        };
        Ok(self.ping.get_or_init(|| Ping { version }))
    }

    pub(super) fn get(&self, path: &str) -> Answer<Value> {
        self.request(Method::GET, path, Upload::Nothing)?.json()
    }

    /// The answer's text as sent, for printing it unchanged.
    pub(super) fn get_text(&self, path: &str) -> Answer<String> {
        self.request(Method::GET, path, Upload::Nothing)?.text()
    }

    pub(super) fn post(&self, path: &str, body: Option<serde_json::Value>) -> Answer<Value> {
        let body = body.map_or(Upload::Nothing, |json| Upload::Json(json.to_string()));
        self.request(Method::POST, path, body)?.json()
    }

    /// A document that came from the daemon goes back, changed.
    pub(super) fn post_document(&self, path: &str, document: &Value) -> Answer<Value> {
        self.request(Method::POST, path, Upload::Json(document.to_json()))?
            .json()
    }

    pub(super) fn delete(&self, path: &str) -> Answer<Value> {
        self.request(Method::DELETE, path, Upload::Nothing)?.json()
    }

    /// Any request; an answer that is no success becomes the fault it tells of.
    pub(super) fn request(&self, method: Method, path: &str, body: Upload) -> Answer<Response> {
        let path = self.versioned(path)?;
        let head = method == Method::HEAD;
        let (headers, body) = upload(body);
        let response = smol::block_on(self.send(method, &path, headers, body))?;
        let response = Response {
            inner: response,
            rest: Bytes::new(),
        };
        response.or_fault(head)
    }

    /// A request whose connection is taken over: the raw stream, and what of
    /// it was read already.
    pub(super) fn hijack(
        &self,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Answer<(UnixStream, Vec<u8>)> {
        let path = self.versioned(path)?;
        let (mut headers, body) =
            upload(body.map_or(Upload::Nothing, |json| Upload::Json(json.to_string())));
        headers.push((CONNECTION, "Upgrade".to_owned()));
        headers.push((UPGRADE, "tcp".to_owned()));
        smol::block_on(async {
            let response = self.send(Method::POST, &path, headers, body).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let status = response.status();
                Response {
                    inner: response,
                    rest: Bytes::new(),
                }
                .or_fault(false)?;
                return Err(Fault::local(format!(
                    "unable to upgrade to tcp, received {}",
                    status.as_u16()
                )));
            }
            let broken =
                |e: &dyn std::fmt::Display| Fault::local(format!("unable to upgrade to tcp: {e}"));
            let upgraded = hyper::upgrade::on(response).await.map_err(|e| broken(&e))?;
            let parts = upgraded
                .downcast::<FuturesIo<Stream>>()
                .map_err(|_| broken(&"the connection is of another kind"))?;
            let stream = parts.io.into_inner().into_inner().map_err(|e| broken(&e))?;
            stream.set_nonblocking(false).map_err(|e| broken(&e))?;
            Ok((stream, parts.read_buf.to_vec()))
        })
    }

    fn versioned(&self, path: &str) -> Answer<String> {
        let (major, minor) = self.ping()?.version;
        Ok(format!("/v{major}.{minor}{path}"))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(hyper::header::HeaderName, String)>,
        body: Body,
    ) -> Answer<hyper::Response<Incoming>> {
        let stream = self.host.connect().map_err(|e| self.unreachable(&e))?;
        let stream = smol::Async::new(stream).map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(FuturesIo::new(stream))
                .await
                .map_err(|e| Fault::local(e.to_string()))?;
        smol::spawn(async move {
            // Its failure reaches the request that waits on it.
            let _ = connection.with_upgrades().await;
        })
        .detach();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "api.moby.localhost");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(body)
            .map_err(|e| Fault::local(format!("invalid request: {e}")))?;
        sender.send_request(request).await.map_err(|e| {
            match e.is_canceled() || e.is_incomplete_message() {
                true => self.unreachable(&io::Error::from(io::ErrorKind::UnexpectedEof)),
                false => Fault::local(format!("error during connect: {}", chain(&e))),
            }
        })
    }

    /// Docker's words for a daemon that does not answer.
    fn unreachable(&self, e: &io::Error) -> Fault {
        let Host::Unix(path) = &self.host else {
            return Fault::local(format!(
                "Cannot connect to the Docker daemon at {}. Is the docker daemon running?",
                self.host
            ));
        };
        if e.kind() == io::ErrorKind::PermissionDenied {
            return Fault::local(format!(
                "permission denied while trying to connect to the Docker daemon socket at unix://{path}: dial unix {path}: connect: permission denied"
            ));
        }
        Fault::local(format!(
            "Cannot connect to the Docker daemon at unix://{path}. Is the docker daemon running?"
        ))
    }
}

/// [`API_VERSION`] as it is written.
pub(super) fn newest_version() -> String {
    format!("{}.{}", API_VERSION.0, API_VERSION.1)
}

/// An error with what caused it.
fn chain(e: &dyn std::error::Error) -> String {
    match e.source() {
        Some(source) => format!("{e}: {}", chain(source)),
        None => e.to_string(),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn upload(body: Upload) -> (Vec<(hyper::header::HeaderName, String)>, Body) {
    match body {
        Upload::Nothing => (Vec::new(), empty()),
        Upload::Json(value) => {
            let bytes = Bytes::from(value);
            let body = Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync();
            (vec![(CONTENT_TYPE, "application/json".to_owned())], body)
        }
        Upload::Tar(reader) => {
            let reader = smol::Unblock::with_capacity(UPLOAD_CHUNK_BYTES, reader);
            let frames = smol::stream::unfold(reader, |mut reader| async {
                let mut chunk = vec![0; UPLOAD_CHUNK_BYTES];
                match reader.read(&mut chunk).await {
                    Ok(0) => None,
                    Ok(n) => {
                        chunk.truncate(n);
                        Some((Ok(Frame::data(Bytes::from(chunk))), reader))
                    }
                    Err(e) => Some((Err(e), reader)),
                }
            });
            (
                vec![(CONTENT_TYPE, "application/x-tar".to_owned())],
                BodyExt::boxed_unsync(StreamBody::new(frames)),
            )
        }
    }
}

/// A success on its way in; reading it blocks.
pub(super) struct Response {
    inner: hyper::Response<Incoming>,
    rest: Bytes,
}

impl Response {
    pub(super) fn header(&self, name: &str) -> &str {
        self.inner
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }

    /// The whole body.
    pub(super) fn text(mut self) -> Answer<String> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)
            .map_err(|e| Fault::local(e.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body as JSON; an empty one is null.
    pub(super) fn json(self) -> Answer<Value> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        match Value::parse(text.as_bytes()) {
            Ok(value) => Ok(value),
            // `/_ping` and its like answer in plain text.
            Err(_) => Ok(Value::String(text)),
        }
    }

    fn or_fault(mut self, head: bool) -> Answer<Self> {
        let status = self.inner.status();
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(self);
        }
        let mut body = Vec::new();
        if !head {
            let _ = self
                .by_ref()
                .take(ERROR_BODY_BYTES_MAX)
                .read_to_end(&mut body);
        }
        let text = String::from_utf8_lossy(&body);
        let message = match Value::parse(&body) {
            Ok(json) if !json.text("message").is_empty() => json.text("message").trim().to_owned(),
            _ if text.trim().is_empty() => {
                format!(
                    "request returned {} for API route and version {}",
                    status,
                    self.inner.status().as_u16()
                )
            }
            _ => text.trim().to_owned(),
        };
        Err(Fault {
            status: Some(status.as_u16()),
            message,
        })
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let frame = match smol::block_on(self.inner.body_mut().frame()) {
                None => return Ok(0),
                Some(Ok(frame)) => frame,
                Some(Err(e)) => return Err(io::Error::other(chain(&e))),
            };
            if let Ok(data) = frame.into_data() {
                self.rest = data;
            }
        }
        let n = buf.len().min(self.rest.len());
        buf[..n].copy_from_slice(&self.rest.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let path = Query::new()
            .with("a", "x y/&")
            .flag("f", true)
            .flag("g", false)
            .some("h", "")
            .on("/p");
        assert_eq!(path, "/p?a=x%20y%2F%26&f=1");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("1.9").unwrap() < parse_version("1.41").unwrap());
        assert_eq!(parse_version("x"), None);
    }
}
