//! The spine's part in who takes part: nodes become managers and cease to be,
//! clusters begin, and nodes leave.
//!
//! ```text
//! spec says manager ─► certificate says so ─► raft id ─► learner ─► voter
//! spec says worker  ─► (lead handed over)  ─► put out ─► no raft id
//! ```
//! **Invariant:** a raft id is drawn at random and given once; a node takes
//! part under the one that the leader names, or not at all.

use super::*;
use crate::assign::NOWHERE;
use crate::request;
use crate::state::Change;
use crate::view::NOT_A_MANAGER;

/// How long a manager that leaves waits to be put out, in milliseconds. It
/// goes then in any case: it was forced.
const LEAVE_MS: u64 = 3_000;
/// How often it says so, in milliseconds.
const LEAVE_AGAIN_MS: u64 = 500;

/// A manager on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    ticket: Ticket,
    until: Millis,
    again_at: Millis,
}

impl Engine {
    /// Begins a cluster of this node alone.
    pub(super) fn found(&mut self, ticket: Ticket, init: &SwarmInit) -> Result<(), Refusal> {
        if self.erasing.is_some() {
            let message = "the node is still leaving its swarm: try again";
            return Err(Refusal::unavailable(message));
        }
        if self.node.is_some() {
            return Err(request::already());
        }
        let node = match init.founding.node.as_str() {
            "" => NodeId::from(self.random.id()),
            _ => init.founding.node.clone(),
        };
        // Never 0, which means "nobody", and never used before.
        let raft_id = self.random.word().max(1);
        let mut init = init.clone();
        if init.advertise_addr.is_empty() {
            init.advertise_addr.clone_from(&self.listen_addr);
        }
        let changes = request::new_cluster(&init, &node, raft_id, &self.about, &mut self.random)?;
        let (quorum, records) = Quorum::bootstrap(node.clone(), raft_id, self.random.word())
            .map_err(|e| Refusal::internal(format!("cannot begin a cluster: {e}")))?;
        self.consensus_disk.push(records);
        self.become_member(Member {
            cluster: cluster_of(&changes),
            node: node.clone(),
            role: NodeRole::Manager,
            addr: init.advertise_addr.parse().unwrap_or(NOWHERE),
            managers: Vec::new(),
        });
        let first = (ticket, changes, Answer::Node(node));
        self.manager = Some(Manager::new(quorum, Some(first)));
        Ok(())
    }

    /// Forgets the cluster.
    pub(super) fn leave(&mut self, at: Moment, ticket: Option<Ticket>, effects: &mut Effects) {
        if let Some(leader) = self.leader().filter(|_| !self.leads()).cloned() {
            self.send(&leader, Message::Leaving, effects);
        }
        if let Some(mut manager) = self.manager.take() {
            for ticket in manager.tickets() {
                let refusal = Refusal::unavailable(NOT_A_MANAGER);
                effects.answers.push((ticket, Err(refusal)));
            }
        }
        if let Some(mut gossip) = self.gossip.take() {
            gossip.leave(at.now);
            let goodbyes = gossip.take().datagrams.into_iter();
            effects
                .datagrams
                .extend(goodbyes.map(|(to, bytes)| Datagram { to, bytes }));
        }
        self.double_of = None;
        self.is_told = false;
        self.is_stopping = false;
        self.node = None;
        self.member = None;
        self.bulletin = None;
        self.trusted = None;
        self.led = Led::default();
        self.reporter.follow(None);
        self.reach.become_node(None);
        self.state = State::default();
        self.is_routing_stale = true;
        self.worker.leave(at);
        self.consensus_disk.forget();
        self.erasing = Some(ticket);
    }

    /// A manager of several is put out first, so that its vote is not missed.
    pub(super) fn begin_to_leave(&mut self, at: Moment, ticket: Ticket, effects: &mut Effects) {
        let managers = self.managers();
        let is_missed = self.manager.is_some()
            && managers.all > 1
            && managers.reachable > managers.all / 2
            && self.leader().is_some();
        if !is_missed || self.leaving.is_some() {
            return self.leave(at, Some(ticket), effects);
        }
        self.leaving = Some(Leaving {
            ticket,
            until: at.now.plus(LEAVE_MS),
            again_at: at.now,
        });
    }

