//! Gives each waiting assignment a node, or says why none fits.

use super::rank::Ranking;
use super::require::{Misses, explain};
use super::*;

/// An assignment without a node: of the tables, or of this draft.
enum Waiting {
    Known(AssignmentId),
    New(usize),
}

pub(super) fn plan(draft: &mut Draft<'_>) {
    let mut groups: BTreeMap<(ServiceId, u64), Vec<Waiting>> = BTreeMap::new();
    for (id, key) in std::mem::take(&mut draft.waiting) {
        if !draft.ended.contains(&id) {
            groups.entry(key).or_default().push(Waiting::Known(id));
        }
    }
    for (index, assignment) in draft.new.iter().enumerate() {
        if assignment.node.is_none() {
            let key = (assignment.service.clone(), assignment.revision);
            groups.entry(key).or_default().push(Waiting::New(index));
        }
    }
    for group in groups.into_values() {
        place(draft, group);
    }
}

/// Equal assignments.
fn place(draft: &mut Draft<'_>, group: Vec<Waiting>) {
    let state = draft.world.state;
    let first = match &group[0] {
        Waiting::Known(id) => state.assignment(id),
        Waiting::New(index) => draft.new.get(*index),
    };
    let Some(first) = first.cloned() else {
        return;
    };
    draft.measure();
    let Some(loads) = &mut draft.loads else {
        return;
    };
    let service = loads.service(&first.service);
    let requirement = loads.requirement(service, &first);
    let mut misses = Misses::new();
    let mut ranking = Ranking::new(loads, &requirement, service, first.revision);
    for index in 0..loads.nodes.len() {
        match loads.miss(index, service, &requirement) {
            None => ranking.offer(index, &loads.nodes[index]),
            Some(miss) => *misses.entry(miss).or_default() += 1,
        }
    }
    for waiting in group {
        let found = loop {
            let Some(index) = ranking.take() else {
                break None;
            };
            match loads.miss(index, service, &requirement) {
                None => break Some(index),
                Some(miss) => *misses.entry(miss).or_default() += 1,
            }
        };
        let mut known = match &waiting {
            Waiting::Known(id) => state.assignment(id).cloned(),
            Waiting::New(_) => None,
        };
        let assignment = match (&waiting, &mut known) {
            (Waiting::New(index), _) => draft.new.get_mut(*index),
            (Waiting::Known(_), known) => known.as_mut(),
        };
        let Some(assignment) = assignment else {
            continue;
        };
        let Some(index) = found else {
            let id = assignment.id.clone();
            let of_service = draft.pending.entry(assignment.service.clone());
            of_service.or_default().insert(id, explain(&misses));
            continue;
        };
        loads.bind(index, assignment);
        ranking.placed(index);
        ranking.offer(index, &loads.nodes[index]);
        if let Some(Assignment {
            id,
            node: Some(node),
            generic_resources,
            ..
        }) = known
        {
            draft.plan.changes.push(Change::Bind {
                assignment: id,
                node,
                generic_resources,
            });
        }
    }
}
