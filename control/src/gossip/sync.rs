//! Repair of what was missed: two nodes compare what they know, first in one
//! number, then in one a bucket, then by the lines of the buckets that differ.
//!
//! **Invariant:** two nodes that know the same say one short message to each
//! other, however large the cluster is. A digest covers who is up and how new
//! their records are; the dead are not in it, so that they fade everywhere.

use super::identity::Identity;
use super::record::Stamp;
use super::say::{BUCKETS, Entry, Say};
use super::swim::is_down;
use super::{Gossip, NODES_MAX};
use crate::model::{Millis, NodeId};
use crate::wire::Contact;
use foca::Member;
use std::collections::{BTreeMap, BTreeSet};

/// A random member is compared with so often, in ms, ...
const QUIET_EVERY: u64 = 30_000;
/// ... and so often within [`LATELY`] of a change.
const BUSY_EVERY: u64 = 5_000;
/// In ms.
const LATELY: u64 = 20_000;
/// So many of all compare at once with who came up.
const GREETERS: usize = 6;
/// ... but none of them again within this, in ms: many may come up at once.
const REST: u64 = 250;
/// Lines of one answer; the rest comes with the next comparison.
const ENTRIES_MAX: usize = 8_192;

#[derive(Default)]
pub(super) struct Sync {
    at: Option<Millis>,
    changed_at: Option<Millis>,
    greeted_at: Option<Millis>,
}

impl Sync {
    pub(super) fn due(&self) -> Option<Millis> {
        self.at
    }

    pub(super) fn stop(&mut self) {
        self.at = None;
    }

    pub(super) fn something_changed(&mut self, now: Millis) {
        self.changed_at = Some(now);
        let soon = now.plus(BUSY_EVERY);
        if self.at.is_some_and(|at| at > soon) {
            self.at = Some(soon);
        }
    }

    fn every(&self, now: Millis) -> u64 {
        let is_busy = self.changed_at.is_some_and(|at| now.since(at) < LATELY);
        if is_busy { BUSY_EVERY } else { QUIET_EVERY }
    }
}

impl Gossip {
    /// Somebody came up. Some of those who see it compare with it at once, and
    /// whoever was alone: that is how a newcomer learns everything, and how
    /// halves that were apart do.
    pub(super) fn compare_with_new(&mut self, now: Millis, contact: Contact) {
        self.sync.something_changed(now);
        self.sync.at.get_or_insert(now.plus(BUSY_EVERY));
        let is_rested = self.sync.greeted_at.is_none_or(|at| now.since(at) >= REST);
        if is_rested && self.random.below(self.ring.len()) < GREETERS {
            self.sync.greeted_at = Some(now);
            let root = root(&self.buckets());
            self.say(contact, &Say::Root(root));
        }
    }

    pub(super) fn compare_if_due(&mut self, now: Millis) {
        if self.sync.at.is_none_or(|at| at > now) {
            return;
        }
        self.sync.at = None;
        if self.ring.is_empty() {
            return;
        }
        self.drop_strangers();
        let every = self.sync.every(now);
        let jitter = self.random.below(every as usize / 4) as u64;
        self.sync.at = Some(now.plus(every - every / 8 + jitter));
        let node = &self.ring[self.random.below(self.ring.len())];
        let contact = self.active[node].clone();
        let root = root(&self.buckets());
        self.say(contact, &Say::Root(root));
    }

    pub(super) fn hear(&mut self, now: Millis, from: &NodeId, said: Say) {
        match said {
            Say::News(deltas) => self.take_deltas(now, from, deltas, true),
            Say::Records(deltas) => self.take_deltas(now, from, deltas, false),
            Say::Want(mut nodes) => {
                nodes.truncate(NODES_MAX);
                self.send_records(from, nodes);
            }
            Say::Root(theirs) => {
                let own = self.buckets();
                if root(&own) != theirs {
                    self.answer(from, &Say::Buckets(own.to_vec()));
                }
            }
            Say::Buckets(theirs) => self.hear_buckets(from, &theirs),
            Say::Entries { buckets, entries } => {
                self.hear_entries(now, from, &entries);
                self.answer_entries(from, &buckets, &entries);
            }
            Say::Lacking(entries) => self.hear_entries(now, from, &entries),
            Say::Down(mut members) => {
                members.retain(|member| is_down(member) && member.id().node != self.me);
                members.retain(|member| self.swim.known(&member.id().node).is_some());
                self.swim.learn(now, members);
            }
            Say::Superseded(known) => {
                self.claim(now, &known);
                if let Some(contact) = self.contact(from).cloned() {
                    self.greet_later(now, contact);
                }
            }
        }
    }

    fn hear_buckets(&mut self, from: &NodeId, theirs: &[u64]) {
        let own = self.buckets();
        let mut buckets = Vec::new();
        let mut entries = Vec::new();
        if theirs.len() != BUCKETS {
            self.refused.unreadable += 1;
            return;
        }
        let mut lines: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
        for line in self.lines() {
            lines.entry(bucket(&line.id.node)).or_default().push(line);
        }
        for n in (0..BUCKETS).filter(|n| own[*n] != theirs[*n]) {
            if entries.len() < ENTRIES_MAX {
                buckets.push(n as u8);
                entries.extend(lines.remove(&n).unwrap_or_default());
            }
        }
        if !buckets.is_empty() {
            self.answer(from, &Say::Entries { buckets, entries });
        }
    }

