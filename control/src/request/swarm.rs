//! Making, changing and leaving a cluster.

use super::*;

/// Shortest life of a node certificate: Docker's.
const CERT_NANOS_MIN: i64 = 3600 * SECOND;
/// Docker's 2160 h.
const CERT_NANOS: i64 = 2160 * 3600 * SECOND;
/// Docker's 5 s.
const HEARTBEAT_NANOS: i64 = 5 * SECOND;
/// Docker's, in entries of the log.
const SNAPSHOT_INTERVAL: u64 = 10_000;
const SLOW_FOLLOWER_ENTRIES: u64 = 500;
/// Docker's, in ticks.
const ELECTION_TICK: i64 = 10;
const HEARTBEAT_TICK: i64 = 1;
/// VXLAN's port.
const DATA_PATH_PORT: u32 = 4789;
/// Length of a subnet's prefix carved from the pool: Docker's.
const SUBNET_SIZE: u32 = 24;
/// Digits of the two parts of a join token.
const TOKEN_DIGEST_LEN: usize = 50;
const TOKEN_SECRET_LEN: usize = 25;
/// Authorities still trusted while they are rotated: more than one only when a
/// rotation overtakes another.
const RETIRING_MAX: usize = 3;

/// The body of `POST /swarm/init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInit {
    pub listen_addr: String,
    pub advertise_addr: String,
    pub data_path_addr: String,
    pub data_path_port: u32,
    pub default_addr_pool: Vec<String>,
    pub subnet_size: u32,
    pub force_new_cluster: bool,
    pub auto_lock_managers: bool,
    /// `active`, `pause`, `drain`; empty is `active`.
    pub availability: String,
    pub spec: ClusterSpec,
    /// Filled in by the node itself, never by a user.
    #[serde(skip)]
    pub founding: Founding,
}

/// What a new cluster is made of that only the edge can make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Founding {
    /// The identity of this node's key; empty: one is drawn.
    pub node: NodeId,
    /// The authority's certificate, PEM.
    pub ca_cert_pem: String,
    /// Its key, PEM.
    pub ca_key_pem: String,
    /// 50 digits of base 36: the first part of every join token. Empty: drawn.
    pub ca_digest: String,
}

/// Another authority, made by the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaRotate {
    pub ca_cert_pem: String,
    pub ca_key_pem: String,
    /// As in [`Founding`]: both join tokens change with it.
    pub ca_digest: String,
}

pub(crate) fn already() -> Refusal {
    Refusal::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.",
    )
}

/// What a new cluster begins with: itself, this node, the ingress network.
///
/// # Errors
/// When the request is wrong.
pub(crate) fn new_cluster(
    init: &SwarmInit,
    node: &NodeId,
    raft_id: u64,
    about: &NodeDescription,
    random: &mut Random,
) -> Result<Vec<Change>, Refusal> {
    if init.auto_lock_managers || init.spec.encryption_config.auto_lock_managers {
        return Err(no_autolock());
    }
    let spec = with_defaults(init.spec.clone());
    check(&spec)?;
    let availability = match init.availability.as_str() {
        "" | "active" => Availability::Active,
        "pause" => Availability::Pause,
        "drain" => Availability::Drain,
        other => return Err(Refusal::invalid(format!("invalid Availability: {other:?}"))),
    };
    let data_path_port = match init.data_path_port {
        0 => DATA_PATH_PORT,
        port @ 1024..=49151 => port,
        port => {
            let message =
                format!("VXLAN UDP port number is not in valid range (1024-49151): {port}");
            return Err(Refusal::invalid(message));
        }
    };
    let (pools, subnet_size) = network::check_pools(&init.default_addr_pool, init.subnet_size)?;
    let mut cluster = Cluster {
        id: random.id().into(),
        spec,
        data_path_port,
        default_addr_pool: pools,
        subnet_size,
        ..Cluster::default()
    };
    let founding = &init.founding;
    cluster.ca_cert_pem.clone_from(&founding.ca_cert_pem);
    cluster.ca_key_pem.clone_from(&founding.ca_key_pem);
    // Without an authority it is what only this cluster knows.
    let digest = match founding.ca_digest.as_str() {
        "" => random.digits(TOKEN_DIGEST_LEN),
        digest => digest.to_owned(),
    };
    cluster.worker_token = token(&digest, random);
    cluster.manager_token = token(&digest, random);
    let node = Node {
        id: node.clone(),
        spec: NodeSpec {
            role: NodeRole::Manager,
            availability,
            ..NodeSpec::default()
        },
        description: about.clone(),
        raft_id: Some(raft_id),
        addr: init.advertise_addr.clone(),
        ..Node::default()
    };
    let ingress = network::ingress(&cluster, random)?;
    Ok(vec![
        Change::PutCluster(Box::new(cluster)),
        Change::PutNode(Box::new(node)),
        Change::PutNetwork(Box::new(ingress)),
    ])
}

/// The prefix length of subnets when a request leaves it open.
pub(super) fn subnet_size(asked: u32) -> u32 {
    if asked == 0 { SUBNET_SIZE } else { asked }
}

pub(super) struct Rotate {
    pub(super) worker: bool,
    pub(super) manager: bool,
    pub(super) unlock_key: bool,
}

