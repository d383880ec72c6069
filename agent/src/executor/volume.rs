//! Named volumes as the API sees them. The volumes block on the disk, so all
//! that writes goes to the blocking pool.

use super::{Executor, now, random_id};
use crate::backend::{self, VolumeCreate};
use crate::error::{Error, Kind, Result};
use crate::volumes;

impl Executor {
    pub(crate) async fn volume_list(&self, sizes: bool) -> Vec<backend::Volume> {
        let executor = self.clone();
        smol::unblock(move || {
            let all = executor.0.volumes.list();
            all.into_iter()
                .map(|volume| executor.volume_copy(volume, sizes))
                .collect()
        })
        .await
    }

    pub(crate) async fn volume(&self, name: &str) -> Result<backend::Volume> {
        let volume = self.0.volumes.get(name)?;
        Ok(self.volume_copy(volume, false))
    }

    pub(crate) async fn volume_create(&self, create: VolumeCreate) -> Result<backend::Volume> {
        if !matches!(create.driver.as_str(), "" | "local") {
            return Err(Error::not_found(format!(
                "create {}: error looking up volume plugin {1}: plugin \"{1}\" not found",
                create.name, create.driver
            )));
        }
        let anonymous = create.name.is_empty();
        let mut labels = create.labels;
        if anonymous {
            labels.insert("com.docker.volume.anonymous".into(), String::new());
        }
        let volume = volumes::Volume {
            name: if anonymous { random_id()? } else { create.name },
            created: now(),
            labels,
            options: create.options,
            anonymous,
        };
        let executor = self.clone();
        smol::unblock(move || {
            let is_new = executor.0.volumes.get(&volume.name).is_err();
            let made = executor.0.volumes.create(volume)?;
            if is_new {
                executor.tell_volume(&made.name, "create");
            }
            Ok(executor.volume_copy(made, false))
        })
        .await
    }

    pub(crate) async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let (executor, name) = (self.clone(), name.to_owned());
        smol::unblock(move || match executor.0.volumes.remove(&name) {
            Ok(()) => {
                executor.tell_volume(&name, "destroy");
                Ok(())
            }
            Err(error) if force && error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    fn volume_copy(&self, volume: volumes::Volume, size: bool) -> backend::Volume {
        let volumes = &self.0.volumes;
        backend::Volume {
            driver: "local".into(),
            mountpoint: volumes.path(&volume.name).to_string_lossy().into_owned(),
            created: volume.created,
            users: volumes.users(&volume.name).len(),
            size: size.then(|| i64::try_from(volumes.size(&volume.name)).unwrap_or(i64::MAX)),
            labels: volume.labels,
            options: volume.options,
            anonymous: volume.anonymous,
            name: volume.name,
        }
    }
}
