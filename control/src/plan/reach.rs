//! Which nodes the leader reaches, since when, and how steadily.
//!
//! **Invariant:** nothing here is in the tables: a new leader begins with
//! [`Reach::Unknown`] for every node and learns. It does not know how a node
//! is probed.

use crate::model::*;
use std::collections::{BTreeMap, VecDeque};

/// Falls are remembered for so long, in milliseconds: a board that is steady
/// for ten minutes is a steady board.
const FALLS_MS: u64 = 600_000;

/// The latest falls kept of a node; the longest hold is reached before.
const FALLS_MAX: usize = 8;

/// How long a node is held off after its second fall, in milliseconds;
/// doubled with each more. One reboot is no flapping.
const HOLD_MS_MIN: u64 = 10_000;

/// Longest hold, in milliseconds.
const HOLD_MS_MAX: u64 = 300_000;

/// Whether a node is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The leader has not heard enough yet: what runs there stays, and nothing
    /// new goes there.
    #[default]
    Unknown,
    /// It is there, and its whole report has been taken in.
    Up,
    /// Its tasks go elsewhere.
    Down,
}

/// What the leader knows of one node.
#[derive(Clone, Debug, Default)]
struct Track {
    reach: Reach,
    /// Since when it is so.
    since: Millis,
    /// When it went down, oldest first.
    falls: VecDeque<Millis>,
    /// [`Reaches::mark`] at its last change.
    mark: u64,
}

/// What the leader knows of all nodes. The engine keeps one while this node
/// leads, tells it what it sees of each node with [`Reaches::note`], drops it
/// when the lead is lost and begins with an empty one when it is won.
#[derive(Clone, Debug, Default)]
pub struct Reaches {
    tracks: BTreeMap<NodeId, Track>,
    /// Counts changes.
    mark: u64,
}

impl Reaches {
    /// How `node` is seen now; saying the same again changes nothing. While a
    /// node is `Down` none of its reports may be answered: fenced tasks go
    /// elsewhere when the lease that the last answer gave is over. A report
    /// that is taken in makes it `Up` first.
    pub fn note(&mut self, now: Millis, node: &NodeId, reach: Reach) {
        let is_same = self
            .tracks
            .get(node)
            .is_some_and(|track| track.reach == reach);
        if is_same {
            return;
        }
        self.mark += 1;
        let track = self.tracks.entry(node.clone()).or_default();
        track.mark = self.mark;
        if reach == Reach::Down && track.reach == Reach::Up {
            track.falls.push_back(now);
            if track.falls.len() > FALLS_MAX {
                track.falls.pop_front();
            }
        }
        track.reach = reach;
        track.since = now;
    }

    /// Forgets nodes that are no more.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&NodeId) -> bool) {
        self.tracks.retain(|node, _| is_kept(node));
    }

    /// Larger after each change.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Nodes that changed since the mark was that.
    pub fn changed_since(&self, mark: u64) -> impl Iterator<Item = &NodeId> {
        let changed = self.tracks.iter().filter(move |(_, of)| of.mark > mark);
        changed.map(|(node, _)| node)
    }

    pub fn of(&self, node: &NodeId) -> Reach {
        self.tracks.get(node).map_or(Reach::Unknown, |of| of.reach)
    }

    /// Since when a node is up.
    pub fn up_since(&self, node: &NodeId) -> Option<Millis> {
        let up = self.tracks.get(node).filter(|of| of.reach == Reach::Up);
        up.map(|track| track.since)
    }

    /// Since when a node is down.
    pub fn down_since(&self, node: &NodeId) -> Option<Millis> {
        let down = self.tracks.get(node).filter(|of| of.reach == Reach::Down);
        down.map(|track| track.since)
    }

    /// How often a node went down of late.
    pub fn falls(&self, node: &NodeId, now: Millis) -> usize {
        let falls = self.tracks.get(node).map(|track| track.falls.iter());
        let lately = |fall: &&Millis| now.since(**fall) < FALLS_MS;
        falls.into_iter().flatten().filter(lately).count()
    }

    /// Until when a node that keeps falling gets nothing new; `None`: it is
    /// steady enough.
    pub fn held_until(&self, node: &NodeId, now: Millis) -> Option<Millis> {
        let track = self.tracks.get(node)?;
        if track.reach != Reach::Up {
            return None;
        }
        let falls = self.falls(node, now);
        let doublings = u32::try_from(falls.checked_sub(2)?).unwrap_or(u32::MAX);
        let hold = HOLD_MS_MIN.saturating_mul(1 << doublings.min(16));
        let until = track.since.plus(hold.min(HOLD_MS_MAX));
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_keeps_falling_is_held_off_ever_longer() {
        let (mut reaches, node) = (Reaches::default(), NodeId::from("n"));
        assert_eq!(reaches.of(&node), Reach::Unknown);
        let mut now = Millis(1_000);
        let mut holds = Vec::new();
        for _ in 0..9 {
            reaches.note(now, &node, Reach::Up);
            let until = reaches.held_until(&node, now).unwrap_or(now);
            holds.push(until.since(now));
            now = now.plus(1_000);
            reaches.note(now, &node, Reach::Down);
            assert_eq!(reaches.held_until(&node, now), None, "nothing to hold");
        }
        let wanted = [0, 0, 10, 20, 40, 80, 160, 300, 300];
        assert_eq!(holds, wanted.map(|seconds| seconds * 1000));
        now = now.plus(FALLS_MS);
        reaches.note(now, &node, Reach::Up);
        assert_eq!(reaches.held_until(&node, now), None, "it was long ago");
    }
}
