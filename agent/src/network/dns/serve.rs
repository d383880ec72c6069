//! The sockets at 127.0.0.11 in one container's namespace, and the tasks that
//! answer on them.
//!
//! Invariant: a container can keep only so many queries and connections of
//! its own in flight, and a flood of one container costs no other anything
//! but its share of one core.

use super::SharedZone;
use super::answer::{Outcome, Transport, answer, failure};
use super::forward::{forward, read_message, write_message};
use super::upstream::NodeResolvers;
use super::zone::{Asker, Upstreams};
use crate::error::{Error, Result};
use crate::network::rules::RESOLVER;
use simple_dns::RCODE;
use smol::future::FutureExt;
use smol::lock::Semaphore;
use smol::net::{TcpListener, TcpStream, UdpSocket};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Queries of one container that wait for the node's resolvers at a time;
/// more are answered "server failure", and clients try again.
const FORWARDED_MAX: usize = 64;
/// TCP connections of one container at a time.
const CONNECTIONS_MAX: usize = 16;
/// A TCP client that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Largest query accepted, bytes.
const QUERY_BYTES_MAX: usize = 4096;
/// Wait after an error of a socket, so that a persistent one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Ports tried, from one that the container's id names: the same after a
/// restart of the agent, so that flows in the kernel's memory stay right.
const FIRST_PORT: u16 = 33000;
const PORT_SPAN: u16 = 20000;
const PORT_TRIES: u16 = 50;

/// Bound sockets, not served yet.
pub(in crate::network) struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    /// Opens them in the caller's network namespace; loopback must be up.
    pub(in crate::network) fn open(container: &str) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        container.hash(&mut hasher);
        let start = (hasher.finish() % u64::from(PORT_SPAN)) as u16;
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for step in 0..PORT_TRIES {
            let address = (RESOLVER, FIRST_PORT + (start + step) % PORT_SPAN);
            let opened = std::net::UdpSocket::bind(address)
                .and_then(|udp| Ok((udp, std::net::TcpListener::bind(address)?)));
            match opened {
                Ok((udp, tcp)) => return Ok(Self { udp, tcp }),
                Err(e) => last = e,
            }
        }
        Err(Error::internal(format!(
            "network: no socket for the resolver at {RESOLVER}: {last}"
        )))
    }

    /// UDP's and TCP's.
    pub(in crate::network) fn ports(&self) -> Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

struct Shared {
    zone: SharedZone,
    node: Arc<NodeResolvers>,
    asker: RwLock<Asker>,
    /// Counts answers, to turn them.
    turn: AtomicUsize,
    forwarded: Arc<Semaphore>,
}

/// A container's resolver; it ends when this is dropped.
pub(in crate::network) struct Server {
    shared: Arc<Shared>,
    _tasks: [smol::Task<()>; 2],
}

impl Server {
    pub(in crate::network) fn start(
        sockets: Sockets,
        zone: SharedZone,
        node: Arc<NodeResolvers>,
        asker: Asker,
    ) -> Result<Self> {
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        let udp = UdpSocket::from(smol::Async::new(sockets.udp)?);
        let tcp = TcpListener::from(smol::Async::new(sockets.tcp)?);
        let shared = Arc::new(Shared {
            zone,
            node,
            asker: RwLock::new(asker),
            turn: AtomicUsize::new(0),
            forwarded: Arc::new(Semaphore::new(FORWARDED_MAX)),
        });
        Ok(Self {
            _tasks: [
                smol::spawn(serve_udp(udp, Arc::clone(&shared))),
                smol::spawn(serve_tcp(tcp, Arc::clone(&shared))),
            ],
            shared,
        })
    }

    /// The container joined or left a network, or was renamed.
    pub(in crate::network) fn set_asker(&self, asker: Asker) {
        *self
            .shared
            .asker
            .write()
            .unwrap_or_else(PoisonError::into_inner) = asker;
    }
}

impl Shared {
    fn outcome(&self, query: &[u8], transport: Transport) -> Outcome {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        let asker = self.asker.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(query, &zone, &asker, transport, turn)
    }

    fn upstreams(&self) -> Vec<SocketAddr> {
        let asker = self.asker.read().unwrap_or_else(PoisonError::into_inner);
        match &asker.upstreams {
            Upstreams::Node => self.node.now(),
            Upstreams::These(servers) => servers.clone(),
            Upstreams::Nowhere => Vec::new(),
        }
    }

    async fn forwarded(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let answer = forward(query, &self.upstreams(), transport).await;
        answer.or_else(|| refusal(query))
    }
}

fn refusal(query: &[u8]) -> Option<Vec<u8>> {
    match failure(query, RCODE::ServerFailure) {
        Outcome::Reply(bytes) => Some(bytes),
        Outcome::Forward | Outcome::Ignore => None,
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut bytes = vec![0; QUERY_BYTES_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(e) => {
                log::debug!("network: resolver's UDP socket: {e}");
                smol::Timer::after(ERROR_PAUSE).await;
                continue;
            }
        };
        let query = bytes.get(..length).unwrap_or_default();
        let reply = match shared.outcome(query, Transport::Udp) {
            Outcome::Ignore => None,
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward => match shared.forwarded.try_acquire_arc() {
                None => refusal(query),
                Some(permit) => {
                    let (query, socket) = (query.to_vec(), socket.clone());
                    let shared = Arc::clone(&shared);
                    smol::spawn(async move {
                        if let Some(reply) = shared.forwarded(&query, Transport::Udp).await {
                            let _ = socket.send_to(&reply, from).await;
                        }
                        drop(permit);
                    })
                    .detach();
                    None
                }
            },
        };
        if let Some(reply) = reply {
            // The asker is gone, or does not read: its own loss.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // No more are taken in than may be: the rest wait in the kernel.
        let permit = connections.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                smol::spawn(async move {
                    let _ = serve_connection(stream, &shared).await;
                    drop(permit);
                })
                .detach();
            }
            Err(e) => {
                log::debug!("network: resolver's TCP socket: {e}");
                smol::Timer::after(ERROR_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let idle = async {
            smol::Timer::after(IDLE).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let query = read_message(&mut stream).or(idle).await?;
        let reply = match shared.outcome(&query, Transport::Tcp) {
            Outcome::Ignore => return Ok(()),
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward => match shared.forwarded.try_acquire() {
                Some(_permit) => shared.forwarded(&query, Transport::Tcp).await,
                None => refusal(&query),
            },
        };
        let Some(reply) = reply else {
            return Ok(());
        };
        let slow = async {
            smol::Timer::after(IDLE).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        write_message(&mut stream, &reply).or(slow).await?;
    }
}
