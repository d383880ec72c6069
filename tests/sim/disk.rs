//! A disk that loses power: writes that nobody waited for are whole, gone or
//! torn by sectors.

use crate::chance::Chance;
use skep_control::journal::{Log, SEGMENT_BYTES, Write};

const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    consensus: Vec<u8>,
    node: Vec<u8>,
    /// Not synced yet, oldest first, with the number of their effects.
    under_way: Vec<(u64, Write)>,
}

impl Disk {
    pub(crate) fn write(&mut self, number: u64, writes: Vec<Write>) {
        let numbered = writes.into_iter().map(|write| (number, write));
        self.under_way.extend(numbered);
    }

    /// Makes everything up to `number` durable.
    pub(crate) fn sync(&mut self, number: u64) {
        let (synced, rest) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(of, _)| *of <= number);
        self.under_way = rest;
        let synced: Vec<(u64, Write)> = synced;
        for (_, write) in synced {
            self.put(write);
        }
    }

    /// The power goes: each log keeps what was synced, and of what was under
    /// way whatever chance leaves.
    pub(crate) fn lose_power(&mut self, chance: &mut Chance) {
        let mut lost: Vec<Log> = Vec::new();
        for (_, write) in std::mem::take(&mut self.under_way) {
            let log = match &write {
                Write::At { log, .. } | Write::Replace { log, .. } => *log,
            };
            if lost.contains(&log) {
                continue;
            }
            match (chance.below(3), write) {
                (0, write) => self.put(write),
                (1, Write::At { log, offset, bytes }) => {
                    self.tear(log, offset as usize, &bytes, chance);
                    lost.push(log);
                }
                _ => lost.push(log),
            }
        }
    }

    /// Everything that was to be written is durable.
    pub(crate) fn is_written(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(crate) fn files(&self) -> (Vec<u8>, Vec<u8>) {
        (self.consensus.clone(), self.node.clone())
    }

    fn file(&mut self, log: Log) -> &mut Vec<u8> {
        match log {
            Log::Consensus => &mut self.consensus,
            Log::Node => &mut self.node,
        }
    }

    fn put(&mut self, write: Write) {
        match write {
            Write::At { log, offset, bytes } => {
                let (start, end) = (offset as usize, offset as usize + bytes.len());
                let file = self.file(log);
                if file.len() < end {
                    file.resize(end.next_multiple_of(SEGMENT_BYTES as usize / 64), 0);
                }
                file[start..end].copy_from_slice(&bytes);
            }
            Write::Replace { log, bytes } => *self.file(log) = bytes,
        }
    }

    fn tear(&mut self, log: Log, offset: usize, bytes: &[u8], chance: &mut Chance) {
        let end = offset + bytes.len();
        let file = self.file(log);
        if file.len() < end {
            file.resize(end.next_multiple_of(4096), 0);
        }
        for sector in offset / SECTOR..=end / SECTOR {
            let start = (sector * SECTOR).max(offset);
            let stop = ((sector + 1) * SECTOR).min(end);
            if start < stop && chance.percent(50) {
                file[start..stop].copy_from_slice(&bytes[start - offset..stop - offset]);
            }
        }
    }
}
