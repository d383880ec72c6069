//! `/nodes`: the members of the swarm.

use super::{add_meta, read, value_of};
use crate::api::call::Call;
use crate::api::filters::Filters;
use crate::api::reply::{self, Reply, empty};
use crate::api::router::Router;
use crate::api::shape::without_empty;
use crate::backend::Backend;
use crate::error::{Error, Result};
use hyper::StatusCode;
use serde_json::{Value, json};
use skep_control::engine::{Answer, Request, View};
use skep_control::model::{Node, NodeSpec};
use skep_control::view::{ManagerStatus, NodeStatus};

const FILTERS: &[&str] = &["id", "label", "membership", "name", "node.label", "role"];

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/nodes", list);
    router.get("/nodes/{id}", inspect);
    router.delete("/nodes/{id}", remove);
    router.post("/nodes/{id}/update", update);
    router.post("/skep/v1/nodes/prune", prune);
}

/// A node with what is seen of it.
struct Member {
    node: Node,
    status: NodeStatus,
    manager: Option<ManagerStatus>,
}

impl Member {
    fn of(view: &View<'_>, node: &Node) -> Self {
        Self {
            status: view.node_status(node),
            manager: view.manager_status(node),
            node: node.clone(),
        }
    }
}

async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    let members = read(&call.node, move |view| {
        let nodes = view
            .state()
            .nodes()
            .filter(|node| is_wanted(&filters, node));
        Ok(nodes
            .map(|node| Member::of(&view, node))
            .collect::<Vec<_>>())
    })
    .await?;
    Ok(reply::json(
        &members.iter().map(member_json).collect::<Vec<_>>(),
    ))
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let id = call.param("id").to_owned();
    let member = read(&call.node, move |view| {
        Ok(Member::of(
            &view,
            view.state().find_node(&id, view.node_id())?,
        ))
    })
    .await?;
    Ok(reply::json(&member_json(&member)))
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    let request = Request::NodeRemove {
        node: call.param("id").to_owned(),
        force: call.query.flag("force"),
    };
    call.node.request(request).await?;
    Ok(empty(StatusCode::OK))
}

/// Removes the workers that are down; Docker has no word for it.
async fn prune<B: Backend>(call: Call<B>) -> Result<Reply> {
    match call.node.request(Request::NodePrune).await? {
        Answer::Pruned(nodes) => Ok(reply::json(&json!({"NodesDeleted": nodes}))),
        other => Err(Error::internal(format!(
            "node prune was answered with {other:?}"
        ))),
    }
}

async fn update<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let version = call.query.version()?;
    let spec: NodeSpec = call.json().await?;
    let node = call.param("id").to_owned();
    call.node
        .request(Request::NodeUpdate {
            node,
            version,
            spec: Box::new(spec),
        })
        .await?;
    Ok(empty(StatusCode::OK))
}

fn role(node: &Node) -> Value {
    value_of(&node.spec.role)
}

fn is_wanted(filters: &Filters, node: &Node) -> bool {
    filters.prefix("id", node.id.as_str())
        && filters.any("name", |name| {
            node.description.hostname.starts_with(name)
                || !node.spec.name.is_empty() && node.spec.name.starts_with(name)
        })
        && filters.labels("label", &node.description.engine.labels)
        && filters.labels("node.label", &node.spec.labels)
        && filters.any("role", |wanted| role(node) == wanted)
        // Nobody waits to be let in.
        && filters.any("membership", |wanted| wanted == "accepted")
}

fn member_json(member: &Member) -> Value {
    let node = &member.node;
    let mut spec = value_of(&node.spec);
    if let Some(members) = spec.as_object_mut().filter(|_| node.spec.name.is_empty()) {
        members.remove("Name");
    }
    let mut description = without_empty(value_of(&node.description));
    if let Some(members) = description.as_object_mut() {
        // Whole, even when nothing is known of it.
        members.insert("TLSInfo".into(), value_of(&node.description.tls));
    }
    let status = &member.status;
    let mut seen = json!({"State": status.state, "Message": status.message, "Addr": status.addr});
    seen = reply::omit_empty(seen, &["Message"]);
    let mut value = json!({
        "ID": node.id,
        "Spec": spec,
        "Description": description,
        "Status": seen,
    });
    add_meta(&mut value, &node.meta);
    if let (Some(members), Some(manager)) = (value.as_object_mut(), &member.manager) {
        let manager = json!({
            "Leader": manager.is_leader,
            "Reachability": manager.reachability.as_str(),
            "Addr": manager.addr,
        });
        members.insert(
            "ManagerStatus".into(),
            reply::omit_empty(manager, &["Leader"]),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{NodeRole, NodeState};
    use skep_control::view::Reachability;

    fn node() -> Node {
        let mut node = Node {
            id: "n1".into(),
            raft_id: Some(1),
            ..Node::default()
        };
        node.addr = "10.0.0.1:2377".into();
        node.spec.role = NodeRole::Manager;
        node.spec.labels.insert("disk".into(), "ssd".into());
        node.description.hostname = "pi".into();
        node
    }

    #[test]
    fn a_manager_as_docker_shows_it() {
        let status = NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            addr: "10.0.0.1".into(),
        };
        let member = Member {
            node: node(),
            status,
            manager: Some(ManagerStatus {
                is_leader: true,
                reachability: Reachability::Reachable,
                addr: "10.0.0.1:2377".into(),
            }),
        };
        let value = member_json(&member);
        assert_eq!(
            value["Spec"],
            json!({"Labels": {"disk": "ssd"}, "Role": "manager", "Availability": "active"})
        );
        assert_eq!(
            value["Status"],
            json!({"State": "ready", "Addr": "10.0.0.1"})
        );
        assert_eq!(
            value["ManagerStatus"],
            json!({"Leader": true, "Reachability": "reachable", "Addr": "10.0.0.1:2377"})
        );
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| is_wanted(&Filters::parse(raw, FILTERS).unwrap(), &node());
        assert!(wanted(
            r#"{"role":["manager"],"name":["pi"],"node.label":["disk=ssd"]}"#
        ));
        assert!(wanted(r#"{"membership":["accepted"]}"#));
        assert!(!wanted(r#"{"role":["worker"]}"#) && !wanted(r#"{"label":["disk=ssd"]}"#));
    }
}
