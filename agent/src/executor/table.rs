//! Which containers this node has, by id, name and task.

use super::container::Container;
use super::names;
use crate::error::{Error, Result};
use skep_control::model::TaskId;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Table {
    containers: BTreeMap<String, Arc<Container>>,
    /// Name → id; a name is taken from before its container is made.
    names: BTreeMap<String, String>,
    tasks: BTreeMap<TaskId, String>,
}

impl Table {
    pub(super) fn find(&self, wanted: &str) -> Result<Arc<Container>> {
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        let by_name = self.names.get(name).and_then(|id| self.containers.get(id));
        if let Some(found) = self.containers.get(wanted).or(by_name) {
            return Ok(found.clone());
        }
        let missing = || Error::not_found(format!("No such container: {wanted}"));
        if name.is_empty() {
            return Err(missing());
        }
        let mut starting = self
            .containers
            .range(name.to_owned()..)
            .take_while(|(id, _)| id.starts_with(name));
        match (starting.next(), starting.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {wanted}"
            ))),
            _ => self.find_task(name).ok_or_else(missing),
        }
    }

    /// By what a task is called beside its container's name: its id, a prefix
    /// of one that only it has, or its slot (`web.2`: the newest of it).
    fn find_task(&self, wanted: &str) -> Option<Arc<Container>> {
        let from = TaskId(wanted.to_owned());
        let mut starting = self
            .tasks
            .range(from..)
            .take_while(|(task, _)| task.as_str().starts_with(wanted));
        match (starting.next(), starting.next()) {
            (Some((task, id)), more) if more.is_none() || task.as_str() == wanted => {
                return self.containers.get(id).cloned();
            }
            _ => {}
        }
        let slot = format!("{wanted}.");
        let of_slot = self.names.range(slot.clone()..);
        let of_slot = of_slot.take_while(|(name, _)| name.starts_with(&slot));
        let attempts = of_slot.filter_map(|(name, id)| {
            let container = self.containers.get(id)?;
            let life = container.life();
            let task = life.record.task.as_ref()?;
            // `web.2` is no slot of a service called `web.2.x`.
            let is_its = name.strip_prefix(&slot) == Some(task.as_str());
            is_its.then(|| (life.record.created, container.clone()))
        });
        let newest = attempts.max_by_key(|(created, _)| *created);
        newest.map(|(_, container)| container)
    }

    pub(super) fn all(&self) -> Vec<Arc<Container>> {
        self.containers.values().cloned().collect()
    }

    /// The container of a task's attempt.
    pub(super) fn of_task(&self, task: &TaskId) -> Option<Arc<Container>> {
        self.containers.get(self.tasks.get(task)?).cloned()
    }

    /// Takes a name for a container to come; an empty one is invented.
    pub(super) fn reserve(
        &mut self,
        name: &str,
        id: &str,
        random: impl FnMut() -> u32,
    ) -> Result<String> {
        let name = match name.is_empty() {
            true => names::invent(random, |name| self.names.contains_key(name)),
            false => names::check(name)?.to_owned(),
        };
        if let Some(owner) = self.names.get(&name) {
            return Err(names::conflict(&name, owner));
        }
        self.names.insert(name.clone(), id.to_owned());
        Ok(name)
    }

    /// Gives a name back, if it is this container's.
    pub(super) fn release(&mut self, name: &str, id: &str) {
        if self.names.get(name).is_some_and(|owner| owner == id) {
            self.names.remove(name);
        }
    }

    pub(super) fn insert(&mut self, container: Arc<Container>) {
        let (name, task) = {
            let life = container.life();
            (life.record.name.clone(), life.record.task.clone())
        };
        let id = container.id.0.clone();
        self.names.insert(name, id.clone());
        if let Some(task) = task {
            self.tasks.insert(task, id.clone());
        }
        self.containers.insert(id, container);
    }

    pub(super) fn remove(&mut self, container: &Container) {
        let (name, task) = {
            let life = container.life();
            (life.record.name.clone(), life.record.task.clone())
        };
        self.release(&name, container.id.as_str());
        if let Some(task) = task {
            self.tasks.remove(&task);
        }
        self.containers.remove(container.id.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Record, State};
    use super::*;
    use crate::error::Kind;

    fn with(entries: &[(&str, &str)]) -> Table {
        let mut table = Table::default();
        for (id, name) in entries {
            let record = Record {
                id: (*id).into(),
                name: (*name).into(),
                ..Record::default()
            };
            let container = Container::new("/none".into(), record, State::default());
            table.insert(Arc::new(container));
        }
        table
    }

    #[test]
    fn id_then_name_then_unique_prefix() {
        let table = with(&[("aa11", "web"), ("aa22", "bb33"), ("bb33", "aa11x")]);
        let id = |wanted: &str| table.find(wanted).map(|found| found.id.0.clone());
        assert_eq!(id("aa11").expect("by id"), "aa11");
        assert_eq!(id("/web").expect("by name"), "aa11");
        assert_eq!(id("bb33").expect("id before name"), "bb33");
        assert_eq!(id("aa2").expect("by prefix"), "aa22");
        assert_eq!(id("aa").expect_err("ambiguous").kind, Kind::Invalid);
        for none in ["zz", "", "/"] {
            let told = id(none).expect_err("none");
            assert_eq!(told.message, format!("No such container: {none}"));
        }
    }

    #[test]
    fn tasks_are_found_by_id_and_by_slot() {
        let mut table = with(&[("aa", "web.2.mine")]);
        for (id, name, task, created) in [
            ("bb", "web.2.xyz1", "xyz1", 7),
            ("cc", "web.2.xyz2", "xyz2", 5),
            ("dd", "web.22.uvw", "uvw", 9),
        ] {
            let record = Record {
                id: id.into(),
                name: name.into(),
                task: Some(task.into()),
                created: skep_control::model::WallTime(created),
                ..Record::default()
            };
            let container = Container::new("/none".into(), record, State::default());
            table.insert(Arc::new(container));
        }
        let id = |wanted: &str| table.find(wanted).map(|found| found.id.0.clone());
        assert_eq!(id("xyz2").expect("by task"), "cc");
        assert_eq!(id("uv").expect("by a task's prefix"), "dd");
        assert_eq!(id("/web.2").expect("the newest of the slot"), "bb");
        assert_eq!(id("web.2.xyz2").expect("by its whole name"), "cc");
        assert_eq!(id("web").expect_err("no slot").kind, Kind::NotFound);
        assert_eq!(id("xyz").expect_err("of two tasks").kind, Kind::NotFound);
    }

    #[test]
    fn names_have_one_owner() {
        let mut table = with(&[("aa", "web")]);
        let told = table.reserve("web", "bb", || 0).expect_err("taken");
        assert!(told.message.contains("already in use by container \"aa\""));
        let name = table.reserve("", "bb", || 1).expect("invented");
        table.release(&name, "cc");
        assert!(table.reserve(&name, "cc", || 0).is_err());
        table.release(&name, "bb");
        assert!(table.reserve(&name, "cc", || 0).is_ok());
    }
}
