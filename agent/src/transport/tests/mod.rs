//! Several endpoints in one process, over loopback.

mod hostile;
mod joins;
mod lasting;
mod talking;

use super::*;
use crate::identity::Authority;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use skep_control::model::NodeRole;
use skep_control::wire::{Lane, Report, Reported};
use smol::Timer;
use smol::channel::Receiver;
use smol::future::or;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Certificate time of all nodes but those that say otherwise.
const NOW: u64 = 1_900_000_000;
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Nothing here takes so long, on a machine as busy as this one may be.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of a cluster of tests.
struct Node {
    transport: Transport,
    events: Receiver<Event>,
    key: Arc<NodeKey>,
    clock: Arc<Clock>,
    node: NodeId,
}

fn authority() -> Authority {
    Authority::create(NOW).expect("an authority")
}

fn key() -> Arc<NodeKey> {
    Arc::new(NodeKey::generate().expect("a key"))
}

/// Two keys, that of the lower id first.
fn keys() -> (Arc<NodeKey>, Arc<NodeKey>) {
    let (one, two) = (key(), key());
    match node_id(one.public()) < node_id(two.public()) {
        true => (one, two),
        false => (two, one),
    }
}

/// A certificate signed at `signed`.
fn membership(by: &Authority, key: &NodeKey, role: NodeRole, signed: u64) -> Membership {
    let request = key.request().expect("a request");
    let issued = by.issue(&request, role, &"c1".into(), signed, LIFE);
    Membership {
        cluster: "c1".into(),
        chain_pem: issued.expect("a certificate").chain_pem,
        ca_certs_pem: vec![by.certificate_pem().to_owned()],
        addr: "127.0.0.1:0".parse().expect("an address"),
        managers: Vec::new(),
    }
}

fn start(key: &Arc<NodeKey>, clock: fn() -> u64, member: Option<&Membership>) -> Node {
    let any = "127.0.0.1:0".parse().expect("an address");
    start_at(any, key, clock, member)
}

fn start_at(
    listen: SocketAddr,
    key: &Arc<NodeKey>,
    clock: fn() -> u64,
    member: Option<&Membership>,
) -> Node {
    let clock = Arc::new(Clock::of(clock));
    let settings = Settings {
        listen,
        key: key.clone(),
        clock: clock.clone(),
    };
    let (sender, events) = smol::channel::bounded(64);
    Node {
        transport: Transport::start(settings, member, sender).expect("starts"),
        events,
        key: key.clone(),
        clock,
        node: node_id(key.public()),
    }
}

impl Node {
    fn new(by: &Authority, role: NodeRole) -> Self {
        Self::with(by, role, &key())
    }

    fn with(by: &Authority, role: NodeRole, key: &Arc<NodeKey>) -> Self {
        start(key, || NOW, Some(&membership(by, key, role, NOW)))
    }

    fn addr(&self) -> SocketAddr {
        self.transport.0.endpoint.local_addr().expect("is bound")
    }

    fn contact(&self) -> Contact {
        Contact {
            node: self.node.clone(),
            addr: self.addr(),
        }
    }

    async fn next(&self) -> Event {
        within(self.events.recv()).await.expect("an event")
    }

    async fn connected(&self) -> Peer {
        match self.next().await {
            Event::Connected(peer) => peer,
            other => panic!("expected a connection: {}", name(&other)),
        }
    }

    async fn disconnected(&self) -> NodeId {
        match self.next().await {
            Event::Disconnected(node) => node,
            other => panic!("expected a disconnection: {}", name(&other)),
        }
    }

    /// The next message, whatever happens to connections meanwhile.
    async fn received(&self) -> (Peer, Message) {
        loop {
            if let Event::Received { from, message } = self.next().await {
                return (from, message);
            }
        }
    }

    fn link_to(&self, other: &Self) -> Option<Arc<Link>> {
        let slot = self.transport.0.members().slots.get(&other.node).cloned();
        slot.and_then(|slot| slot.link())
    }

    /// From now on nothing gets in or out.
    fn deafen(&self) {
        let addr = self.addr();
        let endpoint = &self.transport.0.endpoint;
        endpoint
            .rebind_abstract(Arc::new(Deaf(addr)))
            .expect("rebinds");
    }

    /// A connection as this node makes it, without what this node does then.
    async fn raw(&self, to: &Self) -> quinn::Connection {
        let standing = self.transport.0.standing().expect("is a member");
        let client = standing.client.clone();
        let shared = &self.transport.0;
        let made = dial::handshake(shared, client, to.addr(), to.node.as_str());
        made.await.expect("connects")
    }
}

/// A socket that loses everything.
#[derive(Debug)]
struct Deaf(SocketAddr);

impl AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Self(self.0))
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

impl UdpPoller for Deaf {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    or(async { Some(future.await) }, async {
        Timer::after(PATIENCE).await;
        None
    })
    .await
    .expect("in time")
}

/// Until something holds.
async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            Timer::after(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn name(event: &Event) -> String {
    match event {
        Event::Connected(peer) => format!("Connected({})", peer.node),
        Event::Disconnected(node) => format!("Disconnected({node})"),
        Event::Received { message, .. } => format!("Received({message:?})"),
        Event::Datagram { bytes, .. } => format!("Datagram({bytes:?})"),
        Event::Api { .. } => "Api".into(),
        Event::Join { .. } => "Join".into(),
    }
}

fn report(number: u64) -> Message {
    Message::Report(Box::new(Report {
        number,
        ..Report::default()
    }))
}

fn reported(number: u64) -> Message {
    Message::Reported(Reported {
        term: 1,
        number,
        wants_whole: false,
    })
}

fn number(message: &Message) -> u64 {
    match message {
        Message::Report(report) => report.number,
        Message::Reported(reported) => reported.number,
        other => panic!("no number in {other:?}"),
    }
}
