//! Making a container: everything but its process. After a failure nothing of
//! it is left but images and volumes that the user named.

use super::Executor;
use super::container::{Container, durability};
use super::record::{Record, State};
use super::{image, now, random_id, signal};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use crate::{logs, shim};
use skep_control::model::{ContainerCreate, LogConfig, PortConfig, TaskId};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one creation is about.
pub(super) struct Order {
    /// Empty: one is invented.
    pub(super) name: String,
    pub(super) create: ContainerCreate,
    pub(super) platform: Option<String>,
    pub(super) task: Option<TaskId>,
    /// Ports that the task publishes on this node.
    pub(super) host_ports: Vec<PortConfig>,
}

impl Executor {
    /// Makes a container. An empty name is invented.
    pub(crate) async fn create(
        &self,
        name: &str,
        create: ContainerCreate,
        platform: Option<String>,
    ) -> Result<skep_control::model::ContainerId> {
        let order = Order {
            name: name.to_owned(),
            create,
            platform,
            task: None,
            host_ports: Vec::new(),
        };
        self.make(order).await.map(|container| container.id.clone())
    }

    pub(super) async fn make(&self, order: Order) -> Result<Arc<Container>> {
        let id = random_id()?;
        // The name first: of two creations at once one must lose early.
        let mut seed = id.bytes().cycle();
        let random =
            move || (0..4).fold(0, |word, _| word << 8 | u32::from(seed.next().unwrap_or(0)));
        let name = self.table().reserve(&order.name, &id, random)?;
        let made = self.make_named(&id, &name, order).await;
        if made.is_err() {
            self.unmake(&id, &name).await;
        }
        made
    }

    async fn make_named(&self, id: &str, name: &str, order: Order) -> Result<Arc<Container>> {
        let mut create = order.create;
        let (image, _hold) = self
            .resolve_image(&create.config.image, order.platform.as_deref())
            .await?;
        crate::oci::merge(&mut create.config, &image::config(&image.config.config));
        check(&create)?;
        self.fill(id, &mut create)?;
        let words: Vec<String> = [&create.config.entrypoint, &create.config.cmd]
            .into_iter()
            .flatten()
            .flat_map(|argv| argv.0.iter().cloned())
            .collect();
        let (path, args) = words
            .split_first()
            .filter(|(path, _)| !path.is_empty())
            .ok_or_else(|| Error::invalid("no command specified"))?;
        let (executor, layers) = (self.clone(), self.layers(&image.id.to_string()).await?);
        let mut record = Record {
            id: id.into(),
            name: name.to_owned(),
            created: now(),
            image_id: image.id.to_string(),
            image_manifest: Some(image.manifest.to_string()),
            path: path.clone(),
            args: args.to_vec(),
            platform: platform(&image.platform),
            create,
            mounts: Vec::new(),
            task: order.task,
            host_ports: order.host_ports,
        };
        let folder = self.folder(id);
        let container = smol::unblock(move || {
            record.mounts = executor.make_mounts(record.id.as_str(), &record.create)?;
            executor.populate(&record.mounts, &layers)?;
            executor.persist(&folder, &record, &layers)?;
            let container = Container::new(folder, record, State::default());
            container.life().layers = layers;
            Ok::<_, Error>(Arc::new(container))
        })
        .await?;
        self.table().insert(container.clone());
        self.tell(&container, "create", &[]);
        Ok(container)
    }

    /// Erases what a failed creation left.
    async fn unmake(&self, id: &str, name: &str) {
        self.table().release(name, id);
        let (executor, id) = (self.clone(), id.to_owned());
        smol::unblock(move || {
            let volumes = &executor.0.volumes;
            let own: Vec<String> = volumes
                .list()
                .into_iter()
                .filter(|volume| volume.anonymous && volumes.users(&volume.name) == [id.clone()])
                .map(|volume| volume.name)
                .collect();
            volumes.release(&id);
            for name in own {
                if let Err(error) = volumes.remove(&name) {
                    log::warn!("volume {name} of a container that was not made: {error}");
                }
            }
            if let Err(error) = executor.0.ledger.remove(&id, Durability::Cached) {
                log::warn!("container {id} that was not made: {error}");
            }
            let _ = std::fs::remove_dir_all(executor.folder(&id));
        })
        .await;
    }

    /// Writes the container to disk.
    fn persist(&self, folder: &Path, record: &Record, layers: &[PathBuf]) -> Result<()> {
        std::fs::create_dir(folder).map_err(|e| disk::failure("mkdir", folder, &e))?;
        make_upper(folder, layers)?;
        // Folders that a power cut takes are made again: the record counts.
        self.0.ledger.put(record, durability(record))
    }

