//! Docker's events of containers, and of the networks and volumes that
//! containers touch.

use super::container::Container;
use super::{Executor, now};
use crate::backend::{Event, EventKind};
use skep_control::model::Labels;

impl Executor {
    /// `action` happened to a container; `more` joins its labels, image and name.
    pub(super) fn tell(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let mut attributes = {
            let life = container.life();
            let mut attributes = life.record.create.config.labels.clone();
            attributes.insert("image".into(), life.record.create.config.image.clone());
            attributes.insert("name".into(), life.record.name.clone());
            attributes
        };
        for (key, value) in more {
            attributes.insert((*key).to_owned(), value.clone());
        }
        self.publish(
            EventKind::Container,
            action,
            container.id.as_str(),
            attributes,
        );
    }

    /// Each network of a container: `connect` or `disconnect`.
    pub(super) fn tell_networks(&self, container: &Container, action: &str) {
        let endpoints: Vec<(String, String)> = container
            .life()
            .sandbox
            .endpoints
            .iter()
            .map(|(name, endpoint)| (name.clone(), endpoint.network_id.clone()))
            .collect();
        for (name, id) in endpoints {
            let kind = match name.as_str() {
                "host" => "host",
                "none" => "null",
                _ => "bridge",
            };
            let attributes = Labels::from([
                ("container".to_owned(), container.id.0.clone()),
                ("name".to_owned(), name),
                ("type".to_owned(), kind.to_owned()),
            ]);
            self.publish(EventKind::Network, action, &id, attributes);
        }
    }

    /// Each volume of a container: `mount` or `unmount`.
    pub(super) fn tell_volumes(&self, container: &Container, action: &str) {
        let mounts = container.life().record.mounts.clone();
        for mount in mounts.iter().filter(|mount| mount.kind == "volume") {
            let mut attributes = Labels::from([
                ("container".to_owned(), container.id.0.clone()),
                ("driver".to_owned(), "local".to_owned()),
            ]);
            if action == "mount" {
                attributes.insert("destination".into(), mount.destination.clone());
                attributes.insert("propagation".into(), mount.propagation.clone());
                attributes.insert("read/write".into(), mount.writable.to_string());
            }
            self.publish(EventKind::Volume, action, &mount.name, attributes);
        }
    }

    pub(super) fn tell_volume(&self, name: &str, action: &str) {
        let attributes = Labels::from([("driver".to_owned(), "local".to_owned())]);
        self.publish(EventKind::Volume, action, name, attributes);
    }

    pub(super) fn publish(&self, kind: EventKind, action: &str, id: &str, attributes: Labels) {
        self.0.events.publish(Event {
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
            swarm: false,
            time: now(),
        });
    }
}
