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

pub(crate) use attach::{Attach, Live, Sandbox};

use crate::error::{Error, Result};
use skep_control::model::{
    EndpointSettings, Network as NetworkRecord, NetworkId, NetworkSpec, WallTime,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

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
pub(crate) struct Network(Arc<Inner>);

struct Inner {
    options: Options,
}

impl Network {
    /// Reads the node's networks (making bridge, host and none the first time)
    /// and programs the kernel.
    pub(crate) async fn open(options: Options) -> Result<Self> {
        Ok(Self(Arc::new(Inner { options })))
    }

    /// Gives a container that is about to start its namespace.
    pub(crate) async fn attach(&self, _wish: Attach) -> Result<Sandbox> {
        Err(Error::not_implemented("network attach"))
    }

    /// Takes everything of a container that has ended away. Idempotent: an
    /// unknown id is no error.
    pub(crate) async fn detach(&self, _container: &str) -> Result<()> {
        Ok(())
    }

    /// After a restart of the agent, once, with every container that lives:
    /// what belongs to none of them is removed.
    pub(crate) async fn adopt(&self, _live: &[Live]) -> Result<()> {
        Ok(())
    }

    /// Puts a running container on one more network; returns its whole state.
    pub(crate) async fn connect(
        &self,
        _network: &str,
        _container: &str,
        _wish: EndpointSettings,
    ) -> Result<Sandbox> {
        Err(Error::not_implemented("network connect"))
    }

    /// Takes a running container off a network; returns its whole state.
    pub(crate) async fn disconnect(&self, _network: &str, _container: &str) -> Result<Sandbox> {
        Err(Error::not_implemented("network disconnect"))
    }

    /// A container got another name: DNS follows.
    pub(crate) async fn rename(&self, _container: &str, _name: &str) {}

    /// All networks: this node's own, and the cluster's as last told.
    pub(crate) async fn networks(&self) -> Vec<NetworkView> {
        Vec::new()
    }

    /// One, by full id, name or unique id prefix; `network X not found`.
    pub(crate) async fn network(&self, network: &str) -> Result<NetworkView> {
        Err(Error::not_found(format!("network {network} not found")))
    }

    /// Makes a network of this node (scope local).
    pub(crate) async fn create(&self, _spec: NetworkSpec, _now: WallTime) -> Result<NetworkId> {
        Err(Error::not_implemented("network create"))
    }

    /// Removes a network of this node; refused while a container is on it.
    pub(crate) async fn remove(&self, _network: &str) -> Result<()> {
        Err(Error::not_implemented("network remove"))
    }

    /// The cluster's networks, all of them, whenever one changed. On one
    /// machine an overlay is a bridge; vxlan joins here.
    pub(crate) async fn set_cluster_networks(&self, _networks: Vec<NetworkRecord>) -> Result<()> {
        Ok(())
    }

    /// The cluster's service names, published ports and live backends, all of
    /// them, whenever one changed: names, virtual addresses and ports of the
    /// node follow. Called in order, before the steps that came with it.
    pub(crate) async fn set_routes(&self, _routes: skep_control::routes::Routes) -> Result<()> {
        Ok(())
    }

    /// What the operator must know: whole sentences for `info`.
    pub(crate) async fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