    /// Fills in what depends on this node and this container.
    fn fill(&self, id: &str, create: &mut ContainerCreate) -> Result<()> {
        for mode in [
            &mut create.host.network_mode,
            &mut create.host.ipc_mode,
            &mut create.host.pid_mode,
        ] {
            if let Some(other) = mode.strip_prefix("container:") {
                *mode = format!("container:{}", self.find(other)?.id);
            }
        }
        let shares_names = create.host.network_mode == "host" || create.host.uts_mode == "host";
        if create.config.hostname.is_empty() {
            create.config.hostname = match shares_names {
                true => rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned(),
                false => id.chars().take(12).collect(),
            };
        }
        Ok(())
    }
}

/// What can be told to be wrong before anything is made.
fn check(create: &ContainerCreate) -> Result<()> {
    if !create.config.stop_signal.is_empty() {
        signal::parse(&create.config.stop_signal)?;
    }
    let policy = &create.host.restart_policy;
    if create.host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    log_options(&create.host.log_config)?;
    super::mounts::parse(create).map(drop)
}

/// How much of a container's output is kept.
pub(super) fn log_options(config: &LogConfig) -> Result<logs::Options> {
    let mut options = logs::Options::default();
    match config.kind.as_str() {
        "" | "json-file" | "local" | "journald" => {}
        "none" => options.max_size = 0,
        other => {
            return Err(Error::invalid(format!(
                "logger: no log driver named '{other}' is registered"
            )));
        }
    }
    for (key, value) in &config.config {
        let wrong = || Error::invalid(format!("invalid value for {key}: {value}"));
        match key.as_str() {
            "max-size" if value == "-1" => {}
            "max-size" => {
                let bytes = size(value).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
                if config.kind != "none" {
                    options.max_size = bytes;
                }
            }
            "max-file" => {
                options.max_file = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
            }
            // What the ring does anyway, or what only reading needs.
            "mode" | "max-buffer-size" | "compress" | "labels" | "labels-regex" | "env"
            | "env-regex" | "tag" => {}
            _ => {
                let kind = match config.kind.as_str() {
                    "" => "json-file",
                    kind => kind,
                };
                return Err(Error::invalid(format!(
                    "unknown log opt '{key}' for {kind} log driver"
                )));
            }
        }
    }
    Ok(options)
}

/// `10m`, `1g`, `500k`, `1048576`, in powers of 1024 as Docker reads them.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (number, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(number) if lower.ends_with('k') => (number, 10),
        Some(number) if lower.ends_with('m') => (number, 20),
        Some(number) => (number, 30),
        None => (lower, 0),
    };
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `linux`, or with the architecture where it is not this node's.
fn platform(image: &skep_images::Platform) -> String {
    match image.architecture == skep_images::Platform::host().architecture {
        true => "linux".into(),
        false => image.to_string(),
    }
}

/// Makes the folder of what a container changes, unless it is there.
pub(super) fn make_upper(folder: &Path, layers: &[PathBuf]) -> Result<()> {
    let upper = folder.join(shim::rootfs::UPPER);
    match std::fs::create_dir(&upper) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(|e| disk::failure("mkdir", &upper, &e))?,
    }
    // The overlay's root has the upper folder's owner and mode: the image's.
    let Some(top) = layers.last() else {
        return Ok(());
    };
    let like = std::fs::metadata(top).map_err(|e| disk::failure("read", top, &e))?;
    std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))
        .and_then(|()| {
            let mode = std::fs::Permissions::from_mode(like.mode() & 0o7777);
            std::fs::set_permissions(&upper, mode)
        })
        .map_err(|e| disk::failure("mkdir", &upper, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: &str, options: &[(&str, &str)]) -> Result<logs::Options> {
        log_options(&LogConfig {
            kind: kind.into(),
            config: options
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        })
    }

    #[test]
    fn log_options_are_dockers() {
        let read = options("json-file", &[("max-size", "10m"), ("max-file", "3")]);
        let read = read.expect("are valid");
        assert_eq!((read.max_size, read.max_file), (10 << 20, 3));
        assert_eq!(options("none", &[]).expect("is valid").max_size, 0);
        assert_eq!(
            options("syslog", &[]).expect_err("unknown").message,
            "logger: no log driver named 'syslog' is registered"
        );
        assert_eq!(
            options("", &[("x", "1")]).expect_err("unknown").message,
            "unknown log opt 'x' for json-file log driver"
        );
        assert!(options("", &[("max-size", "lots")]).is_err());
    }
}
