//! The one port: opened, closed, and what comes and goes through it.
//!
//! Invariant: the engine's loop hands over what it sends and goes on; what
//! comes in waits for the engine, so that QUIC has the sender wait.

use super::{Swarm, lock};
use crate::error::Result;
use crate::identity::Membership;
use crate::transport::{Event, Settings, Transport};
use skep_control::engine::{Datagram, Input, Send, Trust};
use smol::Task;
use smol::channel::{Receiver, bounded};
use std::net::SocketAddr;
use std::time::Duration;

/// Events that wait for the engine; each is a message that was taken in.
const EVENTS_MAX: usize = 256;
/// Between two tries of a port that is taken.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A port that is open.
pub(super) struct Port {
    pub(super) transport: Transport,
    _pump: Task<()>,
}

impl Swarm {
    /// Sends what the engine wants sent; never waits.
    pub(in super::super) fn carry_out(
        &self,
        sends: &[Send],
        datagrams: Vec<Datagram>,
        trust: Option<Trust>,
    ) {
        if sends.is_empty() && datagrams.is_empty() && trust.is_none() {
            return;
        }
        // First, for a port that is opened now reads it.
        if let Some(trust) = &trust {
            *lock(&self.0.trust) = Some(trust.clone());
        }
        let transport = self.transport();
        if let Some(trust) = trust {
            if let Some(transport) = &transport
                && let Err(error) = transport.trust(&trust)
            {
                log::error!("certificates of the swarm's authorities: {error}");
            }
            self.ring();
        }
        let Some(transport) = transport else {
            return;
        };
        for Send { to, message } in sends {
            transport.send(to, message);
        }
        for Datagram { to, bytes } in datagrams {
            transport.datagram(&to, bytes);
        }
    }

    pub(super) fn transport(&self) -> Option<Transport> {
        let port = lock(&self.0.port);
        port.as_ref().map(|port| port.transport.clone())
    }

    /// Opens the port unless it is open.
    ///
    /// # Errors
    /// When it is taken.
    pub(super) fn open(
        &self,
        listen: SocketAddr,
        member: Option<&Membership>,
    ) -> Result<Transport> {
        let mut port = lock(&self.0.port);
        if let Some(port) = &*port {
            return Ok(port.transport.clone());
        }
        let (key, clock) = {
            let identity = lock(&self.0.identity);
            (identity.key.clone(), identity.clock.clone())
        };
        let settings = Settings { listen, key, clock };
        let (to, events) = bounded(EVENTS_MAX);
        let transport = Transport::start(settings, member, to).map_err(|e| {
            e.within(format!(
                "cannot listen on udp {listen} (see --listen of skep agent)"
            ))
        })?;
        // Who was removed stays out over a restart.
        if let Some(trust) = &*lock(&self.0.trust) {
            transport.trust(trust)?;
        }
        *port = Some(Port {
            transport: transport.clone(),
            _pump: smol::spawn(pump(self.clone(), events)),
        });
        Ok(transport)
    }

    /// Shows the others the membership as it is now.
    pub(super) fn show(&self) -> Result<()> {
        match (self.transport(), self.member()) {
            (Some(transport), Some(member)) => transport.present(Some(&member)),
            _ => Ok(()),
        }
    }

    /// Says good-bye and closes the port.
    pub(in super::super) async fn close(&self) {
        let port = lock(&self.0.port).take();
        if let Some(port) = port {
            port.transport.stop().await;
        }
    }

    /// Opens the port of a node that is a member already, however long it is
    /// taken: what runs on the node does not wait for it.
    pub(super) async fn open_at_start(self) {
        while let Some(member) = self.member() {
            let place = self.place_of_member(&member);
            match self.open(place.listen, Some(&member)) {
                Ok(_) => {
                    *lock(&self.0.trouble) = None;
                    break;
                }
                Err(error) => {
                    log::error!("{error}; trying again");
                    *lock(&self.0.trouble) = Some(error.message);
                    smol::Timer::after(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Leads events to whom they are for.
async fn pump(swarm: Swarm, events: Receiver<Event>) {
    while let Ok(event) = events.recv().await {
        match event {
            Event::Connected(peer) => swarm.tell(Input::Connected(peer)).await,
            Event::Disconnected(node) => swarm.tell(Input::Disconnected(node)).await,
            Event::Received { from, message } => {
                swarm.tell(Input::Received { from, message }).await;
            }
            Event::Datagram { from, bytes } => swarm.tell(Input::Datagram { from, bytes }).await,
            Event::Api { from, stream } => {
                // Too many wait already: this one is told by its stream's end,
                // and nothing else waits behind it.
                if swarm.0.streams.try_send(Box::new(stream)).is_err() {
                    log::warn!(
                        "node {}: too many requests at once; one is refused",
                        from.node
                    );
                }
            }
            Event::Join { from, ask, reply } => {
                smol::spawn(swarm.clone().admit(from, ask, reply)).detach();
            }
        }
    }
}
