//! The vocabulary: what users ask for (specs) and what the world answers
//! (statuses), in different types with different writers.
//!
//! The specs carry the Docker Engine API's own names, so that one type serves
//! the API (as JSON), the replicated log and the disk (as postcard). Two rules
//! follow: no `skip_serializing_if` and no `flatten` (postcard is not self
//! describing), and a field is only ever added at the end of its struct.
//! Durations are nanoseconds, sizes bytes, as in the API.

mod assigned;
mod cluster;
mod container;
mod deployment;
mod event;
mod fence;
mod id;
mod network;
mod node;
mod seen;
mod service;
mod task;
mod time;

pub use assigned::*;
pub use cluster::*;
pub use container::*;
pub use deployment::*;
pub use event::*;
pub use fence::*;
pub(crate) use id::base36;
pub use id::*;
pub use network::*;
pub use node::*;
pub use seen::*;
pub use service::*;
pub use task::*;
pub use time::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// User labels and options; ordered, so that every iteration is the same.
pub type Labels = BTreeMap<String, String>;

/// The log index of an object's last change. Every update names the version
/// that it read; a stale one is refused ("update out of sequence").
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    pub index: u64,
}

/// What every replicated object carries beside its spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    pub version: Version,
    pub created_at: WallTime,
    pub updated_at: WallTime,
}
