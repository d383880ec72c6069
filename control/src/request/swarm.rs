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

pub(super) fn already() -> Refusal {
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
    // The first part will be the digest of the cluster's certificate; until
    // there is one, it is what only this cluster knows.
    let digest = random.digits(TOKEN_DIGEST_LEN);
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
    let Some(cluster) = context.state.cluster() else {
        return Err(Refusal::unavailable(crate::refusal::NOT_A_MANAGER));
    };
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

/// Whether the last manager may go.
///
/// # Errors
/// Docker's warning, unless it is forced.
pub(crate) fn check_leave(force: bool) -> Result<(), Refusal> {
    if force {
        return Ok(());
    }
    Err(Refusal::unavailable(
        "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.",
    ))
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
