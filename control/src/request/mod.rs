//! What users ask for, validated against the tables: a request becomes changes
//! or an answer. One file a noun.
//!
//! **Invariant:** a refusal changes nothing. It does not know how an answer
//! travels: the API turns [`Kind`] into a status code.

mod check;
mod join;
mod names;
mod network;
mod node;
mod service;
mod swarm;

pub use join::{Joined, NodeJoin};
pub use service::insert_defaults;
pub use swarm::{CaRotate, Founding, SwarmInit};
pub(crate) use swarm::{Managers, already, check_leave, new_cluster};

pub use crate::refusal::{Kind, Refusal};

use crate::model::*;
use crate::random::Random;
use crate::reach::Reach;
use crate::state::{Change, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that changes what is wanted. Objects are named as users name
/// them: full id, exact name or a unique prefix of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    SwarmInit(Box<SwarmInit>),
    SwarmLeave {
        force: bool,
    },
    SwarmUpdate {
        /// The version that was read; as every `version` below.
        version: u64,
        spec: Box<ClusterSpec>,
        rotate_worker_token: bool,
        rotate_manager_token: bool,
        rotate_manager_unlock_key: bool,
    },
    ServiceCreate(Box<ServiceSpec>),
    ServiceUpdate {
        service: String,
        version: u64,
        spec: Box<ServiceSpec>,
        /// `rollback=previous`: the spec that was current before; `spec` is
        /// not looked at.
        rollback: bool,
    },
    ServiceRemove {
        service: String,
    },
    NodeUpdate {
        node: String,
        version: u64,
        spec: Box<NodeSpec>,
    },
    NodeRemove {
        node: String,
        force: bool,
    },
    /// Removes every worker that is down.
    NodePrune,
    /// A node asks for a certificate: to join, or for a new one.
    NodeJoin(Box<NodeJoin>),
    /// Another authority takes over; the one before is trusted beside it until
    /// `CaRetire`.
    CaRotate(Box<CaRotate>),
    /// Every node has a certificate of the authority of now: the others are
    /// trusted no more.
    CaRetire,
    /// Answered with `Done` once it is certain that this node leads: what is
    /// read right after is not older than what anybody was told before.
    Barrier,
    /// Of swarm scope; networks of one node are the agent's own matter.
    NetworkCreate(Box<NetworkSpec>),
    NetworkRemove {
        network: String,
    },
}

/// What an accepted request returns; given out only once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// Of `SwarmInit`: this node's new id.
    Node(NodeId),
    /// Of `ServiceCreate` and `ServiceUpdate`.
    Service {
        id: ServiceId,
        warnings: Vec<String>,
    },
    /// Of `NetworkCreate`.
    Network(NetworkId),
    /// Of `NodeJoin`.
    Joined(Box<Joined>),
    /// Of `NodePrune`: what is removed.
    Pruned(Vec<NodeId>),
}

/// What a request is judged against.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    /// This node.
    pub(crate) node: &'a NodeId,
    pub(crate) reach: &'a Reach,
    pub(crate) wall: WallTime,
    pub(crate) random: &'a mut Random,
}

/// A request that is right: what it changes, and what is answered once that
/// is agreed upon.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) changes: Vec<Change>,
    pub(crate) answer: Answer,
}

type Outcome = Result<Accepted, Refusal>;

/// Judges everything but making and leaving a cluster.
pub(crate) fn judge(context: &mut Context<'_>, request: Request) -> Outcome {
    match request {
        Request::SwarmInit(init) if init.force_new_cluster => Ok(Accepted {
            // The only manager is a quorum already.
            changes: Vec::new(),
            answer: Answer::Node(context.node.clone()),
        }),
        Request::SwarmInit(_) => Err(swarm::already()),
        Request::Barrier => Ok(Accepted {
            changes: Vec::new(),
            answer: Answer::Done,
        }),
        Request::NodeJoin(join) => join::judge(context, *join),
        Request::CaRotate(rotate) => swarm::rotate_ca(context, *rotate),
        Request::CaRetire => swarm::retire_ca(context),
        Request::NodePrune => node::prune(context),
        Request::SwarmLeave { .. } => Err(Refusal::internal("a swarm is left by its node")),
        Request::SwarmUpdate {
            version,
            spec,
            rotate_worker_token,
            rotate_manager_token,
            rotate_manager_unlock_key,
        } => {
            let rotate = swarm::Rotate {
                worker: rotate_worker_token,
                manager: rotate_manager_token,
                unlock_key: rotate_manager_unlock_key,
            };
            swarm::update(context, version, *spec, rotate)
        }
        Request::ServiceCreate(spec) => service::create(context, *spec),
        Request::ServiceUpdate {
            service,
            version,
            spec,
            rollback,
        } => service::update(context, &service, version, *spec, rollback),
        Request::ServiceRemove { service } => service::remove(context, &service),
        Request::NodeUpdate {
            node,
            version,
            spec,
        } => node::update(context, &node, version, *spec),
        Request::NodeRemove { node, force } => node::remove(context, &node, force),
        Request::NetworkCreate(spec) => network::create(context, *spec),
        Request::NetworkRemove { network } => network::remove(context, &network),
    }
}

/// The version that was read must be the current one.
fn check_version(read: u64, current: Version) -> Result<(), Refusal> {
    if read == current.index {
        Ok(())
    } else {
        Err(Refusal::internal("update out of sequence"))
    }
}
