//! Nodes that fit, best first.
//!
//! Placement preferences make a tree: on each level the branch with the
//! fewest tasks of the service comes first, whatever its nodes. Below it, and
//! without preferences, come nodes where the service does not keep failing,
//! then those with the fewest of its tasks, then those with the fewest tasks.
//! Reservations count, load does not.
//!
//! Every level is kept in order, so that a hundred thousand tasks cost no more
//! than their number times the logarithm of the nodes'.

use super::load::{Load, Loads};
use super::require::Requirement;
use std::collections::{BTreeMap, BTreeSet};

/// Aversion, tasks of the service, tasks, and which node.
type Rank = (u32, u64, u64, usize);

/// Tasks of the service, tasks, and which branch.
type BranchRank = (u64, u64, usize);

#[derive(Debug, Default)]
struct Branch {
    parent: Option<usize>,
    of_service: u64,
    tasks: u64,
    /// Branches below with a node to offer.
    open: BTreeSet<BranchRank>,
    /// Nodes to offer, where there is no branch below.
    nodes: BTreeSet<Rank>,
}

impl Branch {
    fn is_open(&self) -> bool {
        !(self.open.is_empty() && self.nodes.is_empty())
    }
}

/// For the tasks of one revision.
#[derive(Debug)]
pub(super) struct Ranking {
    service: usize,
    revision: u64,
    /// The first is the root.
    branches: Vec<Branch>,
    /// The branch of each node.
    homes: Vec<usize>,
}

impl Ranking {
    /// Ranks nothing yet; [`Ranking::offer`] the nodes that fit.
    pub(super) fn new(
        loads: &Loads<'_>,
        requirement: &Requirement,
        service: usize,
        revision: u64,
    ) -> Self {
        let mut ranking = Self {
            service,
            revision,
            branches: vec![Branch::default()],
            homes: Vec::with_capacity(loads.nodes.len()),
        };
        let mut below: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        for load in &loads.nodes {
            let mut at = 0;
            ranking.grow(at, load);
            for spread in &requirement.spread {
                let next = ranking.branches.len();
                let child = *below.entry((at, spread.value(load.node))).or_insert(next);
                if child == next {
                    ranking.branches.push(Branch {
                        parent: Some(at),
                        ..Branch::default()
                    });
                }
                at = child;
                ranking.grow(at, load);
            }
            ranking.homes.push(at);
        }
        ranking
    }

    fn grow(&mut self, branch: usize, load: &Load<'_>) {
        self.branches[branch].of_service += load.of_service(self.service);
        self.branches[branch].tasks += load.tasks;
    }

    /// The node fits.
    pub(super) fn offer(&mut self, place: usize, load: &Load<'_>) {
        let rank = (
            load.aversion(self.service, self.revision),
            load.of_service(self.service),
            load.tasks,
            place,
        );
        let home = self.homes[place];
        let was_open = self.branches[home].is_open();
        self.branches[home].nodes.insert(rank);
        if !was_open {
            self.climb(home, 0);
        }
    }

    /// A node that was taken got a task.
    pub(super) fn placed(&mut self, place: usize) {
        self.climb(self.homes[place], 1);
    }

    /// The best node; it is offered no more.
    pub(super) fn take(&mut self) -> Option<usize> {
        let mut at = 0;
        while let Some((_, _, child)) = self.branches[at].open.first() {
            at = *child;
        }
        let (.., place) = self.branches[at].nodes.pop_first()?;
        if !self.branches[at].is_open() {
            self.climb(at, 0);
        }
        Some(place)
    }

    /// Puts a branch and those above into their places again, with `more`
    /// tasks.
    fn climb(&mut self, from: usize, more: u64) {
        let mut at = from;
        loop {
            let branch = &mut self.branches[at];
            let before = (branch.of_service, branch.tasks, at);
            branch.of_service += more;
            branch.tasks += more;
            let after = (branch.of_service, branch.tasks, at);
            let is_open = branch.is_open();
            let Some(parent) = branch.parent else {
                return;
            };
            let open = &mut self.branches[parent].open;
            open.remove(&before);
            if is_open {
                open.insert(after);
            }
            at = parent;
        }
    }
}
