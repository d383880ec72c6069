//! One log and what waits for it: records that are to be written, one write
//! under way.
//!
//! **Invariant:** a log has at most one write under way (see
//! [`crate::journal`]); what comes meanwhile goes into the next one together.

use crate::journal::{Journal, Write};
use crate::random::Random;
use crate::seal::Seal;
use serde::Serialize;

/// Records on their way to one log.
#[derive(Debug)]
pub(crate) struct Disk<R> {
    journal: Journal,
    /// `None`: what it says may be read by who has the disk.
    seal: Option<Seal>,
    queue: Vec<R>,
    under_way: Option<u64>,
    /// The next write replaces everything.
    is_to_replace: bool,
}

impl<R: Serialize> Disk<R> {
    /// `is_torn`: what is there must be written anew before anything else.
    pub(crate) fn new(journal: Journal, seal: Option<Seal>, is_torn: bool) -> Self {
        Self {
            journal,
            seal,
            queue: Vec::new(),
            under_way: None,
            is_to_replace: is_torn,
        }
    }

    pub(crate) fn push(&mut self, records: impl IntoIterator<Item = R>) {
        self.queue.extend(records);
    }

    /// The next write is to be a compact one if the log has grown well beyond
    /// `floor_bytes`, or in any case if `is_due`.
    pub(crate) fn compact(&mut self, floor_bytes: u64, is_due: bool) {
        if is_due || self.journal.is_bloated(floor_bytes) {
            self.is_to_replace = true;
        }
    }

    /// There is something to write, and nothing under way.
    pub(crate) fn is_ready(&self) -> bool {
        let wants = !self.queue.is_empty() || self.is_to_replace;
        wants && self.under_way.is_none()
    }

    /// Everything is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_none()
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The next write, to be acknowledged as `number`. `all` gives everything
    /// that is to be kept, the queue included, for when the log is replaced.
    pub(crate) fn write(
        &mut self,
        number: u64,
        random: &mut Random,
        all: impl FnOnce() -> Vec<R>,
    ) -> Write {
        self.under_way = Some(number);
        if self.is_to_replace {
            self.is_to_replace = false;
            self.queue.clear();
            return self.replace(&encode(&all()), random);
        }
        let payload = encode(&std::mem::take(&mut self.queue));
        if self.journal.is_empty() {
            return self.replace(&payload, random);
        }
        match &mut self.seal {
            None => self.journal.append(&payload),
            Some(seal) => {
                let sealed = seal.seal(self.journal.next_seq(), &payload, random);
                self.journal.append(&sealed)
            }
        }
    }

    fn replace(&mut self, payload: &[u8], random: &mut Random) -> Write {
        let first = random.word();
        match &mut self.seal {
            None => self.journal.replace(first, &[payload]),
            Some(seal) => {
                let sealed = seal.seal(first, payload, random);
                self.journal.replace(first, &[&sealed])
            }
        }
    }

    /// What waits is of no interest any more; the log will be erased.
    pub(crate) fn forget(&mut self) {
        self.queue.clear();
        self.is_to_replace = false;
    }

    /// The write that empties the log, whatever is under way.
    pub(crate) fn erase(&mut self, number: u64) -> Write {
        self.queue.clear();
        self.is_to_replace = false;
        self.under_way = Some(number);
        self.journal.erase()
    }

    /// Returns whether the write under way is durable now.
    pub(crate) fn stored(&mut self, number: u64) -> bool {
        let is_done = self.under_way.is_some_and(|waits| waits <= number);
        if is_done {
            self.under_way = None;
        }
        is_done
    }
}

/// Writing to memory cannot fail for types of known length.
pub(crate) fn encode<T: Serialize + ?Sized>(records: &T) -> Vec<u8> {
    postcard::to_allocvec(records).unwrap_or_default()
}
