//! Sockets, connections and the way from a request to its handler.
//!
//! Owns the listeners and every limit on connections. Invariant: a handler
//! that changes something runs to its end even when its client goes away; a
//! body that flows ends when its client goes away. Knows nothing of resources.

use super::body::RequestBody;
use super::call::Origin;
use super::pass_on::{self, Asked, Execs};
use super::reply::{self, Reply};
use super::router::Router;
use super::{API_VERSION, API_VERSION_MIN};
use crate::backend::{Backend, PeerStreams};
use crate::error::{Error, Result};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SERVER, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use rustix::fs::{CWD, Gid, Mode, chmod, chownat};
use smol::channel::Receiver;
use smol::future::FutureExt as _;
use smol::io::{AsyncRead, AsyncWrite};
use smol::lock::Semaphore;
use smol::net::unix::UnixListener;
use smol_hyper::rt::{FuturesIo, SmolTimer};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Connections at a time; each costs one descriptor and about 30 KiB, and a
/// client that waits, watches or is attached holds one. More wait in the
/// kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// From a connection's last answer, or its begin, to the end of the next
/// request's head: slow and idle clients are cut off. Go's clients keep idle
/// connections for 90 s at most.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Answers under way get so long at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Who may use the socket beside its owner, where the group exists.
const SOCKET_GROUP: &str = "docker";

/// Bound sockets, not yet served.
pub(crate) struct Server {
    sockets: Vec<Socket>,
}

struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds every address (`unix://PATH`), replacing sockets that nobody
    /// serves any more.
    pub(crate) fn bind(hosts: &[String]) -> Result<Self> {
        let sockets = hosts.iter().map(|host| bind(host)).collect::<Result<_>>()?;
        Ok(Self { sockets })
    }

    /// Serves the sockets and what `peers` brings until `stop` closes or
    /// delivers, then lets answers under way end.
    pub(crate) async fn run<B: Backend>(self, node: B, peers: PeerStreams, stop: Receiver<()>) {
        let app = Arc::new(App {
            node,
            router: super::router(),
            execs: Execs::default(),
        });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (closing, closed) = smol::channel::bounded::<()>(1);
        let mut accepting: Vec<_> = self
            .sockets
            .into_iter()
            .map(|socket| smol::spawn(accept(socket, app.clone(), places.clone(), closed.clone())))
            .collect();
        accepting.push(smol::spawn(accept_peers(
            peers,
            app.clone(),
            closed.clone(),
        )));
        // An error is the daemon that has gone: stop as well.
        let _ = stop.recv().await;
        drop(closing);
        for task in accepting {
            task.await;
        }
        let idle = async {
            while Arc::strong_count(&app) > 1 {
                smol::Timer::after(Duration::from_millis(10)).await;
            }
        };
        let late = async {
            smol::Timer::after(SHUTDOWN_GRACE).await;
        };
        idle.or(late).await;
    }
}

struct App<B> {
    node: B,
    router: Router<B>,
    execs: Execs,
}

fn bind(host: &str) -> Result<Socket> {
    let path = match host.split_once("://") {
        Some(("unix", path)) => PathBuf::from(path),
        None if host.starts_with('/') => PathBuf::from(host),
        Some(("tcp", _)) => {
            return Err(Error::not_implemented(format!(
                "--host {host}: the API is served on unix sockets only; \
                 reach it from elsewhere by ssh: docker -H ssh://user@node"
            )));
        }
        _ => return Err(Error::invalid(format!("--host {host}: use unix://PATH"))),
    };
    let place = |e: std::io::Error| Error::from(e).within(path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(place)?;
    }
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(Error::conflict(format!(
            "{}: another process serves this socket; stop it or choose another --host",
            path.display()
        )));
    }
    // Under another name until its rights are set: nobody can slip in between,
    // and the rename replaces a stale socket at once.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = std::os::unix::net::UnixListener::bind(&fresh).map_err(place)?;
    chmod(&fresh, Mode::from_raw_mode(0o660)).map_err(|e| place(e.into()))?;
    if let Some(group) = group_id(SOCKET_GROUP) {
        chownat(CWD, &fresh, None, Some(group), rustix::fs::AtFlags::empty())
            .map_err(|e| place(e.into()))?;
    }
    std::fs::rename(&fresh, &path).map_err(place)?;
    Ok(Socket {
        listener: UnixListener::try_from(listener).map_err(place)?,
        path,
    })
}

/// The group's id in /etc/group.
fn group_id(name: &str) -> Option<Gid> {
    let groups = std::fs::read_to_string(Path::new("/etc/group")).ok()?;
    let line = groups
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok().map(Gid::from_raw)
}

