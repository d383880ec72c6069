//! What a reader may see: the tables and what was observed, joined.
//!
//! It decides nothing and changes nothing.

use crate::model::*;
pub use crate::refusal::NOT_A_MANAGER;
use crate::refusal::Refusal;
use crate::state::State;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tasks of a service, counted: `ServiceStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    pub running: u64,
    pub desired: u64,
}

/// A node's state as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    pub state: NodeState,
    pub message: String,
    /// Address alone, without port.
    pub addr: String,
}

/// Everything to be read at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) seen: &'a BTreeMap<AssignmentId, Seen>,
    /// Why an assignment has no node.
    pub(crate) pending: &'a BTreeMap<AssignmentId, String>,
    pub(crate) up: &'a BTreeSet<NodeId>,
    pub(crate) node: Option<&'a NodeId>,
    pub(crate) is_leader: bool,
}

impl<'a> View<'a> {
    /// This node's id in its cluster; `None` outside of one.
    pub fn node_id(&self) -> Option<&'a NodeId> {
        self.node
    }
    /// `None`: this node is in no cluster.
    pub fn cluster(&self) -> Option<&'a Cluster> {
        self.state.cluster()
    }
    /// The cluster, for what only a manager may answer.
    ///
    /// # Errors
    /// 503 in Docker's words when this node manages none.
    pub fn managed(&self) -> Result<&'a Cluster, Refusal> {
        let cluster = self.cluster();
        cluster.ok_or_else(|| Refusal::unavailable(NOT_A_MANAGER))
    }
    pub fn is_manager(&self) -> bool {
        self.cluster().is_some()
    }
    /// The tables; to be looked up with `find_service` and the like.
    pub fn state(&self) -> &'a State {
        self.state
    }
    /// This node is the leader: with one manager, whenever it manages.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// How a node is seen from here.
    pub fn node_status(&self, node: &Node) -> NodeStatus {
        let is_up = self.up.contains(&node.id);
        NodeStatus {
            state: if is_up {
                NodeState::Ready
            } else {
                NodeState::Down
            },
            message: String::new(),
            addr: without_port(&node.addr).to_owned(),
        }
    }

    /// Every task, newest attempt of a slot first.
    pub fn tasks(&self) -> Vec<Task> {
        let all = self.state.assignments();
        self.newest_first(all)
    }
    /// Of one service.
    pub fn tasks_of(&self, service: &ServiceId) -> Vec<Task> {
        self.newest_first(self.state.assignments_of(service))
    }
    /// Of one node.
    pub fn tasks_on(&self, node: &NodeId) -> Vec<Task> {
        self.newest_first(self.state.assignments_on(node))
    }
    /// By full id or unique prefix; a task has no name of its own to look up.
    ///
    /// # Errors
    /// `task x not found`.
    pub fn find_task(&self, argument: &str) -> Result<Task, Refusal> {
        let mut matching = self
            .tasks()
            .into_iter()
            .filter(|task| task.id.as_str().starts_with(argument) && !argument.is_empty());
        match (matching.next(), matching.count()) {
            (Some(task), 0) => Ok(task),
            (Some(_), more) => Err(Refusal::invalid(format!(
                "task {argument} is ambiguous ({} matches found)",
                more + 1
            ))),
            (None, _) => Err(crate::state::not_found("task", argument)),
        }
    }

    /// Running against wanted.
    pub fn counts(&self, service: &Service) -> ServiceCounts {
        let mut counts = ServiceCounts::default();
        let mut live = 0;
        for assignment in self.state.assignments_of(&service.id) {
            if !assignment.is_live() {
                continue;
            }
            let seen = self.seen.get(&assignment.id);
            // As Docker: a task that will not run again is not wanted to.
            if !seen.is_some_and(|seen| seen.is_exhausted) {
                live += 1;
            }
            if seen.is_some_and(Seen::is_running) {
                counts.running += 1;
            }
        }
        counts.desired = match &service.spec.mode {
            mode if mode.global.is_some() => live,
            mode => mode.replicas(),
        };
        counts
    }

    fn newest_first<'b>(&self, assignments: impl Iterator<Item = &'b Assignment>) -> Vec<Task> {
        let mut ordered: Vec<&Assignment> = assignments.collect();
        // Wall clocks jump, log indexes do not.
        ordered.sort_by_cached_key(|of| {
            let node = of.node.clone().filter(|_| of.slot == 0);
            (of.service.clone(), of.slot, node, Reverse(of.born))
        });
        let of_slots = ordered.into_iter();
        of_slots
            .flat_map(|assignment| self.attempts(assignment).into_iter().rev())
            .collect()
    }

    /// The attempts of one assignment as tasks, oldest first.
    fn attempts(&self, assignment: &Assignment) -> Vec<Task> {
        let revision = self
            .state
            .revision(&assignment.service, assignment.revision)
            .cloned()
            .unwrap_or_default();
        let seen = self.seen.get(&assignment.id);
        let attempts = seen.map_or(&[][..], |seen| &seen.attempts);
        if attempts.is_empty() {
            if !assignment.is_live() {
                // It never was, or nothing of it is left.
                return Vec::new();
            }
            let status = self.unseen(assignment);
            let id = TaskId::of(&assignment.id, 1);
            return vec![task(assignment, &revision, (id, 1), status)];
        }
        let last = attempts.len() - 1;
        let tasks = attempts.iter().enumerate().map(|(index, attempt)| {
            let status = attempt.status.clone();
            let which = (attempt.task.clone(), attempt.number);
            let mut task = task(assignment, &revision, which, status);
            task.meta.created_at = attempt.created_at;
            task.meta.updated_at = attempt.status.timestamp;
            task.addresses.clone_from(&attempt.addresses);
            let is_over = attempt.status.state.is_terminal();
            if assignment.is_live() && (index < last || is_over) {
                task.desired = TaskState::Shutdown;
            }
            task
        });
        tasks.collect()
    }

    /// The status of an assignment that no node has taken up yet.
    fn unseen(&self, assignment: &Assignment) -> TaskStatus {
        let (state, message) = match assignment.node {
            None => (TaskState::Pending, "pending task scheduling"),
            Some(_) => (TaskState::Assigned, "scheduler assigned task to node"),
        };
        TaskStatus {
            state,
            timestamp: assignment.meta.updated_at,
            message: message.to_owned(),
            err: self
                .pending
                .get(&assignment.id)
                .cloned()
                .unwrap_or_default(),
            ..TaskStatus::default()
        }
    }
}

fn task(
    assignment: &Assignment,
    revision: &Arc<Revision>,
    (id, attempt): (TaskId, u32),
    status: TaskStatus,
) -> Task {
    let node = assignment.node.clone();
    Task {
        name: task_name(&revision.service_name, assignment.slot, node.as_ref(), &id),
        id,
        assignment: assignment.id.clone(),
        attempt,
        meta: assignment.meta.clone(),
        service: assignment.service.clone(),
        slot: assignment.slot,
        node,
        revision: revision.clone(),
        desired: assignment.desired,
        status,
        addresses: Vec::new(),
    }
}

fn without_port(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}
