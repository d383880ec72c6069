//! A network of this node as inspect sees it.

use skep_control::model::{ContainerId, Network};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkSnapshot {
    pub(crate) network: Network,
    /// Running containers on it.
    pub(crate) containers: BTreeMap<ContainerId, NetworkMember>,
    /// Containers, running or not, that name it.
    pub(crate) users: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkMember {
    /// The container's name.
    pub(crate) name: String,
    pub(crate) endpoint_id: String,
    pub(crate) mac_address: String,
    /// With its prefix length, `172.17.0.2/16`.
    pub(crate) ipv4_address: String,
    pub(crate) ipv6_address: String,
}