    /// Goes on with leaving. Returns whether it has left.
    pub(super) fn go_on_leaving(&mut self, at: Moment, effects: &mut Effects) -> bool {
        let Some(leaving) = &mut self.leaving else {
            return false;
        };
        let (ticket, is_late) = (leaving.ticket, leaving.until <= at.now);
        if self.manager.is_none() || is_late {
            self.leaving = None;
            self.leave(at, Some(ticket), effects);
            return true;
        }
        if leaving.again_at > at.now {
            return false;
        }
        leaving.again_at = at.now.plus(LEAVE_AGAIN_MS);
        self.hand_over();
        if !self.leads()
            && let Some(leader) = self.leader().cloned()
        {
            self.send(&leader, Message::Leaving, effects);
        }
        false
    }

    pub(super) fn leaving_due(&self) -> Option<Millis> {
        self.leaving.as_ref().map(|of| of.again_at.min(of.until))
    }

    /// Gives the lead to another manager, if there is one.
    pub(super) fn hand_over(&mut self) {
        if let Some(manager) = &mut self.manager
            && manager.lead.is_some()
            && !manager.is_alone()
        {
            manager.quorum.transfer();
        }
    }

    /// `init --force-new-cluster`: this manager goes on without the others,
    /// who are workers from now on, should they come back.
    pub(super) fn force_new_cluster(&mut self, ticket: Ticket, effects: &mut Effects) {
        let (Some(mut manager), Some(own)) = (self.manager.take(), self.node.clone()) else {
            return;
        };
        for (ticket, refusal) in manager.give_up() {
            effects.answers.push((ticket, Err(refusal)));
        }
        let waiting = std::mem::take(&mut manager.requests);
        let (quorum, records) = match manager.quorum.force_alone() {
            Ok(alone) => alone,
            Err(e) => {
                // The log is as it was: a restart finds it.
                let message = format!("cannot go on alone: {e}; restart the agent");
                let refusal = Refusal::internal(message);
                effects.answers.push((ticket, Err(refusal)));
                return;
            }
        };
        self.consensus_disk.push(records);
        let others = self.state.nodes().filter(|node| node.id != own);
        let managers =
            others.filter(|node| node.raft_id.is_some() || node.spec.role == NodeRole::Manager);
        let changes = managers.map(|node| {
            let mut node = node.clone();
            node.raft_id = None;
            node.spec.role = NodeRole::Worker;
            Change::PutNode(Box::new(node))
        });
        let first = (ticket, changes.collect(), Answer::Node(own));
        let mut manager = Manager::new(quorum, Some(first));
        manager.requests = waiting;
        self.manager = Some(manager);
        self.reporter.follow(None);
    }

    /// Takes part if the leader says so, and no more if it does not. Returns
    /// whether that is news.
    pub(super) fn take_part(&mut self) -> bool {
        let (Some(member), Some(told)) = (&self.member, &self.bulletin) else {
            return false;
        };
        let mut managers = told.managers.iter();
        let named = managers.find(|manager| manager.contact.node == member.node);
        let named = named.map(|manager| manager.raft_id);
        match (&self.manager, named) {
            (None, Some(raft_id)) => {
                let is_ready = member.role == NodeRole::Manager
                    && self.double_of.is_none()
                    && self.erasing.is_none()
                    && self.consensus_disk.is_idle();
                is_ready && self.begin_to_take_part(raft_id)
            }
            (Some(manager), named) => {
                let is_other = self.is_told && named != Some(manager.quorum.raft_id());
                let is_out = manager.lead.is_none() && manager.first.is_none() && is_other;
                if let Some(why) = manager.quorum.stale() {
                    log::warn!("this node begins anew as a manager: {why}");
                } else if !is_out {
                    return false;
                }
                self.cease_to_take_part();
                true
            }
            (None, None) => false,
        }
    }

    fn begin_to_take_part(&mut self, raft_id: u64) -> bool {
        let Some(node) = self.node.clone() else {
            return false;
        };
        match Quorum::join(node, raft_id, self.random.word()) {
            Ok((quorum, records)) => {
                self.consensus_disk.push(records);
                self.manager = Some(Manager::new(quorum, None));
                true
            }
            Err(e) => {
                log::error!("cannot take part as a manager: {e}");
                false
            }
        }
    }

    /// Drops log and tables: this node is a worker, or begins anew.
    pub(super) fn cease_to_take_part(&mut self) {
        if let Some(mut manager) = self.manager.take() {
            for ticket in manager.tickets() {
                let refusal = Err(self.not_a_manager());
                self.refusals.push((ticket, refusal));
            }
        }
        self.state = State::default();
        self.consensus_disk.forget();
        self.erasing = Some(None);
        let worker = &self.worker;
        self.seen.retain(|id, _| worker.seen(id).is_some());
    }

