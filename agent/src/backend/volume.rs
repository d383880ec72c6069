//! A named volume of this node.

use skep_control::model::{Labels, WallTime};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) driver: String,
    /// The folder on the host.
    pub(crate) mountpoint: String,
    pub(crate) created: WallTime,
    pub(crate) labels: Labels,
    pub(crate) options: Labels,
    /// Nobody gave it a name.
    pub(crate) anonymous: bool,
    /// Containers, running or not, that mount it.
    pub(crate) users: usize,
    /// Bytes; only when asked for.
    pub(crate) size: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeCreate {
    pub(crate) name: String,
    /// Empty is `local`.
    pub(crate) driver: String,
    pub(crate) labels: Labels,
    pub(crate) options: Labels,
}
