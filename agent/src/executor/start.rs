//! From a record to a running process. The path is short on purpose: nothing
//! is synced here but a user's wish that a reboot must remember, and what a
//! reboot ends is written to the run folder.

use super::container::{Container, WaitingClient};
use super::record::{Record, Status};
use super::{Executor, create, rootfs, stdio};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use crate::network::{Attach, Live, Sandbox};
use crate::oci::{BindMount, Inputs, Namespace};
use crate::shim::{self, ExitRecord, Failure, Launch, cgroup};
use skep_control::model::{Address, ContainerCreate, Health, WallTime};
use skep_control::worker::Observation;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Exit code of a container that could not be started for reasons of its node.
const NODE_FAILURE: i32 = 128;
/// Largest seccomp profile read, bytes: Docker's own has 12 kB.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// Who starts a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    User,
    /// Its restart policy.
    Policy,
    /// The engine, as a service's task.
    Engine,
}

impl Executor {
    /// Starts a container for a user.
    pub(crate) async fn start(&self, wanted: &str) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        self.start_locked(&container, By::User).await
    }

    /// Starts a container whose `serial` lock the caller holds.
    pub(super) async fn start_locked(&self, container: &Arc<Container>, by: By) -> Result<()> {
        container.life().state.check_start()?;
        let _place = self.0.starts.acquire().await;
        // What the run before held must be given back first.
        drop(container.release.lock().await);
        match self.launch(container).await {
            Ok(()) => {
                self.started(container, by).await;
                Ok(())
            }
            Err(failure) => {
                self.not_started(container, &failure).await;
                Err(failure.into())
            }
        }
    }

    async fn launch(&self, container: &Arc<Container>) -> Result<(), Failure> {
        let begun = Instant::now();
        smol::unblock(cgroup::warm_up).detach();
        self.know_layers(container).await?;
        let record = container.life().record.clone();
        let (executor, of) = (self.clone(), container.clone());
        smol::unblock(move || executor.prepare_files(&of)).await?;
        let files_at = begun.elapsed();
        let wish = wish(&record);
        let sandbox = self.0.network.attach(wish.clone()).await?;
        let network_at = begun.elapsed();
        let (executor, of, text) = (self.clone(), record.clone(), sandbox.clone());
        let files = smol::unblock(move || executor.write_run_files(&of, wish, &text)).await?;
        let mut launch = self.describe(container, &record, &sandbox, files)?;
        let waiting = std::mem::take(&mut container.life().waiting);
        launch.waiting = waiting
            .iter()
            .map(|client| stdio::wanted(client.options))
            .collect();
        let (shim, streams) = shim::launch(launch).await?;
        for (client, stream) in waiting.into_iter().zip(streams) {
            // A client that went away meanwhile drops its stream here.
            let _ = client.to.try_send(Ok(stdio::attached(stream)));
        }
        for warning in shim.warnings() {
            log::warn!("container {}: {warning}", record.name);
        }
        log::debug!(
            "container {}: files ready after {files_at:?}, network {network_at:?}, process {:?}",
            record.name,
            begun.elapsed()
        );
        let late = {
            let mut life = container.life();
            let pid = u32::try_from(shim.pid()).unwrap_or(0);
            life.state.started(pid, WallTime(shim.started()));
            life.shim = Some(shim.clone());
            life.sandbox = sandbox;
            std::mem::take(&mut life.waiting)
        };
        self.serve_late(&shim, late).await;
        container.life().health = None;
        self.probe(container, &shim);
        self.watch(container.clone(), shim);
        Ok(())
    }

    /// Clients that attached while the start was under way.
    async fn serve_late(&self, shim: &shim::Shim, late: Vec<WaitingClient>) {
        for client in late {
            let stream = shim.attach(stdio::wanted(client.options)).await;
            let _ = client.to.try_send(stream.map(stdio::attached));
        }
    }

    /// Volumes, folders to bind, and the end of what a run before left.
    fn prepare_files(&self, container: &Container) -> Result<()> {
        let (mounts, layers) = {
            let life = container.life();
            (life.record.mounts.clone(), life.layers.clone())
        };
        ExitRecord::remove(&container.folder)?;
        create::make_upper(&container.folder, &layers)?;
        self.populate(&mounts, &layers)?;
        for mount in mounts.iter().filter(|mount| mount.kind == "bind") {
            // The short form makes its folder, as Docker does.
            let source = Path::new(&mount.source);
            if !source.exists() {
                std::fs::create_dir_all(source).map_err(|e| {
                    disk::failure("error while creating mount source path", source, &e)
                })?;
            }
        }
        Ok(())
    }

    /// The generated files of `/etc`, and what a restarted agent must know of
    /// the network.
    fn write_run_files(
        &self,
        record: &Record,
        attach: Attach,
        sandbox: &Sandbox,
    ) -> Result<Vec<BindMount>> {
        let folder = self.run_folder(record.id.as_str());
        std::fs::create_dir_all(&folder).map_err(|e| disk::failure("mkdir", &folder, &e))?;
        let config = &record.create.config;
        let hostname = format!("{}\n", config.hostname);
        let mut files = Vec::new();
        for (name, target, text) in [
            ("hosts", "/etc/hosts", sandbox.hosts.as_str()),
            ("hostname", "/etc/hostname", hostname.as_str()),
            (
                "resolv.conf",
                "/etc/resolv.conf",
                sandbox.resolv_conf.as_str(),
            ),
        ] {
            let source = folder.join(name);
            std::fs::write(&source, text).map_err(|e| disk::failure("write", &source, &e))?;
            if !record
                .mounts
                .iter()
                .any(|mount| mount.destination == target)
            {
                files.push(BindMount {
                    source,
                    target: target.into(),
                    read_only: record.create.host.readonly_rootfs,
                    ..BindMount::default()
                });
            }
        }
        let live = Live {
            attach,
            sandbox: sandbox.clone(),
        };
        disk::write_record(&folder.join("live"), &live, Durability::Cached)?;
        Ok(files)
    }

    /// All that the shim needs.
    fn describe(
        &self,
        container: &Container,
        record: &Record,
        sandbox: &Sandbox,
        files: Vec<BindMount>,
    ) -> Result<Launch> {
        let host = &record.create.host;
        let mut mounts = files;
        for mount in record.mounts.iter().filter(|mount| mount.kind != "tmpfs") {
            mounts.push(BindMount {
                source: self.mount_source(mount)?,
                target: PathBuf::from(&mount.destination),
                read_only: !mount.writable,
                propagation: mount.propagation.clone(),
                non_recursive: mount.non_recursive,
            });
        }
        let inputs = Inputs {
            id: record.id.0.clone(),
            create: record.create.clone(),
            mounts,
            network: match &sandbox.netns {
                Some(path) => Namespace::Path(path.clone()),
                None => Namespace::Host,
            },
            pid: self.namespace_of(&host.pid_mode, "pid")?,
            ipc: self.namespace_of(&host.ipc_mode, "ipc")?,
            cgroup_path: self.cgroup(record),
            seccomp_profile: seccomp_profile(&record.create)?,
        };
        Ok(Launch {
            id: record.id.0.clone(),
            task_dir: container.folder.clone(),
            run_dir: self.shim_folder(),
            layers: rootfs::with_places(self.places(), &container.life().layers),
            inputs,
            log: create::log_options(&host.log_config)?,
            waiting: Vec::new(),
        })
    }

    fn mount_source(&self, mount: &super::record::Mounted) -> Result<PathBuf> {
        let source = PathBuf::from(&mount.source);
        match mount.subpath.is_empty() {
            true => Ok(source),
            false => rootfs::inside(&source, Path::new(&mount.subpath)),
        }
    }

    /// `container:ID` → its namespace.
    fn namespace_of(&self, mode: &str, kind: &str) -> Result<Option<PathBuf>> {
        let Some(id) = mode.strip_prefix("container:") else {
            return Ok(None);
        };
        let pid = self.find(id)?.life().state.pid;
        if pid == 0 {
            return Err(Error::conflict(format!(
                "cannot join {} namespace of a non running container: {id}",
                kind.to_ascii_uppercase()
            )));
        }
        Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/{kind}"))))
    }

    /// The control group of a container, in every hierarchy.
    pub(super) fn cgroup(&self, record: &Record) -> PathBuf {
        let parent = match record.create.host.cgroup_parent.trim_matches('/') {
            "" => self.0.settings.cgroup_parent.trim_matches('/'),
            parent => parent,
        };
        Path::new("/").join(parent).join(record.id.as_str())
    }

    async fn started(&self, container: &Arc<Container>, by: By) {
        let durability = {
            let mut life = container.life();
            match by {
                By::User => life.state.restart_count = 0,
                By::Policy => life.state.restart_count += 1,
                By::Engine => {}
            }
            // A reboot must bring it back: that is a promise made now.
            let policy = life.record.create.host.restart_policy.name.as_str();
            match by == By::User && !matches!(policy, "" | "no") {
                true => life.durability(),
                false => Durability::Cached,
            }
        };
        let of = container.clone();
        let save = move || {
            if let Err(error) = of.save_started(durability) {
                log::error!("container {}: its state is not kept: {error}", of.id);
            }
        };
        match durability {
            Durability::Cached => save(),
            Durability::Synced => smol::unblock(save).await,
        }
        self.tell_networks(container, "connect");
        self.tell_volumes(container, "mount");
        self.tell(container, "start", &[]);
        if by == By::User && container.life().record.task.is_none() {
            // Restarts are counted anew.
            let container = container.id.clone();
            self.observe(Observation::LocalForgotten { container })
                .await;
        }
        let observation = self.running(container);
        self.observe(observation).await;
    }

    /// What the engine is told of a running container.
    pub(super) fn running(&self, container: &Container) -> Observation {
        let life = container.life();
        let Some(task) = life.record.task.clone() else {
            return Observation::LocalStarted {
                container: container.id.clone(),
            };
        };
        Observation::Started {
            task,
            container: container.id.clone(),
            pid: life.state.pid,
            since: life.state.started_at,
            addresses: addresses(&life.sandbox),
            ports: bound(&life.record, &life.sandbox),
            health: life.health.as_ref().map_or(Health::None, |health| {
                super::health::engine_word(health.status)
            }),
        }
    }

    /// Takes back what a failed start made.
    async fn not_started(&self, container: &Arc<Container>, failure: &Failure) {
        let id = container.id.as_str();
        if let Err(error) = self.0.network.detach(id).await {
            log::warn!("container {id}: network after a failed start: {error}");
        }
        let folder = self.run_folder(id);
        let code = match failure.exit_code {
            0 => NODE_FAILURE,
            code => code,
        };
        container
            .life()
            .state
            .failed(i64::from(code), &failure.message);
        // Whoever attached learns of the failure from the start's answer.
        container.life().waiting.clear();
        let (executor, of) = (self.clone(), container.clone());
        smol::unblock(move || {
            super::orphans::kill(of.id.as_str());
            let _ = std::fs::remove_dir_all(folder);
            executor.unmount_volumes(&of);
            of.save_state_or_log();
        })
        .await;
        let auto_remove = container.life().record.create.host.auto_remove;
        container.tell_exit(&crate::backend::ContainerExit {
            code: i64::from(code),
            error: Some(failure.message.clone()),
        });
        if auto_remove {
            self.remove_later(container.clone());
        }
    }
}

