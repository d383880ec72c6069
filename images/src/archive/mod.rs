//! Whole archives in and out. Reading one has two halves: `intake` stores
//! every file of it as a blob while it streams by, whatever the order, and
//! `load` then reads what the files say and makes images of them.

mod import;
mod intake;
mod load;
mod save;

pub(crate) use import::import;
pub(crate) use load::{load_folder, load_stream, unpack_variant};
pub(crate) use save::save;
