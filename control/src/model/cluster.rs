//! The cluster object: defaults and policies for everything in it.

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OrchestrationConfig {
    /// Finished tasks kept a slot; `None` is Docker's 5.
    pub task_history_retention_limit: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RaftConfig {
    pub snapshot_interval: u64,
    pub keep_old_snapshots: Option<u64>,
    pub log_entries_for_slow_followers: u64,
    pub election_tick: i64,
    pub heartbeat_tick: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DispatcherConfig {
    pub heartbeat_period: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExternalCa {
    pub protocol: String,
    #[serde(rename = "URL")]
    pub url: String,
    pub options: Labels,
    #[serde(rename = "CACert")]
    pub ca_cert: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CaConfig {
    pub node_cert_expiry: i64,
    #[serde(rename = "ExternalCAs")]
    pub external_cas: Vec<ExternalCa>,
    #[serde(rename = "SigningCACert")]
    pub signing_ca_cert: String,
    #[serde(rename = "SigningCAKey")]
    pub signing_ca_key: String,
    pub force_rotate: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EncryptionConfig {
    pub auto_lock_managers: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskDefaults {
    pub log_driver: Option<Driver>,
}

/// What the operator wants of the cluster as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClusterSpec {
    pub name: String,
    pub labels: Labels,
    pub orchestration: OrchestrationConfig,
    pub raft: RaftConfig,
    pub dispatcher: DispatcherConfig,
    #[serde(rename = "CAConfig")]
    pub ca_config: CaConfig,
    pub task_defaults: TaskDefaults,
    pub encryption_config: EncryptionConfig,
}

/// The cluster as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    pub meta: Meta,
    pub spec: ClusterSpec,
    pub data_path_port: u32,
    pub default_addr_pool: Vec<String>,
    pub subnet_size: u32,
    /// `SWMTKN-1-…` for workers.
    pub worker_token: String,
    /// `SWMTKN-1-…` for managers.
    pub manager_token: String,
    /// The cluster CA's certificate, PEM.
    pub ca_cert_pem: String,
    /// The cluster CA's key, PEM; never leaves the replicated state.
    pub ca_key_pem: String,
    /// Certificates of the authorities before, PEM, youngest first: trusted
    /// until every node has one of the new authority's.
    pub ca_certs_retiring: Vec<String>,
}

impl Cluster {
    /// Certificates of everyone whose signature holds, the one who signs now
    /// first.
    pub fn ca_certs_pem(&self) -> Vec<String> {
        let now = std::iter::once(&self.ca_cert_pem).filter(|pem| !pem.is_empty());
        now.chain(&self.ca_certs_retiring).cloned().collect()
    }
    /// A rotation of the authority is under way.
    pub fn is_rotating_ca(&self) -> bool {
        !self.ca_certs_retiring.is_empty()
    }
    /// Tasks kept of a slot; Docker's 5 unless said.
    pub fn history_limit(&self) -> i64 {
        let limit = self.spec.orchestration.task_history_retention_limit;
        limit.unwrap_or(5)
    }
}
