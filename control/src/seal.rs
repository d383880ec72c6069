//! Payloads of a log at rest: sealed, so that a lost card tells nothing.
//!
//! ```text
//! sealed = key's name  nonce    ciphertext and tag
//!          8 bytes     12 bytes ChaCha20-Poly1305; the frame's number is bound
//! ```
//! The name is derived from the key and says nothing about it: a wrong key is
//! told apart from damage. A nonce is a random word of this start and a count
//! within it, so that none comes twice under a key.
//!
//! **Invariant:** what opens was sealed under this key, for this place in this
//! log. That a whole file is the newest one is not said here; `consensus`
//! deals with old disks. It knows not where the key is kept.

use crate::random::Random;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use std::fmt;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const NAME_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const HEAD_BYTES: usize = NAME_BYTES + NONCE_BYTES;

/// For the name only: no start's nonces begin with this.
const NAME_NONCE: [u8; NONCE_BYTES] = [0xff; NONCE_BYTES];

/// What a log is sealed with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct LogKey([u8; KEY_BYTES]);

impl LogKey {
    /// `bytes` are from the operating system's source.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(…)")
    }
}

/// Why a payload does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It was sealed with another key.
    WrongKey,
    /// It is not what was sealed, or not where it was.
    Damaged,
}

/// A key in use.
pub(crate) struct Seal {
    cipher: ChaCha20Poly1305,
    name: [u8; NAME_BYTES],
    start: u64,
    count: u32,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    pub(crate) fn new(key: &LogKey, random: &mut Random) -> Self {
        let cipher = ChaCha20Poly1305::new(&key.0.into());
        let whole = Payload {
            msg: &[],
            aad: b"the name of a skep log key",
        };
        // Sealing in memory fails only beyond 256 gigabytes.
        let tag = cipher.encrypt(&Nonce::from(NAME_NONCE), whole);
        let mut name = [0; NAME_BYTES];
        for (to, from) in name.iter_mut().zip(tag.unwrap_or_default()) {
            *to = from;
        }
        Self {
            cipher,
            name,
            start: fresh(random),
            count: 0,
        }
    }

    /// `payload` for the frame `seq`.
    pub(crate) fn seal(&mut self, seq: u64, payload: &[u8], random: &mut Random) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&self.start.to_le_bytes());
        nonce[8..].copy_from_slice(&self.count.to_le_bytes());
        self.count = self.count.wrapping_add(1);
        if self.count == 0 {
            self.start = fresh(random);
        }
        let aad = seq.to_le_bytes();
        let payload = Payload {
            msg: payload,
            aad: &aad,
        };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload);
        let mut bytes = self.name.to_vec();
        bytes.extend_from_slice(&nonce);
        bytes.extend(sealed.unwrap_or_default());
        bytes
    }

    /// What was sealed for the frame `seq`.
    pub(crate) fn open(&self, seq: u64, sealed: &[u8]) -> Result<Vec<u8>, Closed> {
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(Closed::Damaged)?;
        let (name, nonce) = head.split_at(NAME_BYTES);
        if name != self.name {
            return Err(Closed::WrongKey);
        }
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| Closed::Damaged)?;
        let aad = seq.to_le_bytes();
        let payload = Payload {
            msg: body,
            aad: &aad,
        };
        let opened = self.cipher.decrypt(&Nonce::from(nonce), payload);
        opened.map_err(|_| Closed::Damaged)
    }
}

fn fresh(random: &mut Random) -> u64 {
    // The last one is the name's.
    random.word() & !1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: u8) -> (Seal, Random) {
        let mut random = Random::new([key; 32]);
        let seal = Seal::new(&LogKey::new([key; KEY_BYTES]), &mut random);
        (seal, random)
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let (mut sealing, mut random) = seal(1);
        let sealed = sealing.seal(7, b"tables", &mut random);
        assert!(!sealed.windows(6).any(|window| window == b"tables"));
        assert_eq!(sealing.open(7, &sealed).unwrap(), b"tables");
        assert_eq!(sealing.open(8, &sealed), Err(Closed::Damaged));
        for at in NAME_BYTES..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(sealing.open(7, &damaged), Err(Closed::Damaged));
        }
        for len in 0..sealed.len() {
            assert!(sealing.open(7, &sealed[..len]).is_err());
        }
    }

    #[test]
    fn a_wrong_key_is_no_damage() {
        let (mut sealing, mut random) = seal(1);
        let sealed = sealing.seal(7, b"tables", &mut random);
        assert_eq!(seal(2).0.open(7, &sealed), Err(Closed::WrongKey));
    }

    #[test]
    fn no_nonce_comes_twice() {
        let (mut sealing, mut random) = seal(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            for _ in 0..100 {
                let sealed = sealing.seal(1, b"", &mut random);
                assert!(seen.insert(sealed[NAME_BYTES..HEAD_BYTES].to_vec()));
            }
            // The count comes round.
            sealing.count = u32::MAX - 20;
            sealing.start = fresh(&mut random);
        }
        assert_eq!(format!("{:?}", LogKey::new([1; 32])), "LogKey(…)");
    }
}
