//! Rules about the source that a compiler does not check, as tests.
//!
//! Owns: the layering tables, length limits, banned names, the README's map
//! against the tree. Invariant: a rule here has its reason beside it, and a
//! failing rule names the file, the line and what to do. Does not know what
//! any of the code does: it reads text.

mod layering;
mod lengths;
mod source;
mod tree;
