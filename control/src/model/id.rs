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

/// Digits of the ids of cluster objects.
pub const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl TaskId {
    /// The id of the `attempt`-th try (from 1) of an assignment. The pair seeds
    /// a stream cipher whole, so two pairs never share a stream, and an id
    /// shows nothing of the pair: short prefixes stay distinct.
    pub fn of(assignment: &AssignmentId, attempt: u32) -> Self {
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        let mut seed = [0u8; 32];
        for (to, from) in seed[..ID_LEN].iter_mut().zip(assignment.0.bytes()) {
            *to = from;
        }
        seed[28..].copy_from_slice(&attempt.to_le_bytes());
        let mut stream = rand_chacha::ChaCha8Rng::from_seed(seed);
        Self(base36(|| stream.next_u32(), ID_LEN))
    }
}

/// `len` digits of base 36 from a source of random words, without bias.
pub(crate) fn base36(mut word: impl FnMut() -> u32, len: usize) -> String {
    /// The largest multiple of 36 in 32 bits; above it a digit would be skewed.
    const FAIR: u32 = u32::MAX - u32::MAX % 36;
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let drawn = word();
        if drawn < FAIR {
            text.push(char::from(BASE36[(drawn % 36) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_have_unlike_ids() {
        let assignment = AssignmentId("2cdvbrbhodkkjxbx0k4ndqtvk".into());
        let (one, two) = (TaskId::of(&assignment, 1), TaskId::of(&assignment, 2));
        assert_eq!(one.0.len(), ID_LEN);
        assert_eq!(one, TaskId::of(&assignment, 1));
        assert_ne!(one.short(), two.short());
    }
}
