//! The real binary on boards of its own: one network namespace a node.
//!
//! Each file tells the stories of one theme. Needs root; see `skep_tests` for
//! what a board is.

mod harness;
mod inside;
mod joining;
mod losing;
mod many;
mod metrics;
mod outlive;
mod reboot;
mod refusals;
mod storm;
