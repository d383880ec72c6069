//! The end of a ring's file: records are found backwards, and a record that a
//! crash has cut in two is told from whole ones.

use super::Entry;
use super::format::{HEADER, TRAILER, data_length, decode, size};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The record that ends at `end` and where it begins.
pub(super) fn before(file: &File, end: u64) -> Option<(Entry, u64)> {
    let mut field = [0; TRAILER];
    file.read_exact_at(&mut field, end.checked_sub(TRAILER as u64)?)
        .ok()?;
    let length = size(data_length(&field)?);
    let start = end.checked_sub(length as u64)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start).ok()?;
    decode(&bytes).map(|(entry, _)| (entry, start))
}

/// The end of the last whole record. That of the file, unless a crash or a
/// writer at work has left part of one.
pub(super) fn whole(file: &File) -> u64 {
    let length = file.metadata().map_or(0, |m| m.len());
    if before(file, length).is_some() {
        return length;
    }
    let mut at = 0;
    let mut header = [0; HEADER];
    while file.read_exact_at(&mut header, at).is_ok()
        && let Some(data) = data_length(&header)
    {
        let end = at + size(data) as u64;
        if end > length || before(file, end).is_none() {
            break;
        }
        at = end;
    }
    at
}