async fn accept<B: Backend>(
    socket: Socket,
    app: Arc<App<B>>,
    places: Arc<Semaphore>,
    closed: Receiver<()>,
) {
    loop {
        let next = async {
            let place = places.acquire_arc().await;
            Some((socket.listener.accept().await, place))
        };
        let end = async {
            let _ = closed.recv().await;
            None
        };
        match next.or(end).await {
            None => break,
            Some((Ok((stream, _)), place)) => {
                let connection = connection(stream, Origin::Client, app.clone(), closed.clone());
                smol::spawn(async move {
                    connection.await;
                    drop(place);
                })
                .detach();
            }
            Some((Err(error), _)) => {
                log::warn!("{}: accept: {error}", socket.path.display());
                smol::Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
    let _ = std::fs::remove_file(&socket.path);
}

/// Serves what other nodes ask. They have places of their own: nodes that wait
/// for each other must not be kept waiting by clients.
async fn accept_peers<B: Backend>(peers: PeerStreams, app: Arc<App<B>>, closed: Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = places.acquire_arc().await;
            peers.recv().await.ok().map(|stream| (stream, place))
        };
        let end = async {
            let _ = closed.recv().await;
            None
        };
        let Some((stream, place)) = next.or(end).await else {
            break;
        };
        let connection = connection(stream, Origin::Peer, app.clone(), closed.clone());
        smol::spawn(async move {
            connection.await;
            drop(place);
        })
        .detach();
    }
}

async fn connection<B: Backend, S>(
    stream: S,
    origin: Origin,
    app: Arc<App<B>>,
    closed: Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(answer(app, origin, request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(SmolTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(FuturesIo::new(stream), service)
            .with_upgrades()
    );
    let ended = async { Some((&mut connection).await) };
    let closing = async {
        let _ = closed.recv().await;
        None
    };
    let result = match ended.or(closing).await {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A client that went away: its own business, and everyday.
        log::debug!("connection: {error}");
    }
}

async fn answer<B: Backend>(app: Arc<App<B>>, origin: Origin, request: Request<Incoming>) -> Reply {
    let line = format!("{} {}", request.method(), request.uri());
    let node = app.node.clone();
    let mut reply = match dispatch(app, origin, request).await {
        Ok(reply) => reply,
        Err(error) => {
            log::debug!("{line}: {error}");
            reply::failure(&error)
        }
    };
    node.answered(reply.status().as_u16());
    let headers = reply.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(API_VERSION));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(
        SERVER,
        HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"), " (linux)")),
    );
    reply
}

async fn dispatch<B: Backend>(
    app: Arc<App<B>>,
    origin: Origin,
    mut request: Request<Incoming>,
) -> Result<Reply> {
    let (version, path) = split_version(request.uri().path());
    let Some(mut found) = app.router.find(request.method(), path) else {
        return Err(Error::not_found("page not found"));
    };
    let version = checked_version(version)?;
    let upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let asked = Asked {
        origin,
        version,
        params: std::mem::take(&mut found.params),
        head,
        body: RequestBody::new(body),
        upgrade,
    };
    // In a task of its own: hyper drops this future when the client leaves,
    // and a half-made container would be left behind.
    let (done, result) = smol::channel::bounded(1);
    smol::spawn(async move {
        let reply = pass_on::answer(app.node.clone(), &app.execs, found, asked).await;
        // Nobody waits for it any more: the client has left.
        let _ = done.try_send(reply);
    })
    .detach();
    result
        .recv()
        .await
        .unwrap_or_else(|_| Err(Error::internal("the request was abandoned")))
}

/// `/v1.41/info` → (`1.41`, `/info`).
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(after) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let (version, rest) = match after.find('/') {
        Some(at) => after.split_at(at),
        None => (after, "/"),
    };
    let is_version = !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && version.contains('.');
    if is_version {
        (Some(version), rest)
    } else {
        (None, path)
    }
}

/// The minor number, if it is one that is spoken.
fn checked_version(version: Option<&str>) -> Result<u16> {
    let parse = |text: &str| -> Option<(u16, u16)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let newest = parse(API_VERSION).unwrap_or_default();
    let oldest = parse(API_VERSION_MIN).unwrap_or_default();
    let Some(text) = version else {
        return Ok(newest.1);
    };
    let asked =
        parse(text).ok_or_else(|| Error::invalid(format!("invalid API version: {text}")))?;
    if asked > newest {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if asked < oldest {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is \
             {API_VERSION_MIN}, please upgrade your client to a newer version"
        )));
    }
    Ok(asked.1)
}

/// The status that says that the connection changes hands.
pub(super) const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_off_the_path() {
        assert_eq!(split_version("/v1.41/info"), (Some("1.41"), "/info"));
        assert_eq!(split_version("/info"), (None, "/info"));
        assert_eq!(split_version("/volumes"), (None, "/volumes"));
        assert_eq!(split_version("/v1.41"), (Some("1.41"), "/"));
    }

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        assert_eq!(checked_version(Some("1.24")).unwrap(), 24);
        assert_eq!(checked_version(None).unwrap(), 51);
        let message = |text| checked_version(Some(text)).unwrap_err().message;
        assert_eq!(
            message("1.99"),
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(
            message("1.12"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        assert!(message("1.999999").starts_with("invalid API version"));
    }

    #[test]
    fn tcp_without_tls_is_refused_with_the_way_out() {
        let error = Server::bind(&["tcp://127.0.0.1:2375".into()])
            .err()
            .unwrap();
        assert!(error.message.contains("ssh://"), "{error}");
    }
}
