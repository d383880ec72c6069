//! The tables as bytes: what a compacted log starts with.

use super::*;
use serde::{Deserialize, Serialize};

/// The tables alone; indexes are made again on reading. Fields are only ever
/// added at the end.
#[derive(Serialize, Deserialize)]
struct Tables {
    version: u64,
    cluster: Option<Cluster>,
    nodes: Vec<Node>,
    services: Vec<Service>,
    revisions: Vec<Arc<Revision>>,
    assignments: Vec<Assignment>,
    networks: Vec<Network>,
    removed: BTreeMap<NodeId, u64>,
    time: WallTime,
}

impl State {
    /// Everything, as postcard.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let tables = Tables {
            version: self.version,
            cluster: self.cluster.clone(),
            nodes: self.nodes.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            revisions: self.revisions.values().cloned().collect(),
            assignments: self.assignments.values().cloned().collect(),
            networks: self.networks.values().cloned().collect(),
            removed: self.removed.clone(),
            time: self.time,
        };
        // Writing to memory of types without maps of unknown length cannot fail.
        postcard::to_allocvec(&tables).unwrap_or_default()
    }

    /// The tables again.
    ///
    /// # Errors
    /// When the bytes are not a snapshot: another format, or damaged.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let tables: Tables = postcard::from_bytes(bytes)?;
        let mut state = Self {
            version: tables.version,
            cluster: tables.cluster,
            removed: tables.removed,
            time: tables.time,
            ..Self::default()
        };
        for node in tables.nodes {
            state.nodes.insert(node.id.clone(), node);
        }
        for service in tables.services {
            let name = service.spec.name.clone();
            state.service_names.insert(name, service.id.clone());
            state.services.insert(service.id.clone(), service);
        }
        for revision in tables.revisions {
            let key = (revision.service.clone(), revision.number);
            state.revisions.insert(key, revision);
        }
        for assignment in tables.assignments {
            state.put_assignment(assignment);
        }
        for network in tables.networks {
            state.index_network(&network);
            state.networks.insert(network.id.clone(), network);
        }
        Ok(state)
    }
}
