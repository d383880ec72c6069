//! The page's own small HTTP server: one path, no connection kept for long.

use super::{Metrics, Snapshot};
use crate::error::{Error, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use smol::future::FutureExt as _;
use smol::lock::Semaphore;
use smol::net::{TcpListener, TcpStream};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

/// Connections at a time: a Prometheus or two, and somebody with curl.
const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A connection's whole life: a scraper asks again on the same one for a
/// while, and a silent client must not keep a place.
const LIFE_MAX: Duration = Duration::from_secs(120);
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the text is called.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A bound socket, not yet served.
pub(crate) struct Server(TcpListener);

impl Server {
    /// Binds the address that the operator named.
    ///
    /// # Errors
    /// When it cannot be bound; with the flag's name.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self> {
        let place = |e: std::io::Error| Error::from(e).within(format!("--metrics-addr {address}"));
        let listener = StdListener::bind(address).map_err(place)?;
        Ok(Self(TcpListener::try_from(listener).map_err(place)?))
    }

    /// Serves for ever; `gather` tells how things stand.
    pub(crate) async fn run<F, S>(self, metrics: Metrics, gather: F)
    where
        F: Fn() -> S + Clone + Send + Sync + 'static,
        S: Future<Output = Snapshot> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.acquire_arc().await;
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let serving = connection(stream, metrics.clone(), gather.clone());
                    smol::spawn(async move {
                        serving.await;
                        drop(place);
                    })
                    .detach();
                }
                Err(error) => {
                    log::warn!("metrics: accept: {error}");
                    smol::Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection<F, S>(stream: TcpStream, metrics: Metrics, gather: F)
where
    F: Fn() -> S,
    S: Future<Output = Snapshot>,
{
    let service = service_fn(|request| {
        let (metrics, gathered) = (metrics.clone(), gather());
        async move { Ok::<_, Infallible>(answer(&request, &metrics, gathered).await) }
    });
    let served = async {
        let done = http1::Builder::new()
            .timer(SmolTimer::new())
            .header_read_timeout(LIFE_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(FuturesIo::new(stream), service)
            .await;
        if let Err(error) = done {
            log::debug!("metrics: connection: {error}");
        }
    };
    let too_long = async {
        smol::Timer::after(LIFE_MAX).await;
    };
    served.or(too_long).await;
}

async fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    gathered: impl Future<Output = Snapshot>,
) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match metrics.page(&gathered.await) {
            Ok(page) => (StatusCode::OK, page),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "ask for /metrics\n".to_owned()),
    };
    let kind = match status {
        StatusCode::OK => TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).expect("is served");
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("is read");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("is text");
        text
    }

    #[test]
    fn the_page_is_served_and_nothing_else_is() {
        let server = Server::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = server.0.local_addr().expect("is bound");
        assert!(Server::bind(address).is_err_and(|e| e.message.contains("--metrics-addr")));
        smol::spawn(server.run(Metrics::default(), || async {
            Snapshot {
                cpus: 7,
                ..Snapshot::default()
            }
        }))
        .detach();
        let page = ask(address, "GET /metrics");
        assert!(
            page.starts_with("HTTP/1.1 200") && page.contains("cpus_cpus 7\n"),
            "{page}"
        );
        assert!(ask(address, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics").starts_with("HTTP/1.1 405"));
    }
}
