//! Two boards with one key: a card was copied.
//!
//! Both claim one id. A claim from another life is this node's own past as
//! long as it does not answer: the past is frozen, and once this node has
//! renewed itself above it, nothing larger of it comes. A life that answers
//! every renewal with a larger one is alive: a twin.
//!
//! **Who stands down:** the younger. A node that had lived for [`SETTLED`]
//! before it first heard of the other is the elder, and goes on; who hears of
//! it earlier has just started, and stands down. If both were settled, for the
//! net was cut between them, neither does at first; after [`PATIENCE`] the one
//! with the smaller life number does, a number that both know. A node never
//! stands down for its own past.

use super::identity::Identity;
use crate::model::Millis;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A node that was a member for so long is no newcomer, in ms.
const SETTLED: u64 = 10_000;
/// So many renewals are answered by the past only by a very odd chance.
const ANSWERS: u32 = 3;
/// Foreign lives remembered: more than anyone restarts within old news' time.
const LIVES_MAX: usize = 64;
/// It is said again so often while it goes on, in ms.
const REPEAT_EVERY: u64 = 10_000;
/// A younger twin is gone by then, in ms.
const PATIENCE: u64 = 30_000;

/// Another board has this node's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    pub addr: SocketAddr,
    /// This board is the younger: it shall leave the name to the other.
    pub stands_down: bool,
}

#[derive(Default)]
pub(super) struct Twins {
    lives: BTreeMap<u32, Life>,
}

struct Life {
    /// The largest that we have heard of it.
    incarnation: u64,
    answers: u32,
    was_settled: bool,
    first_told: Option<Millis>,
    told_at: Option<Millis>,
}

impl Twins {
    /// Hears a claim to this node's id. `born`: when this life began.
    pub(super) fn hear(
        &mut self,
        now: Millis,
        born: Millis,
        me: &Identity,
        claim: &Identity,
    ) -> Option<Twin> {
        if claim.life == me.life || claim.life == 0 || claim.is_leaving {
            return None;
        }
        if self.lives.len() >= LIVES_MAX && !self.lives.contains_key(&claim.life) {
            self.lives.pop_first();
        }
        let life = self.lives.entry(claim.life).or_insert(Life {
            incarnation: claim.incarnation,
            answers: 0,
            was_settled: now.since(born) >= SETTLED,
            first_told: None,
            told_at: None,
        });
        if claim.incarnation <= life.incarnation {
            return None;
        }
        life.incarnation = claim.incarnation;
        life.answers += 1;
        let is_due = life
            .told_at
            .is_none_or(|told| now.since(told) >= REPEAT_EVERY);
        if life.answers < ANSWERS || !is_due {
            return None;
        }
        life.told_at = Some(now);
        let is_stubborn = now.since(*life.first_told.get_or_insert(now)) >= PATIENCE;
        Some(Twin {
            addr: claim.addr,
            stands_down: !life.was_settled || (is_stubborn && me.life < claim.life),
        })
    }
}
