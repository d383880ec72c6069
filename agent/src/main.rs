//! The one binary of a node: agent, client and per-container shim.

#[allow(dead_code, reason = "its users come with the modules")]
mod error;

fn main() {}
