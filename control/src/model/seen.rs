//! What a node sees of its assignments: its own record, never in the log.

use super::*;

/// One attempt to run an assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// [`TaskId::of`] the assignment and the number.
    pub task: TaskId,
    /// From 1.
    pub number: u32,
    pub created_at: WallTime,
    pub status: TaskStatus,
    pub health: Health,
    pub addresses: Vec<Address>,
    /// When it came to run, on the clock of who keeps this record.
    pub running_since: Option<Millis>,
    /// When it ended, on the same clock.
    pub ended: Option<Millis>,
}

impl Attempt {
    /// It came to run at some time.
    pub fn has_run(&self) -> bool {
        self.running_since.is_some()
    }
    /// Ended, and not because it was asked to.
    pub fn has_failed(&self) -> bool {
        matches!(self.status.state, TaskState::Failed | TaskState::Rejected)
    }
}

/// All that is seen of one assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Oldest first; only the last may be alive. Never empty once the node
    /// has accepted the assignment.
    pub attempts: Vec<Attempt>,
    /// The restart policy allows no further attempt.
    pub is_exhausted: bool,
    /// Every container of it is erased.
    pub is_gone: bool,
}

impl Seen {
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
    /// The state of the latest attempt; `Assigned` before there is one.
    pub fn state(&self) -> TaskState {
        self.latest()
            .map_or(TaskState::Assigned, |attempt| attempt.status.state)
    }
    pub fn is_running(&self) -> bool {
        self.state() == TaskState::Running
    }
}
