//! News on their way: this node's own changes, and those of others that are
//! still being passed on.
//!
//! **Invariant:** a change leaves at once, several within [`PUBLISH_EVERY`]
//! leave together; every node passes a change on for a bounded number of
//! rounds, and never to somebody who is known to have it.

use super::record::{Body, Delta, Key, Merged, Record, Stamp, difference};
use super::say::{MESSAGE_FULL, Say};
use super::{Gossip, NODES_MAX};
use crate::model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Changes of one node leave no more often, in ms.
const PUBLISH_EVERY: u64 = 200;
/// News are passed on so often, in ms, ...
const ROUND_EVERY: u64 = 100;
/// ... to so many members.
const FAN_OUT: usize = 3;
/// A delta tells what changed in this time, in ms, so that who missed the one
/// before can use it all the same.
const WINDOW: u64 = 3_000;
/// Changes within the window; beyond it the window is shorter.
const WINDOW_CHANGES_MAX: usize = 32;
/// So many repaired records at once are passed on like news.
const REPAIRED_MAX: usize = 16;
/// The whole of a record is not asked for again within this, in ms.
const ASK_AGAIN: u64 = 1_000;

/// A change of some node.
struct Rumor {
    delta: Delta,
    rounds: u32,
    /// Who has it, as far as is known.
    told: BTreeSet<NodeId>,
}

pub(super) struct Spread {
    epoch: u64,
    /// What this node is to say of itself next.
    staged: Option<Body>,
    publish_at: Option<Millis>,
    published_at: Option<Millis>,
    /// Versions of this epoch with what they changed.
    history: VecDeque<(u64, Millis, Vec<Key>)>,
    rumors: BTreeMap<NodeId, Rumor>,
    round_at: Option<Millis>,
    /// When a whole record was asked for.
    asked: BTreeMap<NodeId, Millis>,
}

