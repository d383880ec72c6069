//! A log written, torn in its last write, and read back: everything
//! acknowledged is there, and nothing that was not written. Any other bytes
//! are read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_control::journal::{Journal, Log, Write};

fuzz_target!(|bytes: &[u8]| {
    drop(Journal::recover(Log::Node, bytes));
    let Some((&[first, torn_at, torn_by], rest)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let payloads: Vec<&[u8]> = rest.split(|byte| *byte == b'|').collect();
    let mut file = Vec::new();
    let mut journal = Journal::new(Log::Node);
    let begun = journal.replace(u64::from(first), &payloads[..1]);
    put(&mut file, &begun, usize::MAX);
    let Some((last, middle)) = payloads[1..].split_last() else {
        return;
    };
    for payload in middle {
        put(&mut file, &journal.append(payload), usize::MAX);
    }
    // The last write reaches the disk in part, and one byte of it wrongly.
    let write = journal.append(last);
    let before = file.len();
    put(&mut file, &write, usize::from(torn_at));
    if let Some(byte) = file.get_mut(before + usize::from(torn_by)) {
        *byte ^= 1;
    }
    file.resize(file.len() + 4096, 0);
    let read = Journal::recover(Log::Node, &file).expect("a torn tail is no damage");
    let acknowledged = &payloads[..payloads.len() - 1];
    assert_eq!(&read.payloads[..acknowledged.len()], acknowledged);
    let more = &read.payloads[acknowledged.len()..];
    assert!(
        more.is_empty() || more == [*last],
        "what was never written is read"
    );
});

/// Lets the first `length` bytes of a write reach the file.
fn put(file: &mut Vec<u8>, write: &Write, length: usize) {
    let (at, bytes) = match write {
        Write::At { offset, bytes, .. } => (usize::try_from(*offset).unwrap_or(0), bytes),
        Write::Replace { bytes, .. } => {
            file.clear();
            (0, bytes)
        }
    };
    file.resize(at.max(file.len()), 0);
    file.truncate(at);
    file.extend(bytes.iter().take(length));
}
