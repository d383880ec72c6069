//! `/tasks`: the attempts to run a service's slots.

use super::logs::{self, Source};
use super::spec::{port_json, task_json};
use super::{add_meta, read, value_of};
use crate::api::call::Call;
use crate::api::filters::Filters;
use crate::api::reply::{self, Reply};
use crate::api::router::Router;
use crate::api::shape::without_empty;
use crate::backend::Backend;
use crate::error::Result;
use serde_json::{Value, json};
use skep_control::engine::View;
use skep_control::model::{Network, NetworkId, NodeId, ServiceId, Task, TaskStatus};
use std::collections::BTreeMap;

const FILTERS: &[&str] = &[
    "_up-to-date",
    "desired-state",
    "id",
    "label",
    "name",
    "node",
    "runtime",
    "service",
];

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/tasks", list);
    router.get("/tasks/{id}", inspect);
    router.get("/tasks/{id}/logs", task_logs);
}

/// Tasks and the networks that they are on.
struct Found {
    tasks: Vec<Task>,
    networks: BTreeMap<NetworkId, Network>,
}

impl Found {
    fn of(view: &View<'_>, tasks: Vec<Task>) -> Self {
        let ids = tasks
            .iter()
            .flat_map(|task| task.addresses.iter().map(|a| &a.network));
        let networks = ids
            .filter_map(|id| Some((id.clone(), view.state().network(id)?.clone())))
            .collect();
        Self { tasks, networks }
    }

    fn json(&self) -> Vec<Value> {
        self.tasks
            .iter()
            .map(|task| task_object(task, &self.networks))
            .collect()
    }
}

async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    for wanted in filters.values("desired-state") {
        if ![
            "running", "shutdown", "accepted", "ready", "complete", "remove",
        ]
        .contains(&wanted.as_str())
        {
            return Err(Filters::bad_value(
                "desired-state",
                filters.values("desired-state"),
            ));
        }
    }
    let up_to_date = filters.flag("_up-to-date")?;
    let found = read(&call.node, move |view| {
        let lookup = Lookup::new(&view, &filters);
        let mut tasks = view.tasks();
        tasks.retain(|task| lookup.is_wanted(&view, &filters, up_to_date, task));
        Ok(Found::of(&view, tasks))
    })
    .await?;
    Ok(reply::json(&found.json()))
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let id = call.param("id").to_owned();
    let found = read(&call.node, move |view| {
        Ok(Found::of(&view, vec![view.find_task(&id)?]))
    })
    .await?;
    Ok(reply::json(&found.json().pop()))
}

async fn task_logs<B: Backend>(call: Call<B>) -> Result<Reply> {
    let id = call.param("id").to_owned();
    let task = read(&call.node, move |view| view.find_task(&id)).await?;
    let tty = task.revision.task.container_spec.tty;
    logs::reply(call, Source::of(&task).into_iter().collect(), None, tty)
}

/// The ids of the services and nodes that the filters name.
struct Lookup {
    services: Vec<ServiceId>,
    nodes: Vec<NodeId>,
}

impl Lookup {
    fn new(view: &View<'_>, filters: &Filters) -> Self {
        let services = filters.values("service").iter();
        let nodes = filters.values("node").iter();
        Self {
            services: services
                .filter_map(|name| Some(view.state().find_service(name).ok()?.id.clone()))
                .collect(),
            nodes: nodes
                .filter_map(|name| {
                    Some(
                        view.state()
                            .find_node(name, view.node_id())
                            .ok()?
                            .id
                            .clone(),
                    )
                })
                .collect(),
        }
    }

    fn is_wanted(
        &self,
        view: &View<'_>,
        filters: &Filters,
        up_to_date: Option<bool>,
        task: &Task,
    ) -> bool {
        let current = || {
            view.state()
                .service(&task.service)
                .is_some_and(|s| s.revision == task.revision.number)
        };
        // A removed service is found by its full id as long as its tasks are.
        let service =
            |wanted: &str| self.services.contains(&task.service) || task.service.as_str() == wanted;
        let node = |_: &str| {
            task.node
                .as_ref()
                .is_some_and(|node| self.nodes.contains(node))
        };
        filters.any("service", service)
            && filters.any("node", node)
            && is_wanted(filters, task)
            && up_to_date.is_none_or(|wanted| wanted == current())
    }
}

