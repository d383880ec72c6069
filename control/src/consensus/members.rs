//! Who takes part: changes one at a time, snapshots for who is late, and the
//! lead handed over.
//!
//! **Invariant:** a change begins only when the one before is durable here, so
//! that a majority before and one after always share a member.

use super::*;

impl Consensus {
    /// Lets a member listen: it gets everything and decides nothing. Its id
    /// must be new, for it may not have promised anything yet. The number is
    /// given back in [`Ready::changed`].
    ///
    /// # Errors
    /// When this node does not lead, another change is under way, or it makes
    /// no sense; in words.
    pub fn add_learner(&mut self, raft_id: u64) -> Result<u64, String> {
        if raft_id == 0 || self.has(raft_id) {
            return Err(format!("member {raft_id} takes part already"));
        }
        self.change(ConfChangeType::AddLearnerNode, raft_id)
    }

    /// Lets a learner decide.
    ///
    /// # Errors
    /// As [`Consensus::add_learner`].
    pub fn promote(&mut self, raft_id: u64) -> Result<u64, String> {
        if !self.learners().contains(&raft_id) {
            return Err(format!("member {raft_id} is no learner"));
        }
        self.change(ConfChangeType::AddNode, raft_id)
    }

    /// Puts a member out. Its id must never be used again.
    ///
    /// # Errors
    /// As [`Consensus::add_learner`]; and when it is this member: the lead has
    /// to be handed over first.
    pub fn remove(&mut self, raft_id: u64) -> Result<u64, String> {
        if raft_id == self.raft_id() {
            return Err("this member leads: hand over the lead first".into());
        }
        if !self.has(raft_id) {
            return Err(format!("member {raft_id} does not take part"));
        }
        self.change(ConfChangeType::RemoveNode, raft_id)
    }

    fn has(&self, raft_id: u64) -> bool {
        let members = self.members();
        members.voters.contains(&raft_id) || members.learners.contains(&raft_id)
    }

    fn change(&mut self, kind: ConfChangeType, raft_id: u64) -> Result<u64, String> {
        if !self.is_leader() || !self.raw.raft.commit_to_current_term() {
            return Err("this node does not lead".into());
        }
        if self.raw.raft.has_pending_conf() || self.wanted > self.stored {
            return Err("another change of who takes part is under way: try again".into());
        }
        let mut change = ConfChange::default();
        change.set_change_type(kind);
        change.node_id = raft_id;
        let number = self.proposals + 1;
        let context = self.context(number);
        self.raw
            .propose_conf_change(context, change)
            .map_err(|e| format!("the change could not be proposed: {e}"))?;
        self.proposals = number;
        Ok(number)
    }

    /// Returns whether it changed anything.
    pub(super) fn change_members(&mut self, entry: &Entry) -> bool {
        if entry.index <= self.raw.store().members_index() {
            return false;
        }
        let change = match entry.entry_type == EntryType::EntryConfChange as i32 {
            true => ConfChange::decode(entry.data.as_slice()).ok(),
            false => None,
        };
        let known = |of: &ConfChange| ConfChangeType::from_i32(of.change_type).is_some();
        let Some(change) = change.filter(known) else {
            log::error!("entry {} changes members in an unknown way", entry.index);
            return false;
        };
        match self.raw.apply_conf_change(&change) {
            Ok(state) => {
                let members = Members {
                    voters: state.voters,
                    learners: state.learners,
                };
                self.raw.mut_store().set_members(entry.index, members);
                let kept = self.members().clone();
                let is_kept = |id: &u64| kept.voters.contains(id) || kept.learners.contains(id);
                self.snapshots.retain(|id, _| is_kept(id));
                self.greeter.prune(|id| is_kept(&id));
                true
            }
            Err(e) => {
                // Everybody comes to the same.
                log::error!("entry {} changes members, but: {e}", entry.index);
                false
            }
        }
    }

