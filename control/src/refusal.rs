//! Why something asked for is not done: a status and Docker's own words.
//!
//! A leaf: looking up, requests and readers all refuse in the same way.

use std::fmt;

/// What `/swarm` and everything under it answers with when there is none.
pub const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// What everything that needs the managers' agreement answers with while there
/// is none.
pub const NO_LEADER: &str = "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";

/// Why a request is refused, in terms of HTTP status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request itself is wrong.
    Invalid,
    /// 404: no such object.
    NotFound,
    /// 409: the object's state does not allow it.
    Conflict,
    /// 500: Docker answers so for `update out of sequence`, too.
    Internal,
    /// 501: not done by design.
    NotImplemented,
    /// 503: no swarm, not a manager, no quorum.
    Unavailable,
    /// 503: this node does not lead, another one may: ask that one. Which,
    /// `View::leader` says.
    NotLeader,
}

impl Kind {
    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::Unavailable | Self::NotLeader => 503,
        }
    }
}

/// A request that was not carried out; nothing was changed. The wording is
/// Docker's where Docker has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub message: String,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident;)*) => {$(
        pub fn $name(message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, message: message.into() }
        }
    )*};
}

impl Refusal {
    constructors! {
        invalid => Invalid;
        not_found => NotFound;
        conflict => Conflict;
        internal => Internal;
        not_implemented => NotImplemented;
        unavailable => Unavailable;
        not_leader => NotLeader;
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
