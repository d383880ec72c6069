//! Noticing what nobody says: peers that fell silent, and an own address that
//! is gone.
//!
//! A connection on which nothing is under way may be silent for long. One that
//! owes an acknowledgement may not: QUIC asks again and again meanwhile, so
//! that a peer that lives has every chance to answer.

use super::link::{CloseCode, Heard, Link, close};
use super::{Shared, limits, lock, socket};
use smol::Timer;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Weak;
use std::time::Instant;

/// Looks until the transport is gone.
pub(super) async fn run(shared: Weak<Shared>, listen: SocketAddr) {
    let mut bound = listen;
    loop {
        Timer::after(limits::WATCH).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let slots: Vec<_> = shared.members().slots.values().cloned().collect();
        for link in slots.iter().filter_map(|slot| slot.link()) {
            look(&link);
        }
        if !bound.ip().is_unspecified() && is_gone(bound) {
            bound = rebind(&shared, bound);
        }
    }
}

fn look(link: &Link) {
    let stats = link.connection.stats();
    let frames = stats.frame_tx;
    // The last is what QUIC sends when it asks again.
    let sent = frames.stream + frames.datagram + frames.ping + frames.immediate_ack;
    let since = lock(&link.heard).look(stats.udp_rx.datagrams, sent, Instant::now());
    if since.is_some_and(|since| since.elapsed() >= limits::SILENCE) {
        log::info!("node {} is silent", link.node);
        close(&link.connection, CloseCode::Silent, "no answer");
    }
}

impl Heard {
    /// Takes in what was received and what was sent that wants an answer, both
    /// counted since the start; since when an answer is missing.
    fn look(&mut self, received: u64, sent: u64, now: Instant) -> Option<Instant> {
        if received != self.received {
            self.waiting_since = None;
        } else if sent != self.sent {
            self.waiting_since.get_or_insert(now);
        }
        (self.received, self.sent) = (received, sent);
        self.waiting_since
    }
}

/// Whether no interface has that address any more.
fn is_gone(bound: SocketAddr) -> bool {
    let probe = UdpSocket::bind((bound.ip(), 0));
    probe.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrNotAvailable)
}

/// Binds to all addresses there are; connections go on from there.
fn rebind(shared: &Shared, gone: SocketAddr) -> SocketAddr {
    let any = socket::any(gone);
    match socket::rebind(&shared.endpoint, any) {
        Ok(()) => {
            log::warn!("address {gone} is gone; listening on {any} instead");
            any
        }
        Err(e) => {
            log::warn!("address {gone} is gone, and {any} cannot be listened on: {e}");
            gone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_who_owes_an_answer_is_silent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heard = Heard {
            received: 0,
            sent: 0,
            waiting_since: None,
        };
        // Idle for long.
        assert_eq!(heard.look(5, 5, at(0)), None);
        assert_eq!(heard.look(5, 5, at(60)), None);
        // Asked, answered.
        assert_eq!(heard.look(6, 6, at(62)), None);
        // Asked, and asked again.
        assert_eq!(heard.look(6, 7, at(64)), Some(at(64)));
        assert_eq!(heard.look(6, 8, at(66)), Some(at(64)));
        assert_eq!(heard.look(6, 8, at(68)), Some(at(64)));
        // A late answer counts.
        assert_eq!(heard.look(7, 8, at(70)), None);
    }
}
