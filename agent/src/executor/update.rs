//! Changes of a container that keeps its process: name, limits, policy.

use super::Executor;
use super::container::Container;
use super::names;
use super::record::{Record, Status};
use crate::backend::ContainerUpdate;
use crate::error::{Error, Result};
use crate::shim::cgroup;
use skep_control::model::HostConfig;
use std::sync::Arc;

impl Executor {
    pub(crate) async fn rename(&self, wanted: &str, name: &str) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let name = names::check(name)?.to_owned();
        let old = container.name();
        if name == old {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.table().reserve(&name, container.id.as_str(), || 0)?;
        let mut record = container.life().record.clone();
        record.name.clone_from(&name);
        if let Err(error) = self.keep(&container, record).await {
            self.table().release(&name, container.id.as_str());
            return Err(error);
        }
        self.table().release(&old, container.id.as_str());
        self.0.network.rename(container.id.as_str(), &name).await;
        self.tell(&container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    pub(crate) async fn update(&self, wanted: &str, update: ContainerUpdate) -> Result<()> {
        let container = self.find(wanted)?;
        let _serial = container.serial.lock().await;
        let (mut record, status) = {
            let life = container.life();
            (life.record.clone(), life.state.status)
        };
        if matches!(status, Status::Removing | Status::Dead) {
            return Err(Error::conflict(format!(
                "Cannot update container {}: Container is marked for removal and cannot be \"update\".",
                container.id
            )));
        }
        apply(&mut record.create.host, &update.resources);
        if let Some(policy) = update.restart_policy {
            if record.create.host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
                return Err(Error::invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            record.create.host.restart_policy = policy;
        }
        if matches!(status, Status::Running | Status::Paused) {
            let group = self.cgroup(&record);
            let wanted = update.resources;
            let warnings = smol::unblock(move || cgroup::update(&group, &wanted)).await?;
            for warning in warnings {
                log::warn!("container {}: {warning}", record.name);
            }
        }
        self.keep(&container, record).await?;
        self.tell(&container, "update", &[]);
        Ok(())
    }

    /// Replaces the record, on disk first.
    pub(super) async fn keep(&self, container: &Arc<Container>, record: Record) -> Result<()> {
        let (executor, of) = (self.clone(), container.clone());
        smol::unblock(move || {
            let durability = super::container::durability(&record);
            executor.0.ledger.put(&record, durability)?;
            of.life().record = record;
            Ok(())
        })
        .await
    }
}

/// Takes over what is set; zero and empty leave things as they are.
fn apply(host: &mut HostConfig, update: &HostConfig) {
    macro_rules! numbers {
        ($($field:ident)*) => {$(
            if update.$field != 0 {
                host.$field = update.$field;
            }
        )*};
    }
    macro_rules! texts {
        ($($field:ident)*) => {$(
            if !update.$field.is_empty() {
                host.$field.clone_from(&update.$field);
            }
        )*};
    }
    macro_rules! options {
        ($($field:ident)*) => {$(
            if update.$field.is_some() {
                host.$field.clone_from(&update.$field);
            }
        )*};
    }
    numbers! {
        cpu_shares memory nano_cpus blkio_weight cpu_period cpu_quota cpu_realtime_period
        cpu_realtime_runtime memory_reservation memory_swap
    }
    texts! { cpuset_cpus cpuset_mems }
    options! { pids_limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_leaves_a_limit_as_it_is() {
        let mut host = HostConfig {
            memory: 5,
            cpuset_cpus: "0".into(),
            ..HostConfig::default()
        };
        let update = HostConfig {
            nano_cpus: 7,
            pids_limit: Some(9),
            ..HostConfig::default()
        };
        apply(&mut host, &update);
        assert_eq!(
            (host.memory, host.nano_cpus, host.pids_limit),
            (5, 7, Some(9))
        );
        assert_eq!(host.cpuset_cpus, "0");
    }
}
