//! Bytes of a log on disk: framing, checksums, recovery from a torn tail.
//!
//! ```text
//! file  = frame* zeros            grown in zero-filled segments beforehand
//! frame = magic crc len 0 seq payload padding to 8 bytes
//!         u32   u32 u32 u32 u64   all little endian
//! ```
//! The checksum covers everything but magic and itself. The first frame of a
//! file has a random `seq`, each further one the next number: bytes inside of a
//! payload cannot pose as a frame.
//!
//! **Invariant:** one write is one frame, and a log has at most one write under
//! way. So a crash can tear only the last frame; anything else that does not
//! read is damage and is reported, never skipped. This module knows no file.

use std::fmt;

/// The file is grown by so many zero bytes at a time, so that a write changes
/// no metadata: one flush a commit instead of two (measured: 5 kB of flash a
/// commit against 17).
pub const SEGMENT_BYTES: u64 = 1 << 20;

/// A payload may not be larger; a damaged length cannot ask for more memory.
/// Room for a snapshot of 100,000 assignments ten times over.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"skp1");
const HEADER_BYTES: usize = 24;
const ALIGN: usize = 8;

/// Which of the two logs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// `DATA/consensus/log`: the replicated log and its snapshot.
    Consensus,
    /// `DATA/node/log`: what this node was last told, and its attempts.
    Node,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consensus => "consensus log",
            Self::Node => "node log",
        })
    }
}

/// One write to stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put `bytes` at `offset` and sync the data. The file is grown by
    /// [`SEGMENT_BYTES`] of zeros beforehand; beyond the last write it reads
    /// as zeros.
    At {
        log: Log,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Replace the whole file atomically: after a crash it is the old or the
    /// new one. Empty `bytes`: the file is to be empty or gone.
    Replace { log: Log, bytes: Vec<u8> },
}

/// What survived is damaged beyond a torn tail. The node must not go on with
/// it, since it would forget what it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{log} is damaged at byte {offset}: {reason}")]
pub struct Corrupt {
    pub log: Log,
    pub offset: usize,
    pub reason: String,
}

/// What survived was sealed with another key: nothing is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {log} was sealed with another key than this node's")]
pub struct WrongKey {
    pub log: Log,
}

/// Why a log does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
}

/// Where the next frame goes.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Log,
    seq: u64,
    offset: u64,
    /// Size right after the last replacement: what it is worth when compact.
    compact: u64,
}

/// A file read back.
#[derive(Debug)]
pub struct Recovery<'a> {
    pub journal: Journal,
    /// The first frame's number; the others count on.
    pub first_seq: u64,
    /// Every payload, oldest first.
    pub payloads: Vec<&'a [u8]>,
    /// The tail was torn: the file must be replaced by `payloads` before
    /// anything is put behind them.
    pub is_torn: bool,
}

