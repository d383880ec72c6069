//! A little network under virtual time: everything that can go wrong on the
//! way between nodes, from one seed.

use crate::gossip::{Body, Endpoint, Gossip, Keys};
use crate::model::*;
use crate::random::Random;
use crate::wire::{Contact, DATAGRAM_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What a packet costs beside what is in it: UDP's, IP's and QUIC's headers
/// and tag, in bytes.
const OVERHEAD: usize = 60;

/// A signature that only the name's owner makes, as far as tests go.
pub(super) struct Seal(pub NodeId);

impl Keys for Seal {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let mut sum = 7u64;
        for byte in self.0.0.bytes().chain(bytes.iter().copied()) {
            sum = sum
                .wrapping_mul(1_099_511_628_211)
                .wrapping_add(u64::from(byte));
        }
        let mut long = vec![0; 64];
        long[..8].copy_from_slice(&sum.to_le_bytes());
        long
    }
    fn public(&self) -> Vec<u8> {
        let mut long = self.0.0.clone().into_bytes();
        long.resize(32, 0);
        long
    }
    fn verify(&self, node: &NodeId, public: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
        let owner = Self(node.clone());
        owner.public() == public && owner.sign(bytes) == signature
    }
}

#[derive(Clone, Debug)]
enum Packet {
    Datagram(Vec<u8>),
    Message(Vec<u8>),
}

struct Flying {
    from: usize,
    to: Contact,
    packet: Packet,
}

/// A board on the net.
pub(super) struct Board {
    pub contact: Contact,
    pub gossip: Option<Gossip>,
    /// As its outputs said, which must be what it answers when asked.
    pub up: BTreeSet<NodeId>,
    pub went: Vec<(Millis, NodeId, bool)>,
    pub twin: Option<crate::gossip::Twin>,
    pub cloned: Vec<NodeId>,
    pub sent: usize,
    pub received: usize,
    /// Stands still until then.
    pub stalled: Millis,
    due: Option<Millis>,
}

pub(super) struct Net {
    pub now: Millis,
    pub boards: Vec<Board>,
    pub chance: Random,
    /// In thousandths.
    pub loss: usize,
    pub duplicates: usize,
    /// In ms.
    pub delay: (u64, u64),
    /// From, to.
    pub cut: BTreeSet<(usize, usize)>,
    /// Of everything sent.
    pub hash: u64,
    flying: BTreeMap<(Millis, u64), Flying>,
    places: BTreeMap<SocketAddr, usize>,
    wakes: BTreeSet<(Millis, usize)>,
    count: u64,
    /// When the last message of a pair arrives: messages keep their order.
    lanes: BTreeMap<(usize, SocketAddr), Millis>,
}

pub(super) fn name(n: usize) -> NodeId {
    NodeId(format!("{:0>25}", format!("n{n}")))
}

pub(super) fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 2377))
}

pub(super) fn body(tasks: usize) -> Body {
    let endpoints = (0..tasks).map(|n| {
        let endpoint = Endpoint {
            service: ServiceId(format!("{n:0>25}")),
            slot: n as u64,
            attempt: 1,
            state: TaskState::Running,
            container: ContainerId("c".repeat(64)),
            serves: true,
            ..Endpoint::default()
        };
        (AssignmentId(format!("{n:0>25}")), endpoint)
    });
    Body {
        endpoints: endpoints.collect(),
        ..Body::default()
    }
}

impl Net {
    pub(super) fn new(seed: u8) -> Self {
        Self {
            now: Millis(1_000),
            boards: Vec::new(),
            chance: Random::new([seed; 32]),
            loss: 0,
            duplicates: 0,
            delay: (1, 5),
            cut: BTreeSet::new(),
            hash: 0,
            flying: BTreeMap::new(),
            places: BTreeMap::new(),
            wakes: BTreeSet::new(),
            count: 0,
            lanes: BTreeMap::new(),
        }
    }

    /// So many boards who all know the first, up and settled.
    pub(super) fn cluster(seed: u8, boards: usize) -> Self {
        let mut net = Self::new(seed);
        for n in 0..boards {
            net.add(name(n), addr(n));
            net.act(n, |gossip, now| gossip.set_own(now, body(3)));
            if n > 0 {
                net.greet(n, 0);
            }
        }
        net
    }

