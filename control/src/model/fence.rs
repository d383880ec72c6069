//! Fencing: a service whose tasks must never run twice, whatever the network
//! does. An isolated node stops them by itself; only then may the leader start
//! them elsewhere.

use super::*;

/// Opts a service in: `true`.
pub const FENCE_LABEL: &str = "skep.fence";

/// The environment variable with the fencing token: larger for each successor
/// in a slot, so that storage can refuse the one before.
pub const FENCE_VARIABLE: &str = "SKEP_FENCE";

/// A node without an answer of the leader for so long stops its fenced tasks.
/// In milliseconds.
pub const FENCE_LEASE_MS: u64 = 6_000;

/// How often a node with fenced tasks asks the leader, in milliseconds: two
/// answers may get lost.
pub const FENCE_RENEW_MS: u64 = 2_000;

/// How long a fenced task may take to stop, in milliseconds, whatever its
/// grace period.
pub const FENCE_GRACE_MS: u64 = 1_000;

/// How much longer than the lease the leader waits, in milliseconds: the grace
/// period, the time until a leader without quorum knows that it leads no more,
/// and clocks that run unevenly.
pub const FENCE_MARGIN_MS: u64 = 4_000;

/// Whether a service with these labels is fenced.
pub fn is_fenced(labels: &Labels) -> bool {
    labels.get(FENCE_LABEL).is_some_and(|value| value == "true")
}
