//! Health checks: a command run in a container again and again, and what its
//! exit codes say.
//!
//! The verdict is pure; the probing runs beside the container from its start
//! to its exit, also after the agent's restart, which begins with the verdict
//! that the last agent had, and a new count.

use super::Executor;
use super::container::Container;
use super::stop::within;
use crate::backend::{Health, HealthStatus, Probe};
use crate::shim::{Attach, ExecSpec, Shim};
use rustix::process::{Pid, Signal, kill_process};
use skep_control::model::{self, HealthConfig};
use skep_control::worker::Observation;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Shorter pauses only burn the board's CPU; Docker's lower bound.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Probes remembered, and bytes of output of each: Docker's.
const PROBES_MAX: usize = 5;
const OUTPUT_BYTES_MAX: usize = 4096;
/// Exit code of a probe that did not end in time, or could not be run.
const NO_CODE: i64 = -1;

/// A container's check with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Check {
    /// `None`: there is nothing to probe.
    pub(super) fn of(config: &model::Config) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        let (kind, rest) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let shell = match config.shell.is_empty() {
                    true => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                    false => config.shell.clone(),
                };
                [shell, vec![rest.join(" ")]].concat()
            }
            _ => return None,
        };
        if command.is_empty() {
            return None;
        }
        Some(Self {
            command,
            ..Self::times(check)
        })
    }

    fn times(check: &HealthConfig) -> Self {
        let or = |nanos: i64, default: Duration| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos).max(INTERVAL_MIN),
            _ => default,
        };
        Self {
            command: Vec::new(),
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: or(check.start_period, Duration::ZERO),
            start_interval: or(check.start_interval, START_INTERVAL),
            retries: match u32::try_from(check.retries) {
                Ok(retries) if retries > 0 => retries,
                _ => RETRIES,
            },
        }
    }

    /// Until the next probe, `up` after the start.
    fn pause(&self, health: &Health, up: Duration) -> Duration {
        match health.status == HealthStatus::Starting && up < self.start_period {
            true => self.start_interval,
            false => self.interval,
        }
    }

    /// Takes in a probe; says whether the verdict changed.
    fn judge(&self, health: &mut Health, probe: Probe, up: Duration) -> bool {
        let before = health.status;
        if probe.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || up >= self.start_period {
            health.failing_streak = health.failing_streak.saturating_add(1);
            if health.failing_streak >= self.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        if health.log.len() >= PROBES_MAX {
            health.log.remove(0);
        }
        health.log.push(probe);
        health.status != before
    }
}

impl Executor {
    /// Probes a running container until it exits, if it has a check.
    pub(super) fn probe(&self, container: &Arc<Container>, shim: &Shim) {
        let Some(check) = Check::of(&container.life().record.create.config) else {
            return;
        };
        container.life().health.get_or_insert_default();
        let exit = container.next_exit();
        let (executor, container, shim) = (self.clone(), container.clone(), shim.clone());
        smol::spawn(async move {
            let begun = Instant::now();
            loop {
                let health = container.life().health.clone().unwrap_or_default();
                let pause = check.pause(&health, begun.elapsed());
                if within(pause, exit.recv()).await.is_some() {
                    return;
                }
                if !container.life().state.is_running() {
                    return;
                }
                if container.life().state.status == super::record::Status::Paused {
                    continue;
                }
                let probe = run(&check, &shim).await;
                if !container.life().state.is_running() {
                    return;
                }
                executor
                    .judge(&container, &check, probe, begun.elapsed())
                    .await;
            }
        })
        .detach();
    }

    async fn judge(&self, container: &Arc<Container>, check: &Check, probe: Probe, up: Duration) {
        let output = probe.output.clone();
        let (changed, status, task) = {
            let mut life = container.life();
            let health = life.health.get_or_insert_default();
            let changed = check.judge(health, probe, up);
            let status = health.status;
            (changed, status, life.record.task.clone())
        };
        if !changed {
            return;
        }
        // In the run folder: the next agent begins with it, a reboot does not.
        let file = verdict_file(&self.run_folder(container.id.as_str()));
        if let Err(error) = std::fs::write(&file, status.as_str()) {
            log::warn!("{}", crate::disk::failure("write", &file, &error));
        }
        self.tell(
            container,
            &format!("health_status: {}", status.as_str()),
            &[],
        );
        if let Some(task) = task {
            let health = engine_word(status);
            self.observe(Observation::Health {
                task,
                health,
                output,
            })
            .await;
        }
    }
}

