//! Says which nodes are to be managers, where the operator asked for it with
//! the cluster's label `skep.autopilot=N`: so that N of them live.
//!
//! **Invariant:** one change at a time, each seen through before the next; the
//! managers that live are always more than half, before and after; the leader
//! and nodes labelled `skep.autopilot=false` keep the role that they have. How
//! a role changes it does not know.

use super::*;

/// On the cluster: how many managers; on a node, `false`: leave it alone.
const LABEL: &str = "skep.autopilot";

/// A manager that is down for so long is replaced, in milliseconds: a board
/// that starts anew is back before.
const DEAD_MS: u64 = 120_000;

/// A node must be up for so long to become a manager, in milliseconds.
const STEADY_MS: u64 = 60_000;

/// Between two changes, in milliseconds: the quorum takes the first one in.
const REST_MS: u64 = 10_000;

pub(super) fn plan(draft: &mut Draft<'_>) {
    let world = draft.world;
    let label = world
        .state
        .cluster()
        .and_then(|of| of.spec.labels.get(LABEL));
    let wanted = label.and_then(|label| label.parse::<usize>().ok());
    let Some(wanted) = wanted.filter(|wanted| *wanted > 0) else {
        return;
    };
    if draft.roles_rest_until > world.now {
        return draft.wake_nodes(draft.roles_rest_until);
    }
    let is_changing = |node: &Node| (node.spec.role == NodeRole::Manager) != node.raft_id.is_some();
    if world.state.nodes().any(is_changing) {
        return;
    }
    let quorum = Quorum::of(world);
    for node in &quorum.lost {
        if let Some(since) = world.reaches.down_since(&node.id) {
            draft.wake_nodes(since.plus(DEAD_MS));
        }
    }
    let change = if quorum.all - quorum.dead.len() < wanted {
        promote(draft).map(|node| (node, NodeRole::Manager))
    } else if quorum.all > wanted {
        demote(world, &quorum, wanted).map(|node| (node, NodeRole::Worker))
    } else {
        None
    };
    if let Some((node, role)) = change {
        let mut node = node.clone();
        node.spec.role = role;
        draft.plan.changes.push(Change::PutNode(Box::new(node)));
        draft.roles_rest_until = world.now.plus(REST_MS);
    }
}

/// The managers.
struct Quorum<'a> {
    all: usize,
    up: Vec<&'a Node>,
    /// Down, and perhaps on the way back.
    lost: Vec<&'a Node>,
    /// Down for good, as far as one can wait.
    dead: Vec<&'a Node>,
}

impl<'a> Quorum<'a> {
    fn of(world: World<'a>) -> Self {
        let mut quorum = Self {
            all: 0,
            up: Vec::new(),
            lost: Vec::new(),
            dead: Vec::new(),
        };
        let managers = world.state.nodes();
        for node in managers.filter(|of| of.spec.role == NodeRole::Manager) {
            quorum.all += 1;
            match world.reaches.down_since(&node.id) {
                Some(since) if since.plus(DEAD_MS) <= world.now => quorum.dead.push(node),
                Some(_) => quorum.lost.push(node),
                None if world.reaches.of(&node.id) == Reach::Up => quorum.up.push(node),
                None => {}
            }
        }
        quorum
    }

    /// More than half of the others live when one goes that lives, or not.
    fn stands_without(&self, is_up: bool) -> bool {
        let others = self.all - 1;
        self.up.len() - usize::from(is_up) > others / 2
    }
}

fn is_free(node: &Node) -> bool {
    node.spec
        .labels
        .get(LABEL)
        .is_none_or(|value| value != "false")
}

/// The steadiest node that may become a manager.
fn promote<'a>(draft: &mut Draft<'a>) -> Option<&'a Node> {
    let world = draft.world;
    let workers = world.state.nodes().filter(|node| {
        let is_active = node.spec.availability == Availability::Active;
        node.spec.role == NodeRole::Worker && is_active && is_free(node)
    });
    let mut eligible = Vec::new();
    for node in workers {
        let Some(since) = world.reaches.up_since(&node.id) else {
            continue;
        };
        if since.plus(STEADY_MS) <= world.now {
            let falls = world.reaches.falls(&node.id, world.now);
            eligible.push((falls, since, node));
        } else {
            draft.wake_nodes(since.plus(STEADY_MS));
        }
    }
    let best = eligible
        .into_iter()
        .min_by_key(|(falls, since, node)| (*falls, *since, &node.id));
    best.map(|(_, _, node)| node)
}

/// A dead manager, or the least steady one when more than enough live.
fn demote<'a>(world: World<'a>, quorum: &Quorum<'a>, wanted: usize) -> Option<&'a Node> {
    let may_go = |node: &&&Node| is_free(node) && node.id != *world.leader;
    if let Some(dead) = quorum.dead.iter().find(may_go) {
        return quorum.stands_without(false).then_some(*dead);
    }
    let is_surplus = quorum.up.len() > wanted && quorum.stands_without(true);
    let least = quorum.up.iter().filter(may_go).max_by_key(|node| {
        let since = world.reaches.up_since(&node.id);
        (world.reaches.falls(&node.id, world.now), since, &node.id)
    });
    least.copied().filter(|_| is_surplus)
}
