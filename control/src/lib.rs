//! Every decision of a skep node: what runs where, what is restarted, what an
//! operator's request becomes. Deterministic and synchronous: it takes events
//! and time and returns actions.
//!
//! **Invariant:** nothing in this crate reads a clock, a file, a socket, the
//! environment or a random source other than a generator seeded at
//! construction, and nothing iterates a hash map. `clippy.toml` beside this
//! crate bans the names; `tests/tidy` checks the imports.

mod assign;
pub mod consensus;
mod constraint;
mod disk;
pub mod engine;
mod events;
pub mod gossip;
pub mod journal;
pub mod model;
pub mod plan;
pub mod random;
mod reach;
pub mod refusal;
mod report;
pub mod request;
pub mod routes;
mod seal;
pub mod state;
mod tell;
pub mod view;
pub mod wire;
pub mod worker;
