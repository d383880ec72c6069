//! What the leader has told each node and which of it they have: whoever
//! lacks something is told, at once and then again with growing pauses.
//!
//! **Invariant:** a node is told only what changed for it, and silence follows
//! once it has said that it has it. What exactly is said is not known here.

use crate::model::*;
use std::collections::BTreeMap;

/// First pause before something is said again, in milliseconds. Doubled each
/// time.
const PAUSE_MS_MIN: u64 = 500;
/// Longest pause, in milliseconds: nodes that are down for days cost one
/// attempt in that time.
const PAUSE_MS_MAX: u64 = 30_000;

/// What one node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) node: NodeId,
    pub(crate) assignment: bool,
    pub(crate) bulletin: bool,
}

/// One kind of thing that a node is told, by log index.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    wanted: u64,
    had: u64,
    /// It was said since the last change.
    is_said: bool,
}

impl Level {
    fn is_lacking(self) -> bool {
        self.had < self.wanted
    }
    fn want(&mut self, index: u64) {
        if index > self.wanted {
            self.wanted = index;
            self.is_said = false;
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    assignment: Level,
    bulletin: Level,
    again_at: Option<Millis>,
    pause_ms: u64,
}

impl Line {
    fn is_lacking(&self) -> bool {
        self.assignment.is_lacking() || self.bulletin.is_lacking()
    }
    fn say_all(&mut self) {
        self.assignment.is_said = false;
        self.bulletin.is_said = false;
    }
}

/// What all nodes were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    lines: BTreeMap<NodeId, Line>,
    /// Somebody may have to be told something that was not said yet.
    is_fresh: bool,
}

impl Told {
    /// A node that lacks everything.
    pub(crate) fn add(&mut self, node: &NodeId, index: u64) {
        self.want_assignment(node, index);
        self.want_bulletin(node, index);
    }

    pub(crate) fn remove(&mut self, node: &NodeId) {
        self.lines.remove(node);
    }

    /// Its assignment is another one since `index`.
    pub(crate) fn want_assignment(&mut self, node: &NodeId, index: u64) {
        let line = self.lines.entry(node.clone()).or_default();
        line.assignment.want(index);
        self.is_fresh = true;
    }

    /// What it is to know is something else since `index`.
    pub(crate) fn want_bulletin(&mut self, node: &NodeId, index: u64) {
        let line = self.lines.entry(node.clone()).or_default();
        line.bulletin.want(index);
        self.is_fresh = true;
    }

    /// The same for every node.
    pub(crate) fn want_all(&mut self, index: u64, is_assignment: bool) {
        for line in self.lines.values_mut() {
            match is_assignment {
                true => line.assignment.want(index),
                false => line.bulletin.want(index),
            }
        }
        self.is_fresh = true;
    }

    /// It says what it has. Less than before is believed, too: it may have
    /// forgotten.
    pub(crate) fn has(&mut self, node: &NodeId, generation: u64, bulletin: u64) {
        let Some(line) = self.lines.get_mut(node) else {
            return;
        };
        if generation < line.assignment.had {
            line.assignment.is_said = false;
        }
        if bulletin < line.bulletin.had {
            line.bulletin.is_said = false;
        }
        line.assignment.had = generation;
        line.bulletin.had = bulletin;
        line.pause_ms = 0;
        if !line.is_lacking() {
            line.again_at = None;
        }
        self.is_fresh = true;
    }

    /// A new connection to it: what was under way may be lost.
    pub(crate) fn linked(&mut self, node: &NodeId) {
        if let Some(line) = self.lines.get_mut(node) {
            line.say_all();
            line.pause_ms = 0;
            self.is_fresh = true;
        }
    }

    pub(crate) fn wake(&mut self, now: Millis) {
        for line in self.lines.values_mut() {
            if line.again_at.is_some_and(|at| at <= now) {
                line.again_at = None;
                line.say_all();
                self.is_fresh = true;
            }
        }
    }

    /// When something comes due.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.lines.values().filter_map(|line| line.again_at).min()
    }

    /// Who is to be told what now; taken as said.
    pub(crate) fn take(&mut self, now: Millis) -> Vec<Lack> {
        if !std::mem::take(&mut self.is_fresh) {
            return Vec::new();
        }
        let mut lacks = Vec::new();
        for (node, line) in &mut self.lines {
            let due = |level: Level| level.is_lacking() && !level.is_said;
            let lack = Lack {
                node: node.clone(),
                assignment: due(line.assignment),
                bulletin: due(line.bulletin),
            };
            if !lack.assignment && !lack.bulletin {
                continue;
            }
            line.assignment.is_said |= lack.assignment;
            line.bulletin.is_said |= lack.bulletin;
            line.pause_ms = (line.pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
            line.again_at = Some(now.plus(line.pause_ms));
            lacks.push(lack);
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(node: &str, assignment: bool, bulletin: bool) -> Lack {
        Lack {
            node: node.into(),
            assignment,
            bulletin,
        }
    }

    #[test]
    fn who_lacks_something_is_told_until_it_has_it() {
        let mut told = Told::default();
        told.add(&"a".into(), 5);
        told.add(&"b".into(), 5);
        let now = Millis(1000);
        let both = [lack("a", true, true), lack("b", true, true)];
        assert_eq!(told.take(now), both);
        assert_eq!(told.take(now), []);
        told.has(&"a".into(), 5, 5);
        told.want_assignment(&"a".into(), 7);
        assert_eq!(told.take(now), [lack("a", true, false)], "only what is new");
        told.has(&"a".into(), 8, 5);
        let due = told.due().unwrap();
        told.wake(due);
        assert_eq!(told.take(due), [lack("b", true, true)], "again");
        told.linked(&"b".into());
        assert_eq!(told.take(due), [lack("b", true, true)], "at once");
        told.has(&"b".into(), 7, 5);
        assert_eq!(told.due(), None);
        told.has(&"b".into(), 0, 5);
        assert_eq!(told.take(due), [lack("b", true, false)], "it has forgotten");
    }
}