/// What a container asks of the network.
pub(super) fn wish(record: &Record) -> Attach {
    let (config, host) = (&record.create.config, &record.create.host);
    Attach {
        container: record.id.0.clone(),
        name: record.name.clone(),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        mode: match config.network_disabled {
            true => "none".into(),
            false => host.network_mode.clone(),
        },
        endpoints: record.create.networking.endpoints_config.clone(),
        ports: host.port_bindings.clone(),
        exposed: config.exposed_ports.keys().cloned().collect(),
        publish_all: host.publish_all_ports,
        dns: host.dns.clone(),
        dns_options: host.dns_options.clone(),
        dns_search: host.dns_search.clone(),
        extra_hosts: host.extra_hosts.clone(),
    }
}

/// The API gives a profile's text, the command line of an agent its path.
fn seccomp_profile(create: &ContainerCreate) -> Result<Option<String>> {
    let chosen = create.host.security_opt.iter().find_map(|option| {
        option
            .strip_prefix("seccomp=")
            .or(option.strip_prefix("seccomp:"))
    });
    match chosen {
        None | Some("unconfined" | "builtin" | "default" | "") => Ok(None),
        Some(text) if text.trim_start().starts_with('{') => Ok(Some(text.to_owned())),
        Some(path) => {
            let path = Path::new(path);
            let too_large = std::fs::metadata(path).is_ok_and(|m| m.len() > PROFILE_BYTES_MAX);
            if too_large {
                return Err(Error::invalid(format!(
                    "opening seccomp profile ({}) failed: larger than {PROFILE_BYTES_MAX} bytes",
                    path.display()
                )));
            }
            std::fs::read_to_string(path).map(Some).map_err(|e| {
                Error::invalid(format!(
                    "opening seccomp profile ({}) failed: {e}",
                    path.display()
                ))
            })
        }
    }
}

