//! Bytes of a record.
//!
//! ```text
//! length u32 │ checksum u32 │ time i64 │ flags u8 │ data … │ length u32
//! ```
//! Little endian. `length` counts time, flags and data; the checksum is over
//! those. The length stands at both ends, so that the last lines are found
//! without reading the first, and a tail that a crash has cut off is seen.

use super::Entry;

/// Bytes of one record's data: where Docker cuts a line in two.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;

/// Before the data: length, checksum, time, flags.
pub(super) const HEADER: usize = 4 + 4 + 8 + 1;
/// After it: length.
pub(super) const TRAILER: usize = 4;
/// What `length` counts beside the data.
const COUNTED: usize = 9;

const STDERR: u8 = 1;
const PARTIAL: u8 = 2;

/// Bytes of a record with so much data.
pub(super) fn size(data: usize) -> usize {
    HEADER + data + TRAILER
}

/// A sum that a torn or stale tail does not have by chance (FNV-1a).
fn checksum(time: [u8; 8], flags: u8, data: &[u8]) -> u32 {
    let all = time.iter().chain(std::iter::once(&flags)).chain(data);
    all.fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Appends a record.
pub(super) fn encode(to: &mut Vec<u8>, time: i64, stderr: bool, partial: bool, data: &[u8]) {
    let flags = if stderr { STDERR } else { 0 } | if partial { PARTIAL } else { 0 };
    let length = ((data.len() + COUNTED) as u32).to_le_bytes();
    let time = time.to_le_bytes();
    to.extend(length);
    to.extend(checksum(time, flags, data).to_le_bytes());
    to.extend(time);
    to.push(flags);
    to.extend(data);
    to.extend(length);
}

/// Bytes of the data of the record whose length field is here; `None` when
/// there cannot be one.
pub(super) fn data_length(field: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(field.get(..4)?.try_into().ok()?) as usize;
    let data = length.checked_sub(COUNTED)?;
    (data <= LINE_BYTES_MAX).then_some(data)
}

/// The record at the start of `bytes`, and its size; `None` when it is not
/// whole.
pub(super) fn decode(bytes: &[u8]) -> Option<(Entry, usize)> {
    let data = data_length(bytes)?;
    let sum = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let time: [u8; 8] = bytes.get(8..16)?.try_into().ok()?;
    let flags = *bytes.get(16)?;
    let payload = bytes.get(HEADER..HEADER + data)?;
    let trailer = bytes.get(HEADER + data..size(data))?;
    if trailer != bytes.get(..4)? || sum != checksum(time, flags, payload) {
        return None;
    }
    let entry = Entry {
        time: i64::from_le_bytes(time),
        stderr: flags & STDERR != 0,
        partial: flags & PARTIAL != 0,
        data: payload.to_vec(),
    };
    Some((entry, size(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_damage_is_seen() {
        let mut bytes = Vec::new();
        encode(&mut bytes, -5, true, true, b"half a line");
        let (entry, length) = decode(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((entry.time, entry.stderr, entry.partial), (-5, true, true));
        assert_eq!(entry.data, b"half a line");
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_none());
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x40;
            assert!(decode(&wrong).is_none(), "byte {at}");
        }
    }
}
