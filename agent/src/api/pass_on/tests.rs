//! A node that passes on, and a node that answers, in one process.