impl Spread {
    /// `life`: unlike that of any other start of this node.
    pub(super) fn new(epoch: u32, life: u32) -> Self {
        Self {
            epoch: u64::from(epoch) << 32 | u64::from(life),
            staged: None,
            publish_at: None,
            published_at: None,
            history: VecDeque::new(),
            rumors: BTreeMap::new(),
            round_at: None,
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn due(&self) -> Option<Millis> {
        self.publish_at.into_iter().chain(self.round_at).min()
    }

    pub(super) fn stop(&mut self) {
        self.rumors.clear();
        (self.publish_at, self.round_at) = (None, None);
    }
}

impl Gossip {
    /// What this node says of itself from now on. Nothing happens if it said
    /// so already.
    pub fn set_own(&mut self, now: Millis, body: Body) {
        let said = self.records.get(&self.me).map(|record| &record.body);
        let last = self.spread.staged.as_ref().or(said);
        if self.has_left || last == Some(&body) {
            return;
        }
        self.spread.staged = Some(body);
        self.publish_soon(now);
        self.settle(now);
    }

    /// Does what is due of both kinds.
    pub(super) fn spread_if_due(&mut self, now: Millis) {
        if self.spread.publish_at.is_some_and(|at| at <= now) {
            self.spread.publish_at = None;
            self.publish(now);
        }
        if self.spread.round_at.is_some_and(|at| at <= now) {
            self.spread.round_at = None;
            self.round(now);
        }
    }

    /// Takes in records from `from`; `is_news`: they shall be passed on.
    pub(super) fn take_deltas(
        &mut self,
        now: Millis,
        from: &NodeId,
        deltas: Vec<Delta>,
        is_news: bool,
    ) {
        let mut gaps = Vec::new();
        let mut forgotten = false;
        // What is repaired here may be missing elsewhere, unless it is just we
        // who lacked a lot.
        let is_news = is_news || deltas.len() <= REPAIRED_MAX;
        for delta in deltas {
            if self.removed.contains(&delta.node) {
                continue;
            }
            if delta.node == self.me {
                self.hear_of_own(now, &delta, &mut gaps);
                continue;
            }
            let had = self.records.get(&delta.node);
            if had.is_none() && self.records.len() >= NODES_MAX {
                self.refused.crowded += 1;
                continue;
            }
            match Record::merge(&*self.keys, had, &delta) {
                Merged::News(record) => self.keep(now, from, delta, *record, is_news),
                Merged::Old => {
                    let is_known = had.is_some_and(|had| had.stamp == delta.stamp);
                    // Its owner does not know how far it had come.
                    forgotten |= !is_known && delta.node == *from;
                    if is_known && let Some(rumor) = self.spread.rumors.get_mut(&delta.node) {
                        rumor.told.insert(from.clone());
                    }
                }
                Merged::Gap => gaps.push(delta.node),
                Merged::Bad => self.refused.records += 1,
            }
        }
        if forgotten {
            self.send_records(from, [from.clone()]);
        }
        self.ask(now, from, gaps);
    }

    /// Sends whole records, in messages that are not too large.
    pub(super) fn send_records(&mut self, to: &NodeId, nodes: impl IntoIterator<Item = NodeId>) {
        let Some(contact) = self.contact(to).cloned() else {
            return;
        };
        let (mut deltas, mut weight) = (Vec::new(), 0);
        for node in nodes {
            let Some(record) = self.records.get(&node) else {
                continue;
            };
            let delta = record.whole(&node);
            weight += delta.weight();
            deltas.push(delta);
            if weight >= MESSAGE_FULL {
                self.say(contact.clone(), &Say::Records(std::mem::take(&mut deltas)));
                weight = 0;
            }
        }
        if !deltas.is_empty() {
            self.say(contact, &Say::Records(deltas));
        }
    }

    /// Asks for whole records, each not too often.
    pub(super) fn ask(&mut self, now: Millis, whom: &NodeId, mut nodes: Vec<NodeId>) {
        let asked = &mut self.spread.asked;
        asked.retain(|_, at| now.since(*at) < ASK_AGAIN);
        nodes.retain(|node| asked.insert(node.clone(), now).is_none());
        if let Some(contact) = self.contact(whom).cloned()
            && !nodes.is_empty()
        {
            self.say(contact, &Say::Want(nodes));
        }
    }

    pub(super) fn drop_record(&mut self, node: &NodeId) {
        self.spread.rumors.remove(node);
        if self.records.remove(node).is_some() {
            self.out.changed.insert(node.clone());
        }
    }

    fn keep(&mut self, now: Millis, from: &NodeId, delta: Delta, record: Record, is_news: bool) {
        let node = delta.node.clone();
        self.records.insert(node.clone(), record);
        self.out.changed.insert(node);
        self.sync.something_changed(now);
        if is_news {
            let told = BTreeSet::from([from.clone(), delta.node.clone()]);
            self.pass_on(now.plus(ROUND_EVERY / 2), delta, told);
        }
    }

    /// Others know something of this node. If it is more than it knows itself,
    /// it lived before and forgot: it begins an epoch above that one. Only
    /// what it signed counts, so that nobody else can drive its numbers up.
    fn hear_of_own(&mut self, now: Millis, delta: &Delta, gaps: &mut Vec<NodeId>) {
        let own = self.records.get(&self.me);
        let is_same = own.is_some_and(|own| own.signature == delta.signature);
        let stamp = own.map_or(Stamp::default(), |own| own.stamp);
        if is_same || delta.stamp < stamp {
            return;
        }
        match Record::merge(&*self.keys, None, delta) {
            Merged::News(_) => {
                if delta.stamp.epoch >= self.spread.epoch {
                    let above = (delta.stamp.epoch >> 32).saturating_add(1) << 32;
                    self.spread.epoch = above | u64::from(self.swim.me().life);
                }
                self.spread.history.clear();
                self.publish_soon(now);
            }
            Merged::Gap => gaps.push(delta.node.clone()),
            Merged::Old | Merged::Bad => self.refused.records += 1,
        }
    }

    fn publish_soon(&mut self, now: Millis) {
        let earliest = self.spread.published_at.map(|at| at.plus(PUBLISH_EVERY));
        let at = earliest.map_or(now, |at| at.max(now));
        self.spread.publish_at.get_or_insert(at);
    }

    fn publish(&mut self, now: Millis) {
        let had = self.records.get(&self.me);
        let staged = self.spread.staged.take();
        // A node that says nothing yet takes back what it said before.
        let body = staged
            .or_else(|| had.map(|had| had.body.clone()))
            .unwrap_or_default();
        let last = had.map_or(Stamp::default(), |had| had.stamp);
        let epoch = self.spread.epoch;
        let is_new_epoch = had.is_none() || last.epoch != epoch;
        let version = if is_new_epoch { 1 } else { last.version + 1 };
        let record = Record::sign(&*self.keys, &self.me, Stamp { epoch, version }, body);
        let keys = match had {
            Some(had) => difference(&had.parts, &record.parts),
            None => Vec::new(),
        };
        if !is_new_epoch && keys.is_empty() {
            return;
        }
        self.spread.published_at = Some(now);
        let delta = self.spread.delta(now, &self.me, &record, keys);
        self.records.insert(self.me.clone(), record);
        self.sync.something_changed(now);
        self.pass_on(now, delta, BTreeSet::from([self.me.clone()]));
    }

    fn pass_on(&mut self, first: Millis, delta: Delta, told: BTreeSet<NodeId>) {
        // Three rounds reach fifty, and the last that nobody told are found by
        // comparing digests.
        let mut rounds = 2;
        let mut reached = FAN_OUT * FAN_OUT;
        while reached < self.active.len() {
            reached *= 2 * FAN_OUT;
            rounds += 1;
        }
        let node = delta.node.clone();
        let rumor = Rumor {
            delta,
            rounds,
            told,
        };
        self.spread.rumors.insert(node, rumor);
        self.spread.round_at.get_or_insert(first);
    }

    /// Tells a few members what they may not know.
    fn round(&mut self, now: Millis) {
        let ring = &self.ring;
        if ring.is_empty() {
            // Who comes up compares digests with us.
            self.spread.rumors.clear();
            return;
        }
        // In a small cluster everyone is tried in turn, in a large one luck
        // finds somebody who lacks the news soon.
        let tries = ring.len().min(4 * FAN_OUT);
        let is_small = ring.len() == tries;
        let first = self.random.below(ring.len());
        let mut told = BTreeSet::new();
        let mut messages = Vec::new();
        for n in 0..tries {
            let pick = if is_small {
                (first + n) % ring.len()
            } else {
                self.random.below(ring.len())
            };
            let node = &ring[pick];
            if told.len() >= FAN_OUT || told.contains(node) {
                continue;
            }
            let (mut deltas, mut weight) = (Vec::new(), 0);
            for rumor in self.spread.rumors.values_mut() {
                if weight < MESSAGE_FULL && rumor.told.insert(node.clone()) {
                    weight += rumor.delta.weight();
                    deltas.push(rumor.delta.clone());
                }
            }
            if !deltas.is_empty() {
                told.insert(node.clone());
                messages.push((self.active[node].clone(), Say::News(deltas).bytes()));
            }
        }
        self.out.messages.extend(messages);
        self.spread.rumors.retain(|_, rumor| {
            rumor.rounds -= 1;
            rumor.rounds > 0
        });
        if !self.spread.rumors.is_empty() {
            self.spread.round_at = Some(now.plus(ROUND_EVERY));
        }
    }
}

impl Spread {
    /// What changed within the window, up to this record.
    fn delta(&mut self, now: Millis, me: &NodeId, record: &Record, keys: Vec<Key>) -> Delta {
        let whole = record.whole(me);
        let version = record.stamp.version;
        if version == 1 {
            self.history.clear();
            return whole;
        }
        self.history.push_back((version, now, keys));
        while self.history.len() > 1
            && self.history.front().is_some_and(|(_, at, _)| {
                now.since(*at) > WINDOW || self.history.len() > WINDOW_CHANGES_MAX
            })
        {
            self.history.pop_front();
        }
        let since = self.history.front().map_or(0, |(first, _, _)| first - 1);
        let changed: BTreeSet<&Key> = self.history.iter().flat_map(|(_, _, keys)| keys).collect();
        let parts = changed
            .into_iter()
            .map(|key| (key.clone(), record.parts.get(key).cloned()));
        let delta = record.delta(me, since, parts);
        if delta.weight() < whole.weight() {
            delta
        } else {
            whole
        }
    }
}
