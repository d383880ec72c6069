//! This node's networks as the API sees them, and containers that join or
//! leave one while they live.

use super::container::Container;
use super::{Executor, now};
use crate::backend::{NetworkMember, NetworkSnapshot};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use crate::network::{Live, NetworkView, Sandbox};
use skep_control::model::{ContainerId, EndpointSettings, Labels, NetworkId, NetworkSpec};
use std::sync::Arc;

/// Networks that every node has and nobody removes.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

impl Executor {
    pub(crate) async fn networks(&self) -> Vec<NetworkSnapshot> {
        let views = self.0.network.networks().await;
        views
            .into_iter()
            .map(|view| self.network_copy(view))
            .collect()
    }

    pub(crate) async fn network_create(&self, spec: NetworkSpec) -> Result<NetworkId> {
        let (name, kind) = (spec.name.clone(), spec.driver.clone());
        let id = self.0.network.create(spec, now()).await?;
        self.tell_network(&id, &name, &kind, "create", None);
        Ok(id)
    }

    pub(crate) async fn network_remove(&self, wanted: &str) -> Result<()> {
        let view = self.0.network.network(wanted).await?;
        let (id, spec) = (view.network.id.clone(), view.network.spec.clone());
        self.0.network.remove(wanted).await?;
        self.tell_network(&id, &spec.name, &spec.driver, "destroy", None);
        Ok(())
    }

    pub(crate) async fn network_connect(
        &self,
        network: &str,
        wanted: &str,
        wish: EndpointSettings,
    ) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        let view = self.0.network.network(network).await?;
        let (name, id) = (view.network.spec.name.clone(), view.network.id.clone());
        let (runs, mut record) = {
            let life = container.life();
            (life.state.is_running(), life.record.clone())
        };
        let endpoints = &mut record.create.networking.endpoints_config;
        if endpoints.contains_key(&name) || endpoints.contains_key(id.as_str()) {
            return Err(Error::conflict(format!(
                "endpoint with name {} already exists in network {name}",
                record.name
            )));
        }
        endpoints.insert(name.clone(), wish.clone());
        if runs {
            let joined = self
                .0
                .network
                .connect(id.as_str(), container.id.as_str(), wish)
                .await?;
            self.replace_sandbox(&container, joined).await;
        }
        self.keep(&container, record).await?;
        self.tell_network(
            &id,
            &name,
            &view.network.spec.driver,
            "connect",
            Some(&container),
        );
        Ok(())
    }

    pub(crate) async fn network_disconnect(
        &self,
        network: &str,
        wanted: &str,
        force: bool,
    ) -> Result<()> {
        let container = match self.find(wanted) {
            Ok(container) => container,
            // What is left of a container that is gone is gone with it.
            Err(_) if force => return self.0.network.network(network).await.map(drop),
            Err(error) => return Err(error),
        };
        let _serial = container.serial.lock().await;
        let view = self.0.network.network(network).await?;
        let (name, id) = (view.network.spec.name.clone(), view.network.id.clone());
        let (runs, mut record) = {
            let life = container.life();
            (life.state.is_running(), life.record.clone())
        };
        let host = &mut record.create.host;
        let mode = match host.network_mode.as_str() {
            "" | "default" => "bridge",
            mode => mode,
        };
        let by_mode = mode == name || mode == id.as_str();
        let endpoints = &mut record.create.networking.endpoints_config;
        let by_name = endpoints.remove(&name).is_some() || endpoints.remove(id.as_str()).is_some();
        if !by_mode && !by_name {
            return Err(Error::forbidden(format!(
                "container {} is not connected to network {name}",
                container.id
            )));
        }
        if by_mode {
            // Another of its networks becomes the first; without one, none.
            host.network_mode = endpoints
                .keys()
                .next()
                .cloned()
                .unwrap_or_else(|| "none".into());
        }
        if runs {
            let left = self
                .0
                .network
                .disconnect(id.as_str(), container.id.as_str())
                .await?;
            self.replace_sandbox(&container, left).await;
        }
        self.keep(&container, record).await?;
        self.tell_network(
            &id,
            &name,
            &view.network.spec.driver,
            "disconnect",
            Some(&container),
        );
        Ok(())
    }

    /// A running container's network changed: its files and what a restarted
    /// agent must know follow.
    async fn replace_sandbox(&self, container: &Arc<Container>, sandbox: Sandbox) {
        let folder = self.run_folder(container.id.as_str());
        let attach = super::start::wish(&container.life().record);
        container.life().sandbox = sandbox.clone();
        let written = smol::unblock(move || {
            // In place: the container has the very files mounted.
            for (name, text) in [
                ("hosts", &sandbox.hosts),
                ("resolv.conf", &sandbox.resolv_conf),
            ] {
                let path = folder.join(name);
                std::fs::write(&path, text).map_err(|e| disk::failure("write", &path, &e))?;
            }
            let live = Live { attach, sandbox };
            disk::write_record(&folder.join("live"), &live, Durability::Cached)
        })
        .await;
        if let Err(error) = written {
            log::error!("container {}: {error}", container.id);
        }
    }

    fn network_copy(&self, view: NetworkView) -> NetworkSnapshot {
        let (name, id) = (view.network.spec.name.as_str(), view.network.id.as_str());
        let uses = |container: &Arc<Container>| {
            let life = container.life();
            let create = &life.record.create;
            let mode = create.host.network_mode.as_str();
            let endpoints = &create.networking.endpoints_config;
            mode == name
                || mode == id
                || (matches!(mode, "" | "default") && name == "bridge")
                || endpoints.contains_key(name)
                || endpoints.contains_key(id)
        };
        let users = self
            .all()
            .iter()
            .filter(|container| uses(container))
            .count();
        let with_length = |address: &str, length: u8| match address.is_empty() {
            true => String::new(),
            false => format!("{address}/{length}"),
        };
        let containers = view
            .members
            .iter()
            .map(|(id, member)| {
                let endpoint = &member.endpoint;
                let copy = NetworkMember {
                    name: member.name.clone(),
                    endpoint_id: endpoint.endpoint_id.clone(),
                    mac_address: endpoint.mac_address.clone(),
                    ipv4_address: with_length(&endpoint.ip_address, endpoint.ip_prefix_len),
                    ipv6_address: with_length(
                        &endpoint.global_ipv6_address,
                        endpoint.global_ipv6_prefix_len,
                    ),
                };
                (ContainerId(id.clone()), copy)
            })
            .collect();
        NetworkSnapshot {
            containers,
            users,
            network: view.network,
        }
    }

    fn tell_network(
        &self,
        id: &NetworkId,
        name: &str,
        driver: &str,
        action: &str,
        container: Option<&Container>,
    ) {
        let kind = match driver {
            "" if PREDEFINED.contains(&name) => name,
            "" => "bridge",
            driver => driver,
        };
        let mut attributes = Labels::from([
            ("name".to_owned(), name.to_owned()),
            ("type".to_owned(), kind.to_owned()),
        ]);
        if let Some(container) = container {
            attributes.insert("container".into(), container.id.0.clone());
        }
        self.publish(
            crate::backend::EventKind::Network,
            action,
            id.as_str(),
            attributes,
        );
    }
}
