//! Container images without a registry: archives go in, layer folders that
//! overlayfs can stack come out, and the same bytes go out again.
//!
//! | module | owns |
//! |---|---|
//! | `reference`, `digest`, `platform`, `config`, `manifest` | names and documents; pure |
//! | `changes` | the `-c` lines of an import; pure |
//! | `compression`, `limits` | how bytes come in, and how many at most |
//! | `unpack/` | one layer's tar becomes one folder; the tar is hostile |
//! | `archive/` | load, save and import: whole archives in and out |
//! | `store/` | what is kept: blobs, layers, the table of images and tags, and what may go |
//!
//! Invariants: a blob's bytes have the digest that is its name; a tag in the
//! table leads to an image that is whole and durable; nothing that a tag, a
//! running load or a caller's in-use set needs is removed.
//!
//! What it does not know: tasks, containers, nodes, clusters, HTTP. All calls
//! block; callers with an executor put them on a blocking pool.

mod archive;
mod changes;
mod compression;
mod config;
mod digest;
mod error;
mod limits;
mod manifest;
mod platform;
mod reference;
mod store;
mod unpack;

pub use compression::plain;
pub use config::{ContainerDefaults, Empty, Healthcheck, HistoryStep, ImageConfig, RootFs};
pub use digest::Digest;
pub use error::{Error, Kind, Result};
pub use manifest::Descriptor;
pub use platform::Platform;
pub use reference::{DEFAULT_DOMAIN, DEFAULT_TAG, Reference};
pub use store::{
    Distribution, Hold, Image, ImportOptions, LayerStep, LoadProgress, Loaded, Pruned, Removed,
    Store, Summary, Usage, Use,
};

#[cfg(test)]
mod tests;
