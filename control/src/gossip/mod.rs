//! Who lives, and what each node says of itself: SWIM membership and signed
//! records, known to every node about every node, with no leader.
//!
//! Members probe each other in datagrams (`swim`). Each node writes one record
//! (`record`); its changes go out at once to a few random members, who pass
//! them on for a few rounds (`spread`), and what was missed is found by
//! comparing digests with a random member now and then (`sync`).
//!
//! **Invariant:** a record is believed from its owner only, a datagram only
//! from who the transport says sent it. Traffic without changes does not grow
//! with the cluster. Time, chance and bytes are arguments; nothing here knows
//! managers, tasks' meaning or connections.
//!
//! The engine gives `from` as proven by the transport, calls [`Gossip::wake`]
//! at [`Gossip::due`], and takes [`Gossip::take`] after every call.

mod identity;
mod record;
mod say;
mod spread;
mod swim;
mod sync;
mod twin;

pub use record::{Body, Endpoint, Keys, Load, Record, Stamp};
pub use twin::Twin;

use crate::model::{Millis, NodeId};
use crate::random::Random;
use crate::wire::Contact;
use foca::{Member, OwnedNotification, State};
use identity::Identity;
use say::Say;
use spread::Spread;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use swim::Swim;
use sync::Sync;
use twin::Twins;

/// Nodes kept, dead ones included. A liar may invent some; this ends it.
const NODES_MAX: usize = 16_384;
/// A node renews its identity no more often, in ms: two boards with one key
/// would answer each other at the speed of the net.
const RENEW_EVERY: u64 = 500;
/// Somebody who is not up is greeted so often, in ms, so that halves of a
/// cluster find each other again, ...
const GREET_EVERY: u64 = 8_000;
/// ... and so often while more are down than up.
const GREET_SOON: u64 = 2_000;
/// Lives are drawn among so many: three bytes in every datagram.
const LIVES: usize = 1 << 20;
/// Changes of a name's holder after which two boards hold it.
const FLIPS_MAX: u32 = 4;

/// What shall be done, and what was learnt. Empty when nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Each at most [`crate::wire::DATAGRAM_MAX`] bytes.
    pub datagrams: Vec<(Contact, Vec<u8>)>,
    /// For [`crate::wire::Message::Gossip`].
    pub messages: Vec<(Contact, Vec<u8>)>,
    /// Came up, or moved while up.
    pub up: Vec<Contact>,
    /// Went down; true: on purpose. A node is in one of both lists, as it is
    /// now.
    pub down: Vec<(NodeId, bool)>,
    /// Whose record is another now, or gone.
    pub changed: BTreeSet<NodeId>,
    /// Another board has this node's key.
    pub twin: Option<Twin>,
    /// Two boards have that node's key; where they are.
    pub cloned: Vec<(NodeId, [SocketAddr; 2])>,
}

/// What was dropped since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Datagrams that claimed another sender.
    pub forged: u64,
    /// What could not be read.
    pub unreadable: u64,
    /// Records that their owner did not sign, or too large.
    pub records: u64,
    /// More nodes than are kept.
    pub crowded: u64,
}

/// This node's knowledge of all.
pub struct Gossip {
    me: NodeId,
    born: Millis,
    swim: Swim,
    keys: Box<dyn Keys>,
    random: Random,
    /// Everyone we may greet: who was ever up, and who was announced.
    contacts: BTreeMap<NodeId, Contact>,
    /// Who is up.
    active: BTreeMap<NodeId, Contact>,
    /// The keys of `active` as they came up, to draw from.
    ring: Vec<NodeId>,
    removed: BTreeSet<NodeId>,
    records: BTreeMap<NodeId, Record>,
    spread: Spread,
    sync: Sync,
    greet_at: Option<Millis>,
    /// The largest incarnation that anyone claimed for this node's id.
    claimed: u64,
    renew_at: Option<Millis>,
    renewed_at: Option<Millis>,
    /// To be greeted after the renewal: they believe us dead, or somebody else.
    greet_again: BTreeMap<NodeId, Contact>,
    twins: Twins,
    /// Of a node's name: the life that held it before, and how often it changed
    /// hands between two.
    flips: BTreeMap<NodeId, (u32, u32)>,
    has_left: bool,
    refused: Refused,
    out: Out,
}