pub(super) fn update(
    context: &mut Context<'_>,
    version: u64,
    spec: ClusterSpec,
    rotate: Rotate,
) -> Outcome {
    let cluster = managed(context)?;
    check_version(version, cluster.meta.version)?;
    if spec.encryption_config.auto_lock_managers || rotate.unlock_key {
        return Err(no_autolock());
    }
    let mut spec = spec;
    if spec.name.is_empty() {
        spec.name.clone_from(&cluster.spec.name);
    }
    let spec = with_defaults(spec);
    check(&spec)?;
    let mut cluster = cluster.clone();
    cluster.spec = spec;
    let digest = cluster.worker_token.split('-').nth(2).unwrap_or_default();
    let digest = digest.to_owned();
    if rotate.worker {
        cluster.worker_token = token(&digest, context.random);
    }
    if rotate.manager {
        cluster.manager_token = token(&digest, context.random);
    }
    Ok(Accepted {
        changes: vec![Change::PutCluster(Box::new(cluster))],
        answer: Answer::Done,
    })
}

/// The managers as one that wants to leave sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Managers {
    /// This one included.
    pub(crate) reachable: usize,
    pub(crate) all: usize,
}

/// Whether a manager may go.
///
/// # Errors
/// Docker's warning, unless it is forced.
pub(crate) fn check_leave(force: bool, managers: Managers) -> Result<(), Refusal> {
    if force {
        return Ok(());
    }
    let mut message =
        "You are attempting to leave the swarm on a node that is participating as a manager. "
            .to_owned();
    if managers.all <= 1 {
        message.push_str("Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.");
        return Err(Refusal::unavailable(message));
    }
    let left = managers.reachable.saturating_sub(1);
    if left < managers.all / 2 + 1 {
        message.push_str(&format!(
            "Removing this node leaves {left} managers out of {}. Without a Raft quorum your swarm will be inaccessible. ",
            managers.all
        ));
    }
    message.push_str("The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.");
    Err(Refusal::unavailable(message))
}

pub(super) fn rotate_ca(context: &mut Context<'_>, rotate: CaRotate) -> Outcome {
    let mut cluster = managed(context)?.clone();
    if rotate.ca_digest.len() != TOKEN_DIGEST_LEN {
        return Err(Refusal::internal("the authority's digest is not one"));
    }
    let before = std::mem::replace(&mut cluster.ca_cert_pem, rotate.ca_cert_pem);
    cluster.ca_certs_retiring.insert(0, before);
    cluster.ca_certs_retiring.truncate(RETIRING_MAX);
    cluster.ca_key_pem = rotate.ca_key_pem;
    cluster.worker_token = token(&rotate.ca_digest, context.random);
    cluster.manager_token = token(&rotate.ca_digest, context.random);
    Ok(Accepted {
        changes: vec![Change::PutCluster(Box::new(cluster))],
        answer: Answer::Done,
    })
}

pub(super) fn retire_ca(context: &mut Context<'_>) -> Outcome {
    let mut cluster = managed(context)?.clone();
    let is_rotating = !std::mem::take(&mut cluster.ca_certs_retiring).is_empty();
    let change = is_rotating.then(|| Change::PutCluster(Box::new(cluster)));
    Ok(Accepted {
        changes: change.into_iter().collect(),
        answer: Answer::Done,
    })
}

pub(super) fn managed<'a>(context: &Context<'a>) -> Result<&'a Cluster, Refusal> {
    let cluster = context.state.cluster();
    cluster.ok_or_else(|| Refusal::unavailable(crate::refusal::NOT_A_MANAGER))
}

fn with_defaults(mut spec: ClusterSpec) -> ClusterSpec {
    fn fill<T: Default + PartialEq>(field: &mut T, default: T) {
        if *field == T::default() {
            *field = default;
        }
    }
    fill(&mut spec.name, "default".to_owned());
    fill(
        &mut spec.orchestration.task_history_retention_limit,
        Some(5),
    );
    fill(&mut spec.raft.snapshot_interval, SNAPSHOT_INTERVAL);
    fill(&mut spec.raft.keep_old_snapshots, Some(0));
    fill(
        &mut spec.raft.log_entries_for_slow_followers,
        SLOW_FOLLOWER_ENTRIES,
    );
    fill(&mut spec.raft.election_tick, ELECTION_TICK);
    fill(&mut spec.raft.heartbeat_tick, HEARTBEAT_TICK);
    fill(&mut spec.dispatcher.heartbeat_period, HEARTBEAT_NANOS);
    fill(&mut spec.ca_config.node_cert_expiry, CERT_NANOS);
    spec
}

fn check(spec: &ClusterSpec) -> Result<(), Refusal> {
    if spec.name != "default" {
        return Err(Refusal::invalid("swarm spec must be named \"default\""));
    }
    if spec.ca_config.node_cert_expiry < CERT_NANOS_MIN {
        let message = "minimum certificate expiry time is: 1h0m0s";
        return Err(Refusal::invalid(message));
    }
    if spec.dispatcher.heartbeat_period < 0 {
        let message = "heartbeat time period cannot be a negative duration";
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

fn no_autolock() -> Refusal {
    Refusal::not_implemented("autolock is not supported: the log is not encrypted yet")
}

fn token(digest: &str, random: &mut Random) -> String {
    format!("SWMTKN-1-{digest}-{}", random.digits(TOKEN_SECRET_LEN))
}
