//! What `/events` tells of the cluster.

use super::*;

/// A change that a watcher of `docker events` sees. The API adds nothing but
/// its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `service`, `node`, `network`: Docker's `Type`.
    pub kind: &'static str,
    /// `create`, `update`, `remove`.
    pub action: &'static str,
    /// Id of the object.
    pub id: String,
    /// `name`, and old and new values such as `updatestate.new`.
    pub attributes: Labels,
    pub time: WallTime,
}