/// What the last agent knew of a container that still runs.
pub(super) fn last_verdict(run_folder: &Path) -> Option<Health> {
    let text = std::fs::read_to_string(verdict_file(run_folder)).ok()?;
    let known = [HealthStatus::Healthy, HealthStatus::Unhealthy];
    let status = known.into_iter().find(|status| status.as_str() == text)?;
    Some(Health {
        status,
        ..Health::default()
    })
}

fn verdict_file(run_folder: &Path) -> PathBuf {
    run_folder.join("health")
}

/// The verdict in the engine's words.
pub(super) fn engine_word(status: HealthStatus) -> model::Health {
    match status {
        HealthStatus::Starting => model::Health::Starting,
        HealthStatus::Healthy => model::Health::Healthy,
        HealthStatus::Unhealthy => model::Health::Unhealthy,
    }
}

/// Runs the command once.
async fn run(check: &Check, shim: &Shim) -> Probe {
    let mut probe = Probe {
        start: super::now(),
        ..Probe::default()
    };
    let (exit_code, output) = match attempt(check, shim).await {
        Ok(seen) => seen,
        Err(reason) => (NO_CODE, reason),
    };
    probe.end = super::now();
    probe.exit_code = exit_code;
    probe.output = output;
    probe
}

async fn attempt(check: &Check, shim: &Shim) -> Result<(i64, String), String> {
    let spec = ExecSpec {
        id: super::random_id().map_err(|e| e.message)?,
        args: check.command.clone(),
        attach: Attach {
            stdin: false,
            stdout: true,
            stderr: true,
        },
        ..ExecSpec::default()
    };
    let mut exec = shim.exec(spec).await.map_err(|failure| failure.message)?;
    let ended = within(check.timeout, async {
        let mut output = Vec::new();
        while let Some(chunk) = exec.streams.output.next().await {
            let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
            output.extend(chunk.data.into_iter().take(room));
        }
        (shim.wait_exec(&exec.id).await, output)
    })
    .await;
    match ended {
        Some((Ok(code), output)) => Ok((
            i64::from(code),
            String::from_utf8_lossy(&output).into_owned(),
        )),
        Some((Err(error), _)) => Err(error.message),
        None => {
            if let Some(pid) = Pid::from_raw(exec.pid) {
                // It may end this very moment by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            Err(format!(
                "Health check exceeded timeout ({:?})",
                check.timeout
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Option<Check> {
        Check::of(&model::Config {
            healthcheck: Some(HealthConfig {
                test: test.iter().map(|word| (*word).to_owned()).collect(),
                start_period: 10_000_000_000,
                retries: 2,
                ..HealthConfig::default()
            }),
            ..model::Config::default()
        })
    }

    #[test]
    fn forms_of_the_command() {
        let shell = check(&["CMD-SHELL", "a && b"]).expect("is a check");
        assert_eq!(shell.command, ["/bin/sh", "-c", "a && b"]);
        assert_eq!((shell.interval, shell.retries), (INTERVAL, 2));
        assert_eq!(
            check(&["CMD", "a", "b"]).expect("is a check").command,
            ["a", "b"]
        );
        assert_eq!(check(&["NONE"]), None);
        assert_eq!(check(&[]), None);
    }

    #[test]
    fn failures_count_after_the_start_period_and_success_ends_it() {
        let check = check(&["CMD", "a"]).expect("is a check");
        let mut health = Health::default();
        let mut judge = |exit_code, seconds| {
            let probe = Probe {
                exit_code,
                ..Probe::default()
            };
            let changed = check.judge(&mut health, probe, Duration::from_secs(seconds));
            (changed, health.status, health.failing_streak)
        };
        assert_eq!(judge(1, 1), (false, HealthStatus::Starting, 0));
        assert_eq!(judge(1, 11), (false, HealthStatus::Starting, 1));
        assert_eq!(judge(1, 12), (true, HealthStatus::Unhealthy, 2));
        assert_eq!(judge(0, 13), (true, HealthStatus::Healthy, 0));
        assert_eq!(judge(1, 14), (false, HealthStatus::Healthy, 1));
        assert_eq!(judge(0, 15), (false, HealthStatus::Healthy, 0));
        assert_eq!(health.log.len(), PROBES_MAX);
    }
}
