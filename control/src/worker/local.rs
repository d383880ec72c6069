//! Restart policy of standalone containers: `no`, `on-failure[:n]`, `always`,
//! `unless-stopped`, as dockerd has it.

use super::{Observation, Step};
use crate::model::*;
use std::collections::BTreeMap;

/// First pause before a restart; doubled each time (Docker's).
const PAUSE_MS_MIN: u64 = 100;
/// Longest pause (Docker's).
const PAUSE_MS_MAX: u64 = 60_000;
/// Up for so long, a container starts over with the shortest pause (Docker's).
const STEADY_MS: u64 = 10_000;

/// What to do about a container whose process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalVerdict {
    Leave,
    RestartIn { millis: u64 },
}

/// How a standalone container went.
#[derive(Clone, Copy, Debug)]
pub struct LocalExit<'a> {
    pub policy: &'a HostRestartPolicy,
    pub code: i64,
    /// Stopped or killed by a user.
    pub by_user: bool,
    /// Found so when the agent started.
    pub at_boot: bool,
    /// Restarts by policy since a user started it.
    pub restarts: u32,
    /// The last pause; 0 before the first.
    pub pause_ms: u64,
    /// How long it was up.
    pub up_ms: u64,
}

/// Docker's rule, for one exit.
pub fn decide_local(exit: LocalExit<'_>) -> LocalVerdict {
    let wanted = match exit.policy.name.as_str() {
        // A user's stop holds until the agent starts again.
        "always" => exit.at_boot || !exit.by_user,
        "unless-stopped" => !exit.by_user,
        "on-failure" => {
            let max = exit.policy.maximum_retry_count;
            !exit.by_user && exit.code != 0 && (max <= 0 || i64::from(exit.restarts) < max)
        }
        _ => false,
    };
    if !wanted {
        return LocalVerdict::Leave;
    }
    let millis = match exit.pause_ms {
        _ if exit.at_boot => 0,
        0 => PAUSE_MS_MIN,
        _ if exit.up_ms >= STEADY_MS => PAUSE_MS_MIN,
        last => last.saturating_mul(2).min(PAUSE_MS_MAX),
    };
    LocalVerdict::RestartIn { millis }
}

/// What is remembered of one container.
#[derive(Clone, Debug, Default)]
struct Local {
    up_since: Option<Millis>,
    restarts: u32,
    pause_ms: u64,
    due: Option<Millis>,
}

/// The containers whose restarts are counted. Forgotten when a user takes a
/// container into his own hands; containers are what bounds it.
#[derive(Debug, Default)]
pub(super) struct Locals {
    known: BTreeMap<ContainerId, Local>,
}

impl Locals {
    pub(super) fn observe(&mut self, now: Millis, observation: Observation) {
        match observation {
            Observation::LocalStarted { container } => {
                let local = self.known.entry(container).or_default();
                local.up_since = Some(now);
                local.due = None;
            }
            Observation::LocalForgotten { container } => {
                self.known.remove(&container);
            }
            Observation::LocalExited {
                container,
                policy,
                code,
                by_user,
                at_boot,
            } => {
                let local = self.known.entry(container.clone()).or_default();
                let verdict = decide_local(LocalExit {
                    policy: &policy,
                    code,
                    by_user,
                    at_boot,
                    restarts: local.restarts,
                    pause_ms: local.pause_ms,
                    up_ms: local.up_since.map_or(0, |since| now.since(since)),
                });
                match verdict {
                    LocalVerdict::Leave => {
                        self.known.remove(&container);
                    }
                    LocalVerdict::RestartIn { millis } => {
                        local.up_since = None;
                        local.restarts = local.restarts.saturating_add(1);
                        local.pause_ms = millis;
                        local.due = Some(now.plus(millis));
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn wake(&mut self, now: Millis) -> Vec<Step> {
        let mut steps = Vec::new();
        for (container, local) in &mut self.known {
            if local.due.is_some_and(|due| due <= now) {
                local.due = None;
                let container = container.clone();
                steps.push(Step::RestartLocal { container });
            }
        }
        steps
    }

    pub(super) fn due(&self) -> Option<Millis> {
        self.known.values().filter_map(|local| local.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(name: &str, max: i64) -> HostRestartPolicy {
        HostRestartPolicy {
            name: name.into(),
            maximum_retry_count: max,
        }
    }

    fn decide(policy: &str, code: i64, by_user: bool, at_boot: bool) -> bool {
        let policy = exit(policy, 0);
        let verdict = decide_local(LocalExit {
            policy: &policy,
            code,
            by_user,
            at_boot,
            restarts: 0,
            pause_ms: 0,
            up_ms: 0,
        });
        verdict != LocalVerdict::Leave
    }

    #[test]
    fn policies_differ_in_what_a_user_may_stop() {
        assert!(!decide("no", 1, false, false));
        assert!(!decide("", 1, false, false));
        assert!(decide("on-failure", 1, false, false));
        assert!(!decide("on-failure", 0, false, false));
        assert!(decide("always", 0, false, false));
        assert!(!decide("always", 0, true, false));
        assert!(decide("always", 0, true, true));
        assert!(decide("unless-stopped", 0, false, true));
        assert!(!decide("unless-stopped", 0, true, true));
    }

    #[test]
    fn the_pause_doubles_and_starts_over_after_ten_seconds_up() {
        let mut locals = Locals::default();
        let container = ContainerId::from("c");
        let mut now = Millis(1000);
        let mut pauses = Vec::new();
        for round in 0..12 {
            let started = Observation::LocalStarted {
                container: container.clone(),
            };
            locals.observe(now, started);
            now = now.plus(if round == 11 { STEADY_MS } else { 5 });
            let exited = Observation::LocalExited {
                container: container.clone(),
                policy: exit("always", 0),
                code: 1,
                by_user: false,
                at_boot: false,
            };
            locals.observe(now, exited);
            let due = locals.due().unwrap();
            pauses.push(due.since(now));
            now = due;
            assert_eq!(locals.wake(now).len(), 1);
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[10], PAUSE_MS_MAX);
        assert_eq!(pauses[11], PAUSE_MS_MIN);
    }

    #[test]
    fn on_failure_counts_its_restarts() {
        let mut locals = Locals::default();
        let container = ContainerId::from("c");
        let mut restarts = 0;
        let mut now = Millis(0);
        for _ in 0..9 {
            let exited = Observation::LocalExited {
                container: container.clone(),
                policy: exit("on-failure", 3),
                code: 1,
                by_user: false,
                at_boot: false,
            };
            locals.observe(now, exited);
            let Some(due) = locals.due() else { break };
            now = due;
            restarts += locals.wake(now).len();
        }
        assert_eq!(restarts, 3);
    }
}
