//! Reaching nodes.

use super::link::{CloseCode, Link, Made, close};
use super::peers::{Slot, until};
use super::stream::{Held, Stream};
use super::{Shared, frame, limits, spread, tls};
use crate::error::{Error, Result};
use crate::identity::Certificate;
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use skep_control::wire::{Contact, Kind};
use smol::Timer;
use smol::future::or;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sees to it that a node is dialed when something waits for it.
pub(super) fn when_needed(shared: &Arc<Shared>, slot: &Arc<Slot>) {
    let mut state = slot.state();
    if state.dial.is_running || state.link.is_some() || !state.wants() {
        return;
    }
    state.dial.is_running = true;
    smol::spawn(run(shared.clone(), slot.clone())).detach();
}

/// Dials until there is a connection or nothing waits for one any more.
async fn run(shared: Arc<Shared>, slot: Arc<Slot>) {
    loop {
        let not_before = slot.state().dial.not_before;
        until(not_before).await;
        let address = {
            let mut state = slot.state();
            if state.link.is_some() || !state.wants() {
                state.dial.is_running = false;
                return;
            }
            state.dial.address()
        };
        match connect(&shared, &slot, address).await {
            Ok(link) => {
                slot.state().dial.is_running = false;
                shared.take(link).await;
                return;
            }
            Err(error) => {
                let mut state = slot.state();
                if state.dial.failures == 0 {
                    log::info!("node {} at {address} is not reached: {error}", slot.node);
                }
                state.dial.failed(spread());
                shared.search(state.dial.failures);
                if state.link.is_none() {
                    state.give_up();
                }
            }
        }
    }
}

/// Makes a connection beside the one that there is, which was made with
/// another certificate; the new one takes over.
pub(super) async fn again(shared: Arc<Shared>, slot: Arc<Slot>) {
    let Some(link) = slot.link() else {
        return;
    };
    // Not all at once; and late enough that nobody takes it for one of two
    // dialed at once.
    let pause = limits::AT_ONCE + Duration::from_millis(u64::from(spread()));
    until(link.since.max(Instant::now() - limits::AT_ONCE) + pause).await;
    if !link.is_current() {
        return;
    }
    match connect(&shared, &slot, link.connection.remote_address()).await {
        Ok(link) => shared.take(link).await,
        // The old one still serves.
        Err(error) => log::info!("node {}: not connected anew: {error}", slot.node),
    }
}

async fn connect(shared: &Arc<Shared>, slot: &Slot, address: SocketAddr) -> Result<Arc<Link>> {
    let standing = shared.standing();
    let standing = standing.ok_or_else(|| Error::unavailable("this node is in no cluster"))?;
    let config = standing.client.clone();
    let connection = handshake(shared, config, address, slot.node.as_str()).await?;
    let leaf = tls::peer(&connection);
    let leaf = leaf.ok_or_else(|| Error::internal("a peer without a certificate"))?;
    link(connection, leaf, standing.leaf.clone(), true)
}

/// A link of a connection whose certificates TLS has found good.
pub(super) fn link(
    connection: Connection,
    leaf: CertificateDer<'static>,
    own: CertificateDer<'static>,
    dialed: bool,
) -> Result<Arc<Link>> {
    let certificate = Certificate::parse(&leaf)?;
    Ok(Link::new(Made {
        connection,
        node: certificate.node,
        role: certificate.role,
        leaf,
        own_role: Certificate::parse(&own)?.role,
        own,
        dialed,
    }))
}

/// A connection that the other end has agreed to as well: with TLS 1.3 the
/// server judges the client's certificate when the client is done already.
pub(super) async fn handshake(
    shared: &Shared,
    config: quinn::ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<Connection> {
    let connecting = shared.endpoint.connect_with(config, address, name);
    let connecting = connecting.map_err(|e| Error::unavailable(e.to_string()))?;
    let made = async {
        let connection = connecting.await.map_err(|e| failure(&e))?;
        while connection.stats().frame_rx.handshake_done == 0 {
            if let Some(error) = connection.close_reason() {
                return Err(failure(&error));
            }
            Timer::after(CONSENT_POLL).await;
        }
        Ok(connection)
    };
    or(made, async {
        Timer::after(limits::HANDSHAKE).await;
        Err(Error::unavailable("no answer"))
    })
    .await
}

/// The consent comes a round trip after the handshake, and QUIC has no way to
/// wait for it: it is looked for so often.
const CONSENT_POLL: Duration = Duration::from_millis(2);

fn failure(error: &quinn::ConnectionError) -> Error {
    Error::unavailable(error.to_string())
}

/// Opens a stream both ways, on the connection that there is or on a new one.
pub(super) async fn open(shared: &Arc<Shared>, to: &Contact, kind: Kind) -> Result<Stream> {
    let unreachable = |why: &str| {
        Error::unavailable(format!(
            "node {} at {} cannot be reached: {why}",
            to.node, to.addr
        ))
    };
    let slot = shared.slot(to);
    let slot = slot.ok_or_else(|| unreachable("it is no other member of this cluster"))?;
    let opened = async {
        let link = reach(shared, &slot).await;
        let link = link.ok_or_else(|| unreachable("no answer"))?;
        let held = Held::new(link.clone());
        let streams = link.connection.open_bi().await;
        let (mut send, receive) = streams.map_err(|e| unreachable(&e.to_string()))?;
        let hello = frame::write_hello(&mut send, kind).await;
        hello.map_err(|fault| unreachable(&fault.to_string()))?;
        Ok(Stream::new(send, receive, held))
    };
    or(opened, async {
        Timer::after(limits::REACH).await;
        Err(unreachable("no answer"))
    })
    .await
}

/// The connection to a node; waits for one attempt to make it.
async fn reach(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Option<Arc<Link>> {
    let waiting = {
        let mut state = slot.state();
        if let Some(link) = &state.link
            && link.connection.close_reason().is_none()
        {
            return Some(link.clone());
        }
        let (found, waiting) = smol::channel::bounded(1);
        state.waiting.push(found);
        waiting
    };
    when_needed(shared, slot);
    waiting.recv().await.ok()
}

/// Asks for nothing more on a connection.
pub(super) fn done(connection: &Connection) {
    close(connection, CloseCode::Done, "done");
}
