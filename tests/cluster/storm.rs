//! Everything at once: commands, deaths, new binaries, another root
//! certificate. What was acknowledged holds, and what answers goes on.

use skep_tests::{Board, Cluster, skep, until, within};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Commands that are given while nodes die.
const COMMANDS: usize = 200;
/// A node goes, or comes back, every so many of them.
const DEATH_EVERY: usize = 12;
/// For everything to be as it was said to be, once all nodes are back.
const SETTLING: Duration = Duration::from_secs(90);
/// Services that there are at most at a time: each is a container.
const SERVICES_MAX: usize = 8;

/// What may be true of a service: each its replicas, `None` where it may not
/// be there. More than one where a command was not acknowledged.
type Wanted = BTreeMap<String, Vec<Option<usize>>>;

#[test]
fn nothing_acknowledged_is_lost_while_nodes_die() {
    let mut cluster = Cluster::of(3, 2);
    cluster.load("busybox");
    let mut chance = Chance(0x5eed);
    let mut wanted = Wanted::new();
    let mut down = None;
    let mut acknowledged = 0;
    for number in 0..COMMANDS {
        if number % DEATH_EVERY == DEATH_EVERY - 1 {
            down = die_or_return(&mut cluster, &mut chance, down);
        }
        let ask = chance.of(&cluster.running().collect::<Vec<_>>());
        acknowledged += usize::from(command(&cluster[ask], &mut chance, number, &mut wanted));
    }
    if let Some(number) = down {
        come_back(&mut cluster, number);
    }
    eprintln!("{acknowledged} of {COMMANDS} commands were acknowledged");
    assert!(acknowledged > COMMANDS / 2, "most are: {acknowledged}");
    within(SETTLING, "all is as it was said to be", || {
        let told = told(&cluster)?;
        let is_so = |(name, may): (&String, &Vec<_>)| may.contains(&told.get(name).copied());
        let nothing_else = told.keys().all(|name| wanted.contains_key(name));
        (wanted.iter().all(is_so) && nothing_else).then_some(())
    });
    within(SETTLING, "and runs", || {
        let told = told(&cluster)?;
        let lives = |(name, count): (&String, &usize)| {
            let live: usize = (0..5).map(|number| cluster.live_on(number, name)).sum();
            live == *count
        };
        told.iter().all(lives).then_some(())
    });
}

/// Gives one command. Returns whether it was acknowledged.
fn command(board: &Board, chance: &mut Chance, number: usize, wanted: &mut Wanted) -> bool {
    let names: Vec<String> = wanted
        .iter()
        .filter(|(_, may)| may.iter().any(Option::is_some))
        .map(|(name, _)| name.clone())
        .collect();
    let choice = chance.below(3);
    if names.is_empty() || (choice == 0 && names.len() < SERVICES_MAX) {
        let name = format!("s{number}");
        let words = [
            "service",
            "create",
            "-d",
            "--name",
            &name,
            "--stop-signal",
            "KILL",
        ];
        let rest = ["--restart-delay", "0s", "busybox", "sleep", "1d"];
        let done = board.docker(&[&words[..], &rest].concat()).code == 0;
        let may = if done {
            vec![Some(1)]
        } else {
            vec![None, Some(1)]
        };
        wanted.insert(name, may);
        return done;
    }
    let name = chance.of(&names);
    let (done, next) = if choice == 1 && names.len() > 2 {
        (board.docker(&["service", "rm", &name]), None)
    } else {
        let replicas = chance.below(3);
        let scale = format!("{name}={replicas}");
        (
            board.docker(&["service", "scale", "-d", &scale]),
            Some(replicas),
        )
    };
    let may = wanted.entry(name).or_default();
    if done.code == 0 {
        *may = vec![next];
    } else if !may.contains(&next) {
        may.push(next);
    }
    done.code == 0
}

/// One node at a time: three managers bear one.
fn die_or_return(cluster: &mut Cluster, chance: &mut Chance, down: Option<usize>) -> Option<usize> {
    if let Some(number) = down {
        come_back(cluster, number);
        return None;
    }
    let number = chance.below(5);
    if chance.below(2) == 0 {
        cluster[number].kill_agent();
    } else {
        cluster[number].power_off();
    }
    Some(number)
}

fn come_back(cluster: &mut Cluster, number: usize) {
    // Harmless to one that was only killed.
    cluster[number].power_off();
    cluster[number].power_on();
}

/// Names and wanted replicas, as the swarm tells.
fn told(cluster: &Cluster) -> Option<BTreeMap<String, usize>> {
    let ran = cluster[0].docker(&["service", "ls", "--format", "{{.Name}} {{.Replicas}}"]);
    let parsed = ran.lines().into_iter().map(|line| {
        let (name, replicas) = line.split_once(' ')?;
        let wanted = replicas.split(['/', ' ']).nth(1)?.parse().ok()?;
        Some((name.to_owned(), wanted))
    });
    let all: Option<BTreeMap<_, _>> = parsed.collect();
    all.filter(|_| ran.code == 0)
}

/// Numbers from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

#[test]
fn binaries_and_roots_are_replaced_while_a_service_answers() {
    let mut cluster = Cluster::of(3, 1);
    cluster.load("web1");
    let words = [
        "service", "create", "-d", "--name", "web", "--mode", "global",
    ];
    let port = ["--publish", "8000:8000", "web:1"];
    cluster[0].docker(&[&words[..], &port].concat()).ok();
    for number in 0..4 {
        until("it answers everywhere", || {
            (cluster[number].visit(8000).code == 0).then_some(())
        });
    }
    let urls: Vec<String> = (0..4)
        .map(|number| format!("http://{}:8000/", cluster[number].address()))
        .collect();
    let lan = cluster[0].lan().clone();
    let (is_over, asked, failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for url in &urls {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let is_answered = lan.get(url).code == 0;
                    failed.fetch_add(usize::from(!is_answered), Ordering::Relaxed);
                }
            }
        });
        replace_binaries(&mut cluster);
        rotate_root(&cluster);
        is_over.store(true, Ordering::Relaxed);
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    eprintln!("{asked} requests, {failed} of them failed");
    assert!(
        asked > 20 && failed == 0,
        "{failed} of {asked} requests failed"
    );
}

/// Every node, one after the other, gets a binary from another place.
fn replace_binaries(cluster: &mut Cluster) {
    for number in 0..4 {
        let binary: PathBuf = cluster[number].folder().join("skep-next");
        fs::copy(skep(), &binary).expect("the binary can be copied");
        cluster[number].upgrade(&binary);
        cluster.leader();
        let ask = (number + 1) % 4;
        cluster.sees(ask, number, "back", |node| node.status == "Ready");
        let label = format!("round={number}");
        until("a write is served", || {
            let words = ["service", "update", "-d", "--label-add", &label, "web"];
            (cluster[ask].docker(&words).code == 0).then_some(())
        });
    }
}

fn rotate_root(cluster: &Cluster) {
    let root = |number: usize| cluster[number].docker(&["swarm", "ca"]).ok().to_owned();
    let before = root(0);
    cluster[1]
        .docker(&["swarm", "ca", "--rotate", "--quiet"])
        .ok();
    let after = root(2);
    assert_ne!(before, after);
    assert_eq!(after.matches("BEGIN CERTIFICATE").count(), 1, "{after}");
    let format = ["node", "ls", "--format", "{{.TLSStatus}}"];
    until("every node has a certificate of it", || {
        let told = cluster[0].docker(&format);
        let lines = told.lines();
        (lines.len() == 4 && lines.iter().all(|line| *line == "Ready")).then_some(())
    });
}
