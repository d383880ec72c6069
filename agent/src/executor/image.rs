//! From an image's name to what a container takes from it. The store's calls
//! block, so they go to the blocking pool.

use super::Executor;
use crate::error::{Error, Result};
use skep_control::model::{Argv, Config, Empty, HealthConfig};
use skep_images::{ContainerDefaults, Hold, Image, Platform};
use std::path::PathBuf;

impl Executor {
    /// The image of that name, and a hold that keeps it until the container's
    /// record does. Never asks anybody but the store.
    pub(super) async fn resolve_image(
        &self,
        name: &str,
        platform: Option<&str>,
    ) -> Result<(Image, Hold)> {
        let platform = match platform {
            None | Some("") => None,
            Some(text) => Some(text.parse::<Platform>()?),
        };
        let (images, name) = (self.0.images.clone(), name.to_owned());
        smol::unblock(move || {
            let image = images.resolve(&name, platform.as_ref())?;
            let hold = images.hold(&image.id);
            Ok((image, hold))
        })
        .await
    }

    /// Lets images go that were removed by force while a container, now gone,
    /// used them. Costs nothing where there are none.
    pub(super) async fn collect_images(&self) {
        let used = self.image_uses().into_iter().map(|one| one.image).collect();
        let images = self.0.images.clone();
        if let Err(error) = smol::unblock(move || images.gc(&used)).await {
            log::warn!("images no container uses any more: {error}");
        }
    }

    /// The folders of an image's layers, lowest first.
    pub(super) async fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>> {
        let id = image_id
            .parse()
            .map_err(|e| Error::internal(format!("image id {image_id:?}: {e}")))?;
        let images = self.0.images.clone();
        smol::unblock(move || Ok(images.layers(&id)?)).await
    }
}

/// What the image says of its containers, in the create call's words.
pub(super) fn config(image: &ContainerDefaults) -> Config {
    let keys = |map: &std::collections::BTreeMap<String, skep_images::Empty>| {
        map.keys().map(|key| (key.clone(), Empty {})).collect()
    };
    Config {
        user: image.user.clone(),
        exposed_ports: keys(&image.exposed_ports),
        env: image.env.clone(),
        cmd: image.cmd.clone().map(Argv),
        entrypoint: image.entrypoint.clone().map(Argv),
        healthcheck: image.healthcheck.as_ref().map(|check| HealthConfig {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        volumes: keys(&image.volumes),
        working_dir: image.working_dir.clone(),
        labels: image.labels.clone(),
        stop_signal: image.stop_signal.clone(),
        on_build: image.on_build.clone(),
        shell: image.shell.clone().unwrap_or_default(),
        ..Config::default()
    }
}