impl Gossip {
    /// `epoch`: counts this node's lives as far as it remembers; 0 if it does
    /// not, and others will say how many there were.
    pub fn new(now: Millis, me: Contact, epoch: u32, seed: [u8; 32], keys: Box<dyn Keys>) -> Self {
        let mut random = Random::new(seed);
        let mut fresh = [0u8; 32];
        for chunk in fresh.chunks_mut(8) {
            chunk.copy_from_slice(&random.word().to_le_bytes());
        }
        let identity = Identity {
            // Zero is for strangers.
            life: 1 + random.below(LIVES) as u32,
            ..Identity::stranger(&me)
        };
        Self {
            me: me.node,
            born: now,
            keys,
            random,
            contacts: BTreeMap::new(),
            active: BTreeMap::new(),
            ring: Vec::new(),
            removed: BTreeSet::new(),
            records: BTreeMap::new(),
            spread: Spread::new(epoch, identity.life),
            swim: Swim::new(identity, Random::new(fresh)),
            sync: Sync::default(),
            greet_at: None,
            claimed: 0,
            renew_at: None,
            renewed_at: None,
            greet_again: BTreeMap::new(),
            twins: Twins::default(),
            flips: BTreeMap::new(),
            has_left: false,
            refused: Refused::default(),
            out: Out::default(),
        }
    }

    /// Says hello to a member that is known from a join or a bulletin, unless
    /// it is up there already. It is greeted again until it answers.
    pub fn announce(&mut self, now: Millis, contact: &Contact) {
        if contact.node == self.me || self.has_left || self.removed.contains(&contact.node) {
            return;
        }
        let known = self.contacts.insert(contact.node.clone(), contact.clone());
        if self.active.get(&contact.node) == Some(contact) {
            return;
        }
        if known.as_ref() != Some(contact) || !self.active.contains_key(&contact.node) {
            self.swim.announce(now, Identity::stranger(contact));
        }
        self.settle(now);
    }

    /// A datagram that the transport knows to be from `from`.
    pub fn datagram(&mut self, now: Millis, from: &NodeId, bytes: &[u8]) {
        if self.has_left || self.removed.contains(from) {
            return;
        }
        let Some(parcel) = Swim::read(bytes) else {
            self.refused.unreadable += 1;
            return;
        };
        if parcel.src.node != *from {
            self.refused.forged += 1;
            return;
        }
        if *from == self.me {
            self.claim(now, &parcel.src);
            return self.settle(now);
        }
        let room = NODES_MAX.saturating_sub(self.swim.len());
        if parcel.members.len() >= room && self.has_strangers(&parcel) {
            self.refused.crowded += 1;
            return;
        }
        for member in parcel.members.iter().filter(|member| is_up(member)) {
            if member.id().node == self.me {
                self.claim(now, member.id());
            }
        }
        let known = self.swim.known(from).map(Member::id);
        if let Some(known) = known.filter(|known| known.replaces(&parcel.src)) {
            // It forgot who it was: nobody would believe it otherwise.
            let said = Say::Superseded(known.clone());
            self.say(parcel.src.contact(), &said);
            return self.settle(now);
        }
        let was = self.swim.me().incarnation;
        self.swim.datagram(now, bytes);
        self.settle(now);
        if self.renew_at.is_some() || self.swim.me().incarnation != was {
            self.greet_later(now, parcel.src.contact());
        }
    }

    /// A message that the transport knows to be from `from`.
    pub fn message(&mut self, now: Millis, from: &NodeId, bytes: &[u8]) {
        if self.has_left || self.removed.contains(from) {
            return;
        }
        match Say::read(bytes) {
            Some(said) => self.hear(now, from, said),
            None => self.refused.unreadable += 1,
        }
        self.settle(now);
    }

    /// [`Gossip::due`] has come; harmless at any other time.
    pub fn wake(&mut self, now: Millis) {
        if self.has_left {
            return;
        }
        self.swim.wake(now);
        if self.greet_at.is_some_and(|at| at <= now) {
            self.greet_at = None;
            self.greet(now);
        }
        self.compare_if_due(now);
        self.settle(now);
    }