    pub fn members(&self) -> &Members {
        self.raw.store().members()
    }
    pub fn voters(&self) -> &[u64] {
        &self.members().voters
    }
    pub fn learners(&self) -> &[u64] {
        &self.members().learners
    }
    /// A change of who takes part is under way.
    pub fn is_changing(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// How far a member is. `None`: this node does not lead, or it takes no
    /// part.
    pub fn progress(&self, raft_id: u64) -> Option<Progress> {
        if !self.is_leader() {
            return None;
        }
        let raft = &self.raw.raft;
        let progress = raft.prs().get(raft_id)?;
        Some(Progress {
            matched: progress.matched,
            last: raft.raft_log.last_index(),
            is_active: progress.recent_active || raft_id == raft.id,
            is_restoring: progress.state == raft::ProgressState::Snapshot,
        })
    }

    /// Hands the lead to a voter; it takes about as long as a message there
    /// and back, and nothing can be proposed meanwhile. If it comes to nothing
    /// within an election timeout, this node goes on.
    ///
    /// # Errors
    /// When this node does not lead, or that one can't; in words.
    pub fn transfer_to(&mut self, raft_id: u64) -> Result<(), String> {
        if !self.is_leader() {
            return Err("this node does not lead".into());
        }
        if raft_id == self.raft_id() || !self.voters().contains(&raft_id) {
            return Err(format!("member {raft_id} is no other voter"));
        }
        self.raw.transfer_leader(raft_id);
        Ok(())
    }

    /// Hands the lead to the voter that is furthest. `None`: there is none
    /// that answers, or this node does not lead.
    pub fn transfer(&mut self) -> Option<u64> {
        let me = self.raft_id();
        let others = self.voters().iter().filter(|id| **id != me);
        let able = others.filter_map(|id| {
            let progress = self.progress(*id)?;
            progress.is_active.then_some((progress.matched, *id))
        });
        let (_, best) = able.max()?;
        self.transfer_to(best).ok()?;
        Some(best)
    }

    /// A member can't be reached: what was on its way to it is lost.
    pub fn unreachable(&mut self, raft_id: u64) {
        self.raw.report_unreachable(raft_id);
        if self.snapshots.remove(&raft_id).is_some() {
            self.raw
                .report_snapshot(raft_id, raft::SnapshotStatus::Failure);
        }
    }

    /// A member is too late for entries: [`Consensus::offer_snapshot`] gets it
    /// on its feet.
    pub fn wants_snapshot(&self) -> bool {
        self.is_leader() && self.raw.store().is_offer_wanted()
    }

    /// The tables as they are after everything that was given out as
    /// committed, for members that are too late for entries.
    pub fn offer_snapshot(&mut self, state: Vec<u8>) {
        let applied = self.applied;
        self.raw.mut_store().offer(applied, state);
        let me = self.raft_id();
        let members = self.members().clone();
        for id in members.voters.into_iter().chain(members.learners) {
            if id != me && self.is_leader() && self.raw.raft.prs().get(id).is_some() {
                self.raw.raft.send_append(id);
            }
        }
        // Who asks later gets newer ones.
        self.raw.mut_store().drop_offer();
    }

    /// A member that is being sent a snapshot gave a sign of life. Its
    /// acknowledgement may have got lost, as may the snapshot.
    pub(super) fn see_snapshot(&mut self, from: u64) {
        let Some(ticks) = self.snapshots.get_mut(&from) else {
            return;
        };
        let Some(progress) = self.raw.raft.prs().get(from) else {
            return;
        };
        if progress.state != raft::ProgressState::Snapshot {
            self.snapshots.remove(&from);
        } else if progress.committed_index >= progress.pending_snapshot {
            self.snapshots.remove(&from);
            self.raw.report_snapshot(from, raft::SnapshotStatus::Finish);
        } else {
            // Messages come in order: those behind the snapshot were answered.
            *ticks += SNAPSHOT_TICKS / SNAPSHOT_PULSES;
        }
    }

    /// Snapshots that nobody acknowledges are lost.
    pub(super) fn tick_snapshots(&mut self) {
        let mut lost = Vec::new();
        for (id, ticks) in &mut self.snapshots {
            *ticks += 1;
            if *ticks >= SNAPSHOT_TICKS {
                lost.push(*id);
            }
        }
        for id in lost {
            self.unreachable(id);
        }
        let prs = self.raw.raft.prs();
        self.snapshots.retain(|id, _| {
            let state = prs.get(*id).map(|progress| progress.state);
            state == Some(raft::ProgressState::Snapshot)
        });
    }
}
