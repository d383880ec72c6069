//! A node's own network: namespaces, bridges, addresses, published ports and
//! names.
//!
//! Owns everything in the kernel that carries a container's packets, and the
//! table of this node's networks on disk. Invariant: level, not edge. What is
//! wanted is kept as data, what the kernel has is dumped, and only the
//! difference is applied, so that a restarted agent changes nothing that is
//! right. It does not know images, processes or the cluster's tables: the
//! spine hands it the cluster's networks and routes.

mod attach;
mod catalog;
mod conntrack;
mod core;
mod dns;
mod endpoint;
mod files;
mod inside;
mod ipam;
mod join;
mod leave;
mod links;
mod netlink;
mod netns;
mod nft;
mod plan;
mod ports;
mod publish;
mod reconcile;
mod rules;
mod services;
mod shape;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use attach::{Attach, Live, Sandbox};

use self::core::{Core, HostFiles};
use crate::error::Result;
use ring::rand::SecureRandom;
use skep_control::model::{
    EndpointSettings, Network as NetworkRecord, NetworkId, NetworkSpec, WallTime,
};
use skep_control::routes::Routes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a restarted agent keeps the services that the one before it was
/// told of, when nobody speaks of any: the engine does in its first moments.
const SETTLE: Duration = Duration::from_secs(10);

/// Where a node keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Survives a reboot: `node/networks` is below it.
    pub(crate) data_dir: PathBuf,
    /// Does not: `netns/` is below it.
    pub(crate) run_dir: PathBuf,
}

/// A running container on a network, for inspect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) endpoint: EndpointSettings,
}

/// A network and who is on it now.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkView {
    pub(crate) network: NetworkRecord,
    /// Container id → its endpoint.
    pub(crate) members: BTreeMap<String, Member>,
}

/// The node's network; clones share it.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<Core>>);

impl Network {
    /// Reads the node's networks (making bridge, host and none the first time)
    /// and lets the node forward packets. The kernel's links and rules stay as
    /// they are until [`Self::adopt`].
    pub(crate) async fn open(options: Options) -> Result<Self> {
        smol::unblock(move || {
            let core = Core::open(&options, HostFiles::default(), now())?;
            Ok(Self(Arc::new(Mutex::new(core))))
        })
        .await
    }

    /// One call at a time, on a thread that may block.
    async fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Core) -> T + Send + 'static) -> T {
        let core = Arc::clone(&self.0);
        smol::unblock(move || act(&mut core.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Gives a container that is about to start its namespace.
    pub(crate) async fn attach(&self, wish: Attach) -> Result<Sandbox> {
        self.act(move |core| core.attach(wish)).await
    }

    /// Takes everything of a container that has ended away. Idempotent: an
    /// unknown id is no error.
    pub(crate) async fn detach(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.act(move |core| core.detach(&container)).await;
        Ok(())
    }

    /// Once, before anything else, with every container that lives: what
    /// belongs to none of them is removed. The cluster's networks may be told
    /// before or after; those that a container is on are left alone.
    pub(crate) async fn adopt(&self, live: &[Live]) -> Result<()> {
        let live = live.to_vec();
        self.act(move |core| core.adopt(&live)).await?;
        let network = self.clone();
        smol::spawn(async move {
            smol::Timer::after(SETTLE).await;
            if let Err(e) = network.act(Core::give_services_up).await {
                log::warn!("network: services: {e}");
            }
        })
        .detach();
        Ok(())
    }

    /// Puts a running container on one more network; returns its whole state.
    pub(crate) async fn connect(
        &self,
        network: &str,
        container: &str,
        wish: EndpointSettings,
    ) -> Result<Sandbox> {
        let (network, container) = (network.to_owned(), container.to_owned());
        self.act(move |core| core.connect(&network, &container, &wish))
            .await
    }

    /// Takes a running container off a network; returns its whole state.
    pub(crate) async fn disconnect(&self, network: &str, container: &str) -> Result<Sandbox> {
        let (network, container) = (network.to_owned(), container.to_owned());
        self.act(move |core| core.disconnect(&network, &container))
            .await
    }

    /// A container got another name: DNS follows.
    pub(crate) async fn rename(&self, container: &str, name: &str) {
        let (container, name) = (container.to_owned(), name.to_owned());
        self.act(move |core| core.rename(&container, &name)).await;
    }

    /// All networks: this node's own, and the cluster's as last told.
    pub(crate) async fn networks(&self) -> Vec<NetworkView> {
        self.act(|core| core.views()).await
    }

    /// One, by full id, name or unique id prefix; `network X not found`.
    pub(crate) async fn network(&self, network: &str) -> Result<NetworkView> {
        let network = network.to_owned();
        self.act(move |core| core.view(&network)).await
    }

    /// Makes a network of this node (scope local).
    pub(crate) async fn create(&self, spec: NetworkSpec, now: WallTime) -> Result<NetworkId> {
        self.act(move |core| core.create(spec, now)).await
    }

    /// Removes a network of this node; refused while a container is on it.
    pub(crate) async fn remove(&self, network: &str) -> Result<()> {
        let network = network.to_owned();
        self.act(move |core| core.remove(&network)).await
    }

    /// The cluster's networks, all of them, whenever one changed. On one
    /// machine an overlay is a bridge; vxlan joins here.
    pub(crate) async fn set_cluster_networks(&self, networks: Vec<NetworkRecord>) -> Result<()> {
        self.act(move |core| core.set_cluster_networks(networks))
            .await
    }

    /// Services' names, published ports and live backends, all of them,
    /// whenever one changed. When this returns, nothing new is led to a
    /// backend that is not among them.
    pub(crate) async fn set_routes(&self, routes: Routes) -> Result<()> {
        self.act(move |core| core.set_routes(&routes)).await
    }

    /// What the operator must know: whole sentences for `info`.
    pub(crate) async fn warnings(&self) -> Vec<String> {
        self.act(|core| core.warnings()).await
    }
}

fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallTime(since.map_or(0, |since| since.as_nanos() as i64))
}

/// Unpredictable bytes.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        // The kernel has no random source: unlike bytes must do.
        use std::hash::{BuildHasher, RandomState};
        for chunk in bytes.chunks_mut(8) {
            let random = RandomState::new().hash_one(N).to_ne_bytes();
            chunk.copy_from_slice(random.get(..chunk.len()).unwrap_or_default());
        }
    }
    bytes
}

/// As many random bytes as hexadecimal digits.
fn random_hex<const N: usize>() -> String {
    random_bytes::<N>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