    /// When to call [`Gossip::wake`]; `None`: there is nobody else.
    pub fn due(&self) -> Option<Millis> {
        let timers = [
            self.swim.due(),
            self.spread.due(),
            self.sync.due(),
            self.greet_at,
            self.renew_at,
        ];
        timers.into_iter().flatten().min()
    }

    /// Others reach this node here from now on.
    pub fn moved(&mut self, now: Millis, addr: SocketAddr) {
        if self.has_left || self.swim.me().addr == addr {
            return;
        }
        let me = Identity {
            addr,
            incarnation: self.swim.me().incarnation.max(self.claimed) + 1,
            ..self.swim.me().clone()
        };
        self.renewed_at = Some(now);
        self.swim.become_identity(now, me);
        self.settle(now);
    }

    /// Says goodbye: others learn at once that this node went on purpose.
    /// Nothing is heard or said afterwards.
    pub fn leave(&mut self, now: Millis) {
        if self.has_left {
            return;
        }
        let me = Identity {
            incarnation: self.swim.me().incarnation.max(self.claimed) + 1,
            is_leaving: true,
            ..self.swim.me().clone()
        };
        self.swim.become_identity(now, me);
        self.swim.leave(now);
        self.settle(now);
        self.has_left = true;
        self.spread.stop();
        self.sync.stop();
        (self.greet_at, self.renew_at) = (None, None);
    }

    /// It is no node of this cluster any more: nothing of it is kept or heard.
    pub fn forget(&mut self, now: Millis, node: &NodeId) {
        if *node == self.me || !self.removed.insert(node.clone()) {
            return;
        }
        self.contacts.remove(node);
        self.flips.remove(node);
        self.drop_record(node);
        self.swim.remove(now, node);
        self.settle(now);
    }

    /// Nodes that were forgotten and shall be heard again: they joined anew.
    pub fn readmit(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.removed.retain(|node| !is_member(node));
    }

    /// What happened since the last call.
    pub fn take(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }

    /// Where a node is, up or not, as far as is known.
    pub fn contact(&self, node: &NodeId) -> Option<&Contact> {
        self.active.get(node).or_else(|| self.contacts.get(node))
    }

    /// Who is up, this node not among them.
    pub fn members(&self) -> impl Iterator<Item = &Contact> {
        self.active.values()
    }

    pub fn is_up(&self, node: &NodeId) -> bool {
        self.active.contains_key(node)
    }

    /// What a node says of itself; this one included, and those that are down.
    pub fn record(&self, node: &NodeId) -> Option<&Record> {
        self.records.get(node)
    }

    pub fn records(&self) -> impl Iterator<Item = (&NodeId, &Record)> {
        self.records.iter()
    }

    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Leads what membership has to say on, until it has nothing more.
    fn settle(&mut self, now: Millis) {
        loop {
            let said = self.swim.take();
            if said.notes.is_empty() && said.datagrams.is_empty() {
                break;
            }
            self.out.datagrams.extend(said.datagrams);
            for note in said.notes {
                self.note(now, note);
            }
            self.renew_if_due(now);
        }
        self.renew_if_due(now);
        let is_missed = self.contacts.len() > self.active.len();
        if self.greet_at.is_none() && is_missed && !self.has_left {
            let missing = self.contacts.len() - self.active.len();
            let is_urgent = missing > self.active.len();
            let every = if is_urgent { GREET_SOON } else { GREET_EVERY };
            let jitter = self.random.below(500) as u64;
            self.greet_at = Some(now.plus(every + jitter));
        }
        self.spread_if_due(now);
        self.out.datagrams.extend(self.swim.take().datagrams);
    }

    fn note(&mut self, now: Millis, note: OwnedNotification<Identity>) {
        match note {
            OwnedNotification::MemberUp(id) => self.came_up(now, &id),
            OwnedNotification::MemberDown(id) => self.went_down(&id),
            OwnedNotification::Rename(old, new) => {
                self.flipped(&old, &new);
                let active = self.active.get(&new.node);
                if active.is_some_and(|contact| contact.addr != new.addr) {
                    self.came_up(now, &new);
                }
            }
            // It was declared dead, and is not.
            OwnedNotification::Defunct if !self.swim.me().is_leaving => self.renew_soon(now),
            OwnedNotification::Defunct
            | OwnedNotification::Active
            | OwnedNotification::Idle
            | OwnedNotification::Rejoin(_) => {}
        }
    }