    pub(super) fn add(&mut self, node: NodeId, addr: SocketAddr) -> usize {
        self.boards.push(Board {
            contact: Contact { node, addr },
            gossip: None,
            up: BTreeSet::new(),
            went: Vec::new(),
            twin: None,
            cloned: Vec::new(),
            sent: 0,
            received: 0,
            stalled: Millis(0),
            due: None,
        });
        let n = self.boards.len() - 1;
        self.places.insert(addr, n);
        self.start(n);
        n
    }

    /// Starts it with its key and without any memory.
    pub(super) fn start(&mut self, n: usize) {
        let mut seed = [0u8; 32];
        seed[..8].copy_from_slice(&self.chance.word().to_le_bytes());
        let board = &mut self.boards[n];
        let keys = Box::new(Seal(board.contact.node.clone()));
        board.gossip = Some(Gossip::new(self.now, board.contact.clone(), 0, seed, keys));
        board.up.clear();
        self.after(n);
    }

    pub(super) fn crash(&mut self, n: usize) {
        self.boards[n].gossip = None;
        self.boards[n].up.clear();
        self.after(n);
    }

    pub(super) fn carry(&mut self, n: usize, to: SocketAddr) {
        self.places.remove(&self.boards[n].contact.addr);
        self.places.insert(to, n);
        self.boards[n].contact.addr = to;
        self.act(n, |gossip, now| gossip.moved(now, to));
    }

    pub(super) fn greet(&mut self, n: usize, whom: usize) {
        let contact = self.boards[whom].contact.clone();
        self.act(n, |gossip, now| gossip.announce(now, &contact));
    }

    pub(super) fn act(&mut self, n: usize, act: impl FnOnce(&mut Gossip, Millis)) {
        if let Some(gossip) = &mut self.boards[n].gossip {
            act(gossip, self.now);
        }
        self.after(n);
    }

    pub(super) fn gossip(&self, n: usize) -> &Gossip {
        self.boards[n].gossip.as_ref().expect("it runs")
    }

