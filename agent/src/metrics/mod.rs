//! What a node tells Prometheus: counters that the node keeps, and a page with
//! them and with how things stand, served over HTTP to whoever asks.
//!
//! Owns names, labels and the page's format. Docker's and Swarm's names are
//! used where they have one (`engine_daemon_…`, `swarm_…`), so that their
//! dashboards work; what only skep has begins with `skep_`. Invariants: a
//! counter costs its writer one atomic operation, whether anybody asks or not;
//! the page has no label whose values grow without bound but services' names;
//! it tells no secret, since its reader is not asked who he is.
//!
//! Does not know: where the figures of [`Snapshot`] come from.

mod page;
mod serve;

pub(crate) use page::{Managed, Snapshot, Swarm};
pub(crate) use serve::Server;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::Arc;
use std::time::Duration;

/// Shortest bucket of a step, seconds; each further one is four times as long,
/// up to a quarter of a second, which is an engine in trouble.
const STEP_SECONDS_MIN: f64 = 15e-6;
const STEP_BUCKETS: u16 = 8;

/// The node's counters; clones are the same.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Counters>);

struct Counters {
    requests: Family<Code, Counter>,
    steps: Histogram,
    written: Family<Log, Counter>,
    syncs: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Log {
    log: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Counters {
            requests: Family::default(),
            steps: Histogram::new(exponential_buckets(STEP_SECONDS_MIN, 4.0, STEP_BUCKETS)),
            written: Family::default(),
            syncs: Counter::default(),
        }))
    }
}

impl Metrics {
    /// An API request was answered with that HTTP status.
    pub(crate) fn answered(&self, code: u16) {
        self.0.requests.get_or_create(&Code { code }).inc();
    }

    /// The engine took so long for one input.
    pub(crate) fn stepped(&self, took: Duration) {
        self.0.steps.observe(took.as_secs_f64());
    }

    /// Bytes went to one of the engine's logs.
    pub(crate) fn wrote(&self, log: &'static str, bytes: usize) {
        let counter = self.0.written.get_or_create_owned(&Log { log });
        counter.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// What went there was made durable.
    pub(crate) fn synced(&self) {
        self.0.syncs.inc();
    }
}
