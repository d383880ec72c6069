//! What a node is told: all of its assignments at once, with a generation.

use super::*;

/// One assignment with everything that its node needs, so that it can go on
/// without any manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    pub id: AssignmentId,
    pub service: ServiceId,
    pub service_name: String,
    pub service_labels: Labels,
    pub slot: u64,
    /// Orders the assignments of a slot.
    pub born: u64,
    pub desired: TaskState,
    pub task: TaskSpec,
    pub ports: Vec<PortConfig>,
}

impl Assigned {
    /// It is meant to run, now or when its turn comes.
    pub fn is_live(&self) -> bool {
        self.desired <= TaskState::Running
    }
}

/// The whole truth for one node; replaces what it was told before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    pub node: NodeId,
    /// Log index that this was made at; an older one is refused.
    pub generation: u64,
    /// Tasks kept of a slot, the running one included; negative: all.
    pub history_limit: i64,
    pub assignments: Vec<Assigned>,
}
