//! What would make the library panic is refused: each row of the guard's
//! table, and noise.

use super::super::*;
use super::world::World;

type Forge = fn(&mut Message);

/// What is wrong with it, the kind, and how it is made so.
const FORGED: &[(&str, MessageType, Forge)] = &[
    ("a kind that does not exist", MessageType::MsgAppend, |m| {
        m.msg_type = 99
    }),
    ("somebody else's name", MessageType::MsgAppend, |m| {
        m.from = 3
    }),
    ("another's mail", MessageType::MsgAppend, |m| m.to = 3),
    ("no term", MessageType::MsgHeartbeat, |m| m.term = 0),
    ("the last term of all", MessageType::MsgHeartbeat, |m| {
        m.term = u64::MAX
    }),
    ("a commit out of range", MessageType::MsgHeartbeat, |m| {
        m.commit = 1 << 40
    }),
    ("a local message", MessageType::MsgHup, |_| {}),
    (
        "a proposal without entries",
        MessageType::MsgPropose,
        |_| {},
    ),
    ("a read without context", MessageType::MsgReadIndex, |_| {}),
    ("a read's answer", MessageType::MsgReadIndexResp, |_| {}),
    (
        "a call for another leader",
        MessageType::MsgTransferLeader,
        |_| {},
    ),
    ("entries with a gap", MessageType::MsgAppend, |m| {
        m.entries = vec![entry(1, m.index + 3)]
    }),
    ("terms that shrink", MessageType::MsgAppend, |m| {
        m.term += 1;
        m.entries = vec![entry(m.term, m.index + 1), entry(m.term - 1, m.index + 2)];
    }),
    ("entries of the future", MessageType::MsgAppend, |m| {
        m.entries = vec![entry(m.term + 1, m.index + 1)];
    }),
    ("an entry of an unknown kind", MessageType::MsgAppend, |m| {
        m.entries = vec![entry(m.term, m.index + 1)];
        m.entries[0].entry_type = 77;
    }),
    ("the last index of all", MessageType::MsgAppend, |m| {
        m.index = u64::MAX;
        m.entries = vec![entry(m.term, 0)];
    }),
    ("a place without a term", MessageType::MsgAppend, |m| {
        (m.index, m.log_term) = (1 << 40, 0);
        m.entries = vec![entry(m.term, m.index + 1)];
    }),
    ("a snapshot of nothing", MessageType::MsgSnapshot, |_| {}),
    ("a snapshot without voters", MessageType::MsgSnapshot, |m| {
        m.snapshot = snapshot(&[], &[])
    }),
    ("a voter twice", MessageType::MsgSnapshot, |m| {
        m.snapshot = snapshot(&[1, 1], &[])
    }),
    ("voter and learner", MessageType::MsgSnapshot, |m| {
        m.snapshot = snapshot(&[1, 2], &[2])
    }),
    ("nobody's name", MessageType::MsgSnapshot, |m| {
        m.snapshot = snapshot(&[0, 2], &[])
    }),
    ("members on the way", MessageType::MsgSnapshot, |m| {
        m.snapshot = snapshot(&[1, 2], &[]);
        m.mut_snapshot()
            .mut_metadata()
            .mut_conf_state()
            .voters_outgoing = vec![3];
    }),
];

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        term,
        index,
        ..Entry::default()
    }
}

fn snapshot(voters: &[u64], learners: &[u64]) -> Option<Snapshot> {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (1 << 30, 1);
    metadata.mut_conf_state().voters = voters.to_vec();
    metadata.mut_conf_state().learners = learners.to_vec();
    Some(snapshot)
}

/// From a member to another, between the right lives.
fn sealed(world: &mut World, from: u64, to: u64, message: &Message) -> Vec<u8> {
    let envelope = Envelope::Raft {
        from: world.consensus(from).greeter.life(),
        to: world.consensus(to).greeter.life(),
        message: message.encode_to_vec(),
    };
    encode(&envelope)
}

/// A message that would be taken, but for its kind.
fn plain(world: &mut World, from: u64, to: u64, kind: MessageType) -> Message {
    let log = &world.consensus(to).raw.raft.raft_log;
    let (index, log_term) = (log.last_index(), log.last_term());
    Message {
        msg_type: kind as i32,
        from,
        to,
        term: world.consensus(to).term(),
        index,
        log_term,
        ..Message::default()
    }
}

fn settled(seed: u64) -> (World, u64, u64) {
    let mut world = World::of(seed, 3);
    for _ in 0..30 {
        world.propose();
        world.tick();
    }
    assert!(world.run_until(50, World::is_even));
    let leader = world.leader().unwrap();
    (world, leader, 1 + leader % 3)
}

#[test]
fn what_would_make_the_library_panic_is_refused() {
    let (mut world, leader, follower) = settled(1);
    for (what, kind, forge) in FORGED {
        let mut message = plain(&mut world, leader, follower, *kind);
        forge(&mut message);
        let bytes = sealed(&mut world, leader, follower, &message);
        let received = world.consensus(follower).receive(leader, &bytes);
        let reason = received.expect_err(what);
        assert!(
            reason.contains("is refused") && reason.contains("member"),
            "{reason}"
        );
    }
    world.heal();
}

