//! Several dockerds in one street, joined into a Docker swarm: what a cluster
//! of boards is measured beside.

use crate::lan::Lan;
use crate::peer::Peer;
use crate::wait::within;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

/// Five dockerds on two cores come up in this time.
const FORMING: Duration = Duration::from_secs(120);

/// Nodes of one Docker swarm; the first ones are its managers.
pub struct Peers {
    peers: Vec<Peer>,
}

impl Peers {
    /// A swarm of so many managers and workers, every one of them ready.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn of(managers: usize, workers: usize) -> Self {
        let lan = Arc::new(Lan::new());
        let count = managers + workers;
        let peers: Vec<Peer> = (0..count).map(|_| Peer::start_in(&lan)).collect();
        let address = peers[0].address().to_string();
        let init = ["swarm", "init", "--advertise-addr", &address];
        peers[0].docker(&init).ok();
        for (number, peer) in peers.iter().enumerate().skip(1) {
            let role = ["worker", "manager"][usize::from(number < managers)];
            let token = peers[0].docker(&["swarm", "join-token", "-q", role]);
            let own = peer.address().to_string();
            let remote = format!("{address}:2377");
            let token = token.ok().trim().to_owned();
            let words = ["swarm", "join", "--token", &token, "--advertise-addr"];
            peer.docker(&[&words[..], &[&own, &remote]].concat()).ok();
        }
        within(FORMING, "every node is ready", || {
            let format = ["node", "ls", "--format", "{{.Status}}"];
            let statuses = peers[0].docker(&format);
            let ready = statuses.lines().into_iter().filter(|of| *of == "Ready");
            (ready.count() == count).then_some(())
        });
        Self { peers }
    }

    /// Loads a sample image on every one.
    ///
    /// # Panics
    /// When it is not loaded.
    pub fn load(&self, image: &str) {
        for peer in &self.peers {
            peer.load(image);
        }
    }
}

impl Index<usize> for Peers {
    type Output = Peer;
    fn index(&self, number: usize) -> &Peer {
        &self.peers[number]
    }
}

impl IndexMut<usize> for Peers {
    fn index_mut(&mut self, number: usize) -> &mut Peer {
        &mut self.peers[number]
    }
}
