//! Whose life is whose, and whether this one may be believed.
//!
//! Each start of a member is a *life* with a random number. Members talk only
//! between lives that have greeted each other: the greeter names a number that
//! was never used before, and only the life that was meant can answer it. So
//! what an earlier life said, and what was said to it, counts no more.
//!
//! **Invariant:** a life is adopted on its answer to a question of this life,
//! and a life in doubt gives its word on nothing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Members that are remembered: several times as many as ever make sense.
const PEERS_MAX: usize = 64;

/// How long a life in doubt waits for the word of every other member before
/// it takes that of as many as it needs, in ticks. Longer than any candidate
/// keeps collecting votes, and than a message is under way.
const DOUBT_TICKS: usize = 20;

/// How often it asks, in ticks.
const ASK_TICKS: usize = 3;

/// By how much the term grows when a member might have voted in a term that
/// nobody in reach knows of; and by as much again at random, for it may have
/// done so before and forgotten. A term takes most of a second at least, so
/// that no cluster gets through so many in a hundred years.
const TERMS_NEVER_REACHED: u64 = 1 << 32;

/// A term that nobody has reached; `word` is random.
pub(super) fn term_ahead(term: u64, word: u32) -> u64 {
    let ahead = TERMS_NEVER_REACHED + u64::from(word);
    term.saturating_add(ahead)
}

/// Between members.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Envelope {
    Greet(Greet),
    /// The library's own bytes, from one life to another.
    Raft {
        from: u32,
        to: u32,
        message: Vec<u8>,
    },
}

/// "This is my life. Which is yours?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greet {
    pub(super) life: u32,
    /// To be given back in `answer`; 0: nothing is asked.
    pub(super) nonce: u32,
    /// The other's nonce; 0: it has asked nothing.
    pub(super) answer: u32,
    pub(super) standing: Standing,
}

/// What a member has durably, or will have before it says anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) term: u64,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) commit: u64,
    /// 0: no longer known.
    pub(super) commit_term: u64,
    pub(super) voters: Vec<u64>,
}

impl Standing {
    fn end(&self) -> (u64, u64) {
        (self.last_term, self.last_index)
    }
}

/// What a life in doubt takes upon itself to be believed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// It votes for nobody in this term, nor in any before.
    pub(super) term: u64,
    /// It votes only for who has the log up to here: (term, index).
    pub(super) floor: (u64, u64),
}

/// Another member.
#[derive(Debug, Default)]
struct Peer {
    /// The life that is talked to.
    life: Option<u32>,
    /// The nonce that waits for its answer, else 0.
    asked: u32,
    /// What it said of itself since this life is in doubt.
    standing: Option<Standing>,
}

#[derive(Debug, Default)]
struct Doubt {
    ticks: usize,
}

/// What a greeting led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Greeted {
    pub(super) reply: Option<Ask>,
    /// Everything that is believed of what it has is of an earlier life.
    pub(super) is_new_life: bool,
    /// It answered, so that its standing is as of now.
    pub(super) is_answer: bool,
}

/// A greeting, but for this member's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) nonce: u32,
    pub(super) answer: u32,
}

/// This life among the others.
#[derive(Debug)]
pub(super) struct Greeter {
    life: u32,
    nonces: u32,
    peers: BTreeMap<u64, Peer>,
    doubt: Option<Doubt>,
}

impl Greeter {
    /// `word` is random, and never 0 by more than chance.
    pub(super) fn new(word: u64, is_in_doubt: bool) -> Self {
        Self {
            life: (word as u32).max(1),
            nonces: (word >> 32) as u32,
            peers: BTreeMap::new(),
            doubt: is_in_doubt.then(Doubt::default),
        }
    }

