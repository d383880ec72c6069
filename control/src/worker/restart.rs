//! The restart policy of a service's task, with Docker's defaults.
//!
//! It does not know what a task is; it sees how one ended and when.

use crate::model::*;

/// Between the end of one attempt and the start of the next, unless the
/// service says otherwise: Docker's.
pub(super) const DELAY_NANOS: i64 = 5 * SECOND;

/// An attempt that never came to run is not tried again sooner than this,
/// whatever the policy's delay: it would spin. Doubled each time, up to
/// [`UNSTARTED_MS_MAX`].
const UNSTARTED_MS_MIN: u64 = 100;
const UNSTARTED_MS_MAX: u64 = 30_000;

/// Whether another attempt is made, `restarts` being when earlier ones were.
pub(super) fn allows(
    policy: Option<&RestartPolicy>,
    ended: TaskState,
    restarts: &[Millis],
    now: Millis,
) -> bool {
    let policy = policy.cloned().unwrap_or_default();
    match policy.condition.unwrap_or_default() {
        RestartCondition::None => return false,
        RestartCondition::OnFailure if ended == TaskState::Complete => return false,
        RestartCondition::OnFailure | RestartCondition::Any => {}
    }
    let attempts_max = policy.max_attempts.unwrap_or(0);
    if attempts_max == 0 {
        return true;
    }
    let window_nanos = policy.window.unwrap_or(0);
    let counted = restarts
        .iter()
        .filter(|at| window_nanos <= 0 || at.plus_nanos(window_nanos) > now)
        .count();
    (counted as u64) < attempts_max
}

/// How long after its end an attempt is followed by the next.
pub(super) fn delay_nanos(policy: Option<&RestartPolicy>) -> i64 {
    policy
        .and_then(|policy| policy.delay)
        .unwrap_or(DELAY_NANOS)
}

/// The least pause after the `failures`-th attempt in a row that never ran.
pub(super) fn unstarted_ms(failures: u32) -> u64 {
    let doubled = UNSTARTED_MS_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(UNSTARTED_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: RestartCondition, max: u64, window_s: i64) -> RestartPolicy {
        RestartPolicy {
            condition: Some(condition),
            delay: None,
            max_attempts: Some(max),
            window: Some(window_s * SECOND),
        }
    }

    #[test]
    fn condition_looks_at_how_it_ended() {
        use RestartCondition::*;
        let table = [
            (None, TaskState::Failed, false),
            (None, TaskState::Complete, false),
            (OnFailure, TaskState::Complete, false),
            (OnFailure, TaskState::Failed, true),
            (OnFailure, TaskState::Rejected, true),
            (Any, TaskState::Complete, true),
            (Any, TaskState::Failed, true),
        ];
        for (condition, ended, wanted) in table {
            let policy = policy(condition, 0, 0);
            assert_eq!(
                allows(Some(&policy), ended, &[], Millis(0)),
                wanted,
                "{condition:?} {ended:?}"
            );
        }
        assert!(allows(Option::None, TaskState::Complete, &[], Millis(0)));
    }

    #[test]
    fn attempts_are_counted_within_the_window_only() {
        let (now, failed) = (Millis(100_000), TaskState::Failed);
        let at = [Millis(10_000), Millis(95_000)];
        let ever = policy(RestartCondition::Any, 2, 0);
        assert!(!allows(Some(&ever), failed, &at, now));
        let lately = policy(RestartCondition::Any, 2, 30);
        assert!(allows(Some(&lately), failed, &at, now));
        let strict = policy(RestartCondition::Any, 1, 30);
        assert!(!allows(Some(&strict), failed, &at, now));
    }

    #[test]
    fn an_attempt_that_never_ran_is_not_spun() {
        let pauses: Vec<u64> = (1..=12).map(unstarted_ms).collect();
        assert_eq!(pauses[..3], [100, 200, 400]);
        assert_eq!(pauses[11], UNSTARTED_MS_MAX);
    }
}
