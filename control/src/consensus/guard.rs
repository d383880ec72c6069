//! Messages that would make the library panic, or that make no sense: refused
//! before it sees them.
//!
//! What the library does not survive, and what stands before it:
//!
//! | it panics on | refused here |
//! |---|---|
//! | unknown message and entry kinds | unless known |
//! | proposals without entries, reads without context | proposals and reads of others: the engine leads them to the leader |
//! | a commit behind the last entry (`to_commit out of range`) | heartbeats that name one |
//! | entries with gaps, or in the place of agreed ones | unless one follows the other, with terms that only grow |
//! | entries behind a place that it does not have | a place of term 0, unless it is the beginning |
//! | a snapshot without voters, or with odd ones | unless each member is named once, and nobody is on the way |
//! | a hint at the end of numbers (`+ 1`) | answers about what the leader does not have |
//! | a term at the end of numbers (`+ 1`) | terms far beyond any that could have been reached |
//! | an election won with entries that are not durable | votes and calls to elections while something is being written |
//!
//! **Invariant:** what passes may be told to the library in any order, any
//! number of times. Pure: it knows only the message and [`Facts`].

use raft::StateRole;
use raft::prelude::*;
use std::collections::BTreeSet;

/// No cluster gets through so many terms, jumps included.
const TERM_MAX: u64 = 1 << 62;

/// Members that a snapshot may name.
const MEMBERS_MAX: usize = 64;

/// What the library has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) me: u64,
    pub(super) term: u64,
    pub(super) role: StateRole,
    pub(super) leader: u64,
    pub(super) last: u64,
    /// What the sender has for certain, as this leader knows it.
    pub(super) matched: u64,
    /// Something is not durable yet.
    pub(super) is_writing: bool,
    pub(super) is_voter: bool,
    /// The sender takes part.
    pub(super) is_member: bool,
    /// This member votes only for who has the log up to here.
    pub(super) floor: Option<(u64, u64)>,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// It is late, or comes at a bad moment; the sender will say it again.
    Drop,
    /// It should not have been sent.
    Refuse(String),
    /// A leader has something else in the place of what this member took for
    /// agreed: (index, the leader's term).
    Contradiction(u64, u64),
}

use Verdict::{Contradiction, Drop, Refuse, Take};

/// `term_of` gives the term of an agreed entry, where it is known.
pub(super) fn check(
    message: &Message,
    from: u64,
    facts: &Facts,
    term_of: impl Fn(u64) -> Option<u64>,
) -> Verdict {
    let Some(kind) = MessageType::from_i32(message.msg_type) else {
        return refuse(message, "its kind is unknown (a newer version's?)");
    };
    if message.from != from || message.to != facts.me || from == facts.me {
        return refuse(message, "it is not between these two members");
    }
    if message.term == 0 || message.term > TERM_MAX {
        return refuse(message, "its term makes no sense");
    }
    // Whoever leads talks to its members only: one that was put out, or left
    // behind by force, must not unseat it.
    if facts.role == StateRole::Leader && !facts.is_member {
        return Drop;
    }
    match kind {
        MessageType::MsgAppend => append(message, facts, term_of),
        MessageType::MsgHeartbeat if message.commit > facts.last => refuse(
            message,
            "it takes for granted what this member does not have",
        ),
        MessageType::MsgHeartbeat => Take,
        MessageType::MsgSnapshot => snapshot(message),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            let end = (message.log_term, message.index);
            match facts.floor {
                Some(floor) if end < floor => Drop,
                _ => Take,
            }
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            may_win(facts)
        }
        MessageType::MsgTimeoutNow => {
            let is_leader = message.term == facts.term && from == facts.leader;
            match is_leader && facts.floor.is_none() {
                true => may_win(facts),
                false => Drop,
            }
        }
        MessageType::MsgAppendResponse => appended(message, facts),
        MessageType::MsgHeartbeatResponse => Take,
        _ => refuse(message, "it is no message between members"),
    }
}

/// Winning an election with entries that are not durable is a panic.
fn may_win(facts: &Facts) -> Verdict {
    match facts.is_writing || !facts.is_voter {
        true => Drop,
        false => Take,
    }
}

fn append(message: &Message, facts: &Facts, term_of: impl Fn(u64) -> Option<u64>) -> Verdict {
    let mut last = (message.log_term, message.index);
    // The library takes any place that it does not have for one of term 0.
    let is_nowhere = last.0 == 0 && last.1 != 0;
    if last.1 > TERM_MAX || last.0 > message.term || is_nowhere {
        return refuse(message, "its place makes no sense");
    }
    for entry in &message.entries {
        let follows = entry.index == last.1 + 1 && entry.term >= last.0.max(1);
        if !follows || entry.term > message.term {
            return refuse(message, "its entries do not follow each other");
        }
        if EntryType::from_i32(entry.entry_type).is_none() {
            return refuse(message, "an entry's kind is unknown (a newer version's?)");
        }
        last = (entry.term, entry.index);
    }
    if message.term < facts.term {
        return Take;
    }
    let place = (message.index, message.log_term);
    let entries = message
        .entries
        .iter()
        .map(|entry| (entry.index, entry.term));
    let is_other = |(index, term): &(u64, u64)| term_of(*index).is_some_and(|own| own != *term);
    match std::iter::once(place).chain(entries).find(is_other) {
        Some((index, term)) => Contradiction(index, term),
        None => Take,
    }
}

fn snapshot(message: &Message) -> Verdict {
    let Some(metadata) = message
        .snapshot
        .as_ref()
        .and_then(|of| of.metadata.as_ref())
    else {
        return refuse(message, "it says not what it is of");
    };
    let Some(members) = &metadata.conf_state else {
        return refuse(message, "it says not who takes part");
    };
    if metadata.index == 0 || metadata.index > TERM_MAX {
        return refuse(message, "its index makes no sense");
    }
    if metadata.term == 0 || metadata.term > message.term {
        return refuse(message, "its entry's term makes no sense");
    }
    let ids = || members.voters.iter().chain(&members.learners);
    let distinct: BTreeSet<_> = ids().collect();
    let is_plain = members.voters_outgoing.is_empty()
        && members.learners_next.is_empty()
        && !members.auto_leave;
    let is_sound = !members.voters.is_empty()
        && distinct.len() == ids().count()
        && distinct.len() <= MEMBERS_MAX
        && !distinct.contains(&0);
    match is_plain && is_sound {
        true => Take,
        false => refuse(message, "its members make no sense"),
    }
}

fn appended(message: &Message, facts: &Facts) -> Verdict {
    if message.request_snapshot != 0 {
        return refuse(message, "nobody asks for snapshots");
    }
    // What it says of an earlier term only tells the leader of a later one.
    if facts.role != StateRole::Leader || message.term != facts.term {
        return Take;
    }
    if message.index > facts.last || (message.reject && message.reject_hint > facts.last) {
        return refuse(message, "it is about what the leader does not have");
    }
    // Sent before it had what it has by now. The library would go back behind
    // what is matched (fixed in its unreleased version, #557).
    match message.reject && message.reject_hint < facts.matched {
        true => Drop,
        false => Take,
    }
}

fn refuse(message: &Message, reason: &str) -> Verdict {
    Refuse(format!(
        "a message of kind {} from member {} in term {} is refused: {reason}",
        message.msg_type, message.from, message.term
    ))
}
