//! Whole archives, honest and hostile, against a whole store. The parts have
//! their own tests beside them.

mod build;
mod crash;
mod formats;
mod hostile;
mod layers;
mod names;
