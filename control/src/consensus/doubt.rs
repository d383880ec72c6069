//! The face's half of greetings: asks, answers, and holds this member to the
//! terms on which it may be believed.
//!
//! **Invariant:** while in doubt, the library is told nothing.

use super::*;

impl Consensus {
    /// What this member says of itself.
    pub(super) fn standing(&self) -> Standing {
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        // What may still be lost binds nobody.
        let durable = log.persisted;
        Standing {
            term: raft.term,
            last_term: self.term_at(durable),
            last_index: durable,
            commit: log.committed,
            commit_term: self.term_at(log.committed),
            voters: self.raw.store().members().voters.clone(),
        }
    }

    /// 0: not known.
    fn term_at(&self, index: u64) -> u64 {
        self.raw.raft.raft_log.term(index).unwrap_or_default()
    }

    pub(super) fn ask_around(&mut self) {
        if self.greeter.is_in_doubt() {
            let own = self.standing();
            for peer in self.greeter.unheard(self.raft_id(), &own) {
                self.ask(peer);
            }
        }
    }

    /// Asks `peer` for its life.
    pub(super) fn ask(&mut self, peer: u64) {
        if let Some(ask) = self.greeter.ask(peer) {
            self.greet(peer, ask);
        }
    }

    fn greet(&mut self, peer: u64, ask: Ask) {
        let greet = Greet {
            life: self.greeter.life(),
            nonce: ask.nonce,
            answer: ask.answer,
            standing: self.standing(),
        };
        self.outbox.push((peer, encode(&Envelope::Greet(greet))));
    }

    pub(super) fn greeted(&mut self, from: u64, greet: &Greet) {
        let greeted = self.greeter.greeted(from, greet);
        if let Some(reply) = greeted.reply {
            self.greet(from, reply);
        }
        if greeted.is_answer {
            self.compare(from, &greet.standing);
            // It may be the first to say who the others are.
            self.ask_around();
            self.reconsider();
        }
        if greeted.is_new_life {
            self.forget_progress(from);
        }
    }

    /// What an earlier life of it had, this one may have lost.
    fn forget_progress(&mut self, peer: u64) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader || self.restoring.is_some() {
            return;
        }
        let next = raft.raft_log.last_index() + 1;
        let Some(progress) = raft.mut_prs().get_mut(peer) else {
            return;
        };
        progress.matched = 0;
        progress.committed_index = 0;
        progress.pending_snapshot = 0;
        progress.become_probe();
        progress.next_idx = next;
        progress.resume();
        self.snapshots.remove(&peer);
        self.raw.raft.send_append(peer);
    }

    /// Ends the doubt when enough was heard.
    pub(super) fn reconsider(&mut self) {
        let own = self.standing();
        let me = self.raft_id();
        let Some(terms) = self.greeter.judge(me, &own) else {
            return;
        };
        let raft = &mut self.raw.raft;
        if terms.term > raft.term {
            raft.become_follower(terms.term, 0);
        }
        if raft.vote == 0 {
            // Nobody else gets its vote in this term.
            raft.vote = me;
        }
        self.floor = Some(terms.floor).filter(|floor| *floor > (own.last_term, own.last_index));
        self.bound_ticks = 0;
    }

    /// Nobody may be left who could meet the terms.
    pub(super) fn tick_bound(&mut self) {
        if self.floor.is_none() || self.raw.raft.election_elapsed == 0 {
            self.bound_ticks = 0;
            return;
        }
        self.bound_ticks += 1;
        if self.bound_ticks >= BOUND_TICKS {
            self.floor = None;
            self.greeter.doubt();
            self.ask_around();
        }
    }

    /// Whoever believes to be the only voter learns of what came after its
    /// image: others agreed, with it, on what it does not have.
    fn compare(&mut self, from: u64, theirs: &Standing) {
        let me = self.raft_id();
        let own = self.raw.store();
        let is_sole = own.members().voters == [me];
        let was_more = theirs.voters.len() > 1 && theirs.voters.contains(&me);
        if !is_sole || !was_more || theirs.commit <= self.found || theirs.commit_term == 0 {
            return;
        }
        let is_forced = own.members_index() >= theirs.commit;
        if is_forced || theirs.commit < self.raw.raft.raft_log.first_index() {
            return;
        }
        if self.term_at(theirs.commit) != theirs.commit_term {
            self.contradict(from, theirs.commit, theirs.commit_term);
        }
    }

    /// The others have gone another way: this member can't follow with what it
    /// has.
    pub(super) fn contradict(&mut self, from: u64, index: u64, term: u64) -> String {
        let reason = format!(
            "member {from} and others agreed on entry {index} in term {term}, and this member \
             has something else in its place: its disk is from before that, or its cluster lost \
             more disks than it can bear"
        );
        self.stale = Some(reason.clone());
        reason
    }
}
