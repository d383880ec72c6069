//! Logs of a service or a task: the logs of its containers on all nodes,
//! joined.
//!
//! Invariant: a bounded number of lines is under way, however many tasks
//! write. A container that is gone is left out; a node that is out of reach is
//! named at the end and holds up nobody.

mod joined;
mod source;

use super::read;
use crate::api::call::Call;
use crate::api::containers::log_query;
use crate::api::pass_on::Place;
use crate::api::reply::Reply;
use crate::api::router::Router;
use crate::api::stream::{LogStyle, log_reply};
use crate::backend::Backend;
use crate::error::Result;
use skep_control::model::{Labels, NodeId, ServiceId, Task};

/// Containers whose logs are joined, newest tasks of each slot first: each
/// costs a stream to its node. More is for `docker service logs TASK`.
const SOURCES_MAX: usize = 512;

const NODE_LABEL: &str = "com.docker.swarm.node.id";
const SERVICE_LABEL: &str = "com.docker.swarm.service.id";
const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// One container's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    container: String,
    node: NodeId,
    details: Labels,
}

impl Source {
    /// `None`: the task never had a container.
    pub(super) fn of(task: &Task) -> Option<Self> {
        let container = task.status.container.as_ref()?.container.to_string();
        let node = task.node.clone()?;
        let ids = [
            (NODE_LABEL, node.as_str()),
            (SERVICE_LABEL, task.service.as_str()),
            (TASK_LABEL, task.id.as_str()),
        ];
        let details = ids.map(|(key, id)| (key.to_owned(), id.to_owned())).into();
        Some(Self {
            container,
            node,
            details,
        })
    }
}

/// What the leader asks of the nodes that have the containers.
pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.at(Place::Each, |router| {
        router.get("/skep/v1/containers/{id}/logs", of_container);
    });
}

/// A container's log with all that there is to a line, whatever it is of.
async fn of_container<B: Backend>(call: Call<B>) -> Result<Reply> {
    let (query, _) = log_query(&call.query)?;
    let style = LogStyle {
        tty: false,
        timestamps: true,
        details: true,
    };
    let lines = call.node.logs(call.param("id"), query).await?;
    Ok(log_reply(lines, style, call.version))
}

/// `service` has its new tasks followed too.
pub(super) fn reply<B: Backend>(
    call: Call<B>,
    sources: Vec<Source>,
    service: Option<ServiceId>,
    tty: bool,
) -> Result<Reply> {
    let (query, style) = log_query(&call.query)?;
    let style = LogStyle { tty, ..style };
    let node = call.node.clone();
    let lines = match query.follow {
        true => joined::followed(node, query, sources, service),
        false => joined::merged(node, query, sources),
    };
    Ok(log_reply(lines, style, call.version))
}

/// Every container that a service's tasks have, or had and left.
async fn sources_of<B: Backend>(node: &B, service: ServiceId) -> Vec<Source> {
    let tasks = read(node, move |view| Ok(view.tasks_of(&service))).await;
    let tasks = tasks.unwrap_or_default();
    tasks.iter().filter_map(Source::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{ContainerStatus, Meta, TaskState, TaskStatus};

    #[test]
    fn a_source_names_node_service_and_task() {
        let mut task = Task {
            id: "t1".into(),
            assignment: "a1".into(),
            attempt: 1,
            meta: Meta::default(),
            service: "s1".into(),
            slot: 1,
            node: Some("n1".into()),
            name: String::new(),
            revision: Default::default(),
            desired: TaskState::Running,
            status: TaskStatus::default(),
            addresses: vec![],
        };
        assert_eq!(Source::of(&task), None);
        task.status.container = Some(ContainerStatus {
            container: "c1".into(),
            pid: 1,
            exit_code: 0,
        });
        let source = Source::of(&task).unwrap();
        assert_eq!(
            (source.container.as_str(), source.node.as_str()),
            ("c1", "n1")
        );
        let values: Vec<&str> = source.details.values().map(String::as_str).collect();
        assert_eq!(values, ["n1", "s1", "t1"]);
    }
}
