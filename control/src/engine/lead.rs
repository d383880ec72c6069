//! The spine's leader half: what each node is told, and what they report.
//!
//! **Invariant:** a status is believed from its owner only. Everything here is
//! begun anew with each lead, so that nothing of an old one is trusted.

use super::*;
use crate::assign::{Concerned, assignments, bulletin};
use crate::plan::{Planner, Reaches};
use crate::tell::{Lack, Told};
use crate::wire::{Assign, Bulletin, Report, Reported};

/// What a leader knows that is not in the tables.
#[derive(Debug, Default)]
pub(super) struct Lead {
    pub(super) term: u64,
    pub(super) told: Told,
    /// Which nodes are there, as planning needs it.
    pub(super) reaches: Reaches,
    pub(super) planner: Planner,
    /// What nodes say of themselves.
    pub(super) described: BTreeMap<NodeId, NodeDescription>,
    /// What their certificates say. Only who has reported is in here.
    pub(super) certified: BTreeMap<NodeId, NodeRole>,
    /// Planning waits so long for nodes that are not heard of yet.
    plan_after: Millis,
    /// Managers that go on purpose.
    pub(super) leaving: BTreeSet<NodeId>,
    /// What all nodes are told, role and term apart, and what each is told to
    /// be.
    common: Bulletin,
    roles: BTreeMap<NodeId, NodeRole>,
}

/// How long a new leader waits to hear of every node before it plans, in
/// milliseconds: a round trip and a handshake over a slow net.
const FAIR_MS: u64 = 1_000;

impl Engine {
    /// Every node was heard of, or had the time to be.
    pub(super) fn may_plan(&self, now: Millis) -> bool {
        let Some(lead) = self.lead() else {
            return false;
        };
        let is_known = |node: &Node| match self.reach.state(&node.id) {
            NodeState::Down | NodeState::Disconnected => true,
            NodeState::Unknown => false,
            NodeState::Ready => {
                self.node.as_ref() == Some(&node.id) || lead.certified.contains_key(&node.id)
            }
        };
        lead.plan_after <= now || self.state.nodes().all(is_known)
    }
    pub(super) fn plan_due(&self, now: Millis) -> Option<Millis> {
        let after = self.lead()?.plan_after;
        (after > now && !self.may_plan(now)).then_some(after)
    }

    pub(super) fn leads(&self) -> bool {
        self.manager.as_ref().is_some_and(|of| of.lead.is_some())
    }
    pub(super) fn lead(&self) -> Option<&Lead> {
        self.manager.as_ref()?.lead.as_ref()
    }
    pub(super) fn lead_mut(&mut self) -> Option<&mut Lead> {
        self.manager.as_mut()?.lead.as_mut()
    }

    /// This node leads from now on.
    pub(super) fn begin_lead(&mut self, at: Moment, term: u64) {
        let (Some(manager), Some(own)) = (&mut self.manager, &self.node) else {
            return;
        };
        let mut lead = Lead {
            term,
            plan_after: at.now.plus(FAIR_MS),
            ..Lead::default()
        };
        for node in self.state.nodes().filter(|node| node.id != *own) {
            lead.told.add(&node.id, self.state.version());
        }
        let is_alone = self.state.nodes().all(|node| node.id == *own);
        manager.lead = Some(lead);
        manager.replan();
        let own = own.clone();
        if !is_alone {
            self.reach.watch(at.now);
        }
        // What others said before was said to somebody else.
        let worker = &self.worker;
        self.seen.retain(|id, _| worker.seen(id).is_some());
        self.follow(term, &own);
        let everything = Concerned {
            all: true,
            bulletin: true,
            ..Concerned::default()
        };
        self.concern(at, &everything);
    }

    /// Another node leads, or none.
    pub(super) fn end_lead(&mut self, effects: &mut Effects) {
        if let Some(manager) = &mut self.manager {
            manager.lead = None;
            manager.forget_plans();
            for (ticket, refusal) in manager.give_up() {
                effects.answers.push((ticket, Err(refusal)));
            }
        }
        self.reporter.follow(None);
    }

    /// The tables have changed: notes whom that concerns.
    pub(super) fn concern(&mut self, at: Moment, concerned: &Concerned) {
        let (Some(own), Some(manager)) = (self.node.clone(), &mut self.manager) else {
            return;
        };
        let Some(lead) = &mut manager.lead else {
            return;
        };
        let version = self.state.version();
        for node in concerned.nodes.iter().filter(|node| **node != own) {
            if self.state.node(node).is_some() {
                lead.told.want_assignment(node, version);
            }
        }
        if concerned.all {
            lead.told.want_all(version, true);
        }
        if concerned.bulletin {
            self.announce(at.now, &own);
        }
        if concerned.all || concerned.nodes.contains(&own) {
            self.worker.assign(at, assignments(&self.state, &own));
        }
    }