#[test]
fn a_leader_believes_no_answer_about_what_it_does_not_have() {
    let (mut world, leader, follower) = settled(2);
    let forged: &[Forge] = &[
        |m| m.index = 1 << 40,
        |m| (m.reject, m.reject_hint) = (true, u64::MAX),
        |m| (m.reject, m.request_snapshot) = (true, 5),
    ];
    for forge in forged {
        let kind = MessageType::MsgAppendResponse;
        let mut message = plain(&mut world, follower, leader, kind);
        forge(&mut message);
        let bytes = sealed(&mut world, follower, leader, &message);
        world
            .consensus(leader)
            .receive(follower, &bytes)
            .unwrap_err();
    }
    world.heal();
}

/// The library's #557: a late rejection took it back behind what is matched.
#[test]
fn a_late_rejection_does_not_take_the_leader_back() {
    let (mut world, leader, follower) = settled(3);
    world.consensus(leader).unreachable(follower);
    let matched = world.consensus(leader).progress(follower).unwrap().matched;
    let mut message = plain(&mut world, follower, leader, MessageType::MsgAppendResponse);
    (message.reject, message.reject_hint, message.index) = (true, 2, matched);
    let bytes = sealed(&mut world, follower, leader, &message);
    world.consensus(leader).receive(follower, &bytes).unwrap();
    let progress = world
        .consensus(leader)
        .raw
        .raft
        .prs()
        .get(follower)
        .unwrap();
    assert!(progress.next_idx > progress.matched);
    world.heal();
}

/// The library's #530: who has membership changes to take in, however many
/// entries lie before them, does not call an election.
#[test]
fn nobody_calls_an_election_with_a_membership_change_to_take_in() {
    let mut world = World::of(4, 3);
    let leader = world.leader().unwrap();
    assert!(world.run_until(20, |world| {
        world.consensus(leader).add_learner(9).is_ok()
    }));
    for _ in 0..50 {
        world.propose();
        world.tick();
    }
    assert!(world.run_until(50, World::is_even_among_voters));
    for id in 1..=3 {
        world.crash(id);
    }
    for id in 1..=3 {
        world.start(id);
        assert!(!world.consensus(id).is_leader());
    }
    assert!(world.run_until(100, |world| world.propose().is_some()));
    for id in 1..=3 {
        assert_eq!(world.consensus(id).learners(), [9]);
    }
}

/// The library's #543, and an assertion of its own: votes that nobody asked
/// for, while entries are not durable.
#[test]
fn nobody_leads_on_entries_that_are_not_durable() {
    let (mut world, leader, follower) = settled(5);
    let third = 6 - leader - follower;
    // The follower takes an entry and is asked to lead before it is durable.
    let mut message = plain(&mut world, leader, follower, MessageType::MsgAppend);
    message.entries = vec![entry(message.term, message.index + 1)];
    message.commit = message.index + 1;
    let bytes = sealed(&mut world, leader, follower, &message);
    let member = world.consensus(follower);
    member.receive(leader, &bytes).unwrap();
    let ready = member.ready().unwrap();
    assert!(!ready.records.is_empty() && ready.committed.is_empty());
    for kind in [
        MessageType::MsgTimeoutNow,
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgRequestVoteResponse,
    ] {
        for from in [leader, third] {
            let message = plain(&mut world, from, follower, kind);
            let bytes = sealed(&mut world, from, follower, &message);
            world.consensus(follower).receive(from, &bytes).unwrap();
        }
    }
    let member = world.consensus(follower);
    for _ in 0..40 {
        member.tick(9);
    }
    assert!(!member.is_leader() && member.raw.raft.raft_log.applied < message.commit);
}

#[test]
fn noise_is_refused_or_dropped_and_never_a_panic() {
    for seed in 0..20 {
        let (mut world, leader, follower) = settled(100 + seed);
        for _ in 0..300 {
            let (from, to) = match world.random.below(2) {
                0 => (leader, follower),
                _ => (follower, leader),
            };
            let mut message = plain(&mut world, from, to, MessageType::MsgHup);
            message.msg_type = world.random.below(20) as i32;
            let near = |world: &mut World, value: u64| match world.random.below(6) {
                0 => 0,
                1 => u64::MAX,
                2 => world.random.word(),
                3 => value.saturating_sub(world.random.below(5) as u64),
                _ => value + world.random.below(3) as u64,
            };
            message.index = near(&mut world, message.index);
            message.log_term = near(&mut world, message.log_term);
            message.commit = near(&mut world, message.index.min(1 << 50));
            message.commit_term = near(&mut world, message.log_term.min(1 << 50));
            message.reject_hint = near(&mut world, message.index.min(1 << 50));
            message.reject = world.random.below(2) == 0;
            if world.random.below(4) == 0 {
                message.term = near(&mut world, message.term);
            }
            for ahead in 1..=world.random.below(3) as u64 {
                let index = message.index.wrapping_add(ahead);
                message.entries.push(entry(message.term, index));
            }
            let bytes = sealed(&mut world, from, to, &message);
            world.consensus(to).receive(from, &bytes).ok();
            while world.consensus(to).ready().is_some() {}
        }
        let junk: Vec<u8> = (0..64).map(|_| world.random.word() as u8).collect();
        for len in 0..junk.len() {
            world.consensus(leader).receive(follower, &junk[..len]).ok();
        }
    }
}

#[test]
fn members_that_are_gone_make_room_for_others() {
    let mut world = World::of(6, 1);
    world.delay = 1;
    for id in 2..100 {
        world.add(id);
        let leader = world.leader().unwrap();
        assert!(world.run_until(20, |world| {
            let consensus = world.consensus(leader);
            let is_in = consensus.progress(id).is_some_and(|of| of.is_caught_up());
            is_in && consensus.remove(id).is_ok()
        }));
        world.members.remove(&id);
    }
}
