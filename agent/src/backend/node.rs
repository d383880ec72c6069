//! What a node says of itself.

use skep_control::model::Labels;

/// The facts behind `info` and `version`; what the API can compute itself
/// (counts, versions of the API) is not here.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    /// Stable for this node; survives everything but the loss of its disk.
    pub(crate) id: String,
    pub(crate) hostname: String,
    pub(crate) data_dir: String,
    /// `uname -r`.
    pub(crate) kernel_version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub(crate) operating_system: String,
    /// `12`.
    pub(crate) os_version: String,
    /// `uname -m`.
    pub(crate) machine: String,
    pub(crate) cpus: u32,
    /// Bytes.
    pub(crate) memory: i64,
    /// Engine labels, `K=V`.
    pub(crate) labels: Labels,
    /// What tasks can reserve beside CPU and memory.
    pub(crate) generic_resources: Vec<skep_control::model::GenericResource>,
    /// 1 or 2.
    pub(crate) cgroup_version: u8,
    pub(crate) controllers: Controllers,
    pub(crate) ipv4_forwarding: bool,
    /// Backing file system of the overlay, `extfs` as Docker says it.
    pub(crate) backing_filesystem: String,
    /// What the operator must know, whole sentences.
    pub(crate) warnings: Vec<String>,
    pub(crate) swarm: SwarmFacts,
}

/// Which limits this kernel can set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    pub(crate) memory: bool,
    pub(crate) swap: bool,
    pub(crate) cpu_shares: bool,
    pub(crate) cpu_quota: bool,
    pub(crate) cpuset: bool,
    pub(crate) pids: bool,
    pub(crate) oom_kill_disable: bool,
    pub(crate) blkio: bool,
}

/// This node's place in its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct SwarmFacts {
    pub(crate) state: SwarmState,
    /// The cluster's id of this node; empty when inactive.
    pub(crate) node_id: String,
    /// Its advertised address, without the port.
    pub(crate) node_addr: String,
    pub(crate) manager: bool,
    pub(crate) error: String,
    /// Node id and `ip:port`.
    pub(crate) managers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SwarmState {
    #[default]
    Inactive,
    /// A join is under way.
    Pending,
    Active,
    /// In a swarm, and something keeps it out: see `error`.
    Error,
    /// Its state is sealed until the operator gives the key.
    #[allow(dead_code, reason = "told once a state can be sealed")]
    Locked,
}

impl SwarmState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Error => "error",
            Self::Locked => "locked",
        }
    }
}
