//! Seeded simulation: the engine of a node under virtual time, with a fake
//! executor, a disk that tears, clocks that jump, and users who change their
//! minds.
//!
//! One seed decides everything. A failure prints its seed and the last things
//! that happened; `SIM_SEED=n` replays it alone, `SIM_SEEDS=n` tries so many.
//!
//! Invariant: nothing here sleeps or reads a clock.

mod board;
mod chance;
mod check;
mod cluster;
mod disk;
mod executor;
mod user;

use board::Board;
use chance::Chance;

/// Seeds tried in a plain run.
const SEEDS: u64 = 200;

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SIM_SEED") {
        return seed..seed + 1;
    }
    0..number("SIM_SEEDS").unwrap_or(SEEDS)
}

/// Tells of what happened when the story ends badly.
struct Told<'a>(&'a std::cell::RefCell<Board>, u64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("seed {} (replay with SIM_SEED={})", self.1, self.1);
        if let Ok(board) = self.0.try_borrow() {
            for line in board.diary() {
                eprintln!("  {line}");
            }
        }
    }
}

#[test]
fn faults_lose_nothing_and_end_in_what_is_wanted() {
    let next = std::sync::atomic::AtomicU64::new(seeds().start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| tell_stories(&next));
        }
    });
}

/// One story after the other, of the seeds that nobody has taken yet.
fn tell_stories(next: &std::sync::atomic::AtomicU64) {
    loop {
        let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if !seeds().contains(&seed) {
            return;
        }
        let board = std::cell::RefCell::new(Board::new(Chance::new(seed)));
        let _told = Told(&board, seed);
        board.borrow_mut().troubled_times();
        board.borrow_mut().quiet_times();
    }
}

/// Whole clusters are dearer than one board: one seed in so many of the boards'.
const CLUSTERS_EVERY: u64 = 20;

#[test]
fn clusters_keep_their_promises_whatever_happens() {
    let all = seeds();
    let is_replay = all.end - all.start == 1;
    for seed in all.step_by(if is_replay {
        1
    } else {
        CLUSTERS_EVERY as usize
    }) {
        eprintln!("cluster, seed {seed} (replay with SIM_SEED={seed})");
        let story = || {
            let mut cluster = cluster::Cluster::new(seed);
            cluster.troubled_times();
            cluster.quiet_times();
            cluster.hash
        };
        assert_eq!(story(), story(), "seed {seed} is not the same twice");
    }
}

#[test]
fn an_idle_node_writes_nothing_and_wakes_for_nothing() {
    let mut board = Board::new(Chance::new(7));
    board.calm();
    board.init();
    board.create("web", 3);
    board.run_for_ms(60_000);
    let (writes, steps) = board.effort();
    board.run_for_ms(24 * 3600 * 1000);
    assert_eq!(board.effort(), (writes, steps));
}

#[test]
fn one_change_is_acknowledged_after_one_write() {
    let mut board = Board::new(Chance::new(7));
    board.calm();
    board.init();
    board.run_for_ms(1000);
    let before = board.effort().0;
    board.create("web", 0);
    assert_eq!(board.effort().0, before + 1);
}

#[test]
fn nothing_of_a_tasks_running_goes_into_the_replicated_log() {
    let mut board = Board::new(Chance::new(7));
    board.calm();
    board.init();
    board.create("web", 2);
    board.run_for_ms(60_000);
    let before = board.consensus_writes();
    for _ in 0..20 {
        board.kill_one();
        board.run_for_ms(30_000);
    }
    assert_eq!(board.consensus_writes(), before);
    assert_eq!(board.running("web"), 2);
}
