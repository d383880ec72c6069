//! What happened on the node, for whoever watches.
//!
//! Owns the event and its log: a bounded memory of the past and a bounded
//! queue for each watcher. Invariant: publishing never waits; a watcher that
//! falls behind loses its stream's end, not the node's memory.

use skep_control::model::{Labels, WallTime};
use smol::channel::{Receiver, Sender, bounded};
use smol::stream::Boxed;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Events remembered for `--since`; Docker keeps as many.
const PAST_EVENTS_MAX: usize = 256;
/// Events that a watcher may lag behind before it is dropped.
const WATCHER_LAG_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Container,
    Image,
    Network,
    Volume,
    Node,
    Service,
    Secret,
    Config,
}

impl EventKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Node => "node",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// `create`, `start`, `die`, `exec_start: sh -c x`, …
    pub(crate) action: String,
    /// Id of what it happened to (a volume's name, an image's reference).
    pub(crate) id: String,
    /// `name`, `image`, `exitCode`, the container's labels, …
    pub(crate) attributes: Labels,
    /// Of the whole cluster, not of this node alone.
    pub(crate) swarm: bool,
    pub(crate) time: WallTime,
}

/// What is remembered, oldest first, and what comes.
pub(crate) struct Events {
    pub(crate) past: Vec<Event>,
    pub(crate) live: Boxed<Event>,
}

/// The node's events; clones share one log.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<EventLogState>>);

#[derive(Default)]
struct EventLogState {
    past: VecDeque<Event>,
    watchers: Vec<Sender<Event>>,
}

impl EventLog {
    pub(crate) fn publish(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full or closed queue: the watcher is too slow or gone.
        state
            .watchers
            .retain(|watcher| watcher.try_send(event.clone()).is_ok());
        if state.past.len() == PAST_EVENTS_MAX {
            state.past.pop_front();
        }
        state.past.push_back(event);
    }

    /// `None`: nothing of the past.
    pub(crate) fn watch(&self, since: Option<WallTime>) -> Events {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = match since {
            Some(since) => state
                .past
                .iter()
                .filter(|e| e.time >= since)
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        let (sender, receiver): (_, Receiver<Event>) = bounded(WATCHER_LAG_MAX);
        state.watchers.push(sender);
        Events {
            past,
            live: Box::pin(receiver),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64) -> Event {
        Event {
            kind: EventKind::Container,
            action: "start".into(),
            id: at.to_string(),
            attributes: Labels::new(),
            swarm: false,
            time: WallTime(at),
        }
    }

    #[test]
    fn a_watcher_sees_the_past_it_asked_for_and_then_the_rest() {
        let log = EventLog::default();
        (1..=3).for_each(|at| log.publish(event(at)));
        let watch = log.watch(Some(WallTime(2)));
        log.publish(event(4));
        assert_eq!(
            watch.past.iter().map(|e| e.time.0).collect::<Vec<_>>(),
            [2, 3]
        );
        let next = smol::block_on(smol::stream::StreamExt::next(&mut { watch.live }));
        assert_eq!(next.map(|e| e.time.0), Some(4));
    }

    #[test]
    fn memory_is_bounded_and_a_slow_watcher_is_dropped() {
        let log = EventLog::default();
        let _slow = log.watch(None);
        (0..2 * WATCHER_LAG_MAX as i64).for_each(|at| log.publish(event(at)));
        let state = log.0.lock().unwrap();
        assert_eq!(state.past.len(), PAST_EVENTS_MAX);
        assert!(state.watchers.is_empty());
    }
}
