//! Random faults from seeds, and a few on purpose.

use super::world::World;

/// Clusters with random faults, of each kind: some seconds' worth. Four hundred
/// of each have passed.
const SEEDS: u64 = 30;

/// One random misfortune or its end.
fn disturb(world: &mut World, ids: &[u64]) {
    let id = ids[world.random.below(ids.len())];
    let other = ids[world.random.below(ids.len())];
    match world.random.below(12) {
        0 => {
            world.cut.insert((id, other));
        }
        1 => {
            // Alone on one side.
            for peer in ids.iter().filter(|peer| **peer != id) {
                world.cut.insert((*peer, id));
                world.cut.insert((id, *peer));
            }
        }
        2..=4 => world.cut.clear(),
        5 | 6 => world.crash(id),
        7 | 8 => {
            for id in ids {
                if world.members[id].consensus.is_none() {
                    world.start(*id);
                }
            }
        }
        9 => {
            world.compact(id);
        }
        10 => {
            if let Some(leader) = world.leader() {
                world.consensus(leader).transfer();
            }
        }
        _ => world.read(id),
    }
}

fn storm(world: &mut World, ids: &[u64], ticks: usize) {
    (world.loss, world.twice) = (world.random.below(25), world.random.below(25));
    for _ in 0..ticks {
        if world.random.below(8) == 0 {
            disturb(world, ids);
        }
        match world.random.below(4) {
            0 => {
                let at = ids[world.random.below(ids.len())];
                world.propose_at(at);
            }
            1 => {
                world.propose();
            }
            _ => {}
        }
        world.tick();
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_a_storm() {
    let (mut acked, mut read) = (0, 0);
    for seed in 0..SEEDS {
        let count = 3 + 2 * (seed % 2);
        let mut world = World::of(seed, count);
        let ids: Vec<u64> = (1..=count).collect();
        storm(&mut world, &ids, 400);
        world.heal();
        acked += world.acked.len();
        read += world.reads_done;
    }
    assert!(read > 0, "no read was confirmed");
    assert!(
        acked as u64 > SEEDS * 20,
        "a storm in which little happens proves little"
    );
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let run = || {
        let mut world = World::of(9, 3);
        storm(&mut world, &[1, 2, 3], 300);
        world.heal();
        let leader = world.leader().unwrap();
        (world.members[&leader].disk.clone(), world.random.word())
    };
    assert_eq!(run(), run());
}

#[test]
fn an_old_or_empty_disk_heals_and_forgets_nothing() {
    for seed in 0..SEEDS {
        let mut world = World::of(1000 + seed, 3 + 2 * (seed % 2));
        let ids: Vec<u64> = world.members.keys().copied().collect();
        for round in 0..4 {
            let victim = ids[world.random.below(ids.len())];
            world.save_image(victim);
            storm(&mut world, &ids, 100);
            world.cut.clear();
            world.loss = 10;
            for id in &ids {
                if world.members[id].consensus.is_none() {
                    world.start(*id);
                }
            }
            // It goes down with what it promised still fresh.
            for _ in 0..world.random.below(12) {
                world.propose();
                world.tick();
            }
            world.crash(victim);
            world.restore_image(victim);
            if round == 3 {
                world.members.get_mut(&victim).unwrap().disk.clear();
            }
            world.start(victim);
            for _ in 0..60 {
                world.propose();
                world.tick();
            }
            let is_back = world.run_until(200, |world| world.is_even());
            assert!(is_back, "seed {seed}: member {victim} does not catch up");
        }
        world.heal();
    }
}

#[test]
fn an_old_disk_votes_once_even_when_others_are_out_of_reach() {
    for seed in 0..SEEDS {
        let mut world = World::of(2000 + seed, 3);
        // What only it and one that burnt had is lost: that is the limit.
        world.is_agreement_checked = false;
        let ids = [1, 2, 3];
        for _ in 0..6 {
            let victim = ids[world.random.below(3)];
            world.save_image(victim);
            storm(&mut world, &ids, 60);
            world.crash(victim);
            world.restore_image(victim);
            world.start(victim);
            storm(&mut world, &ids, 60);
            world.drop_stale();
        }
        // Even beyond the limit everybody comes to the same again.
        world.acked.clear();
        world.cut.clear();
        for _ in 0..200 {
            // Two histories show when both go on.
            world.propose();
            world.tick();
            world.drop_stale();
        }
        world.heal();
    }
}

#[test]
fn members_come_and_go_in_a_storm() {
    for seed in 0..SEEDS {
        let mut world = World::of(3000 + seed, 3);
        for id in 4..8 {
            let ids: Vec<u64> = world.members.keys().copied().collect();
            storm(&mut world, &ids, 60);
            world.heal();
            world.add(id);
            world.loss = 10;
            let is_in = world.run_until(400, |world| world.promote_if_caught_up(id));
            assert!(is_in, "seed {seed}: {id} does not come in");
            let ids: Vec<u64> = world.members.keys().copied().collect();
            storm(&mut world, &ids, 60);
            world.heal();
            let leader = world.leader().unwrap();
            let victim = ids[world.random.below(ids.len())];
            if victim != leader {
                assert!(world.run_until(100, |world| {
                    let Some(leader) = world.leader() else {
                        return false;
                    };
                    let consensus = world.consensus(leader);
                    if leader == victim {
                        consensus.transfer();
                    } else {
                        consensus.remove(victim).ok();
                    }
                    !consensus.voters().contains(&victim)
                }));
                world.members.remove(&victim);
            }
        }
        world.heal();
    }
}

#[test]
fn a_late_member_gets_a_snapshot() {
    let mut world = World::of(1, 3);
    world.crash(3);
    for _ in 0..600 {
        world.propose();
        world.tick();
    }
    let leader = world.leader().unwrap();
    let taken = world.snapshots_taken;
    assert!(world.run_until(10, |world| world.compact(leader)));
    world.start(3);
    world.heal();
    assert_eq!(world.snapshots_taken, taken + 1);
    // And a little late it needs none.
    world.crash(3);
    for _ in 0..20 {
        world.propose();
        world.tick();
    }
    let leader = world.leader().unwrap();
    assert!(world.run_until(10, |world| world.compact(leader)));
    world.start(3);
    world.heal();
    assert_eq!(world.snapshots_taken, taken + 1);
}

#[test]
fn a_flapping_member_does_not_depose_the_leader() {
    let mut world = World::of(2, 3);
    let leader = world.leader().unwrap();
    let term = world.consensus(leader).term();
    let flapping = 1 + leader % 3;
    for round in 0..10 {
        for peer in 1..=3 {
            world.cut.insert((peer, flapping));
            world.cut.insert((flapping, peer));
        }
        for _ in 0..10 + round * 3 {
            world.tick();
        }
        world.cut.clear();
        for _ in 0..10 {
            world.tick();
        }
    }
    assert_eq!(world.leader(), Some(leader));
    assert_eq!(world.consensus(leader).term(), term);
}

#[test]
fn a_leader_is_replaced_within_a_second_and_a_half() {
    for seed in 0..SEEDS {
        let mut world = World::of(seed, 3);
        let leader = world.leader().unwrap();
        for _ in 0..20 {
            world.tick();
        }
        world.delay = 1;
        for _ in 0..20 {
            world.tick();
        }
        world.crash(leader);
        let from = world.now;
        assert!(world.run_until(100, |world| world.leader().is_some_and(|id| id != leader)));
        assert!(world.now - from <= 14, "{} ticks", world.now - from);
    }
}

#[test]
fn a_leader_without_its_quorum_steps_down() {
    let mut world = World::of(3, 3);
    let leader = world.leader().unwrap();
    for peer in 1..=3 {
        world.cut.insert((leader, peer));
        world.cut.insert((peer, leader));
    }
    assert!(world.run_until(30, |world| !world.consensus(leader).is_leader()));
    assert!(world.consensus(leader).read().is_err());
}

#[test]
fn the_lead_is_handed_over_at_once() {
    let mut world = World::of(4, 5);
    for _ in 0..10 {
        world.propose();
        world.tick();
    }
    let leader = world.leader().unwrap();
    world.run_until(50, |world| world.is_even());
    let to = world.consensus(leader).transfer().unwrap();
    let from = world.now;
    assert!(world.run_until(30, |world| world.leader() == Some(to)));
    assert!(world.now - from <= 12, "{} ticks", world.now - from);
}

#[test]
fn all_come_back_after_a_power_cut() {
    for seed in 0..SEEDS {
        let mut world = World::of(seed, 5);
        for _ in 0..10 {
            world.propose();
            world.tick();
        }
        for id in 1..=5 {
            world.crash(id);
        }
        for id in 1..=5 {
            world.start(id);
        }
        let from = world.now;
        assert!(world.run_until(100, |world| world.propose().is_some()));
        assert!(world.now - from <= 60, "{} ticks", world.now - from);
        world.heal();
    }
}

#[test]
fn one_of_three_restarts_while_another_is_off() {
    let mut world = World::of(5, 3);
    world.crash(3);
    world.crash(2);
    world.start(2);
    assert!(world.run_until(120, |world| {
        let leads = world.leader().is_some();
        leads && world.propose().is_some() && world.members[&1].table == world.members[&2].table
    }));
    world.heal();
}

#[test]
fn a_lone_voter_of_yesterday_learns_that_it_is_stale() {
    let mut world = World::new(6);
    world.propose();
    world.save_image(1);
    for id in 2..=3 {
        world.add(id);
        assert!(world.run_until(200, |world| world.promote_if_caught_up(id)));
    }
    for _ in 0..20 {
        world.propose();
        world.tick();
    }
    world.crash(1);
    assert!(world.run_until(100, |world| world.leader().is_some()));
    world.restore_image(1);
    world.is_agreement_checked = false;
    world.start(1);
    assert!(world.run_until(100, |world| world.consensus(1).stale().is_some()));
    world.drop_stale();
    world.heal();
}

#[test]
fn a_survivor_goes_on_alone_and_takes_in_others() {
    let mut world = World::of(7, 3);
    for _ in 0..5 {
        world.propose();
        world.tick();
    }
    world.run_until(50, |world| world.is_even());
    world.crash(1);
    world.crash(2);
    world.crash(3);
    world.start(3);
    for _ in 0..50 {
        world.tick();
    }
    assert_eq!(world.leader(), None);
    world.force_alone(3);
    assert_eq!(world.leader(), Some(3));
    world.tick();
    assert!(world.consensus(3).is_alone());
    world.crash(3);
    world.start(3);
    assert!(world.run_until(5, |world| world.leader() == Some(3)));
    // The others come back and may say what they like.
    world.start(1);
    world.start(2);
    for _ in 0..100 {
        world.propose_at(3);
        world.tick();
    }
    assert!(world.consensus(3).is_leader() && world.consensus(3).stale().is_none());
    world.members.remove(&1);
    world.members.remove(&2);
    world.add(4);
    assert!(world.run_until(200, |world| world.promote_if_caught_up(4)));
    world.heal();
}