    pub(super) fn life(&self) -> u32 {
        self.life
    }
    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }
    /// Which life of `peer` is talked to.
    pub(super) fn life_of(&self, peer: u64) -> Option<u32> {
        self.peers.get(&peer)?.life
    }

    /// From now on this life is in doubt, as if it had just begun.
    pub(super) fn doubt(&mut self) {
        self.doubt = Some(Doubt::default());
        for peer in self.peers.values_mut() {
            peer.standing = None;
        }
    }

    /// A greeting that asks `peer` for its life. `None`: it is one too many.
    pub(super) fn ask(&mut self, peer: u64) -> Option<Ask> {
        let fresh = self.fresh();
        let peer = self.peer(peer)?;
        if peer.asked == 0 {
            peer.asked = fresh;
        }
        Some(Ask {
            nonce: peer.asked,
            answer: 0,
        })
    }

    pub(super) fn greeted(&mut self, from: u64, greet: &Greet) -> Greeted {
        let fresh = self.fresh();
        let is_in_doubt = self.doubt.is_some();
        let Some(peer) = self.peer(from) else {
            return Greeted::default();
        };
        let mut greeted = Greeted::default();
        if greet.answer != 0 && greet.answer == peer.asked {
            greeted.is_answer = true;
            greeted.is_new_life = peer.life != Some(greet.life);
            peer.life = Some(greet.life);
            peer.asked = 0;
            peer.standing = is_in_doubt.then(|| greet.standing.clone());
        }
        if greet.nonce != 0 {
            let is_known = peer.life == Some(greet.life);
            if !is_known && peer.asked == 0 {
                peer.asked = fresh;
            }
            greeted.reply = Some(Ask {
                nonce: if is_known { 0 } else { peer.asked },
                answer: greet.nonce,
            });
        }
        greeted
    }

    /// A tick has passed: whom of the others to ask. `own` is this member's.
    pub(super) fn tick(&mut self, me: u64, own: &Standing) -> Vec<u64> {
        let Some(doubt) = &mut self.doubt else {
            return Vec::new();
        };
        doubt.ticks += 1;
        if doubt.ticks % ASK_TICKS != 1 {
            return Vec::new();
        }
        self.unheard(me, own)
    }

    /// Whose word is missing.
    pub(super) fn unheard(&self, me: u64, own: &Standing) -> Vec<u64> {
        let voters = self.voters(own).iter().copied();
        voters
            .filter(|id| *id != me && self.said(*id).is_none())
            .collect()
    }

    /// Whether enough was heard for the doubt to end, and on which terms.
    pub(super) fn judge(&mut self, me: u64, own: &Standing) -> Option<Terms> {
        let doubt = self.doubt.as_ref()?;
        let voters = self.voters(own);
        if voters.is_empty() {
            return None;
        }
        let others = voters.iter().filter(|id| **id != me);
        let needed = others.clone().count();
        let heard = others.filter(|id| self.said(**id).is_some()).count();
        let majority = voters.len() / 2 + 1;
        // Who knew nothing at all is only there because a majority is.
        let is_blank = own.voters.is_empty();
        let is_certain = heard == needed || heard >= majority;
        let is_voter = voters.contains(&me);
        let is_enough = is_certain || (is_voter && !is_blank && heard + 1 >= majority);
        if heard < needed && (doubt.ticks < DOUBT_TICKS || !is_enough) {
            return None;
        }
        let said = || {
            self.peers
                .values()
                .filter_map(|peer| peer.standing.as_ref())
        };
        let term = said().map(|said| said.term).fold(own.term, u64::max);
        let floor = said().map(Standing::end).fold(own.end(), Ord::max);
        self.doubt = None;
        Some(Terms {
            term: if is_certain {
                term
            } else {
                term_ahead(term, self.life)
            },
            floor,
        })
    }

    /// As whoever has agreed upon most knows them.
    fn voters<'a>(&'a self, own: &'a Standing) -> &'a [u64] {
        let said = self
            .peers
            .values()
            .filter_map(|peer| peer.standing.as_ref());
        let newest = said.fold(own, |newest, said| {
            let is_newer = said.commit > newest.commit || newest.voters.is_empty();
            if is_newer { said } else { newest }
        });
        &newest.voters
    }

    fn said(&self, peer: u64) -> Option<&Standing> {
        self.peers.get(&peer)?.standing.as_ref()
    }

    fn peer(&mut self, id: u64) -> Option<&mut Peer> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&id) {
            return None;
        }
        Some(self.peers.entry(id).or_default())
    }

    /// Who takes part no more makes room, long before there is none.
    pub(super) fn prune(&mut self, is_member: impl Fn(u64) -> bool) {
        if self.peers.len() > PEERS_MAX / 2 {
            self.peers.retain(|id, _| is_member(*id));
        }
    }

    fn fresh(&mut self) -> u32 {
        self.nonces = self.nonces.wrapping_add(1).max(1);
        self.nonces
    }
}
