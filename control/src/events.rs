//! Changes → what `/events` tells, judged against the tables before them.

use crate::model::*;
use crate::state::{Change, State};

/// The event of one change, if it has one.
pub(crate) fn event(before: &State, change: &Change, time: WallTime) -> Option<Event> {
    let make = |kind, action, id: &str, attributes| {
        Some(Event {
            kind,
            action,
            id: id.to_owned(),
            attributes,
            time,
        })
    };
    match change {
        Change::PutService(after) => {
            let old = before.service(&after.id);
            let action = if old.is_some() { "update" } else { "create" };
            make("service", action, after.id.as_str(), service(old, after))
        }
        Change::RemoveService(id) => {
            let old = before.service(id)?;
            make("service", "remove", id.as_str(), named(&old.spec.name))
        }
        Change::SetUpdateStatus { service, status } => {
            let old = before.service(service)?;
            let mut attributes = named(&old.spec.name);
            let was = old.update_status.as_ref();
            changed(
                &mut attributes,
                "updatestate",
                was.map_or("", |was| was.state.as_str()),
                status.state.as_str(),
            );
            make("service", "update", service.as_str(), attributes)
        }
        Change::PutNode(after) => {
            let old = before.node(&after.id);
            let action = if old.is_some() { "update" } else { "create" };
            make("node", action, after.id.as_str(), node(old, after))
        }
        Change::RemoveNode(id) => {
            let old = before.node(id)?;
            let attributes = named(&old.description.hostname);
            make("node", "remove", id.as_str(), attributes)
        }
        Change::PutNetwork(after) => {
            let mut attributes = named(&after.spec.name);
            attributes.insert("type".into(), after.spec.driver.clone());
            make("network", "create", after.id.as_str(), attributes)
        }
        Change::RemoveNetwork(id) => {
            let old = before.network(id)?;
            let mut attributes = named(&old.spec.name);
            attributes.insert("type".into(), old.spec.driver.clone());
            make("network", "remove", id.as_str(), attributes)
        }
        _ => None,
    }
}

fn named(name: &str) -> Labels {
    Labels::from([("name".to_owned(), name.to_owned())])
}

fn changed(attributes: &mut Labels, what: &str, old: &str, new: &str) {
    if old == new {
        return;
    }
    if !old.is_empty() {
        attributes.insert(format!("{what}.old"), old.to_owned());
    }
    attributes.insert(format!("{what}.new"), new.to_owned());
}

fn service(old: Option<&Service>, new: &Service) -> Labels {
    let mut attributes = named(&new.spec.name);
    let Some(old) = old else { return attributes };
    let image = |of: &Service| of.spec.task_template.container_spec.image.clone();
    changed(&mut attributes, "image", &image(old), &image(new));
    if !new.spec.mode.is_global() {
        let replicas = |of: &Service| of.spec.mode.replicas().to_string();
        changed(&mut attributes, "replicas", &replicas(old), &replicas(new));
    }
    let state = |of: &Service| of.update_status.as_ref().map_or("", |of| of.state.as_str());
    if let Some(status) = &new.update_status {
        changed(
            &mut attributes,
            "updatestate",
            state(old),
            status.state.as_str(),
        );
    }
    attributes
}

fn node(old: Option<&Node>, new: &Node) -> Labels {
    let mut attributes = named(&new.description.hostname);
    let Some(old) = old else { return attributes };
    let availability = |of: &Node| match of.spec.availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    };
    changed(
        &mut attributes,
        "availability",
        availability(old),
        availability(new),
    );
    let role = |of: &Node| match of.spec.role {
        NodeRole::Worker => "worker",
        NodeRole::Manager => "manager",
    };
    changed(&mut attributes, "role", role(old), role(new));
    attributes
}
