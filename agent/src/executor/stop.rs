//! Ending and holding a container's process: stop, kill, restart, pause.

use super::Executor;
use super::container::Container;
use super::record::Status;
use super::signal::{self, KILL, TERM};
use super::start::By;
use crate::error::{Error, Kind, Result};
use crate::shim::cgroup;
use skep_control::worker::Observation;
use smol::future::FutureExt as _;
use std::sync::Arc;
use std::time::Duration;

/// Between stop signal and kill when nobody says otherwise.
const GRACE_SECONDS: i64 = 10;
/// How long a kill may take to end a process: one stuck in the kernel (a dead
/// NFS server) is given up on, and told.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How to stop a container.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stopping<'a> {
    /// Empty: the container's own.
    pub(super) signal: &'a str,
    /// `None`: the container's own. Negative: wait for ever.
    pub(super) grace_ms: Option<i64>,
}

impl Executor {
    /// Stops a container for a user; returns when its process is gone.
    pub(crate) async fn stop(
        &self,
        wanted: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        if container.life().state.status.is_restarting() {
            return self.give_up_restart(&container).await;
        }
        if !container.life().state.is_running() {
            return Err(Error::not_modified("container is already stopped"));
        }
        self.by_user(&container).await?;
        let grace_ms = grace_seconds.map(|seconds| seconds.saturating_mul(1000));
        self.stop_locked(&container, Stopping { signal, grace_ms })
            .await?;
        self.tell(&container, "stop", &[]);
        Ok(())
    }

    /// A stop between two runs: the next one does not come.
    async fn give_up_restart(&self, container: &Arc<Container>) -> Result<()> {
        container.life().state.status = Status::Exited;
        self.by_user(container).await?;
        self.observe(Observation::LocalForgotten {
            container: container.id.clone(),
        })
        .await;
        self.tell(container, "stop", &[]);
        Ok(())
    }

    /// Remembers that a user ended it: its policy is to let it be.
    async fn by_user(&self, container: &Arc<Container>) -> Result<()> {
        let durability = {
            let mut life = container.life();
            life.state.stopped_by_user = true;
            match life.record.create.host.restart_policy.name.as_str() {
                "" | "no" => return Ok(()),
                _ => life.durability(),
            }
        };
        let container = container.clone();
        smol::unblock(move || container.save_state(durability)).await
    }