impl Journal {
    /// An empty log; its first write must be a [`Journal::replace`].
    pub fn new(log: Log) -> Self {
        Self {
            log,
            seq: 0,
            offset: 0,
            compact: 0,
        }
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// When a frame that is not the last does not read.
    pub fn recover(log: Log, file: &[u8]) -> Result<Recovery<'_>, Corrupt> {
        let mut recovery = Recovery {
            journal: Self::new(log),
            first_seq: 0,
            payloads: Vec::new(),
            is_torn: false,
        };
        let mut at = 0;
        while let Some(frame) = Frame::read(file, at) {
            if at > 0 && frame.seq != recovery.journal.seq {
                break;
            }
            if at == 0 {
                recovery.first_seq = frame.seq;
            }
            recovery.payloads.push(frame.payload);
            at = frame.end;
            recovery.journal.seq = frame.seq.wrapping_add(1);
            recovery.journal.offset = at as u64;
        }
        recovery.journal.compact = recovery.journal.offset;
        let rest = file.get(at..).unwrap_or(&[]);
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(recovery);
        }
        let damage = |reason: &str| Corrupt {
            log,
            offset: at,
            reason: reason.to_owned(),
        };
        if at == 0 {
            // The first frame comes with an atomic replacement.
            return Err(damage("the file does not begin with a whole frame"));
        }
        if follows(file, at, recovery.journal.seq) {
            return Err(damage("a frame does not read, but later ones do"));
        }
        recovery.is_torn = true;
        Ok(recovery)
    }

    /// The number of the frame that [`Journal::append`] makes next.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// The write that puts one more payload behind what is there.
    pub fn append(&mut self, payload: &[u8]) -> Write {
        assert!(self.offset > 0, "a log begins with a replacement");
        let bytes = frame(self.seq, payload);
        let offset = self.offset;
        self.seq = self.seq.wrapping_add(1);
        self.offset += bytes.len() as u64;
        Write::At {
            log: self.log,
            offset,
            bytes,
        }
    }

    /// The write that puts `payloads` in the place of everything. `first_seq`
    /// is random.
    pub fn replace(&mut self, first_seq: u64, payloads: &[&[u8]]) -> Write {
        self.seq = first_seq;
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(&frame(self.seq, payload));
            self.seq = self.seq.wrapping_add(1);
        }
        self.offset = bytes.len() as u64;
        self.compact = self.offset;
        Write::Replace {
            log: self.log,
            bytes,
        }
    }

    /// The write that empties the log.
    pub fn erase(&mut self) -> Write {
        *self = Self::new(self.log);
        Write::Replace {
            log: self.log,
            bytes: Vec::new(),
        }
    }

    /// Nothing was written yet, or all was erased.
    pub fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Bytes in use.
    pub fn len(&self) -> u64 {
        self.offset
    }

    /// It has grown to several times what it is worth.
    pub fn is_bloated(&self, floor_bytes: u64) -> bool {
        /// Compacting writes everything once; at a factor of four it adds a
        /// third to what is written anyway.
        const FACTOR: u64 = 4;
        self.offset > floor_bytes && self.offset > self.compact.saturating_mul(FACTOR)
    }
}

struct Frame<'a> {
    seq: u64,
    payload: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

impl<'a> Frame<'a> {
    fn read(file: &'a [u8], at: usize) -> Option<Self> {
        let header = file.get(at..at.checked_add(HEADER_BYTES)?)?;
        if word(header, 0)? != MAGIC {
            return None;
        }
        let len = word(header, 8)? as usize;
        if len > PAYLOAD_BYTES_MAX {
            return None;
        }
        let start = at + HEADER_BYTES;
        let payload = file.get(start..start.checked_add(len)?)?;
        let end = (start + len).next_multiple_of(ALIGN);
        let padding = file.get(start + len..end)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(header.get(8..)?), payload);
        (checksum == word(header, 4)?).then_some(Self {
            seq: u64::from_le_bytes(header.get(16..24)?.try_into().ok()?),
            payload,
            end,
        })
    }
}

fn frame(seq: u64, payload: &[u8]) -> Vec<u8> {
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "journal payload too large"
    );
    let size = (HEADER_BYTES + payload.len()).next_multiple_of(ALIGN);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(size, 0);
    bytes
}

