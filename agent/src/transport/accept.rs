//! Taking in connections that others begin.

use super::link::{CloseCode, close};
use super::{Shared, dial, join, limits, tls};
use quinn::Incoming;
use smol::Timer;
use smol::future::or;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Accepts until the endpoint is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let under_way = shared.handshakes.load(Ordering::Relaxed);
        if under_way >= limits::HANDSHAKES_MAX {
            incoming.ignore();
            continue;
        }
        if under_way >= limits::HANDSHAKES_UNPROVEN && incoming.may_retry() {
            // May not fail: it may retry.
            let _ = incoming.retry();
            continue;
        }
        let counted = Counted::new(&shared, |shared| &shared.handshakes);
        let shared = shared.clone();
        smol::spawn(async move { handshake(shared, incoming, counted).await }).detach();
    }
}

/// Something under way that there may only be so much of.
pub(super) struct Counted {
    shared: Arc<Shared>,
    which: fn(&Shared) -> &AtomicUsize,
}

impl Counted {
    pub(super) fn new(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicUsize) -> Self {
        which(shared).fetch_add(1, Ordering::Relaxed);
        Self {
            shared: shared.clone(),
            which,
        }
    }

    pub(super) fn count(&self) -> usize {
        (self.which)(&self.shared).load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}

async fn handshake(shared: Arc<Shared>, incoming: Incoming, counted: Counted) {
    let from = incoming.remote_address();
    // What is shown is decided when the packet is taken in.
    let standing = shared.standing();
    let made = async { incoming.await.map_err(|e| e.to_string()) };
    let late = async {
        Timer::after(limits::HANDSHAKE).await;
        Err("no answer".into())
    };
    let connection = match or(made, late).await {
        Ok(connection) => connection,
        Err(why) => return log::info!("{from}: connection refused: {why}"),
    };
    drop(counted);
    let Some(standing) = standing else {
        return close(&connection, CloseCode::Left, "this node left the cluster");
    };
    let Some(leaf) = tls::peer(&connection) else {
        return join::stranger(&shared, &connection).await;
    };
    match dial::link(connection, leaf, standing.leaf.clone(), false) {
        Ok(link) => shared.take(link).await,
        Err(error) => log::warn!("{from}: {error}"),
    }
}