    /// Signal, grace, kill. The caller holds `serial`.
    pub(super) async fn stop_locked(
        &self,
        container: &Arc<Container>,
        stopping: Stopping<'_>,
    ) -> Result<()> {
        let (own_signal, own_grace) = {
            let life = container.life();
            let config = &life.record.create.config;
            (config.stop_signal.clone(), config.stop_timeout)
        };
        let signal = match (stopping.signal, own_signal.as_str()) {
            ("", "") => TERM,
            ("", own) => signal::parse(own).unwrap_or(TERM),
            (asked, _) => signal::parse(asked)?,
        };
        let own_ms = own_grace.unwrap_or(GRACE_SECONDS).saturating_mul(1000);
        let grace_ms = stopping.grace_ms.unwrap_or(own_ms);
        // Before the signal: the exit may come at once.
        let exit = container.next_exit();
        if !container.life().state.is_running() {
            return Ok(());
        }
        match self.signal(container, signal).await {
            Ok(()) => {}
            // It ended meanwhile.
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let Ok(grace_ms) = u64::try_from(grace_ms) else {
            let _ = exit.recv().await;
            return Ok(());
        };
        if within(Duration::from_millis(grace_ms), exit.recv())
            .await
            .is_some()
        {
            return Ok(());
        }
        self.kill_locked(container).await
    }

    /// Kills and waits for the end. The caller holds `serial`.
    pub(super) async fn kill_locked(&self, container: &Arc<Container>) -> Result<()> {
        let exit = container.next_exit();
        if !container.life().state.is_running() {
            return Ok(());
        }
        match self.signal(container, KILL).await {
            Err(error) if error.kind != Kind::NotFound => return Err(error),
            _ => {}
        }
        match within(KILL_TIMEOUT, exit.recv()).await {
            Some(_) => Ok(()),
            None => Err(Error::internal(format!(
                "cannot kill container {}: its process did not end within {} s of SIGKILL; it is stuck in the kernel",
                container.id,
                KILL_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Sends a signal, and lets a paused container take it.
    async fn signal(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let (shim, paused) = {
            let life = container.life();
            (life.shim.clone(), life.state.status == Status::Paused)
        };
        let shim = shim.ok_or_else(|| Error::not_found("its process is gone"))?;
        shim.signal(signal, false).await?;
        self.tell(container, "kill", &[("signal", signal.to_string())]);
        if paused {
            self.freeze(container, false).await?;
        }
        Ok(())
    }

    /// `docker kill`: no lock, so that it reaches a container that is being
    /// stopped.
    pub(crate) async fn kill(&self, wanted: &str, signal: &str) -> Result<()> {
        let container = self.find(wanted)?;
        let number = match signal {
            "" => KILL,
            text => signal::parse(text)?,
        };
        {
            let life = container.life();
            life.state.check_kill(wanted, container.id.as_str())?;
        }
        self.by_user(&container).await?;
        if number != KILL {
            return self.signal(&container, number).await;
        }
        let exit = container.next_exit();
        match self.signal(&container, KILL).await {
            Err(error) if error.kind != Kind::NotFound => return Err(error),
            _ => {}
        }
        // Docker returns when it is gone, or soon after.
        let _ = within(KILL_TIMEOUT, exit.recv()).await;
        Ok(())
    }

    /// Stops, if it runs, and starts again.
    pub(crate) async fn restart(
        &self,
        wanted: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        // A bad signal must not find out after the stop.
        if !signal.is_empty() {
            signal::parse(signal)?;
        }
        container.life().stays = true;
        let grace_ms = grace_seconds.map(|seconds| seconds.saturating_mul(1000));
        let stopped = self
            .stop_locked(&container, Stopping { signal, grace_ms })
            .await;
        container.life().stays = false;
        stopped?;
        self.start_locked(&container, By::User).await?;
        self.tell(&container, "restart", &[]);
        Ok(())
    }

    pub(crate) async fn pause(&self, wanted: &str) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        let before = container.life().state.clone();
        container.life().state.pause(container.id.as_str())?;
        if let Err(error) = self.freeze_group(&container, true).await {
            container.life().state = before;
            return Err(error);
        }
        container.save_state_or_log();
        self.tell(&container, "pause", &[]);
        Ok(())
    }

    pub(crate) async fn unpause(&self, wanted: &str) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        self.freeze(&container, false).await?;
        Ok(())
    }

    async fn freeze(&self, container: &Arc<Container>, frozen: bool) -> Result<()> {
        debug_assert!(!frozen, "pause checks first");
        container
            .life()
            .state
            .clone()
            .unpause(container.id.as_str())?;
        self.freeze_group(container, false).await?;
        // It may have been killed and ended meanwhile: then nothing is left to do.
        if container
            .life()
            .state
            .unpause(container.id.as_str())
            .is_ok()
        {
            container.save_state_or_log();
        }
        self.tell(container, "unpause", &[]);
        Ok(())
    }

    async fn freeze_group(&self, container: &Arc<Container>, frozen: bool) -> Result<()> {
        let group = self.cgroup(&container.life().record);
        smol::unblock(move || cgroup::freeze(&group, frozen)).await
    }

    /// Stops all containers, as the agent's `--drain-on-exit` wants it. No user
    /// stopped them: their policies bring them back with the next agent.
    pub(crate) async fn stop_all(&self) {
        let stopping: Vec<_> = self
            .all()
            .into_iter()
            .filter(|container| container.life().state.is_running())
            .map(|container| {
                let executor = self.clone();
                smol::spawn(async move {
                    let _serial = container.serial.lock().await;
                    container.life().stays = true;
                    if let Err(error) = executor.stop_locked(&container, Stopping::default()).await
                    {
                        log::error!("container {}: {error}", container.id);
                    }
                })
            })
            .collect();
        for task in stopping {
            task.await;
        }
    }
}

/// The future's value, or `None` when the time is over first.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let value = async { Some(future.await) };
    let late = async {
        smol::Timer::after(time).await;
        None
    };
    value.or(late).await
}
