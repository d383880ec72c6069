//! A container's end: seen, cleaned up after, recorded, then told.

use super::Executor;
use super::container::Container;
use super::record::{Exit, Status};
use crate::backend::ContainerExit;
use crate::disk;
use crate::shim::{ExitRecord, Shim, cgroup};
use skep_control::model::WallTime;
use skep_control::worker::Observation;
use std::sync::Arc;

/// Exit code of a container whose shim was killed under it: it is killed too.
const KILLED: i64 = 137;

impl Executor {
    /// Waits for a run's end in the background.
    pub(super) fn watch(&self, container: Arc<Container>, shim: Shim) {
        let executor = self.clone();
        smol::spawn(async move {
            let exit = match shim.wait().await {
                Some(record) => seen(&record),
                None => executor.sweep(&container).await,
            };
            executor.ended(container, exit).await;
        })
        .detach();
    }

    /// The shim is gone without a word: so shall be what it watched.
    async fn sweep(&self, container: &Arc<Container>) -> Exit {
        log::warn!("container {}: its shim was killed", container.id);
        let group = self.cgroup(&container.life().record);
        let id = container.id.clone();
        smol::unblock(move || {
            super::orphans::kill(id.as_str());
            if let Err(error) = cgroup::sweep(&group) {
                log::warn!("container {id}: control group: {error}");
            }
        })
        .await;
        Exit {
            code: KILLED,
            at: super::now(),
            error: "the container's monitor was killed".into(),
            ..Exit::default()
        }
    }

    async fn ended(&self, container: Arc<Container>, exit: Exit) {
        let released = container.release.lock().await;
        self.tell_end(&container, &exit);
        let (stays, auto_remove, is_free) = {
            let mut life = container.life();
            life.state.exited(&exit);
            let policy = &life.record.create.host.restart_policy;
            let standalone = life.record.task.is_none();
            if standalone
                && !life.stays
                && life.state.status == Status::Exited
                && life.state.will_restart(policy)
            {
                life.state.status = Status::Restarting;
            }
            life.shim = None;
            // Nothing that the next attempt wants is held by this one.
            let is_free = !standalone && life.record.host_ports.is_empty();
            (life.stays, life.record.create.host.auto_remove, is_free)
        };
        let mut observation = self.exited(&container, false).filter(|_| !stays);
        if is_free && let Some(observation) = observation.take() {
            // At once: its replacement need not wait for the cleaning.
            self.observe(observation).await;
        }
        self.release_run(&container).await;
        forget_addresses(&mut container.life().sandbox);
        container.save_state_or_log();
        drop(released);
        container.tell_exit(&ContainerExit {
            code: exit.code,
            error: (!exit.error.is_empty()).then(|| exit.error.clone()),
        });
        if let Some(observation) = observation {
            self.observe(observation).await;
        }
        if auto_remove && !stays {
            self.remove_later(container);
        }
    }

    /// Gives back what only a run needs.
    pub(super) async fn release_run(&self, container: &Arc<Container>) {
        let id = container.id.as_str();
        if let Err(error) = self.0.network.detach(id).await {
            log::warn!("container {id}: network after its exit: {error}");
        }
        let folder = self.run_folder(id);
        let (executor, of) = (self.clone(), container.clone());
        smol::unblock(move || {
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                log::warn!("{}", disk::failure("remove", &folder, &error));
            }
            executor.unmount_volumes(&of);
        })
        .await;
    }

    /// Takes volumes that are mounts off, unless another container that runs
    /// uses them.
    pub(super) fn unmount_volumes(&self, container: &Container) {
        let mounts = container.life().record.mounts.clone();
        for mount in mounts.iter().filter(|mount| mount.kind == "volume") {
            let has_options = self
                .0
                .volumes
                .get(&mount.name)
                .is_ok_and(|volume| !volume.options.is_empty());
            if !has_options {
                continue;
            }
            let in_use = self.0.volumes.users(&mount.name).into_iter().any(|user| {
                user != container.id.as_str()
                    && self
                        .find(&user)
                        .is_ok_and(|other| other.life().state.is_running())
            });
            if !in_use && let Err(error) = self.0.volumes.unmount(&mount.name) {
                log::warn!("volume {}: {error}", mount.name);
            }
        }
    }

    fn tell_end(&self, container: &Container, exit: &Exit) {
        let started_at = container.life().state.started_at;
        let seconds = exit.at.0.saturating_sub(started_at.0).max(0) / 1_000_000_000;
        if exit.oom_killed {
            self.tell(container, "oom", &[]);
        }
        let more = [
            ("exitCode", exit.code.to_string()),
            ("execDuration", seconds.to_string()),
        ];
        self.tell(container, "die", &more);
        self.tell_networks(container, "disconnect");
        self.tell_volumes(container, "unmount");
    }

    /// What the engine is told of a container that ended.
    pub(super) fn exited(&self, container: &Container, at_boot: bool) -> Option<Observation> {
        let life = container.life();
        let state = &life.state;
        match &life.record.task {
            Some(task) => Some(Observation::Exited {
                task: task.clone(),
                code: state.exit_code,
                oom: state.oom_killed,
                message: match state.started_at.is_never() {
                    true => state.error.clone(),
                    false => String::new(),
                },
            }),
            // It never ran: nobody waits for its return.
            None if state.status == Status::Created => None,
            None => Some(Observation::LocalExited {
                container: container.id.clone(),
                policy: life.record.create.host.restart_policy.clone(),
                code: state.exit_code,
                by_user: state.stopped_by_user,
                at_boot,
            }),
        }
    }
}

/// The shim's record in the executor's words.
pub(super) fn seen(record: &ExitRecord) -> Exit {
    Exit {
        code: i64::from(record.code),
        oom_killed: record.oom_killed,
        at: WallTime(record.finished),
        error: record.error.clone(),
    }
}

/// A container that does not run has networks, but no place on them.
pub(super) fn forget_addresses(sandbox: &mut crate::network::Sandbox) {
    for endpoint in sandbox.endpoints.values_mut() {
        endpoint.endpoint_id.clear();
        endpoint.gateway.clear();
        endpoint.ip_address.clear();
        endpoint.ip_prefix_len = 0;
        endpoint.ipv6_gateway.clear();
        endpoint.global_ipv6_address.clear();
        endpoint.global_ipv6_prefix_len = 0;
        endpoint.mac_address.clear();
    }
    sandbox.ports.clear();
    sandbox.netns = None;
    sandbox.id.clear();
}
