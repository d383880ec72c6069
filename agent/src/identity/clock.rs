//! The time that certificates are held against.
//!
//! A board without a battery wakes up in 1970, and an offline fleet has nobody
//! to ask. So certificate time is the latest of the wall clock, the time of
//! this build, and the latest time that this cluster is known to have reached.
//! The last is taken from what an authority signed: nothing is signed before
//! it is signed.
//!
//! **Invariant:** it never goes back, also over a restart, but for a day.

use crate::disk::{self, Durability};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is seen is written when it is so much later than what is written, in
/// seconds: certificates are signed months apart, and an idle node writes
/// nothing.
const WRITE_AFTER: u64 = 24 * 3600;
/// Latest time that is believed, seconds since 1970: the year 9999, the last
/// that a certificate can say.
const LATEST: u64 = 253_402_300_799;

/// Certificate time, in seconds since 1970.
pub(crate) struct Clock {
    wall: fn() -> u64,
    seen: AtomicU64,
    written: AtomicU64,
    /// `None`: only in memory.
    path: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    seen: u64,
}

impl Clock {
    /// A damaged record is no more than a clock that was never set.
    pub(super) fn open(path: &Path) -> Self {
        let stored = disk::read_record::<Stored>(path).unwrap_or_else(|e| {
            log::warn!("{e}; certificate time begins at the wall clock's");
            None
        });
        let seen = stored.map_or(0, |stored| stored.seen.min(LATEST));
        Self {
            wall,
            seen: seen.into(),
            written: seen.into(),
            path: Some(path.to_owned()),
        }
    }

    /// A clock that says what `wall` does, or later.
    #[cfg(test)]
    pub(crate) fn of(wall: fn() -> u64) -> Self {
        Self {
            wall,
            seen: 0.into(),
            written: 0.into(),
            path: None,
        }
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        (self.wall)().max(built()).max(seen).min(LATEST)
    }

    /// Somebody trusted has signed something at that time.
    pub(crate) fn saw(&self, time: u64) {
        let time = time.min(LATEST);
        let before = self.seen.fetch_max(time, Ordering::Relaxed);
        if time <= before {
            return;
        }
        let written = self.written.load(Ordering::Relaxed);
        if let Some(path) = &self.path
            && time > written.saturating_add(WRITE_AFTER)
        {
            self.written.store(time, Ordering::Relaxed);
            let stored = Stored { seen: time };
            // A power cut may lose it: it is learned again from the next
            // certificate that is seen.
            if let Err(e) = disk::write_record(path, &stored, Durability::Cached) {
                log::warn!("{e}");
            }
        }
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// When this program was built.
fn built() -> u64 {
    env!("SKEP_BUILD_TIME").parse().unwrap_or(0)
}
