//! The page: counters and a snapshot in OpenMetrics' text.

use super::Metrics;
use crate::error::{Error, Result};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;

/// How a node stands at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) hostname: String,
    pub(crate) architecture: String,
    pub(crate) kernel: String,
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: u64,
    /// Docker's three: `running`, `paused`, `stopped`.
    pub(crate) containers: BTreeMap<&'static str, u64>,
    /// `None` outside of a swarm.
    pub(crate) swarm: Option<Swarm>,
}

/// This node in its swarm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swarm {
    pub(crate) swarm_id: String,
    pub(crate) node_id: String,
    /// `None` on workers.
    pub(crate) managed: Option<Managed>,
}

/// What managers know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed {
    pub(crate) leads: bool,
    /// By state.
    pub(crate) nodes: BTreeMap<&'static str, u64>,
    /// By state.
    pub(crate) tasks: BTreeMap<&'static str, u64>,
    /// Name → replicas wanted and running.
    pub(crate) services: BTreeMap<String, (u64, u64)>,
    pub(crate) networks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: String,
}

impl Metrics {
    /// The page of this moment.
    pub(super) fn page(&self, now: &Snapshot) -> Result<String> {
        let mut registry = Registry::default();
        self.register(&mut registry);
        engine(&mut registry, now);
        if let Some(swarm) = &now.swarm {
            member(&mut registry, swarm);
        }
        let managed = now.swarm.as_ref().and_then(|swarm| swarm.managed.as_ref());
        gauge(
            &mut registry,
            "swarm_node_manager",
            "Whether this node is a manager",
            managed.is_some().into(),
        );
        if let Some(managed) = managed {
            manager(&mut registry, managed);
        }
        let mut page = String::new();
        encode(&mut page, &registry).map_err(|e| Error::internal(format!("metrics: {e}")))?;
        Ok(page)
    }

    fn register(&self, registry: &mut Registry) {
        let own = &self.0;
        registry.register(
            "skep_api_requests",
            "API requests by the HTTP status of their answer",
            own.requests.clone(),
        );
        registry.register(
            "skep_engine_step_seconds",
            "Time the engine took for one input",
            own.steps.clone(),
        );
        registry.register(
            "skep_log_written_bytes",
            "Bytes written to the engine's logs",
            own.written.clone(),
        );
        registry.register(
            "skep_log_syncs",
            "Times that the engine's logs were made durable",
            own.syncs.clone(),
        );
    }
}

fn engine(registry: &mut Registry, now: &Snapshot) {
    let labels = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("architecture", now.architecture.clone()),
        ("kernel", now.kernel.clone()),
        ("os_type", "linux".to_owned()),
        ("graphdriver", "overlay2".to_owned()),
        ("hostname", now.hostname.clone()),
    ];
    registry.register(
        "engine_daemon_engine",
        "What the engine and its machine are",
        Info::new(labels),
    );
    gauge(
        registry,
        "engine_daemon_engine_cpus_cpus",
        "CPUs of the machine",
        now.cpus,
    );
    gauge(
        registry,
        "engine_daemon_engine_memory_bytes",
        "Memory of the machine",
        now.memory_bytes,
    );
    by_state(
        registry,
        "engine_daemon_container_states_containers",
        "Containers by state",
        &now.containers,
    );
}

fn member(registry: &mut Registry, swarm: &Swarm) {
    let labels = vec![
        ("swarm_id", swarm.swarm_id.clone()),
        ("node_id", swarm.node_id.clone()),
    ];
    registry.register("swarm_node", "This node's place", Info::new(labels));
}

fn manager(registry: &mut Registry, managed: &Managed) {
    gauge(
        registry,
        "swarm_manager_leader",
        "Whether this manager leads",
        managed.leads.into(),
    );
    by_state(
        registry,
        "swarm_manager_nodes",
        "Nodes of the swarm by state",
        &managed.nodes,
    );
    by_state(
        registry,
        "swarm_manager_tasks_total",
        "Tasks of the swarm by state",
        &managed.tasks,
    );
    gauge(
        registry,
        "swarm_manager_services_total",
        "Services of the swarm",
        managed.services.len() as u64,
    );
    gauge(
        registry,
        "swarm_manager_networks_total",
        "Networks of the swarm",
        managed.networks,
    );
    let (desired, running) = (Family::default(), Family::default());
    for (name, (wanted, runs)) in &managed.services {
        let service = Service {
            service: name.clone(),
        };
        set(&desired, &service, *wanted);
        set(&running, &service, *runs);
    }
    registry.register(
        "skep_service_replicas_desired",
        "Replicas that a service shall have",
        desired,
    );
    registry.register(
        "skep_service_replicas_running",
        "Replicas of a service that run",
        running,
    );
}

fn by_state(registry: &mut Registry, name: &str, help: &str, counts: &BTreeMap<&'static str, u64>) {
    let family = Family::default();
    for (state, count) in counts {
        set(&family, &State { state }, *count);
    }
    registry.register(name, help, family);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

fn set<L>(family: &Family<L, Gauge>, labels: &L, value: u64)
where
    L: Clone + Eq + std::hash::Hash,
{
    family.get_or_create(labels).set(signed(value));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_page_has_dockers_names_and_skeps_own() {
        let metrics = Metrics::default();
        metrics.answered(200);
        metrics.answered(200);
        metrics.answered(503);
        metrics.stepped(Duration::from_micros(20));
        metrics.wrote("node", 4096);
        metrics.synced();
        let now = Snapshot {
            hostname: "one".into(),
            cpus: 2,
            containers: [("paused", 0), ("running", 3), ("stopped", 1)].into(),
            swarm: Some(Swarm {
                node_id: "n1".into(),
                managed: Some(Managed {
                    leads: true,
                    nodes: [("ready", 1)].into(),
                    tasks: [("running", 3)].into(),
                    services: [("web".to_owned(), (5, 3))].into(),
                    networks: 1,
                }),
                ..Swarm::default()
            }),
            ..Snapshot::default()
        };
        let page = metrics.page(&now).expect("is text");
        for line in [
            "engine_daemon_engine_cpus_cpus 2",
            "engine_daemon_container_states_containers{state=\"running\"} 3",
            "swarm_node_manager 1",
            "swarm_manager_leader 1",
            "swarm_manager_nodes{state=\"ready\"} 1",
            "swarm_manager_tasks_total{state=\"running\"} 3",
            "skep_service_replicas_desired{service=\"web\"} 5",
            "skep_service_replicas_running{service=\"web\"} 3",
            "skep_api_requests_total{code=\"200\"} 2",
            "skep_engine_step_seconds_count 1",
            "skep_log_written_bytes_total{log=\"node\"} 4096",
            "skep_log_syncs_total 1",
            "# EOF",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} in\n{page}");
        }
        assert!(page.contains("engine_daemon_engine_info{version="));
        assert!(page.contains("swarm_node_info{swarm_id=\"\",node_id=\"n1\"} 1"));
    }

    #[test]
    fn a_worker_tells_nothing_of_the_swarm_and_a_name_cannot_break_out() {
        let metrics = Metrics::default();
        let mut now = Snapshot::default();
        assert!(
            !metrics
                .page(&now)
                .expect("is text")
                .contains("swarm_manager")
        );
        let managed = Managed {
            services: [("a\"b\nc".to_owned(), (1, 0))].into(),
            ..Managed::default()
        };
        now.swarm = Some(Swarm {
            managed: Some(managed),
            ..Swarm::default()
        });
        let page = metrics.page(&now).expect("is text");
        assert!(page.contains("{service=\"a\\\"b\\nc\"} 1"), "{page}");
    }
}
