//! Services: the specs a user writes, to Docker's field and default.

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    pub name: String,
    pub options: Labels,
}

/// A resource that a node counts or names beside CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GenericResource {
    pub named_resource_spec: Option<NamedResource>,
    pub discrete_resource_spec: Option<DiscreteResource>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NamedResource {
    pub kind: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscreteResource {
    pub kind: String,
    pub value: i64,
}

/// Billionths of a CPU and bytes; also what a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: i64,
    pub memory_bytes: i64,
    pub generic_resources: Vec<GenericResource>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: i64,
    pub memory_bytes: i64,
    pub pids: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResourceRequirements {
    pub limits: Option<Limits>,
    pub reservations: Option<Resources>,
    pub swap_bytes: Option<i64>,
    pub memory_swappiness: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    None,
    OnFailure,
    #[default]
    Any,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    pub condition: Option<RestartCondition>,
    /// `None` is Docker's 5 s.
    pub delay: Option<i64>,
    /// `None` or 0: no limit.
    pub max_attempts: Option<u64>,
    /// `None` or 0: attempts count for ever.
    pub window: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SpreadOver {
    pub spread_descriptor: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlacementPreference {
    pub spread: Option<SpreadOver>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    pub constraints: Vec<String>,
    pub preferences: Vec<PlacementPreference>,
    pub max_replicas: u64,
    pub platforms: Vec<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentConfig {
    /// Name or id as the user wrote it; the id once it is resolved.
    pub target: String,
    pub aliases: Vec<String>,
    pub driver_opts: Labels,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsConfig {
    pub nameservers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileTarget {
    pub name: String,
    #[serde(rename = "UID")]
    pub uid: String,
    #[serde(rename = "GID")]
    pub gid: String,
    pub mode: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretReference {
    pub file: Option<FileTarget>,
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    pub secret_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    pub file: Option<FileTarget>,
    pub runtime: Option<Empty>,
    #[serde(rename = "ConfigID")]
    pub config_id: String,
    pub config_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SeccompOpts {
    pub mode: String,
    /// Base64, as JSON has it.
    pub profile: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Privileges {
    pub no_new_privileges: bool,
    pub seccomp: Option<SeccompOpts>,
    #[serde(rename = "SELinuxContext")]
    pub selinux_context: Option<SelinuxContext>,
}

/// Kept for whoever reads it back; boards have no SELinux.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SelinuxContext {
    pub disable: bool,
    pub user: String,
    pub role: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub level: String,
}

/// The container of a service's task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    pub image: String,
    pub labels: Labels,
    /// Docker's entrypoint.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub hostname: String,
    pub env: Vec<String>,
    pub dir: String,
    pub user: String,
    pub groups: Vec<String>,
    pub privileges: Option<Privileges>,
    pub init: Option<bool>,
    pub stop_signal: String,
    #[serde(rename = "TTY")]
    pub tty: bool,
    pub open_stdin: bool,
    pub read_only: bool,
    pub mounts: Vec<Mount>,
    /// `None` is Docker's 10 s.
    pub stop_grace_period: Option<i64>,
    pub healthcheck: Option<HealthConfig>,
    /// `ip name…`, the /etc/hosts form.
    pub hosts: Vec<String>,
    #[serde(rename = "DNSConfig")]
    pub dns_config: Option<DnsConfig>,
    pub secrets: Vec<SecretReference>,
    pub configs: Vec<ConfigReference>,
    pub isolation: String,
    pub sysctls: Labels,
    pub capability_add: Vec<String>,
    pub capability_drop: Vec<String>,
    pub ulimits: Vec<Ulimit>,
    pub oom_score_adj: i64,
}

/// What one task of a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    pub container_spec: ContainerSpec,
    pub resources: Option<ResourceRequirements>,
    pub restart_policy: Option<RestartPolicy>,
    pub placement: Option<Placement>,
    pub networks: Vec<NetworkAttachmentConfig>,
    pub log_driver: Option<Driver>,
    /// Raised by `--force`: a change that changes nothing else.
    pub force_update: u64,
    pub runtime: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplicatedService {
    /// `None` is Docker's 1.
    pub replicas: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplicatedJob {
    pub max_concurrent: Option<u64>,
    pub total_completions: Option<u64>,
}

/// Exactly one is set; none means one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceMode {
    pub replicated: Option<ReplicatedService>,
    pub global: Option<Empty>,
    pub replicated_job: Option<ReplicatedJob>,
    pub global_job: Option<Empty>,
}

impl ServiceMode {
    /// Wanted replicas of a replicated service; Docker's 1 unless said.
    pub fn replicas(&self) -> u64 {
        match &self.replicated {
            Some(replicated) => replicated.replicas.unwrap_or(1),
            None if self.global.is_none() => 1,
            None => 0,
        }
    }
    pub fn is_global(&self) -> bool {
        self.global.is_some()
    }
}

/// How a new spec rolls out; also how it rolls back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// 0: all at once.
    pub parallelism: u64,
    pub delay: i64,
    /// `pause`, `continue`, `rollback`; empty is `pause`.
    pub failure_action: String,
    /// 0 is Docker's 5 s.
    pub monitor: i64,
    /// Millionths, so that specs compare exactly; JSON has a fraction.
    #[serde(with = "ratio")]
    pub max_failure_ratio: i32,
    /// `stop-first`, `start-first`; empty is `stop-first`.
    pub order: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortConfig {
    pub name: String,
    /// `tcp`, `udp`, `sctp`; empty is `tcp`.
    pub protocol: String,
    pub target_port: u32,
    /// 0: the cluster chooses from 30000 to 32767.
    pub published_port: u32,
    /// `ingress`, `host`; empty is `ingress`.
    pub publish_mode: String,
}

impl PortConfig {
    /// Published on every node, rather than where a task runs.
    pub fn is_ingress(&self) -> bool {
        self.publish_mode != "host"
    }
    pub fn protocol(&self) -> &str {
        if self.protocol.is_empty() {
            "tcp"
        } else {
            &self.protocol
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// `vip`, `dnsrr`; empty is `vip`.
    pub mode: String,
    pub ports: Vec<PortConfig>,
}

/// What the user wants of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    pub name: String,
    pub labels: Labels,
    pub task_template: TaskSpec,
    pub mode: ServiceMode,
    pub update_config: Option<UpdateConfig>,
    pub rollback_config: Option<UpdateConfig>,
    /// The old place of `TaskTemplate.Networks`.
    pub networks: Vec<NetworkAttachmentConfig>,
    pub endpoint_spec: Option<EndpointSpec>,
}

/// Fractions as millionths.
mod ratio {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(ratio: &i32, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_f64(f64::from(*ratio) / 1e6)
        } else {
            to.serialize_i32(*ratio)
        }
    }

    /// Out of range stays out of range, for validation to name it.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        if from.is_human_readable() {
            f64::deserialize(from).map(|ratio| (ratio * 1e6).round() as i32)
        } else {
            i32::deserialize(from)
        }
    }
}