    /// What every node must know may be something else now.
    fn announce(&mut self, now: Millis, own: &NodeId) {
        let (state, worker) = (&self.state, &self.worker);
        let Some(manager) = &mut self.manager else {
            return;
        };
        let is_alone = manager.is_alone();
        let Some(lead) = &mut manager.lead else {
            return;
        };
        let mut common = bulletin(state);
        let version = common.version;
        let roles: BTreeMap<NodeId, NodeRole> = state
            .nodes()
            .map(|node| (node.id.clone(), node.spec.role))
            .collect();
        for (node, role) in &roles {
            if node != own && lead.roles.get(node) != Some(role) {
                lead.told.add(node, version);
            }
        }
        for node in lead.roles.keys().filter(|node| !roles.contains_key(*node)) {
            lead.told.remove(node);
            // The last that it hears, if it is there: nothing is to run.
            let last = Assign {
                term: lead.term,
                set: assignments(state, node),
            };
            if let Some(addr) = self.reach.addr(node) {
                let node = node.clone();
                self.replies.push(Send {
                    to: Contact { node, addr },
                    message: Message::Assign(Box::new(last)),
                });
            }
            lead.described.remove(node);
            lead.certified.remove(node);
            self.reach.forget(node);
        }
        lead.leaving
            .retain(|id| state.node(id).is_some_and(|of| of.raft_id.is_some()));
        self.seen
            .retain(|id, _| state.assignment(id).is_some() || worker.seen(id).is_some());
        common.version = lead.common.version;
        if common != lead.common {
            common.version = version;
            lead.told.want_all(version, false);
            lead.common = common;
        }
        let role = roles.get(own).copied().unwrap_or_default();
        lead.roles = roles;
        let for_own = Bulletin {
            term: lead.term,
            role,
            ..lead.common.clone()
        };
        // A node alone has the tables to start from.
        self.told_bulletin(now, for_own, !is_alone);
        self.greet(now);
    }

    /// Tells nodes what they lack.
    pub(super) fn tell(&mut self, now: Millis, effects: &mut Effects) {
        let Some(lead) = self.lead_mut() else { return };
        for lack in lead.told.take(now) {
            self.tell_node(&lack, effects);
        }
    }

    fn tell_node(&self, lack: &Lack, effects: &mut Effects) {
        let Some(lead) = self.lead() else { return };
        let Some(node) = self.state.node(&lack.node) else {
            return;
        };
        // First what it is to be, then what it is to do: networks are told of
        // before the tasks on them.
        if lack.bulletin {
            let bulletin = Bulletin {
                term: lead.term,
                role: node.spec.role,
                ..lead.common.clone()
            };
            self.send(&node.id, Message::Bulletin(Box::new(bulletin)), effects);
        }
        if lack.assignment {
            let assign = Assign {
                term: lead.term,
                set: assignments(&self.state, &node.id),
            };
            self.send(&node.id, Message::Assign(Box::new(assign)), effects);
        }
    }

    /// A node says what it is and what is seen there.
    pub(super) fn take_report(&mut self, now: Millis, from: &Peer, report: Report) {
        let id = &from.node;
        let Some(manager) = &mut self.manager else {
            return;
        };
        let Some(lead) = &mut manager.lead else {
            return;
        };
        if self.state.node(id).is_none() {
            return;
        }
        lead.told.has(id, report.generation, report.bulletin);
        let wants_whole = !report.is_whole && !lead.certified.contains_key(id);
        if !wants_whole {
            if let Some(about) = report.description {
                lead.described.insert(id.clone(), about);
            }
            lead.certified.insert(id.clone(), from.role);
            let mut said: BTreeSet<AssignmentId> = BTreeSet::new();
            for (assignment, seen) in report.seen {
                let of = self.state.assignment(&assignment);
                if of.is_none_or(|of| of.node.as_ref() != Some(id)) {
                    continue;
                }
                said.insert(assignment.clone());
                lead.planner.saw(&self.state, &assignment);
                match seen {
                    Some(seen) => {
                        let seen = rebased(seen, report.now, now);
                        self.seen.insert(assignment, seen);
                    }
                    None => {
                        self.seen.remove(&assignment);
                    }
                }
            }
            if report.is_whole {
                for of in self.state.assignments_on(id) {
                    if !said.contains(&of.id) {
                        lead.planner.saw(&self.state, &of.id);
                        self.seen.remove(&of.id);
                    }
                }
            }
            manager.replan();
        }
        // Else its fenced tasks would go on after others took their place.
        if self.reach.is_down(id) {
            return;
        }
        let reported = Reported {
            term: manager.lead.as_ref().map_or(0, |lead| lead.term),
            number: report.number,
            wants_whole,
        };
        let to = Contact {
            node: id.clone(),
            addr: from.addr,
        };
        let message = Message::Reported(reported);
        self.replies.push(Send { to, message });
    }

    /// A node goes on purpose.
    pub(super) fn leaves(&mut self, node: &NodeId) {
        let is_manager = self.state.node(node).is_some_and(|of| of.raft_id.is_some());
        if is_manager && let Some(manager) = &mut self.manager {
            if let Some(lead) = &mut manager.lead {
                lead.leaving.insert(node.clone());
            }
            // Its vote counts until it is put out.
            return manager.replan();
        }
        if self.reach.leave(node) {
            self.reach_changed();
        }
    }
}

/// What another node's clock said, on this node's.
fn rebased(mut seen: Seen, theirs: Millis, ours: Millis) -> Seen {
    let rebase = |at: Millis| Millis(ours.0.saturating_sub(theirs.since(at)));
    for attempt in &mut seen.attempts {
        attempt.running_since = attempt.running_since.map(rebase);
        attempt.ended = attempt.ended.map(rebase);
    }
    seen
}
