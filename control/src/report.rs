//! A node's reports to its leader: what is new goes out at once, one report at
//! a time, and again until the leader has it.
//!
//! **Invariant:** whatever is not acknowledged is said again; a leader that is
//! new, or has lost count, is told the whole. Without news it is silent.

use crate::model::*;
use crate::wire::{Report, Reported};
use std::collections::BTreeSet;

/// First pause before a report is sent again, in milliseconds: several round
/// trips over a slow link. Doubled each time.
const PAUSE_MS_MIN: u64 = 500;
/// Longest pause, in milliseconds: a leader that comes back is told within
/// that time even if nobody notices that it is back.
const PAUSE_MS_MAX: u64 = 15_000;

/// What a report is made of, as it is now.
pub(crate) struct Facts<'a> {
    pub(crate) about: &'a NodeDescription,
    pub(crate) role: NodeRole,
    pub(crate) generation: u64,
    pub(crate) bulletin: u64,
    /// Everything that anything is seen of.
    pub(crate) all: &'a dyn Fn() -> Vec<AssignmentId>,
    pub(crate) seen: &'a dyn Fn(&AssignmentId) -> Option<Seen>,
}

/// What was said, and what is to be said.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    leader: Option<NodeId>,
    number: u64,
    news: News,
    flight: Option<Flight>,
    pause_ms: u64,
}

/// What a report is about.
#[derive(Debug, Default)]
struct News {
    is_whole: bool,
    is_about: bool,
    /// What this node has been told, or what it may be, is something else.
    is_told: bool,
    changed: BTreeSet<AssignmentId>,
}

/// The report that waits for its acknowledgement.
#[derive(Debug)]
struct Flight {
    number: u64,
    news: News,
    said_at: Millis,
    again_at: Millis,
}

impl Reporter {
    /// Reports go there from now on, beginning with the whole.
    pub(crate) fn follow(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
        self.flight = None;
        self.pause_ms = 0;
        self.news = News {
            is_whole: true,
            ..News::default()
        };
    }

    pub(crate) fn leader(&self) -> Option<&NodeId> {
        self.leader.as_ref()
    }

    pub(crate) fn note_seen(&mut self, id: &AssignmentId) {
        self.news.changed.insert(id.clone());
    }
    pub(crate) fn note_about(&mut self) {
        self.news.is_about = true;
    }
    pub(crate) fn note_told(&mut self) {
        self.news.is_told = true;
    }

    /// A new connection to `node`: what was under way may be lost.
    pub(crate) fn linked(&mut self, node: &NodeId) {
        if self.leader.as_ref() == Some(node) {
            self.pause_ms = 0;
            self.say_again();
        }
    }

    /// The leader has it. Returns when that was said, if it was the last that
    /// was.
    pub(crate) fn acknowledged(&mut self, reported: Reported) -> Option<Millis> {
        if reported.wants_whole {
            self.news.is_whole = true;
        }
        let is_mine = |flight: &&mut Flight| flight.number == reported.number;
        let said_at = self.flight.as_mut().filter(is_mine)?.said_at;
        self.flight = None;
        self.pause_ms = 0;
        Some(said_at)
    }

    /// What was said and is not acknowledged becomes news again, when it is
    /// due. Returns whether it was.
    pub(crate) fn wake(&mut self, now: Millis) -> bool {
        let is_due = |flight: &Flight| flight.again_at <= now;
        let is_due = self.flight.as_ref().is_some_and(is_due);
        if is_due {
            self.say_again();
        }
        is_due
    }

    /// When something comes due.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.flight.as_ref().map(|flight| flight.again_at)
    }

    /// The next report and whom it is for, if there is anything to say.
    pub(crate) fn next(&mut self, now: Millis, facts: &Facts<'_>) -> Option<(NodeId, Report)> {
        let leader = self.leader.clone()?;
        if self.flight.is_some() || self.news.is_empty() {
            return None;
        }
        let mut news = std::mem::take(&mut self.news);
        self.number += 1;
        let ids = match news.is_whole {
            true => (facts.all)(),
            false => news.changed.iter().cloned().collect(),
        };
        news.changed = ids.iter().cloned().collect();
        let seen = ids.into_iter().map(|id| {
            let seen = (facts.seen)(&id);
            (id, seen)
        });
        let has_description = news.is_whole || news.is_about;
        let report = Report {
            number: self.number,
            is_whole: news.is_whole,
            description: has_description.then(|| facts.about.clone()),
            role: facts.role,
            generation: facts.generation,
            bulletin: facts.bulletin,
            seen: seen.collect(),
            now,
        };
        self.pause_ms = (self.pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        self.flight = Some(Flight {
            number: self.number,
            news,
            said_at: now,
            again_at: now.plus(self.pause_ms),
        });
        Some((leader, report))
    }

    fn say_again(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let said = flight.news;
        self.news.is_whole |= said.is_whole;
        self.news.is_about |= said.is_about;
        self.news.is_told |= said.is_told;
        self.news.changed.extend(said.changed);
    }
}

impl News {
    fn is_empty(&self) -> bool {
        !self.is_whole && !self.is_about && !self.is_told && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(reporter: &mut Reporter, now: u64) -> Option<Report> {
        let facts = Facts {
            about: &NodeDescription::default(),
            role: NodeRole::Worker,
            generation: 3,
            bulletin: 2,
            all: &|| vec!["a".into(), "b".into()],
            seen: &|id| (id.as_str() != "b").then(Seen::default),
        };
        let (to, report) = reporter.next(Millis(now), &facts)?;
        assert_eq!(to.as_str(), "m");
        Some(report)
    }

    fn reported(number: u64, wants_whole: bool) -> Reported {
        Reported {
            term: 1,
            number,
            wants_whole,
        }
    }

    #[test]
    fn what_is_not_acknowledged_is_said_again() {
        let mut reporter = Reporter::default();
        assert_eq!(next(&mut reporter, 0), None, "there is nobody to tell");
        reporter.follow(Some("m".into()));
        let first = next(&mut reporter, 0).unwrap();
        assert!(first.is_whole && first.description.is_some());
        assert_eq!(first.seen.len(), 2);
        reporter.note_seen(&"c".into());
        assert_eq!(next(&mut reporter, 1), None, "one at a time");
        reporter.acknowledged(reported(first.number, false));
        let second = next(&mut reporter, 2).unwrap();
        assert_eq!((second.is_whole, second.seen.len()), (false, 1));
        assert!(reporter.wake(reporter.due().unwrap()));
        reporter.note_seen(&"b".into());
        let third = next(&mut reporter, 600).unwrap();
        assert_eq!(third.seen.len(), 2, "the unacknowledged and the new");
        assert_eq!(third.seen[0], ("b".into(), None), "nothing is left of it");
        reporter.acknowledged(reported(second.number, false));
        assert!(
            reporter.due().is_some(),
            "an answer to an older one is none"
        );
        reporter.acknowledged(reported(third.number, false));
        assert_eq!((next(&mut reporter, 700), reporter.due()), (None, None));
    }

    #[test]
    fn a_leader_that_lost_count_is_told_the_whole() {
        let mut reporter = Reporter::default();
        reporter.follow(Some("m".into()));
        let first = next(&mut reporter, 0).unwrap();
        reporter.acknowledged(reported(first.number, true));
        assert!(next(&mut reporter, 1).unwrap().is_whole);
    }
}
