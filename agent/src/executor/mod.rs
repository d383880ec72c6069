//! Containers' life: image → root file system → network → shim, and back.
mod names;
mod record;