    /// Cuts these off from those, in both directions or in one.
    pub(super) fn part(&mut self, these: &[usize], those: &[usize], is_one_way: bool) {
        for a in these {
            for b in those {
                self.cut.insert((*a, *b));
                if !is_one_way {
                    self.cut.insert((*b, *a));
                }
            }
        }
    }

    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now.plus(millis);
        self.run_until(end, |_| false);
    }

    /// Until something holds; says after how many ms.
    pub(super) fn wait(&mut self, most: u64, holds: impl Fn(&Self) -> bool) -> Option<u64> {
        let (start, end) = (self.now, self.now.plus(most));
        let mut look = start;
        while look < end {
            if holds(self) {
                return Some(self.now.since(start));
            }
            look = look.plus(50);
            self.run_until(look, |_| false);
        }
        holds(self).then(|| self.now.since(start))
    }

    fn run_until(&mut self, end: Millis, stop: impl Fn(&Self) -> bool) {
        while !stop(self) {
            let packet = self.flying.keys().next().map(|key| key.0);
            let wake = self.wakes.first().map(|wake| wake.0);
            let Some(next) = packet.into_iter().chain(wake).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if packet == Some(next) {
                let (_, flying) = self.flying.pop_first().expect("it was looked at");
                self.arrive(flying);
            } else {
                let (_, n) = self.wakes.pop_first().expect("it was looked at");
                let stalled = self.boards[n].stalled;
                if stalled > self.now {
                    self.boards[n].due = Some(stalled);
                    self.wakes.insert((stalled, n));
                } else {
                    self.boards[n].due = None;
                    self.act(n, Gossip::wake);
                }
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, flying: Flying) {
        // A certificate is of a name; whoever is at the address must have it.
        let to = self.places.get(&flying.to.addr).copied();
        let to = to.filter(|to| {
            let board = &self.boards[*to];
            board.contact == flying.to && board.gossip.is_some()
        });
        let Some(to) = to.filter(|to| !self.cut.contains(&(flying.from, *to))) else {
            return;
        };
        let stalled = self.boards[to].stalled;
        if stalled > self.now {
            self.count += 1;
            self.flying.insert((stalled, self.count), flying);
            return;
        }
        let from = self.boards[flying.from].contact.node.clone();
        let size = match &flying.packet {
            Packet::Datagram(bytes) | Packet::Message(bytes) => bytes.len(),
        };
        self.boards[to].received += size + OVERHEAD;
        self.act(to, |gossip, now| match &flying.packet {
            Packet::Datagram(bytes) => gossip.datagram(now, &from, bytes),
            Packet::Message(bytes) => gossip.message(now, &from, bytes),
        });
    }

    /// Takes what came of it.
    fn after(&mut self, n: usize) {
        let board = &mut self.boards[n];
        if let Some(due) = board.due.take() {
            self.wakes.remove(&(due, n));
        }
        let Some(gossip) = &mut board.gossip else {
            return;
        };
        let out = gossip.take();
        board.due = gossip.due();
        if let Some(due) = board.due {
            self.wakes.insert((due.max(self.now), n));
            board.due = Some(due.max(self.now));
        }
        let has_news = !out.up.is_empty() || !out.down.is_empty();
        for contact in out.up {
            board.went.push((self.now, contact.node.clone(), true));
            board.up.insert(contact.node);
        }
        for (node, _) in out.down {
            board.went.push((self.now, node.clone(), false));
            board.up.remove(&node);
        }
        if has_news {
            let told = gossip.members().map(|member| &member.node);
            assert!(told.eq(&board.up), "what was told is what is so");
        }
        board.twin = out.twin.or(board.twin);
        board
            .cloned
            .extend(out.cloned.into_iter().map(|(node, _)| node));
        for (to, bytes) in out.datagrams {
            assert!(bytes.len() <= DATAGRAM_MAX);
            self.send(n, to, Packet::Datagram(bytes));
        }
        for (to, bytes) in out.messages {
            self.send(n, to, Packet::Message(bytes));
        }
    }

    fn send(&mut self, from: usize, to: Contact, packet: Packet) {
        let (Packet::Datagram(bytes) | Packet::Message(bytes)) = &packet;
        self.boards[from].sent += bytes.len() + OVERHEAD;
        for byte in bytes.iter().chain(to.node.0.as_bytes()) {
            self.hash = self.hash.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
        self.hash = self.hash.wrapping_mul(31).wrapping_add(self.now.0);
        let (least, most) = self.delay;
        let mut copies = 1;
        if matches!(packet, Packet::Datagram(_)) {
            copies += usize::from(self.chance.below(1000) < self.duplicates);
            copies -= usize::from(self.chance.below(1000) < self.loss);
        }
        for _ in 0..copies {
            let mut at = self
                .now
                .plus(least + self.chance.below((most - least + 1) as usize) as u64);
            if matches!(packet, Packet::Message(_)) {
                let lane = self.lanes.entry((from, to.addr)).or_default();
                at = at.max(*lane);
                *lane = at;
            }
            self.count += 1;
            let flying = Flying {
                from,
                to: to.clone(),
                packet: packet.clone(),
            };
            self.flying.insert((at, self.count), flying);
        }
    }

    /// Everyone who runs knows everyone who runs, and what they say.
    pub(super) fn is_whole(&self) -> bool {
        let alive: Vec<&Board> = self.boards.iter().filter(|b| b.gossip.is_some()).collect();
        alive.iter().all(|board| {
            let gossip = board.gossip.as_ref().expect("it runs");
            board.up.len() + 1 == alive.len()
                && alive.iter().all(|other| {
                    let own = other.gossip.as_ref().expect("it runs");
                    let node = &other.contact.node;
                    (node == &board.contact.node || gossip.contact(node) == Some(&other.contact))
                        && gossip.record(node).map(|r| r.stamp) == own.record(node).map(|r| r.stamp)
                })
        })
    }

    /// Everyone who runs takes `node` for up, or for down.
    pub(super) fn all_say(&self, node: &NodeId, is_up: bool) -> bool {
        let others = self
            .boards
            .iter()
            .filter(|board| board.contact.node != *node);
        others
            .filter_map(|board| board.gossip.as_ref())
            .all(|gossip| gossip.is_up(node) == is_up)
    }

    /// What everyone knows, for people.
    pub(super) fn tell(&self) -> String {
        let boards = self.boards.iter().map(|board| {
            let Some(gossip) = &board.gossip else {
                return format!("{}: down", board.contact.node);
            };
            let up: Vec<_> = gossip
                .members()
                .map(|m| (&m.node.0[22..], m.addr))
                .collect();
            let records: Vec<_> = gossip
                .records()
                .map(|(node, record)| (&node.0[22..], record.stamp.epoch, record.stamp.version))
                .collect();
            format!("{}: up {up:?}, says {records:?}\n", board.contact.node)
        });
        boards.collect()
    }
}
