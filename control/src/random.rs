//! The only source of chance: a generator seeded at construction.

use crate::model::{ID_LEN, base36};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Ids and secrets; cryptographically strong if its seed is secret.
#[derive(Debug)]
pub struct Random(ChaCha20Rng);

impl Random {
    /// Everything that comes of it follows from the seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// An id of a cluster object.
    pub(crate) fn id(&mut self) -> String {
        self.digits(ID_LEN)
    }

    /// `len` digits of base 36.
    pub(crate) fn digits(&mut self, len: usize) -> String {
        base36(|| self.0.next_u32(), len)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `bound`, which is small against 2^64, so that no value is
    /// noticeably likelier.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound.max(1) as u64) as usize
    }
}
