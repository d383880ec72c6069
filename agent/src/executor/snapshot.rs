//! Containers as the API sees them: copies, taken at one moment.

use super::Executor;
use super::container::{Container, Life};
use super::exit::forget_addresses;
use super::record::Status;
use crate::backend::{
    self, ContainerExit, ContainerSize, ContainerState, HostFiles, NetworkState, WaitCondition,
    Waiter,
};
use crate::error::{Error, Result};
use crate::oci;
use skep_control::model::{ContainerCreate, EndpointSettings};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is hidden and what is read-only unless the user said so, as inspect
/// shows it.
fn with_default_paths(mut create: ContainerCreate) -> ContainerCreate {
    let host = &mut create.host;
    if !host.privileged {
        let all = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        host.masked_paths.get_or_insert_with(|| all(&oci::MASKED));
        host.readonly_paths
            .get_or_insert_with(|| all(&oci::READ_ONLY));
    }
    create
}

impl Executor {
    /// How many containers there are by Docker's three states.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::from([("running", 0), ("paused", 0), ("stopped", 0)]);
        for container in self.all() {
            let state = match container.life().state.status {
                Status::Running => "running",
                Status::Paused => "paused",
                _ => "stopped",
            };
            *states.entry(state).or_default() += 1;
        }
        states
    }

    pub(crate) async fn containers(&self, sizes: bool) -> Vec<backend::Container> {
        let mut all = Vec::new();
        for container in self.all() {
            all.push(self.snapshot(&container, sizes).await);
        }
        all
    }

    pub(crate) async fn container(&self, wanted: &str, size: bool) -> Result<backend::Container> {
        let container = self.find(wanted)?;
        Ok(self.snapshot(&container, size).await)
    }

    async fn snapshot(&self, container: &Arc<Container>, size: bool) -> backend::Container {
        // Only what names folders needs the layers; without an image's they
        // are simply not shown.
        if size {
            let _ = self.know_layers(container).await;
        }
        let mut copy = {
            let life = container.life();
            self.copy(container, &life)
        };
        if size {
            copy.size = Some(self.size(container).await);
        }
        copy
    }

    fn copy(&self, container: &Container, life: &Life) -> backend::Container {
        let (record, state) = (&life.record, &life.state);
        backend::Container {
            id: record.id.clone(),
            name: record.name.clone(),
            created: record.created,
            create: with_default_paths(record.create.clone()),
            image_id: record.image_id.clone(),
            path: record.path.clone(),
            args: record.args.clone(),
            platform: record.platform.clone(),
            state: ContainerState {
                status: state.snapshot_status(),
                pid: state.pid,
                exit_code: state.exit_code,
                oom_killed: state.oom_killed,
                error: state.error.clone(),
                started_at: state.started_at,
                finished_at: state.finished_at,
                health: life.health.clone(),
            },
            restart_count: state.restart_count,
            mounts: record
                .mounts
                .iter()
                .map(super::record::Mounted::snapshot)
                .collect(),
            network: network(life),
            exec_ids: self.execs_of(&record.id),
            files: self.files(container, life),
            size: None,
        }
    }

    fn files(&self, container: &Container, life: &Life) -> HostFiles {
        let run = self.run_folder(container.id.as_str());
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let layers: Vec<String> = life
            .layers
            .iter()
            .rev()
            .map(|layer| text(layer.clone()))
            .collect();
        let overlay = [
            ("LowerDir", layers.join(":")),
            ("MergedDir", text(container.folder.join("merged"))),
            ("UpperDir", text(container.folder.join("upper"))),
            ("WorkDir", text(container.folder.join("work"))),
        ];
        HostFiles {
            resolv_conf: text(run.join("resolv.conf")),
            hostname: text(run.join("hostname")),
            hosts: text(run.join("hosts")),
            log: text(container.folder.join("log")),
            overlay: overlay.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    async fn size(&self, container: &Arc<Container>) -> ContainerSize {
        let upper = container.folder.join("upper");
        let layers = container.life().layers.clone();
        smol::unblock(move || {
            let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
            let writable = bytes(crate::volumes::tree_size(&upper));
            let image: i64 = layers
                .iter()
                .map(|layer| bytes(crate::volumes::tree_size(layer)))
                .sum();
            ContainerSize {
                writable,
                root: writable.saturating_add(image),
            }
        })
        .await
    }

    /// Registers a wait; what it returns resolves at the exit.
    pub(crate) fn wait(&self, wanted: &str, until: WaitCondition) -> Result<Waiter> {
        let container = self.find(wanted)?;
        let coming = match until {
            WaitCondition::Removed => container.removal(),
            WaitCondition::NextExit | WaitCondition::NotRunning => container.next_exit(),
        };
        if until == WaitCondition::NotRunning {
            // After the registration, so that no exit falls between.
            let state = container.life().state.clone();
            if !state.is_running() {
                let exit = ContainerExit {
                    code: state.exit_code,
                    error: None,
                };
                return Ok(Box::pin(async move { Ok(exit) }));
            }
        }
        Ok(Box::pin(async move {
            coming
                .recv()
                .await
                .map_err(|_| Error::internal("the container is gone"))
        }))
    }

    /// What the containers are made of.
    pub(crate) fn image_uses(&self) -> Vec<skep_images::Use> {
        let mut uses = Vec::new();
        for container in self.all() {
            let life = container.life();
            match life.record.image_id.parse() {
                Ok(image) => uses.push(skep_images::Use {
                    image,
                    container: container.id.0.clone(),
                    running: life.state.is_running(),
                }),
                Err(error) => log::error!("container {}: image id: {error}", container.id),
            }
        }
        uses
    }
}

/// The networks of a container: as they are while it runs, as they were wished
/// before.
fn network(life: &Life) -> NetworkState {
    let sandbox = &life.sandbox;
    let mut endpoints = sandbox.endpoints.clone();
    if endpoints.is_empty() {
        endpoints = wished(life);
    }
    if !life.state.is_running() {
        let mut blank = crate::network::Sandbox {
            endpoints,
            ..Default::default()
        };
        forget_addresses(&mut blank);
        // What was wished for stays.
        let wishes = &life.record.create.networking.endpoints_config;
        for (name, endpoint) in &mut blank.endpoints {
            if let Some(wish) = wishes.get(name) {
                endpoint.mac_address.clone_from(&wish.mac_address);
            }
        }
        return NetworkState {
            endpoints: blank.endpoints,
            ..NetworkState::default()
        };
    }
    NetworkState {
        endpoints,
        ports: sandbox.ports.clone(),
        sandbox_id: sandbox.id.clone(),
        sandbox_key: sandbox
            .netns
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

fn wished(life: &Life) -> BTreeMap<String, EndpointSettings> {
    let create = &life.record.create;
    let mut endpoints = create.networking.endpoints_config.clone();
    let mode = match create.host.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    if !mode.starts_with("container:") {
        // `default` and `bridge` are one network.
        let default = endpoints.remove("default");
        endpoints
            .entry(mode.to_owned())
            .or_insert_with(|| default.unwrap_or_default());
    }
    endpoints
}
