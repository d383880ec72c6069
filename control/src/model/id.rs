//! Identifiers. Cluster objects have 25 characters of lowercase base 36, as
//! Swarm's; containers have 64 of lowercase hexadecimal, as Docker's.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Characters in the id of a cluster object.
pub const ID_LEN: usize = 25;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// What Docker's columns show: the first twelve characters.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }
        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

ids! {
    /// The one cluster that a node belongs to.
    ClusterId;
    /// A node: its key's identity, never its address.
    NodeId;
    /// A service.
    ServiceId;
    /// One attempt to run one slot of a service on one node, as `docker
    /// service ps` lists it. Derived from an [`AssignmentId`] and an attempt.
    TaskId;
    /// A slot of a service bound to a node by the leader; its attempts are
    /// made by the node itself.
    AssignmentId;
    /// A network, of node or cluster scope.
    NetworkId;
    /// A container on this node.
    ContainerId;
}
