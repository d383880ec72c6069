//! The spine's node half: what a member of a cluster is told, by whom, and
//! what it reports.
//!
//! **Invariant:** of two leaders the one of the later term is right, and what
//! an earlier one says is not heard.

use super::*;
use crate::report::Facts;
use crate::wire::{Assign, Bulletin, Reported};

/// Who leads, as this node was last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Led {
    pub(super) term: u64,
    pub(super) node: Option<NodeId>,
}

impl Engine {
    /// This node was taken into a cluster.
    pub(super) fn joined(&mut self, member: Member) {
        if self.node.is_some() || self.erasing.is_some() {
            log::error!("a node that is in a cluster joins none");
            return;
        }
        self.become_member(member);
    }

    pub(super) fn become_member(&mut self, member: Member) {
        self.reach.become_node(Some(member.node.clone()));
        self.node = Some(member.node.clone());
        self.led = Led::default();
        self.reporter.follow(None);
        self.is_routing_stale = true;
        self.member = Some(member);
    }

    pub(super) fn certified(&mut self, role: NodeRole) {
        if let Some(member) = &mut self.member {
            member.role = role;
            self.reporter.note_told();
        }
    }

    pub(super) fn connected(&mut self, now: Millis, peer: Peer) {
        if self.node.as_ref() == Some(&peer.node) || self.is_removed(&peer.node) {
            return;
        }
        self.reporter.linked(&peer.node);
        if let Some(lead) = self.lead_mut() {
            lead.told.linked(&peer.node);
        }
        if let Some(gossip) = &mut self.gossip
            && !gossip.is_up(&peer.node)
        {
            let (node, addr) = (peer.node.clone(), peer.addr);
            gossip.announce(now, &Contact { node, addr });
        }
        if self.reach.link(peer.node, peer.addr) {
            self.reach_changed();
        }
    }

    pub(super) fn disconnected(&mut self, node: &NodeId) {
        if let Some(raft_id) = self.raft_id_of(node)
            && let Some(manager) = &mut self.manager
        {
            manager.quorum.unreachable(raft_id);
        }
        if self.reach.unlink(node) {
            self.reach_changed();
        }
    }

    pub(super) fn reach_changed(&mut self) {
        self.is_routing_stale = true;
        if let Some(manager) = &mut self.manager {
            manager.replan();
        }
    }

    pub(super) fn is_removed(&self, node: &NodeId) -> bool {
        let told = self.bulletin.as_ref();
        told.is_some_and(|told| told.removed.contains(node))
    }

