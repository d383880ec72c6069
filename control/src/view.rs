//! What a reader may see: the tables and what was observed, joined.
//!
//! It decides nothing and changes nothing.

use crate::model::*;
use crate::reach::Reach;
pub use crate::refusal::NOT_A_MANAGER;
use crate::refusal::Refusal;
use crate::state::State;
use crate::wire::{Bulletin, Contact};
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

/// A manager's part in the agreement: `ManagerStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerStatus {
    pub is_leader: bool,
    pub reachability: Reachability,
    /// `ip:port`.
    pub addr: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    Unknown,
    Unreachable,
    Reachable,
}

impl Reachability {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::Reachable => "reachable",
        }
    }
}

/// Everything to be read at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) seen: &'a BTreeMap<AssignmentId, Seen>,
    /// Why an assignment has no node.
    pub(crate) pending: &'a BTreeMap<AssignmentId, String>,
    pub(crate) reach: &'a Reach,
    pub(crate) node: Option<&'a NodeId>,
    /// What this node was last told of the cluster.
    pub(crate) bulletin: Option<&'a Bulletin>,
    /// This node has a part in the agreement.
    pub(crate) is_manager: bool,
    pub(crate) is_leader: bool,
    /// Who leads, as far as is known here.
    pub(crate) leader: Option<&'a NodeId>,
}

impl<'a> View<'a> {
    /// This node's id in its cluster; `None` outside of one.
    pub fn node_id(&self) -> Option<&'a NodeId> {
        self.node
    }
    /// `None`: this node is in no cluster, or a worker, which has no tables.
    pub fn cluster(&self) -> Option<&'a Cluster> {
        self.state.cluster()
    }
    /// Its id, on workers too.
    pub fn cluster_id(&self) -> Option<&'a ClusterId> {
        let told = self.bulletin.map(|bulletin| &bulletin.cluster);
        self.cluster().map(|cluster| &cluster.id).or(told)
    }
    /// The cluster, for what only a manager may answer.
    ///
    /// # Errors
    /// 503 in Docker's words when this node manages none.
    pub fn managed(&self) -> Result<&'a Cluster, Refusal> {
        let cluster = self.cluster().filter(|_| self.is_manager);
        cluster.ok_or_else(|| Refusal::unavailable(NOT_A_MANAGER))
    }
    /// This node is in a cluster, whatever its role.
    pub fn is_member(&self) -> bool {
        self.node.is_some()
    }
    /// This node has a part in the agreement, and tables.
    pub fn is_manager(&self) -> bool {
        self.is_manager && self.cluster().is_some()
    }
    /// The tables; to be looked up with `find_service` and the like. Empty on
    /// workers; on managers that do not lead they may lag behind.
    pub fn state(&self) -> &'a State {
        self.state
    }
    /// This node is the leader: with one manager, whenever it manages.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
    /// Who leads, as far as is known here, on managers and workers: whom to
    /// pass on what this node cannot answer. It may have lost its lead; then
    /// it refuses with `NotLeader`, and its own view says whom it knows.
    pub fn leader(&self) -> Option<Contact> {
        self.contact(self.leader?)
    }
    /// Managers, for when no leader is known: the ones in reach first.
    pub fn managers(&self) -> Vec<Contact> {
        let of_tables = self.state.nodes().filter(|node| node.raft_id.is_some());
        let of_tables = of_tables.filter_map(|node| self.contact(&node.id));
        let told = self.bulletin.into_iter().flat_map(|told| &told.managers);
        let told = told.map(|manager| manager.contact.clone());
        let all: BTreeSet<Contact> = of_tables.chain(told).collect();
        let (near, far): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|of| self.reach.is_up(&of.node));
        near.into_iter().chain(far).collect()
    }
    /// Where a node is: where its packets came from last, else what is told of
    /// it.
    pub fn contact(&self, node: &NodeId) -> Option<Contact> {
        let in_tables = || self.state.node(node)?.addr.parse().ok();
        let told = || {
            let mut managers = self.bulletin?.managers.iter();
            let manager = managers.find(|manager| manager.contact.node == *node)?;
            Some(manager.contact.addr)
        };
        let addr = self.reach.addr(node).or_else(in_tables).or_else(told)?;
        let node = node.clone();
        Some(Contact { node, addr })
    }

    /// Networks of swarm scope, on workers too.
    pub fn networks(&self) -> Vec<&'a Network> {
        match self.cluster() {
            Some(_) => self.state.networks().collect(),
            None => self
                .bulletin
                .map_or_else(Vec::new, |told| told.networks.iter().collect()),
        }
    }
    /// One of them.
    pub fn network(&self, id: &NetworkId) -> Option<&'a Network> {
        self.networks()
            .into_iter()
            .find(|network| network.id == *id)
    }

    /// How a node is seen from here.
    pub fn node_status(&self, node: &Node) -> NodeStatus {
        let addr = self.reach.addr(&node.id);
        NodeStatus {
            state: self.reach.state(&node.id),
            message: self.reach.message(&node.id),
            addr: addr.map_or_else(
                || without_port(&node.addr).to_owned(),
                |addr| addr.ip().to_string(),
            ),
        }
    }
    /// `None`: it has no part in the agreement.
    pub fn manager_status(&self, node: &Node) -> Option<ManagerStatus> {
        node.raft_id?;
        let reachability = match self.reach.state(&node.id) {
            NodeState::Ready => Reachability::Reachable,
            NodeState::Unknown => Reachability::Unknown,
            NodeState::Down | NodeState::Disconnected => Reachability::Unreachable,
        };
        Some(ManagerStatus {
            is_leader: self.leader == Some(&node.id),
            reachability,
            addr: node.addr.clone(),
        })
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
