//! What a node keeps of itself across restarts and power cuts.
//!
//! Written when an attempt is made and when one ends for good, never while
//! something merely runs.

use super::*;
use crate::wire::Bulletin;

/// One record of the node's log; later ones override earlier ones. Variants
/// are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRecord {
    Told {
        node: NodeId,
        generation: u64,
        history_limit: i64,
    },
    Assigned {
        generation: u64,
        assigned: Box<Assigned>,
    },
    Seen {
        assignment: AssignmentId,
        seen: Seen,
        /// Attempts made so far, erased ones included.
        attempts: u32,
        /// Restarts that count against the policy.
        restarts: u32,
    },
    Dropped(AssignmentId),
    /// What this node was last told of the cluster; the engine's to read.
    Bulletin(Box<Bulletin>),
}

impl Worker {
    pub(super) fn replay(&mut self, at: Moment, record: NodeRecord) {
        match record {
            NodeRecord::Told {
                node,
                generation,
                history_limit,
            } => {
                self.node = node;
                self.generation = generation;
                self.history_limit = history_limit;
            }
            NodeRecord::Assigned {
                generation,
                assigned,
            } => {
                self.generation = self.generation.max(generation);
                match self.runs.get_mut(&assigned.id) {
                    Some(run) => {
                        run.want(assigned.desired);
                    }
                    None => self.insert(Run::new(*assigned)),
                }
            }
            NodeRecord::Seen {
                assignment,
                seen,
                attempts,
                restarts,
            } => {
                let Some(run) = self.runs.get_mut(&assignment) else {
                    return;
                };
                run.restore(at.now, seen, attempts, restarts);
                self.tasks.retain(|_, (of, _)| *of != assignment);
                for attempt in &run.seen().attempts {
                    let place = (assignment.clone(), attempt.number);
                    self.tasks.insert(attempt.task.clone(), place);
                }
            }
            NodeRecord::Bulletin(_) => {}
            NodeRecord::Dropped(id) => {
                if let Some(run) = self.runs.remove(&id)
                    && let Some(of_slot) = self.slots.get_mut(&run.slot())
                {
                    of_slot.remove(&(run.assigned().born, id.clone()));
                    self.tasks.retain(|_, (of, _)| *of != id);
                }
            }
        }
    }

    pub(super) fn told(&self) -> NodeRecord {
        NodeRecord::Told {
            node: self.node.clone(),
            generation: self.generation,
            history_limit: self.history_limit,
        }
    }

    /// Everything, to replace a log that has grown.
    pub fn all_records(&self) -> Vec<NodeRecord> {
        let runs = self.runs.values().flat_map(|run| {
            let assigned = NodeRecord::Assigned {
                generation: self.generation,
                assigned: Box::new(run.assigned().clone()),
            };
            [assigned, run.record()]
        });
        std::iter::once(self.told()).chain(runs).collect()
    }
}
