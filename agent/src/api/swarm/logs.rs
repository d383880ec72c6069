//! Logs of a service or a task: the logs of its containers, joined.
//!
//! Invariant: a fixed number of lines is under way, however many tasks write;
//! one whose container is gone is left out, the others are shown.

use crate::api::call::Call;
use crate::api::containers::log_query;
use crate::api::reply::Reply;
use crate::api::stream::{LogStyle, log_reply};
use crate::backend::{Backend, EventKind, Events, LogLine, LogQuery};
use crate::error::Result;
use skep_control::model::{Labels, ServiceId, Task};
use smol::channel::{Sender, bounded};
use smol::stream::StreamExt;
use std::collections::BTreeSet;

/// Lines between the readers and the client.
const LINES_MAX: usize = 64;

const NODE_LABEL: &str = "com.docker.swarm.node.id";
const SERVICE_LABEL: &str = "com.docker.swarm.service.id";
const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// One container's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    container: String,
    details: Labels,
}

impl Source {
    /// `None`: the task never had a container.
    pub(super) fn of(task: &Task) -> Option<Self> {
        let container = task.status.container.as_ref()?.container.to_string();
        let node = task.node.as_ref().map_or("", |node| node.as_str());
        let ids = [
            (NODE_LABEL, node),
            (SERVICE_LABEL, task.service.as_str()),
            (TASK_LABEL, task.id.as_str()),
        ];
        let details = ids.map(|(key, id)| (key.to_owned(), id.to_owned())).into();
        Some(Self { container, details })
    }
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
    let follow = service
        .filter(|_| query.follow)
        .map(|id| (id, node.events(None)));
    let (lines, joined) = bounded(LINES_MAX);
    // Dropped with the answer's stream, and the readers with it.
    let reader = smol::spawn(read_all(node, query, sources, follow, lines));
    let stream = smol::stream::unfold((joined, reader), |(joined, reader)| async {
        let line = joined.recv().await.ok()?;
        Some((line, (joined, reader)))
    });
    Ok(log_reply(stream, style, call.version))
}

async fn read_all<B: Backend>(
    node: B,
    query: LogQuery,
    sources: Vec<Source>,
    follow: Option<(ServiceId, Events)>,
    lines: Sender<Result<LogLine>>,
) {
    let mut known: BTreeSet<String> = sources.iter().map(|s| s.container.clone()).collect();
    let read = |source, query: &LogQuery| {
        smol::spawn(read_one(node.clone(), query.clone(), source, lines.clone()))
    };
    let mut readers: Vec<_> = sources
        .into_iter()
        .map(|source| read(source, &query))
        .collect();
    if let Some((service, mut events)) = follow {
        // What starts from now on is read from its begin.
        let query = LogQuery {
            tail: None,
            ..query.clone()
        };
        while let Some(event) = events.live.next().await {
            let labels = &event.attributes;
            let ours = event.kind == EventKind::Container
                && event.action == "start"
                && labels.get(SERVICE_LABEL).map(String::as_str) == Some(service.as_str());
            if ours && known.insert(event.id.clone()) {
                let label = |key: &str| Some((key.to_owned(), labels.get(key)?.clone()));
                let details = [NODE_LABEL, SERVICE_LABEL, TASK_LABEL]
                    .into_iter()
                    .filter_map(label)
                    .collect();
                readers.retain(|reader| !reader.is_finished());
                readers.push(read(
                    Source {
                        container: event.id,
                        details,
                    },
                    &query,
                ));
            }
        }
    }
    for reader in readers {
        reader.await;
    }
}

async fn read_one<B: Backend>(
    node: B,
    query: LogQuery,
    source: Source,
    lines: Sender<Result<LogLine>>,
) {
    // Gone with its task's history: nothing to show.
    let Ok(mut log) = node.logs(&source.container, query).await else {
        return;
    };
    while let Some(line) = log.next().await {
        let line = line.map(|mut line| {
            line.details.extend(source.details.clone());
            line
        });
        if lines.send(line).await.is_err() {
            return;
        }
    }
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
        assert_eq!(source.container, "c1");
        let values: Vec<&str> = source.details.values().map(String::as_str).collect();
        assert_eq!(values, ["n1", "s1", "t1"]);
    }
}
