//! Moves tasks onto nodes that joined, where the operator asked for it with
//! the label `skep.rebalance=true` on the cluster or the service.
//!
//! **Invariant:** start-first, one task of a service at a time and few in all,
//! and only while every task of the service is up: no replica is ever the only
//! one that is well.

use super::load::Loads;
use super::rank::Ranking;
use super::require::Requirement;
use super::services::{SlotKey, Slots};
use super::*;

/// `true` opts in; on a service, `false` opts out of the cluster's.
const LABEL: &str = "skep.rebalance";

/// Tasks on their way by any reason, in the whole cluster, above which nothing
/// is moved for balance alone.
const MOVES_MAX: usize = 4;

/// A node must be up for so long before it attracts tasks, in milliseconds.
const STEADY_MS: u64 = 30_000;

/// All tasks of a service must be up for so long between moves, in
/// milliseconds.
const CALM_MS: u64 = 10_000;

/// A service whose tasks are all up and may be moved.
pub(super) struct Candidate<'a> {
    service: &'a Service,
    slots: Vec<(u64, &'a Assignment)>,
}

/// Whether there is anything to do for it at all.
pub(super) fn candidate<'a>(
    draft: &mut Draft<'a>,
    service: &'a Service,
    slots: &Slots<'a>,
) -> Option<Candidate<'a>> {
    let world = draft.world;
    let is_updating = service
        .update_status
        .as_ref()
        .is_some_and(|status| status.state.is_active());
    let is_fenced = is_fenced(&service.spec.labels);
    if !is_wanted(world.state, service) || is_updating || is_fenced || slots.len() < 2 {
        return None;
    }
    let mut single = Vec::new();
    let mut calm = world.now;
    for (key, slot) in slots {
        let (SlotKey::Number(number), [only], true) =
            (key, &slot.live[..], slot.stopping.is_empty())
        else {
            return None;
        };
        let seen = world.seen(only).filter(|seen| seen.is_running())?;
        let since = seen.latest()?.running_since?;
        calm = calm.max(since.plus(CALM_MS));
        let is_renewed = draft.is_renewed(&service.id, *number);
        if is_renewed || draft.ended.contains(&only.id) {
            return None;
        }
        single.push((*number, *only));
    }
    if calm > world.now {
        draft.wake(&service.id, calm);
        return None;
    }
    Some(Candidate {
        service,
        slots: single,
    })
}

pub(super) fn is_wanted(state: &State, service: &Service) -> bool {
    let of_service = service.spec.labels.get(LABEL);
    let of_cluster = state.cluster().and_then(|of| of.spec.labels.get(LABEL));
    of_service
        .or(of_cluster)
        .is_some_and(|value| value == "true")
}

pub(super) fn plan(draft: &mut Draft<'_>) {
    for candidate in std::mem::take(&mut draft.candidates) {
        let made = draft.new.iter().filter(|of| of.by_update).count();
        if draft.in_flight + made >= MOVES_MAX {
            // Each that comes up makes room, and is planned for.
            draft.held.insert(candidate.service.id.clone());
            continue;
        }
        if let Some((number, _)) = choose(draft, &candidate) {
            let new = draft.begin(candidate.service, number, TaskState::Running);
            new.by_update = true;
        }
    }
}

/// The task to move: its node, or its branch of the preferences, has at least
/// two more of the service than where the next one would go.
fn choose<'a>(draft: &mut Draft<'_>, candidate: &Candidate<'a>) -> Option<(u64, &'a Assignment)> {
    draft.measure();
    let world = draft.world;
    let service = candidate.service;
    let steady_since = |place: usize, loads: &Loads<'_>| {
        let since = world.reaches.up_since(&loads.nodes[place].node.id);
        since.map(|since| since.plus(STEADY_MS))
    };
    let mut soonest: Option<Millis> = None;
    let loads = draft.loads.as_mut()?;
    let number = loads.service(&service.id);
    let (_, first) = candidate.slots.first()?;
    let successor = Assignment {
        revision: service.revision,
        ..Assignment::clone(first)
    };
    let requirement = loads.requirement(number, &successor);
    let mut ranking = Ranking::new(loads, &requirement, number, service.revision);
    for place in 0..loads.nodes.len() {
        let is_averse = loads.nodes[place].aversion(number, service.revision) > 0;
        if is_averse || loads.miss(place, number, &requirement).is_some() {
            continue;
        }
        match steady_since(place, loads) {
            Some(at) if at <= world.now => ranking.offer(place, &loads.nodes[place]),
            at => soonest = soonest.into_iter().chain(at).min(),
        }
    }
    let best = ranking.take();
    let found = best.and_then(|best| {
        let excess = Excess::over(loads, &requirement, number, best);
        let surplus = |(_, of): &&(u64, &Assignment)| {
            let place = of.node.as_ref().and_then(|node| loads.place(node));
            place.map_or(0, |place| excess.of(loads, &requirement, place))
        };
        let most = candidate
            .slots
            .iter()
            .max_by_key(|slot| (surplus(slot), slot.1.born))?;
        (surplus(&most) >= 2).then_some(*most)
    });
    if found.is_none()
        && let Some(at) = soonest
    {
        draft.wake(&service.id, at);
    }
    found
}

/// How many more tasks of a service are elsewhere than on the best node.
struct Excess<'l> {
    service: usize,
    best: usize,
    path: Vec<&'l str>,
    /// Tasks of each branch of the preferences.
    branches: BTreeMap<Vec<&'l str>, u64>,
}

impl<'l> Excess<'l> {
    fn over(loads: &Loads<'l>, requirement: &Requirement, service: usize, best: usize) -> Self {
        let mut branches: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        for load in &loads.nodes {
            let path = path(load.node, requirement);
            for depth in 1..=path.len() {
                *branches.entry(path[..depth].to_vec()).or_default() += load.of_service(service);
            }
        }
        Self {
            service,
            best,
            path: path(loads.nodes[best].node, requirement),
            branches,
        }
    }

    /// Compared where the ways to the two nodes part.
    fn of(&self, loads: &Loads<'l>, requirement: &Requirement, place: usize) -> u64 {
        let path = path(loads.nodes[place].node, requirement);
        let parts = (0..path.len()).find(|depth| path[*depth] != self.path[*depth]);
        let (there, here) = match parts {
            Some(depth) => {
                let count = |path: &[&str]| self.branches.get(path).copied().unwrap_or(0);
                (count(&path[..=depth]), count(&self.path[..=depth]))
            }
            None => (
                loads.nodes[place].of_service(self.service),
                loads.nodes[self.best].of_service(self.service),
            ),
        };
        there.saturating_sub(here)
    }
}

fn path<'l>(node: &'l Node, requirement: &Requirement) -> Vec<&'l str> {
    let values = requirement.spread.iter().map(|spread| spread.value(node));
    values.collect()
}
