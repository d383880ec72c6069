//! A node asks for a certificate: with a token to join, without one to renew.
//!
//! **Invariant:** the token alone decides what a newcomer may be, and what it
//! is wanted to be decides what a certificate may be renewed to. That the one
//! who asks has the key that its id is of, the edge has checked before.

use super::*;
use crate::wire::Contact;
use std::net::SocketAddr;

/// A node's request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeJoin {
    /// `None`: a node of the cluster renews its certificate.
    pub token: Option<String>,
    /// The identity of the key that it has proven to have.
    pub node: NodeId,
    /// Where others reach it.
    pub addr: SocketAddr,
    pub description: NodeDescription,
    /// Of a newcomer; a node that is known keeps its own unless this is not
    /// `Active`.
    pub availability: Availability,
    /// What a renewed certificate is to say; a token says it itself.
    pub wants: NodeRole,
}

/// What the edge makes a certificate of, and the node needs to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub cluster: ClusterId,
    /// What the certificate is to say.
    pub role: NodeRole,
    /// In reach first, the leader before all others.
    pub managers: Vec<Contact>,
    /// Of everyone whose signature holds, the one who signs now first.
    pub ca_certs_pem: Vec<String>,
    /// How long the certificate holds, in nanoseconds.
    pub cert_expiry_nanos: i64,
}

pub(super) fn judge(context: &mut Context<'_>, join: NodeJoin) -> Outcome {
    let cluster = swarm::managed(context)?;
    let known = context.state.node(&join.node);
    let (role, changes) = match &join.token {
        Some(token) => {
            let role = role_of(cluster, token)?;
            check_alone(context, &join)?;
            let node = admitted(known, &join, role);
            (role, vec![Change::PutNode(Box::new(node))])
        }
        None => (renewed(known, &join)?, Vec::new()),
    };
    let joined = Joined {
        cluster: cluster.id.clone(),
        role,
        managers: managers(context),
        ca_certs_pem: cluster.ca_certs_pem(),
        cert_expiry_nanos: cluster.spec.ca_config.node_cert_expiry,
    };
    Ok(Accepted {
        changes,
        answer: Answer::Joined(Box::new(joined)),
    })
}

/// The row of a node that was let in: a new one, or its old one.
fn admitted(known: Option<&Node>, join: &NodeJoin, role: NodeRole) -> Node {
    let mut node = known.cloned().unwrap_or_else(|| Node {
        id: join.node.clone(),
        ..Node::default()
    });
    node.addr = join.addr.to_string();
    node.description = join.description.clone();
    node.spec.role = role;
    if known.is_none() || join.availability != Availability::Active {
        node.spec.availability = join.availability;
    }
    // Whoever joins has no log: it must not vote as who it was before.
    node.raft_id = None;
    node
}

/// A card that was copied: two boards would be one node.
fn check_alone(context: &Context<'_>, join: &NodeJoin) -> Result<(), Refusal> {
    let Some(known) = context.state.node(&join.node) else {
        return Ok(());
    };
    if !context.reach.is_up(&join.node) || known.addr == join.addr.to_string() {
        return Ok(());
    }
    Err(Refusal::conflict(format!(
        "node {} is up at {} already, and a node with the same key asks to join from {}: is its card a copy? Give it an identity of its own (remove its data directory), or take the other one down",
        join.node, known.addr, join.addr
    )))
}

/// What a node that is known may be certified as.
fn renewed(known: Option<&Node>, join: &NodeJoin) -> Result<NodeRole, Refusal> {
    let Some(node) = known else {
        return Err(Refusal::unavailable(format!(
            "node {} is not part of this swarm, or was removed from it: it can join again with a token (\"docker swarm join-token worker\" on a manager shows it)",
            join.node
        )));
    };
    if join.wants == NodeRole::Manager && node.spec.role != NodeRole::Manager {
        return Err(Refusal::unavailable(format!(
            "node {} is a worker and gets no manager's certificate: promote it first (\"docker node promote {}\")",
            join.node, join.node
        )));
    }
    Ok(join.wants)
}

/// The role that a token stands for.
fn role_of(cluster: &Cluster, token: &str) -> Result<NodeRole, Refusal> {
    let parts: Vec<&str> = token.split('-').collect();
    let &["SWMTKN", "1", digest, _] = parts.as_slice() else {
        return Err(Refusal::invalid("invalid join token"));
    };
    // Both, always: how long it takes says nothing.
    let is_worker = is_same(token, &cluster.worker_token);
    let is_manager = is_same(token, &cluster.manager_token);
    if is_manager {
        return Ok(NodeRole::Manager);
    }
    if is_worker {
        return Ok(NodeRole::Worker);
    }
    let own = cluster.worker_token.split('-').nth(2).unwrap_or_default();
    if digest != own {
        return Err(Refusal::invalid(format!(
            "remote CA does not match fingerprint. Expected: {digest}: the token is another swarm's, or older than this swarm's root certificate"
        )));
    }
    Err(Refusal::invalid(
        "A valid join token is necessary to join this cluster: this one is wrong or was rotated (\"docker swarm join-token worker|manager\" on a manager shows the ones that hold)",
    ))
}

/// Takes as long wherever they differ.
fn is_same(one: &str, other: &str) -> bool {
    let differing = one
        .bytes()
        .zip(other.bytes())
        .fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && differing == 0
}

fn managers(context: &Context<'_>) -> Vec<Contact> {
    let managers = context.state.nodes().filter(|node| node.raft_id.is_some());
    let mut ranked: Vec<((bool, bool), Contact)> = managers
        .filter_map(|node| {
            let rank = (node.id != *context.node, !context.reach.is_up(&node.id));
            let addr = node.addr.parse().ok()?;
            let node = node.id.clone();
            Some((rank, Contact { node, addr }))
        })
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, contact)| contact).collect()
}