    /// Learns who lives, asks for what is newer there, and says what is newer
    /// here.
    fn hear_entries(&mut self, now: Millis, from: &NodeId, entries: &[Entry]) {
        let known: BTreeMap<NodeId, Member<Identity>> = self
            .swim
            .everyone()
            .map(|member| (member.id().node.clone(), member.clone()))
            .collect();
        let (mut alive, mut down) = (Vec::new(), Vec::new());
        let (mut wanted, mut newer) = (Vec::new(), Vec::new());
        let mut room = NODES_MAX.saturating_sub(known.len());
        for entry in entries.iter().take(ENTRIES_MAX) {
            let node = &entry.id.node;
            if self.removed.contains(node) {
                continue;
            }
            if *node == self.me {
                self.claim(now, &entry.id);
            } else {
                match known.get(node) {
                    Some(member) if is_down(member) && !entry.id.replaces(member.id()) => {
                        down.push(member.clone());
                        continue;
                    }
                    Some(member) if !entry.id.replaces(member.id()) => {}
                    None if room == 0 => continue,
                    known => {
                        room -= usize::from(known.is_none());
                        alive.push(Member::alive(entry.id.clone()));
                    }
                }
            }
            let own = self.stamp(node);
            if entry.stamp > own {
                wanted.push(node.clone());
            } else if entry.stamp < own {
                newer.push(node.clone());
            }
        }
        self.swim.learn(now, alive);
        if !down.is_empty() {
            self.answer(from, &Say::Down(down));
        }
        self.ask(now, from, wanted);
        self.send_records(from, newer);
    }

    /// Says what the other lacks in these buckets, or has older.
    fn answer_entries(&mut self, from: &NodeId, buckets: &[u8], entries: &[Entry]) {
        let buckets: BTreeSet<usize> = buckets.iter().map(|n| usize::from(*n)).collect();
        let theirs: BTreeMap<&NodeId, &Identity> = entries
            .iter()
            .map(|entry| (&entry.id.node, &entry.id))
            .collect();
        let mut lines = self.lines();
        lines.retain(|line| {
            let is_newer = theirs
                .get(&line.id.node)
                .is_none_or(|id| line.id.replaces(id));
            is_newer && buckets.contains(&bucket(&line.id.node))
        });
        lines.truncate(ENTRIES_MAX);
        if !lines.is_empty() {
            // The records of those that it lacks altogether it will ask for.
            self.answer(from, &Say::Lacking(lines));
        }
    }

    fn answer(&mut self, to: &NodeId, said: &Say) {
        if let Some(contact) = self.contact(to).cloned() {
            self.say(contact, said);
        }
    }

    /// Who is up, with this node.
    fn lines(&self) -> Vec<Entry> {
        let all = self.swim.active().chain([self.swim.me()]);
        let all = all.filter(|id| !self.removed.contains(&id.node));
        all.map(|id| Entry {
            id: id.clone(),
            stamp: self.stamp(&id.node),
        })
        .collect()
    }

    fn buckets(&self) -> [u64; BUCKETS] {
        let mut buckets = [0u64; BUCKETS];
        let all = self.swim.active().chain([self.swim.me()]);
        for id in all.filter(|id| !self.removed.contains(&id.node)) {
            let stamp = self.stamp(&id.node);
            let line = hash([
                id.node.0.as_bytes(),
                &id.incarnation.to_le_bytes(),
                &id.life.to_le_bytes(),
                &stamp.epoch.to_le_bytes(),
                &stamp.version.to_le_bytes(),
            ]);
            // A sum does not depend on the order.
            let bucket = &mut buckets[bucket(&id.node)];
            *bucket = bucket.wrapping_add(line);
        }
        buckets
    }

    fn stamp(&self, node: &NodeId) -> Stamp {
        self.records
            .get(node)
            .map_or(Stamp::default(), |record| record.stamp)
    }

    /// Records of those whom membership has forgotten.
    fn drop_strangers(&mut self) {
        let known: BTreeSet<&NodeId> = self
            .swim
            .everyone()
            .map(|member| &member.id().node)
            .chain([&self.me])
            .collect();
        let strangers: Vec<NodeId> = self
            .records
            .keys()
            .filter(|node| !known.contains(node))
            .cloned()
            .collect();
        for node in strangers {
            self.drop_record(&node);
        }
    }
}

fn root(buckets: &[u64; BUCKETS]) -> u64 {
    let bytes: Vec<u8> = buckets.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    hash([&bytes[..]])
}

fn bucket(node: &NodeId) -> usize {
    (hash([node.0.as_bytes()]) % BUCKETS as u64) as usize
}

/// The same number on every machine, whatever its word size; not against an
/// adversary, who could only hide from himself. Fowler, Noll and Vo's
/// function, in its variant 1a.
fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    for byte in pieces.into_iter().flatten() {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Its upper bits are better than its lower ones.
    sum ^ (sum >> 29)
}
