//! Waiting for the world, with an end.

use std::time::{Duration, Instant};

/// Long enough for a loaded two-core machine; a test that needs more is
/// looking at a defect. Seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `probe` gives a value, at most 30 seconds.
///
/// # Panics
/// With `what` when the time is over.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Looks until `probe` gives a value, at most `patience`.
///
/// # Panics
/// With `what` when the time is over.
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}