    fn came_up(&mut self, now: Millis, id: &Identity) {
        if self.removed.contains(&id.node) {
            return self.swim.remove(now, &id.node);
        }
        let contact = id.contact();
        self.contacts.insert(id.node.clone(), contact.clone());
        if self
            .active
            .insert(id.node.clone(), contact.clone())
            .is_none()
        {
            self.ring.push(id.node.clone());
            self.compare_with_new(now, contact.clone());
        }
        self.out.down.retain(|(node, _)| *node != id.node);
        self.out.up.retain(|known| known.node != id.node);
        self.out.up.push(contact);
    }

    fn went_down(&mut self, id: &Identity) {
        if self.active.remove(&id.node).is_none() {
            return;
        }
        self.ring.retain(|node| *node != id.node);
        if id.is_leaving {
            self.contacts.remove(&id.node);
        }
        self.out.up.retain(|known| known.node != id.node);
        self.out.down.push((id.node.clone(), id.is_leaving));
    }

    /// Says hello to a few of those who are not up.
    fn greet(&mut self, now: Millis) {
        const AT_ONCE: usize = 2;
        let missing = self.contacts.len().saturating_sub(self.active.len());
        for _ in 0..AT_ONCE.min(missing) {
            let pick = self.random.below(missing);
            let mut absent = self.contacts.values();
            let contact = absent
                .by_ref()
                .filter(|contact| !self.active.contains_key(&contact.node))
                .nth(pick);
            if let Some(contact) = contact {
                self.swim.announce(now, Identity::stranger(contact));
            }
        }
    }

    /// Somebody is said to have this node's id.
    fn claim(&mut self, now: Millis, claim: &Identity) {
        if claim.node != self.me {
            return;
        }
        let me = self.swim.me();
        let twin = self.twins.hear(now, self.born, me, claim);
        if claim.replaces(me) {
            self.claimed = self.claimed.max(claim.incarnation);
            self.renew_soon(now);
        }
        if twin.is_some() {
            self.out.twin = twin;
        }
    }

    fn renew_soon(&mut self, now: Millis) {
        let earliest = self.renewed_at.map_or(now, |at| at.plus(RENEW_EVERY));
        self.renew_at.get_or_insert(earliest.max(now));
    }

    fn renew_if_due(&mut self, now: Millis) {
        if self.has_left || self.renew_at.is_none_or(|at| at > now) {
            return;
        }
        self.renew_at = None;
        self.renewed_at = Some(now);
        let me = Identity {
            incarnation: self
                .swim
                .me()
                .incarnation
                .max(self.claimed)
                .saturating_add(1),
            ..self.swim.me().clone()
        };
        self.swim.become_identity(now, me);
        for (_, contact) in std::mem::take(&mut self.greet_again) {
            self.swim.announce(now, Identity::stranger(&contact));
        }
    }

    /// That one must hear who this node is now.
    fn greet_later(&mut self, now: Millis, contact: Contact) {
        if self.renew_at.is_some() {
            self.greet_again.insert(contact.node.clone(), contact);
        } else {
            self.swim.announce(now, Identity::stranger(&contact));
            self.settle(now);
        }
    }

    /// Counts how often two lives take a name from each other.
    fn flipped(&mut self, old: &Identity, new: &Identity) {
        if old.life == new.life || self.removed.contains(&new.node) {
            return;
        }
        let flips = self.flips.entry(new.node.clone()).or_insert((old.life, 0));
        if flips.0 != new.life {
            *flips = (old.life, flips.1.min(1));
            return;
        }
        *flips = (old.life, flips.1 + 1);
        if flips.1 >= FLIPS_MAX {
            flips.1 = 0;
            let both = [old.addr, new.addr];
            self.out.cloned.push((new.node.clone(), both));
        }
    }

    fn has_strangers(&self, parcel: &swim::Parcel) -> bool {
        let mut named = parcel.members.iter().map(Member::id).chain([&parcel.src]);
        named.any(|id| self.swim.known(&id.node).is_none())
    }

    fn say(&mut self, to: Contact, said: &Say) {
        self.out.messages.push((to, said.bytes()));
    }
}

fn is_up(member: &Member<Identity>) -> bool {
    member.state() != State::Down
}

#[cfg(test)]
mod tests;