fn addresses(sandbox: &Sandbox) -> Vec<Address> {
    let mut addresses = Vec::new();
    for endpoint in sandbox.endpoints.values() {
        for (ip, prefix_len) in [
            (&endpoint.ip_address, endpoint.ip_prefix_len),
            (
                &endpoint.global_ipv6_address,
                endpoint.global_ipv6_prefix_len,
            ),
        ] {
            if let Ok(ip) = ip.parse() {
                let network = endpoint.network_id.as_str().into();
                addresses.push(Address {
                    network,
                    ip,
                    prefix_len,
                });
            }
        }
    }
    addresses
}

/// The task's host ports with the numbers that were really bound.
fn bound(record: &Record, sandbox: &Sandbox) -> Vec<skep_control::model::PortConfig> {
    let mut ports = record.host_ports.clone();
    for port in &mut ports {
        let protocol = match port.protocol.as_str() {
            "" => "tcp",
            protocol => protocol,
        };
        let key = format!("{}/{protocol}", port.target_port);
        let chosen = sandbox.ports.get(&key).into_iter().flatten();
        if let Some(number) = chosen
            .filter_map(|binding| binding.host_port.parse().ok())
            .next()
        {
            port.published_port = number;
        }
    }
    ports
}

impl Status {
    /// The container may come back by its policy.
    pub(super) fn is_restarting(self) -> bool {
        self == Self::Restarting
    }
}
