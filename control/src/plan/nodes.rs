//! What nodes say of themselves comes into the tables when it is news.

use super::*;

pub(super) fn plan(draft: &mut Draft<'_>) {
    for (id, described) in draft.world.described {
        let Some(node) = draft.world.state.node(id) else {
            continue;
        };
        if node.description != *described {
            let mut node = node.clone();
            node.description = described.clone();
            draft.plan.changes.push(Change::PutNode(Box::new(node)));
        }
    }
}
