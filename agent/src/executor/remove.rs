//! The end of a container's record: processes, folders, anonymous volumes.

use super::Executor;
use super::container::Container;
use super::record::Status;
use crate::backend::RemoveOptions;
use crate::disk;
use crate::error::{Kind, Result};
use skep_control::worker::Observation;
use std::sync::Arc;

impl Executor {
    /// Erases a container for a user.
    pub(crate) async fn remove(&self, wanted: &str, options: RemoveOptions) -> Result<()> {
        let container = self.find(wanted)?;
        if options.force {
            // Before the lock: a stop with a long grace may hold it.
            self.kill_first(&container).await;
        }
        let _serial = container.serial.lock().await;
        self.remove_locked(&container, options).await
    }

    async fn kill_first(&self, container: &Arc<Container>) {
        if container.life().state.is_running() {
            // The lock's holder waits for this exit; a failure is told later.
            let _ = self.kill(container.id.as_str(), "KILL").await;
        }
    }

    /// The caller holds `serial`.
    pub(super) async fn remove_locked(
        &self,
        container: &Arc<Container>,
        options: RemoveOptions,
    ) -> Result<()> {
        let (before, name) = {
            let mut life = container.life();
            let (before, name) = (life.state.status, life.record.name.clone());
            life.state.remove(&name, options.force)?;
            if matches!(before, Status::Running | Status::Paused) {
                life.state.status = before;
            }
            (before, name)
        };
        if matches!(before, Status::Running | Status::Paused) {
            container.life().stays = true;
            self.kill_locked(container).await?;
            container.life().state.status = Status::Removing;
        }
        let released = container.release.lock().await;
        let erased = self.erase(container, options.volumes).await;
        drop(released);
        if let Err(error) = erased {
            container.life().state.status = Status::Dead;
            return Err(error.within(format!("cannot remove container \"/{name}\"")));
        }
        self.table().remove(container);
        self.collect_images().await;
        container.life().waiting.clear();
        self.forget_execs(&container.id);
        container.tell_removal();
        self.tell(container, "destroy", &[]);
        if container.life().record.task.is_none() {
            self.observe(Observation::LocalForgotten {
                container: container.id.clone(),
            })
            .await;
        }
        Ok(())
    }

    async fn erase(&self, container: &Arc<Container>, with_volumes: bool) -> Result<()> {
        let (executor, container) = (self.clone(), container.clone());
        smol::unblock(move || {
            let folder = &container.folder;
            let durability = container.life().durability();
            let id = container.id.as_str();
            executor.0.ledger.remove(id, durability)?;
            executor.release_volumes(&container, with_volumes);
            let _ = std::fs::remove_dir_all(executor.run_folder(id));
            match std::fs::remove_dir_all(folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    // The container is gone all the same; the next start
                    // tries again.
                    log::warn!("{}", disk::failure("remove", folder, &e));
                }
                _ => {}
            }
            Ok(())
        })
        .await
    }

    /// Unbinds a container's volumes; its anonymous ones go with it.
    fn release_volumes(&self, container: &Container, with_anonymous: bool) {
        let mounts = container.life().record.mounts.clone();
        self.0.volumes.release(container.id.as_str());
        for mount in mounts
            .iter()
            .filter(|mount| mount.anonymous && with_anonymous)
        {
            match self.0.volumes.remove(&mount.name) {
                Ok(()) => self.tell_volume(&mount.name, "destroy"),
                // Another container took it over by `--volumes-from`.
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => log::warn!("volume {}: {error}", mount.name),
            }
        }
    }

    /// `--rm`: goes as soon as nobody works on it.
    pub(super) fn remove_later(&self, container: Arc<Container>) {
        let executor = self.clone();
        smol::spawn(async move {
            let _serial = container.serial.lock().await;
            let options = RemoveOptions {
                force: false,
                volumes: true,
            };
            match executor.remove_locked(&container, options).await {
                Ok(()) => {}
                // A user was faster, or started it again.
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) => log::error!("container {}: {error}", container.id),
            }
        })
        .detach();
    }
}