    /// Another node says something.
    pub(super) fn received(&mut self, at: Moment, from: Peer, message: Message) {
        let is_out = self.node.is_none() || self.double_of.is_some();
        if is_out || self.is_removed(&from.node) {
            return;
        }
        if !message.may_send(from.role) {
            log::warn!("node {} says what only managers may say", from.node);
            return;
        }
        match message {
            Message::Consensus(bytes) => self.take_consensus(&from.node, &bytes),
            Message::Gossip(bytes) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.message(at.now, &from.node, &bytes);
                }
            }
            Message::Assign(assign) => self.told_assignment(at, from.node, *assign),
            Message::Bulletin(bulletin) => {
                if self.hears(bulletin.term, &from.node) {
                    self.is_told = true;
                    self.told_bulletin(at.now, *bulletin, true);
                }
            }
            Message::Reported(reported) => self.told_reported(at, &from.node, reported),
            Message::Report(report) => self.take_report(at.now, &from, *report),
            Message::Leaving => self.leaves(&from.node),
        }
    }

    /// Whether who leads in `term` is heard; if it is somebody new, it is
    /// followed from now on.
    fn hears(&mut self, term: u64, from: &NodeId) -> bool {
        if term < self.led.term || self.leads() {
            return false;
        }
        self.follow(term, from);
        true
    }

    pub(super) fn follow(&mut self, term: u64, leader: &NodeId) {
        if term > self.led.term {
            self.worker.begin_term();
        }
        let led = Led {
            term,
            node: Some(leader.clone()),
        };
        if self.led != led || self.reporter.leader() != Some(leader) {
            self.reporter.follow(Some(leader.clone()));
        }
        self.led = led;
    }

    fn told_assignment(&mut self, at: Moment, from: NodeId, assign: Assign) {
        let is_mine = self.node.as_ref() == Some(&assign.set.node);
        if is_mine && self.hears(assign.term, &from) {
            self.worker.assign(at, assign.set);
            self.reporter.note_told();
        }
    }

    /// What every node must know; kept for a start without managers.
    pub(super) fn told_bulletin(&mut self, now: Millis, bulletin: Bulletin, is_kept: bool) {
        self.reporter.note_told();
        let same = self.bulletin.as_ref().is_some_and(|before| {
            let numbered = Bulletin {
                term: before.term,
                version: before.version,
                ..bulletin.clone()
            };
            **before == numbered
        });
        if !same {
            for node in &bulletin.removed {
                self.reach.forget(node);
            }
            self.is_routing_stale = true;
            self.is_trust_stale = true;
        }
        let bulletin = Box::new(bulletin);
        if !same && is_kept {
            let record = NodeRecord::Bulletin(bulletin.clone());
            self.node_disk.push([record]);
            self.node_disk.compact(NODE_LOG_FLOOR, false);
        }
        self.bulletin = Some(bulletin);
        if !same {
            self.greet(now);
        }
    }

    fn told_reported(&mut self, at: Moment, from: &NodeId, reported: Reported) {
        if !self.hears(reported.term, from) {
            return;
        }
        if let Some(said) = self.reporter.acknowledged(reported) {
            self.worker.confirmed(at, said);
        }
    }

    /// Tells the leader what is new, or looks for one.
    pub(super) fn report(&mut self, now: Millis, effects: &mut Effects) {
        let is_out = self.leads() || self.double_of.is_some();
        let Some(node) = self.node.clone().filter(|_| !is_out) else {
            return;
        };
        let Some(member) = &self.member else { return };
        if self.reporter.leader().is_none() {
            let next = self.next_manager(&node);
            self.reporter.follow(next);
        }
        let worker = &self.worker;
        let facts = Facts {
            about: &self.about,
            role: member.role,
            generation: worker.generation(),
            bulletin: self.bulletin.as_ref().map_or(0, |told| told.version),
            all: &|| worker.assigned().map(|of| of.id.clone()).collect(),
            seen: &|id| worker.seen(id).cloned(),
        };
        if let Some((leader, report)) = self.reporter.next(now, &facts) {
            self.send(&leader, Message::Report(Box::new(report)), effects);
        }
    }

    /// The leader does not answer: perhaps another manager leads.
    pub(super) fn seek(&mut self, now: Millis) {
        if !self.reporter.wake(now) || self.leads() {
            return;
        }
        let silent = self.reporter.leader();
        if silent.is_some_and(|leader| !self.reach.is_up(leader))
            && let Some(node) = self.node.clone()
        {
            let next = self.next_manager(&node);
            self.reporter.follow(next);
        }
    }

    /// The manager after the one that was asked last.
    fn next_manager(&self, own: &NodeId) -> Option<NodeId> {
        let told = self.bulletin.iter().flat_map(|told| &told.managers);
        let told = told.map(|manager| &manager.contact);
        let member = self.member.iter().flat_map(|member| &member.managers);
        let all: BTreeSet<&NodeId> = told
            .chain(member)
            .map(|contact| &contact.node)
            .filter(|node| *node != own)
            .collect();
        let after = self.reporter.leader();
        let next = all
            .iter()
            .find(|node| after.is_none_or(|after| **node > after));
        next.or(all.iter().next()).map(|node| (*node).clone())
    }

    /// A message to a node whose whereabouts are known.
    pub(super) fn send(&self, to: &NodeId, message: Message, effects: &mut Effects) {
        let joined = || {
            let mut managers = self.member.as_ref()?.managers.iter();
            managers.find(|contact| contact.node == *to).cloned()
        };
        if let Some(to) = self.view().contact(to).or_else(joined) {
            effects.sends.push(Send { to, message });
        }
    }

    /// Whom this node may talk to.
    pub(super) fn trust(&mut self, effects: &mut Effects) {
        if !std::mem::take(&mut self.is_trust_stale) {
            return;
        }
        let Some(told) = &self.bulletin else { return };
        let trust = Trust {
            ca_certs_pem: told.ca_certs_pem.clone(),
            removed: told.removed.iter().cloned().collect(),
            role: told.role,
        };
        if self.trusted.as_ref() != Some(&trust) {
            self.trusted = Some(trust.clone());
            effects.trust = Some(trust);
        }
    }
}
