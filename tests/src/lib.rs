//! What the suites stand on: boards, networks between them, sample images,
//! clients and programs run with a time limit.
//!
//! A test reads as a story:
//!
//! ```no_run
//! use skep_tests::{Board, Client, until};
//!
//! let board = Board::start("one");
//! board.load("web1");
//! board.docker(&["swarm", "init"]).ok();
//! board.docker(&["service", "create", "--name", "x", "-p", "8000:8000", "web:1"]).ok();
//! until("the page answers", || (board.visit(8000).code == 0).then_some(()));
//! ```
//!
//! Invariant: whatever a test leaves behind, also by a panic, is gone when its
//! [`Board`] is dropped; what a killed test run left behind is gone when the
//! next one starts. Does not know the product's crates: it runs the binary.

mod board;
mod cluster;
mod lan;
mod leftovers;
mod paths;
mod peer;
mod peers;
mod program;
mod wait;

pub use board::{Board, Client, Reply};
pub use cluster::{Cluster, Node};
pub use lan::Lan;
pub use paths::{dist, docker, root, sample, sample_for, skep, target, written_since};
pub use peer::Peer;
pub use peers::Peers;
pub use program::{Ran, run, run_for, run_with_input};
pub use wait::{until, within};
