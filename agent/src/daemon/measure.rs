//! How the node stands, for its metrics: gathered when somebody asks.

use super::node::Node;
use crate::backend::NodeFacts;
use crate::metrics::{Managed, Server, Snapshot, Swarm};
use skep_control::engine::View;
use skep_control::model::NodeState;

/// Serves the metrics, if the operator wants them served.
pub(super) fn serve(server: Option<Server>, node: &Node) {
    let Some(server) = server else {
        return;
    };
    let (metrics, node) = (node.0.metrics.clone(), node.clone());
    let gather = move || {
        let node = node.clone();
        async move { snapshot(&node).await }
    };
    smol::spawn(server.run(metrics, gather)).detach();
}

async fn snapshot(node: &Node) -> Snapshot {
    let NodeFacts {
        hostname,
        machine,
        kernel_version,
        cpus,
        memory,
        ..
    } = node.0.facts.clone();
    Snapshot {
        hostname,
        architecture: machine,
        kernel: kernel_version,
        cpus: u64::from(cpus),
        memory_bytes: u64::try_from(memory).unwrap_or(0),
        containers: node.0.executor.states(),
        swarm: node.0.spine.view(swarm).await,
    }
}

fn swarm(view: View<'_>) -> Option<Swarm> {
    Some(Swarm {
        node_id: view.node_id()?.0.clone(),
        swarm_id: view.cluster_id().map(|id| id.0.clone()).unwrap_or_default(),
        managed: view.is_manager().then(|| managed(view)),
    })
}

fn managed(view: View<'_>) -> Managed {
    let state = view.state();
    let mut managed = Managed {
        leads: view.is_leader(),
        networks: state.networks().count() as u64,
        ..Managed::default()
    };
    for node in state.nodes() {
        let state = word(view.node_status(node).state);
        *managed.nodes.entry(state).or_default() += 1;
    }
    for task in view.tasks() {
        *managed.tasks.entry(task.status.state.as_str()).or_default() += 1;
    }
    for service in state.services() {
        let counts = view.counts(service);
        let name = service.spec.name.clone();
        managed
            .services
            .insert(name, (counts.desired, counts.running));
    }
    managed
}

/// Docker's word for a node's state.
fn word(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    }
}
