//! Bytes of a record.

/// Bytes of one record's data: where Docker cuts a line in two.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
