//! Task states and who may move a task from one to another.

use super::*;

/// Where a task is. States only go forward: of two reports the larger is
/// right. The numbers leave gaps as swarmkit's do, so that new states fit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum TaskState {
    /// Created, no node yet.
    #[default]
    New = 0,
    /// Waits for a node that fits.
    Pending = 64,
    /// Has a node, which does not know yet.
    Assigned = 192,
    /// The node has it.
    Accepted = 256,
    /// Image, root file system and network are being made.
    Preparing = 320,
    /// Could start at once; held until wanted.
    Ready = 384,
    /// The process is starting, or waits for its first healthy probe.
    Starting = 448,
    Running = 512,
    /// Exited with 0.
    Complete = 576,
    /// Stopped because it was asked to.
    Shutdown = 640,
    /// Exited with another code, was killed or turned unhealthy.
    Failed = 704,
    /// Could not be prepared: no image, bad mount.
    Rejected = 768,
    /// To be erased once its node has stopped it.
    Remove = 800,
    /// Its node was gone for too long.
    Orphaned = 832,
}

/// Who may move a task on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// Decides that there is a task, and where.
    Leader,
    /// The node that has it, and no one else.
    Node,
    /// It is over.
    Nobody,
}

impl TaskState {
    /// The only writer of what comes next. Each state has one, so two can
    /// never disagree; the node may pass over states, since what it finds
    /// after a restart can be further on than it knew.
    pub fn mover(self) -> Mover {
        match self {
            Self::New | Self::Pending => Mover::Leader,
            Self::Assigned
            | Self::Accepted
            | Self::Preparing
            | Self::Ready
            | Self::Starting
            | Self::Running => Mover::Node,
            Self::Complete
            | Self::Shutdown
            | Self::Failed
            | Self::Rejected
            | Self::Remove
            | Self::Orphaned => Mover::Nobody,
        }
    }

    /// Whether `who` may move a task from here to `next`.
    pub fn may_become(self, next: Self, who: Mover) -> bool {
        self < next && self.mover() == who
    }

    /// Nothing runs and nothing will.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_go_forward_and_end() {
        use TaskState::*;
        let all = [
            New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running, Complete,
            Shutdown, Failed, Rejected, Remove, Orphaned,
        ];
        for from in all {
            for to in all {
                for who in [Mover::Leader, Mover::Node, Mover::Nobody] {
                    let may = from.may_become(to, who);
                    assert!(!may || from < to);
                    assert!(!may || who != Mover::Leader || from <= Pending);
                    assert!(!may || who != Mover::Node || !from.is_terminal());
                }
            }
        }
    }
}
