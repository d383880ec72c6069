//! The spine's part in gossip: who is there, what nodes say of themselves, and
//! what this one says.
//!
//! **Invariant:** while there is gossip, it alone says who is there;
//! connections only say where. Without keys there is none, and then they do.

use super::*;
use crate::gossip::{Body, Endpoint, Gossip, Keys, Out, Twin};

/// Gives out this node's keys, once for each cluster that it joins.
pub type KeySource = Box<dyn Fn() -> Box<dyn Keys> + std::marker::Send>;

impl Engine {
    /// Lets this node gossip. To be called before the first step.
    pub fn gossip_with(&mut self, keys: KeySource) {
        self.keys = Some(keys);
    }

    /// Begins to gossip, once there is a cluster and an address to be reached
    /// at.
    fn begin_gossip(&mut self, now: Millis) {
        let (Some(keys), Some(me)) = (&self.keys, self.own_contact()) else {
            return;
        };
        let mut seed = [0u8; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&self.random.word().to_le_bytes());
        }
        self.gossip = Some(Gossip::new(now, me, 0, seed, keys()));
        self.reach.gossips();
        self.is_record_stale = true;
        self.greet(now);
        if self
            .bulletin
            .as_ref()
            .is_some_and(|told| told.managers.len() > 1)
        {
            self.reach.watch(now);
        }
    }

    /// Where this node says that it is.
    fn own_contact(&self) -> Option<Contact> {
        let node = self.node.as_ref()?;
        let told = self.member.as_ref().map(|member| member.addr);
        let in_tables = || self.state.node(node)?.addr.parse().ok();
        let addr = told.or_else(in_tables)?;
        let node = node.clone();
        (addr.port() != 0).then_some(Contact { node, addr })
    }

    /// Says hello to everyone whom this node knows to be in the cluster, and
    /// no word to who is not any more.
    pub(super) fn greet(&mut self, now: Millis) {
        let Some(gossip) = &mut self.gossip else {
            return;
        };
        let told = self.bulletin.iter().flat_map(|told| &told.managers);
        let told = told.map(|manager| manager.contact.clone());
        let joined = self.member.iter().flat_map(|member| &member.managers);
        let leads = self.manager.as_ref().is_some_and(|of| of.lead.is_some());
        let nodes = self.state.nodes().filter(|_| leads);
        let nodes = nodes.filter_map(|node| {
            let addr = node.addr.parse().ok()?;
            let node = node.id.clone();
            Some(Contact { node, addr })
        });
        let everyone: BTreeMap<NodeId, Contact> = joined
            .cloned()
            .chain(told)
            .chain(nodes)
            .map(|contact| (contact.node.clone(), contact))
            .collect();
        let removed = self.bulletin.as_ref().map(|told| &told.removed);
        let is_removed = |node: &NodeId| removed.is_some_and(|of| of.contains(node));
        gossip.readmit(|node| !is_removed(node));
        for node in removed.into_iter().flatten() {
            gossip.forget(now, node);
        }
        for contact in everyone.values() {
            if !is_removed(&contact.node) && !gossip.is_up(&contact.node) {
                gossip.announce(now, contact);
            }
        }
    }

    /// Another address, on another net perhaps.
    pub(super) fn moved(&mut self, now: Millis, addr: std::net::SocketAddr) {
        if let Some(member) = &mut self.member {
            member.addr = addr;
        }
        if let Some(gossip) = &mut self.gossip {
            gossip.moved(now, addr);
        }
        if let Some(manager) = &mut self.manager {
            manager.is_membership_stale = true;
        }
    }

    /// Says what is new of this node, and hears what others say. Returns
    /// whether that changes anything here.
    pub(super) fn hear(&mut self, at: Moment, effects: &mut Effects) -> bool {
        if self.gossip.is_none() {
            self.begin_gossip(at.now);
        }
        if self.gossip.is_some() && std::mem::take(&mut self.is_record_stale) {
            let own = self.own_body();
            if let Some(gossip) = &mut self.gossip {
                gossip.set_own(at.now, own);
            }
        }
        let Some(gossip) = &mut self.gossip else {
            return false;
        };
        let out = gossip.take();
        if out == Out::default() {
            return false;
        }
        let datagrams = out.datagrams.into_iter();
        effects
            .datagrams
            .extend(datagrams.map(|(to, bytes)| Datagram { to, bytes }));
        effects
            .sends
            .extend(out.messages.into_iter().map(|(to, bytes)| Send {
                to,
                message: Message::Gossip(bytes),
            }));
        let mut has_news = false;
        for contact in out.up {
            has_news |= self.reach.hear(contact.node, contact.addr);
        }
        for (node, _) in out.down {
            has_news |= self.reach.leave(&node);
        }
        for (node, [one, other]) in out.cloned {
            log::warn!("two boards have the key of node {node}: {one} and {other}");
            self.reach.note_double(node, [one, other]);
        }
        if has_news {
            self.reach_changed();
        }
        self.is_routing_stale |= !out.changed.is_empty();
        if let Some(twin) = out.twin {
            has_news |= self.meet_twin(at, twin);
        }
        has_news
    }

    /// Another board has this node's key. The younger board has no business
    /// here: it stops what it runs and is silent.
    fn meet_twin(&mut self, at: Moment, twin: Twin) -> bool {
        if !twin.stands_down {
            log::warn!(
                "the board at {} has this node's key: is its card a copy of this one's? It is refused; give it an identity of its own",
                twin.addr
            );
            return false;
        }
        log::error!(
            "this board has the key of the node at {}, which was there before: is its card a copy? It stops what it runs; leave the swarm by force, remove its data directory and join again",
            twin.addr
        );
        self.double_of = Some(twin.addr);
        self.gossip = None;
        self.keys = None;
        self.cease_to_take_part();
        self.worker.leave(at);
        true
    }

    fn own_body(&self) -> Body {
        let assigned = self.worker.assigned();
        let endpoints = assigned.filter_map(|of| {
            let seen = self.worker.seen(&of.id)?;
            let latest = seen.latest()?;
            let container = latest.status.container.as_ref();
            let endpoint = Endpoint {
                service: of.service.clone(),
                slot: of.slot,
                attempt: latest.number,
                state: latest.status.state,
                health: latest.health,
                container: container.map_or_else(ContainerId::default, |of| of.container.clone()),
                addresses: latest.addresses.clone(),
                serves: Running::of(of, seen, &NodeId::default()).is_some(),
            };
            Some((of.id.clone(), endpoint))
        });
        Body {
            description: self.about.clone(),
            endpoints: endpoints.collect(),
            ..Body::default()
        }
    }

    /// What runs on other nodes that are there, as they say.
    pub(super) fn running_elsewhere(&self) -> impl Iterator<Item = Running> {
        let gossip = self.gossip.iter();
        gossip.flat_map(|gossip| {
            let records = gossip.records().filter(|(node, _)| gossip.is_up(node));
            records.flat_map(|(node, record)| {
                let endpoints = record.body.endpoints.iter();
                let serving = endpoints.filter(|(_, endpoint)| endpoint.serves);
                serving.map(|(assignment, endpoint)| Running {
                    service: endpoint.service.clone(),
                    slot: endpoint.slot,
                    task: endpoint.task(assignment),
                    node: node.clone(),
                    container: endpoint.container.clone(),
                    addresses: endpoint.addresses.clone(),
                })
            })
        })
    }
}
