//! What a container asks of the network, and what it got.
//!
//! Both are plain data that the executor keeps in the container's record: the
//! record is the only place where an address is written down, and after an
//! agent's restart `adopt` rebuilds every other table from it.

use serde::{Deserialize, Serialize};
use skep_control::model::{EndpointSettings, PortBinding};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The network half of a container, as the user wished it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attach {
    /// The container's full id.
    pub(crate) container: String,
    /// Its name, without Docker's slash.
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    /// `HostConfig.NetworkMode`: empty, `default`, `bridge`, `host`, `none`,
    /// `container:ID` (a full id), or a network's name or id.
    pub(crate) mode: String,
    /// Network name or id → the wish. The network that `mode` names need not
    /// be here.
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
    /// `HostConfig.PortBindings`: `80/tcp` → where it is published.
    pub(crate) ports: BTreeMap<String, Vec<PortBinding>>,
    /// `Config.ExposedPorts`: `80/tcp` or `8000-8010/udp`.
    pub(crate) exposed: Vec<String>,
    /// `-P`: every exposed port gets a port of the host.
    pub(crate) publish_all: bool,
    /// Empty: the node's.
    pub(crate) dns: Vec<String>,
    pub(crate) dns_options: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    /// `name:ip`; `host-gateway` as the ip is the bridge's own address.
    pub(crate) extra_hosts: Vec<String>,
}

/// What the container got: the namespace is ready, with addresses, routes and
/// ports, before its first process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sandbox {
    /// The network namespace to join; `None`: the node's own.
    pub(crate) netns: Option<PathBuf>,
    /// Docker's `SandboxID`; empty where the namespace is another's.
    pub(crate) id: String,
    /// Network name → the endpoint, every address filled in.
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
    /// Exposed and published ports with the host ports that were chosen.
    pub(crate) ports: BTreeMap<String, Vec<PortBinding>>,
    /// Text of /etc/resolv.conf.
    pub(crate) resolv_conf: String,
    /// Text of /etc/hosts.
    pub(crate) hosts: String,
}

/// A container that was alive before the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Live {
    pub(crate) attach: Attach,
    pub(crate) sandbox: Sandbox,
}
