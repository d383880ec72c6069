//! Finding again what was there: after the agent's end, its upgrade, or the
//! machine's. Containers whose shims live are taken over as they are; of the
//! others the shim's exit record tells the end, or nobody does (a reboot).

use super::Executor;
use super::container::{Container, state_path};
use super::exit::seen;
use super::record::{State, Status};
use super::stop::within;
use crate::disk;
use crate::error::{Kind, Result};
use crate::network::Live;
use crate::shim::{self, ExitRecord, Shim, cgroup};
use skep_control::model::WallTime;
use skep_control::worker::Observation;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A shim answers at once, unless the machine is out of breath.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Executor {
    /// Takes over what is there, and says what it found. Called once, before
    /// anything else.
    pub(crate) async fn adopt(&self) -> Result<Vec<Observation>> {
        let executor = self.clone();
        let folders = smol::unblock(move || executor.read_folders()).await?;
        let mut lives = Vec::new();
        let mut running = Vec::new();
        let mut lost = Vec::new();
        for container in folders {
            match self.reconnect(&container).await {
                Some((shim, live)) => {
                    lives.push(live);
                    running.push((container.clone(), shim));
                }
                None if self.settle(&container).await => lost.push(container.clone()),
                None => {}
            }
            self.table().insert(container);
        }
        // Volumes count their users before anybody may remove one.
        for container in self.all() {
            self.bind_volumes(&container);
        }
        self.0.network.adopt(&lives).await?;
        log::info!(
            "{} containers, {} of them run",
            self.all().len(),
            running.len()
        );
        for (container, shim) in running {
            self.probe(&container, &shim);
            self.watch(container, shim);
        }
        Ok(self.found(&lost))
    }

    fn found(&self, lost: &[Arc<Container>]) -> Vec<Observation> {
        let mut found = Vec::new();
        for container in self.all() {
            let (runs, task, is_new, auto_remove) = {
                let life = container.life();
                (
                    life.state.is_running(),
                    life.record.task.clone(),
                    life.state.status == Status::Created,
                    life.record.create.host.auto_remove,
                )
            };
            let id = container.id.clone();
            match task {
                _ if runs => found.push(self.running(&container)),
                Some(task) if is_new => found.push(Observation::Prepared {
                    task,
                    container: id,
                }),
                Some(task) if lost.iter().any(|lost| lost.id == id) => {
                    found.push(Observation::Lost { task });
                }
                None if auto_remove => self.remove_later(container),
                _ => found.extend(self.exited(&container, true)),
            }
        }
        found
    }

    /// Every container that has a record. Folders of none are erased: their
    /// containers were never finished, or not to their end removed.
    fn read_folders(&self) -> Result<Vec<Arc<Container>>> {
        let inherited = &self.0.inherited;
        let records =
            std::mem::take(&mut *inherited.lock().unwrap_or_else(PoisonError::into_inner));
        let root = self.0.settings.data_dir.join("tasks");
        let entries = std::fs::read_dir(&root).map_err(|e| disk::failure("read", &root, &e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_suffix(shim::rootfs::APART_SUFFIX);
            if !records.contains_key(id.unwrap_or(&name)) {
                log::info!("container {name} has no record; erased");
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let mut containers = Vec::new();
        for (id, record) in records {
            let folder = self.folder(&id);
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    log::error!("container {id} is left alone: its record: {error}");
                    continue;
                }
            };
            // A power cut may have taken it.
            std::fs::create_dir_all(&folder).map_err(|e| disk::failure("mkdir", &folder, &e))?;
            let state = read_state(&folder);
            containers.push(Arc::new(Container::new(folder, record, state)));
        }
        Ok(containers)
    }

    /// The live shim of a container, if there is one.
    async fn reconnect(&self, container: &Arc<Container>) -> Option<(Shim, Live)> {
        let id = container.id.as_str();
        let folder = self.shim_folder();
        let connected = shim::connect(id, &folder, &container.folder);
        let shim = match within(ANSWER_TIMEOUT, connected).await {
            Some(Ok(shim)) => shim,
            None => {
                // A process that a killed shim left may hold its socket.
                log::warn!("container {id}: its shim does not answer");
                return None;
            }
            Some(Err(error)) => {
                if error.kind != Kind::NotFound {
                    log::warn!("container {id}: {error}");
                }
                return None;
            }
        };
        let path = self.run_folder(id).join("live");
        let live = disk::read_record::<Live>(&path).unwrap_or_else(|error| {
            log::error!("container {id}: its addresses are lost: {error}");
            None
        });
        let group = self.cgroup(&container.life().record);
        let frozen = smol::unblock(move || cgroup::is_frozen(&group)).await;
        let live = live.unwrap_or_default();
        let verdict = super::health::last_verdict(&self.run_folder(id));
        let mut life = container.life();
        let pid = u32::try_from(shim.pid()).unwrap_or(0);
        if !life.state.is_running() || life.state.pid != pid {
            life.state.started(pid, WallTime(shim.started()));
        }
        life.state.status = match frozen {
            true => Status::Paused,
            false => Status::Running,
        };
        life.shim = Some(shim.clone());
        life.sandbox = live.sandbox.clone();
        life.health = verdict;
        drop(life);
        Some((shim, live))
    }

    /// Brings the state of a container up to date that has no shim. Says
    /// whether it ran and nobody saw its end.
    async fn settle(&self, container: &Arc<Container>) -> bool {
        let socket = self.shim_folder().join(format!("{}.sock", container.id));
        if let Err(error) = shim::rootfs::Own::of(&container.folder).join() {
            log::error!("container {}: its changes are apart: {error}", container.id);
        }
        // Something of a run is left, whatever the state says.
        let unsettled = socket.exists();
        let folder = container.folder.clone();
        let record = smol::unblock(move || ExitRecord::read(&folder)).await;
        let mut lost = false;
        let ran = {
            let mut life = container.life();
            let ran = life.state.is_running();
            match record {
                Some(record) if WallTime(record.finished) != life.state.finished_at => {
                    life.state.started_at = WallTime(record.started);
                    life.state.exited(&seen(&record));
                    true
                }
                _ if ran => {
                    life.state.lost(super::now());
                    lost = true;
                    true
                }
                _ => {
                    // A restart that the last agent still owed is told anew.
                    if life.state.status == Status::Restarting {
                        life.state.status = Status::Exited;
                    }
                    unsettled
                }
            }
        };
        if !ran {
            return false;
        }
        container.save_state_or_log();
        self.release_run(container).await;
        let group = self.cgroup(&container.life().record);
        let id = container.id.clone();
        smol::unblock(move || {
            super::orphans::kill(id.as_str());
            if let Err(error) = cgroup::sweep(&group) {
                log::warn!("container {id}: control group: {error}");
            }
        })
        .await;
        lost
    }

    fn bind_volumes(&self, container: &Container) {
        let mounts = container.life().record.mounts.clone();
        for mount in mounts.iter().filter(|mount| mount.kind == "volume") {
            if let Err(error) = self.0.volumes.acquire(&mount.name, container.id.as_str()) {
                log::warn!("container {}: {error}", container.id);
            }
        }
    }
}

/// What became of a container, as far as its folder tells.
fn read_state(folder: &Path) -> State {
    let read = disk::read_record::<State>(&state_path(folder)).unwrap_or_else(|error| {
        // A lost state is an end that nobody saw.
        log::warn!("{error}");
        let mut state = State {
            status: Status::Exited,
            ..State::default()
        };
        state.lost(super::now());
        Some(state)
    });
    let first_run = || {
        let mounted = shim::rootfs::ever_mounted(folder)?;
        let since = mounted.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(State {
            status: Status::Running,
            started_at: WallTime(i64::try_from(since.as_nanos()).unwrap_or(0)),
            ..State::default()
        })
    };
    read.or_else(first_run).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_tells_of_a_container() {
        let folder = std::env::temp_dir().join(format!("skep-adopt-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("makes");
        assert_eq!(read_state(&folder), State::default());

        std::fs::create_dir(folder.join(shim::rootfs::WORK)).expect("makes");
        let state = read_state(&folder);
        assert!(state.is_running() && !state.started_at.is_never());

        std::fs::write(state_path(&folder), "torn").expect("tears");
        let state = read_state(&folder);
        assert_eq!(state.exit_code, super::super::record::UNSEEN_EXIT);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