    /// The leader sees to it that those take part who should, one change at a
    /// time. Returns whether it did something.
    pub(super) fn adjust_members(&mut self, at: Moment, effects: &mut Effects) -> bool {
        let (Some(manager), Some(own)) = (&mut self.manager, &self.node) else {
            return false;
        };
        let Some(lead) = &manager.lead else {
            return false;
        };
        if manager.quorum.is_changing() || self.state.cluster().is_none() {
            return false;
        }
        let quorum = &mut manager.quorum;
        let mut change = None;
        let own_role = self.member.as_ref().map(|member| member.role);
        for node in self.state.nodes() {
            let addr = match node.id == *own {
                true => self.member.as_ref().map(|member| member.addr),
                false => self.reach.heard(&node.id),
            };
            if let Some(addr) = addr.filter(|addr| addr.port() != 0)
                && node.addr.parse() != Ok(addr)
            {
                let mut node = node.clone();
                node.addr = addr.to_string();
                change = Some(Box::new(node));
                break;
            }
            let certified = match node.id == *own {
                true => own_role,
                false => lead.certified.get(&node.id).copied(),
            };
            let is_going = lead.leaving.contains(&node.id);
            let step = next_step(node, certified, is_going, quorum);
            let done = match step {
                Step::None => continue,
                Step::Listen(raft_id) => quorum.add_learner(raft_id),
                Step::Vote(raft_id) => quorum.promote(raft_id),
                Step::PutOut(raft_id) if raft_id == quorum.raft_id() => {
                    if quorum.transfer().is_none() {
                        log::warn!("no other manager can take over the lead");
                    }
                    continue;
                }
                Step::PutOut(raft_id) => quorum.remove(raft_id),
                Step::Change(node) => {
                    change = Some(node);
                    break;
                }
            };
            match done {
                Ok(_) => return true,
                Err(e) => log::debug!("who takes part is not changed yet: {e}"),
            }
        }
        if let Some(mut node) = change {
            if node.raft_id == Some(0) {
                // Never 0, which means "nobody", and never used before.
                node.raft_id = Some(self.random.word().max(1));
            }
            self.propose(at, vec![Change::PutNode(node)], None, effects);
            return true;
        }
        let nodes = self.state.nodes();
        let known: BTreeSet<u64> = nodes.filter_map(|node| node.raft_id).collect();
        let members = quorum.members();
        let mut all = members.voters.iter().chain(&members.learners);
        let stray = all.find(|id| !known.contains(*id)).copied();
        stray.is_some_and(|id| quorum.remove(id).is_ok())
    }
}

/// What is to be done next about one node's part.
enum Step {
    None,
    /// A raft id of 0: one is to be drawn.
    Change(Box<Node>),
    Listen(u64),
    Vote(u64),
    PutOut(u64),
}

fn next_step(node: &Node, certified: Option<NodeRole>, is_going: bool, quorum: &Quorum) -> Step {
    let wants = node.spec.role == NodeRole::Manager;
    let takes_part = |id: u64| quorum.voters().contains(&id) || quorum.learners().contains(&id);
    let change = |change: &dyn Fn(&mut Node)| {
        let mut node = node.clone();
        change(&mut node);
        Step::Change(Box::new(node))
    };
    match node.raft_id {
        _ if wants && is_going => change(&|node| node.spec.role = NodeRole::Worker),
        None if wants && certified == Some(NodeRole::Manager) => {
            change(&|node| node.raft_id = Some(0))
        }
        None => Step::None,
        Some(id) if !wants && takes_part(id) => Step::PutOut(id),
        Some(_) if !wants => change(&|node| node.raft_id = None),
        Some(id) if !takes_part(id) => Step::Listen(id),
        Some(id) if quorum.learners().contains(&id) => {
            let progress = quorum.progress(id);
            match progress.is_some_and(|of| of.is_active && of.is_caught_up()) {
                true => Step::Vote(id),
                false => Step::None,
            }
        }
        Some(_) => Step::None,
    }
}

fn cluster_of(changes: &[Change]) -> ClusterId {
    let id = changes.iter().find_map(|change| match change {
        Change::PutCluster(cluster) => Some(cluster.id.clone()),
        _ => None,
    });
    id.unwrap_or_default()
}