/// A whole frame with a number above `seq` begins somewhere behind `at`.
fn follows(file: &[u8], at: usize, seq: u64) -> bool {
    let mut next = at + ALIGN;
    while next + HEADER_BYTES <= file.len() {
        if let Some(frame) = Frame::read(file, next) {
            let ahead = frame.seq.wrapping_sub(seq);
            // Every frame is at least one header long.
            if ahead > 0 && ahead <= (file.len() / HEADER_BYTES) as u64 {
                return true;
            }
        }
        next += ALIGN;
    }
    false
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: usize = 512;

    /// A disk that does what it is told.
    fn put(file: &mut Vec<u8>, write: &Write) {
        match write {
            Write::At { offset, bytes, .. } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if file.len() < end {
                    file.resize(end.next_multiple_of(4096), 0);
                }
                file[start..end].copy_from_slice(bytes);
            }
            Write::Replace { bytes, .. } => file.clone_from(bytes),
        }
    }

    /// A file of `count` payloads of growing size.
    fn sample(count: usize) -> (Vec<u8>, Vec<Vec<u8>>, Vec<usize>) {
        let mut journal = Journal::new(Log::Node);
        let (mut file, mut payloads, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let payload: Vec<u8> = (0..number * 217)
                .map(|at| (at * 31 + number) as u8)
                .collect();
            let write = if journal.is_empty() {
                journal.replace(77, &[&payload])
            } else {
                journal.append(&payload)
            };
            put(&mut file, &write);
            payloads.push(payload);
            ends.push(journal.len() as usize);
        }
        file.resize(file.len().next_multiple_of(4096) + 4096, 0);
        (file, payloads, ends)
    }

    #[test]
    fn what_was_written_is_read() {
        let (file, payloads, ends) = sample(9);
        let recovery = Journal::recover(Log::Node, &file).unwrap();
        assert_eq!(recovery.payloads, payloads);
        assert!(!recovery.is_torn);
        assert_eq!(recovery.journal.len() as usize, ends[8]);
        assert!(
            Journal::recover(Log::Node, &[])
                .unwrap()
                .payloads
                .is_empty()
        );
    }

    #[test]
    fn every_prefix_recovers_to_whole_frames() {
        let (file, payloads, ends) = sample(7);
        for cut in ends[0]..=ends[6] {
            let mut torn = file.clone();
            torn[cut..].fill(0);
            let recovery = Journal::recover(Log::Node, &torn).unwrap();
            let read = recovery.payloads.len();
            assert_eq!(recovery.payloads, payloads[..read], "cut at {cut}");
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert!(read >= whole, "lost an acknowledged frame at {cut}");
        }
    }

    #[test]
    fn every_torn_sector_of_the_last_write_is_noticed() {
        let (file, payloads, ends) = sample(9);
        let last = ends[7];
        for sector in last / SECTOR..=ends[8] / SECTOR {
            let mut torn = file.clone();
            let start = (sector * SECTOR).max(last);
            torn[start..((sector + 1) * SECTOR).min(ends[8])].fill(0);
            let recovery = Journal::recover(Log::Node, &torn).unwrap();
            assert!(recovery.is_torn || start == ends[8], "sector {sector}");
            assert_eq!(recovery.payloads[..8], payloads[..8]);
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_frame_is_reported() {
        let (file, payloads, ends) = sample(7);
        for byte in 0..ends[5] {
            let mut flipped = file.clone();
            flipped[byte] ^= 1 << (byte % 8);
            let outcome = Journal::recover(Log::Node, &flipped);
            assert!(outcome.is_err(), "byte {byte} went unnoticed");
        }
        for byte in ends[5]..ends[6] {
            let mut flipped = file.clone();
            flipped[byte] ^= 0x40;
            let recovery = Journal::recover(Log::Node, &flipped).unwrap();
            assert_eq!(recovery.payloads, payloads[..6]);
            assert!(recovery.is_torn);
        }
    }

    #[test]
    fn a_frame_inside_of_a_payload_is_not_a_frame() {
        let inner = frame(12, b"posing");
        let mut journal = Journal::new(Log::Consensus);
        let mut file = Vec::new();
        put(&mut file, &journal.replace(1 << 40, &[b"first"]));
        let whole = journal.len() as usize;
        put(&mut file, &journal.append(&inner));
        file[whole] ^= 1;
        let recovery = Journal::recover(Log::Consensus, &file).unwrap();
        assert!(recovery.is_torn);
        assert_eq!(recovery.payloads, [b"first"]);
    }

    #[test]
    fn no_bytes_are_too_strange_to_read() {
        let (file, ..) = sample(5);
        let mut word = 9usize;
        let mut below = |bound: usize| {
            word = word.wrapping_mul(0x5851_f42d).wrapping_add(0x1405_7b7e);
            (word >> 8) % bound
        };
        for _ in 0..2000 {
            let mut strange = file.clone();
            for _ in 0..1 + below(8) {
                let at = below(strange.len());
                strange[at] = below(256) as u8;
            }
            strange.truncate(below(strange.len()));
            let _ = Journal::recover(Log::Node, &strange);
        }
    }
}
