//! The swarm as an API asks for it: where its leader is, and how to get in.

use serde::Deserialize;
use skep_control::engine::Contact;
use smol::io::{AsyncRead, AsyncWrite};

/// Who answers for the swarm, as this node believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This node.
    Here,
    /// Another one.
    At(Contact),
    /// Nobody in reach.
    Unknown,
    /// This node is in no swarm.
    NoSwarm,
}

/// Both ways of a byte stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Streams that other nodes opened to this node's API.
pub(crate) type PeerStreams = smol::channel::Receiver<Box<dyn Duplex>>;

/// The body of `POST /swarm/join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct JoinRequest {
    /// `IP[:PORT]` or empty: as the agent was told at its start.
    pub(crate) listen_addr: String,
    /// An address or an interface, with or without a port, or empty.
    pub(crate) advertise_addr: String,
    pub(crate) data_path_addr: String,
    /// `HOST[:PORT]` of managers, to be tried in turn.
    pub(crate) remote_addrs: Vec<String>,
    /// `SWMTKN-1-…`.
    pub(crate) join_token: String,
    /// `active`, `pause`, `drain`; empty is `active`.
    pub(crate) availability: String,
}