fn is_wanted(filters: &Filters, task: &Task) -> bool {
    filters.prefix("id", task.id.as_str())
        && filters.prefix("name", &task.name)
        && filters.labels("label", &task.revision.service_labels)
        && filters.exact("desired-state", task.desired.as_str())
        && filters.exact("runtime", "container")
}

fn task_object(task: &Task, networks: &BTreeMap<NetworkId, Network>) -> Value {
    let mut value = json!({
        "ID": task.id,
        "Labels": {},
        "Spec": task_json(&task.revision.task),
        "ServiceID": task.service,
        "Slot": task.slot,
        "NodeID": task.node.as_ref().map_or("", NodeId::as_str),
        "Status": status_json(&task.status),
        "DesiredState": task.desired.as_str(),
        "NetworksAttachments": attachments(task, networks),
        "GenericResources": null,
    });
    add_meta(&mut value, &task.meta);
    let optional = ["Slot", "NodeID", "NetworksAttachments", "GenericResources"];
    reply::omit_empty(value, &optional)
}

fn status_json(status: &TaskStatus) -> Value {
    let container = status.container.as_ref().map(|container| {
        json!({
            "ContainerID": container.container,
            "PID": container.pid,
            "ExitCode": container.exit_code,
        })
    });
    let ports: Vec<Value> = status.ports.iter().map(port_json).collect();
    let value = json!({
        "Timestamp": status.timestamp,
        "State": status.state.as_str(),
        "Message": status.message,
        "Err": status.err,
        "ContainerStatus": container,
        "PortStatus": reply::omit_empty(json!({"Ports": ports}), &["Ports"]),
    });
    let mut value = reply::omit_empty(value, &["Message", "Err", "ContainerStatus"]);
    if let Some(members) = value.as_object_mut() {
        members.entry("PortStatus").or_insert_with(|| json!({}));
    }
    value
}

fn attachments(task: &Task, networks: &BTreeMap<NetworkId, Network>) -> Vec<Value> {
    let attachment = |address: &skep_control::model::Address| {
        let mut network = json!({"ID": address.network});
        if let Some(found) = networks.get(&address.network) {
            add_meta(&mut network, &found.meta);
            if let Some(members) = network.as_object_mut() {
                members.insert("Spec".into(), without_empty(value_of(&found.spec)));
            }
        }
        json!({
            "Network": network,
            "Addresses": [format!("{}/{}", address.ip, address.prefix_len)],
        })
    };
    task.addresses.iter().map(attachment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{ContainerStatus, Meta, Revision, TaskState, WallTime, task_name};

    fn task() -> Task {
        let mut revision = Revision::default();
        revision
            .service_labels
            .insert("tier".into(), "front".into());
        Task {
            id: "t1".into(),
            assignment: "a1".into(),
            attempt: 1,
            meta: Meta::default(),
            service: "s1".into(),
            slot: 2,
            node: None,
            name: task_name("web", 2, None, &"t1".into()),
            revision: revision.into(),
            desired: TaskState::Running,
            status: TaskStatus {
                state: TaskState::Failed,
                timestamp: WallTime(1),
                message: "started".into(),
                err: "task: non-zero exit (3)".into(),
                container: Some(ContainerStatus {
                    container: "c1".into(),
                    pid: 0,
                    exit_code: 3,
                }),
                ports: vec![],
            },
            addresses: vec![],
        }
    }

    #[test]
    fn a_failed_task() {
        let value = task_object(&task(), &BTreeMap::new());
        assert_eq!(
            value["Status"],
            json!({
                "Timestamp": "1970-01-01T00:00:00.000000001Z", "State": "failed",
                "Message": "started", "Err": "task: non-zero exit (3)",
                "ContainerStatus": {"ContainerID": "c1", "PID": 0, "ExitCode": 3},
                "PortStatus": {},
            })
        );
        assert_eq!(value["Slot"], 2);
        assert!(value.get("NodeID").is_none() && value.get("NetworksAttachments").is_none());
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| is_wanted(&Filters::parse(raw, FILTERS).unwrap(), &task());
        assert!(wanted(
            r#"{"name":["web.2"],"label":["tier=front"],"id":["t"]}"#
        ));
        assert!(wanted(
            r#"{"desired-state":["running"],"runtime":["container"]}"#
        ));
        assert!(!wanted(r#"{"desired-state":["shutdown"]}"#) && !wanted(r#"{"name":["web.3"]}"#));
    }
}
