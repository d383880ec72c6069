//! One member alone; what several do is in `faults`.

mod faults;
mod guards;
mod world;

use super::*;
use std::collections::BTreeMap;

/// Everything it wants written, taken as durable at once.
fn settle(consensus: &mut Consensus, log: &mut Vec<Record>) -> Vec<Committed> {
    let mut committed = Vec::new();
    while let Some(ready) = consensus.ready() {
        log.extend(ready.records);
        committed.extend(ready.committed);
        consensus.stored(ready.number);
    }
    committed
}

/// The kinds of `records` and how many there are of each.
fn census(records: &[Record]) -> BTreeMap<&'static str, usize> {
    let mut census = BTreeMap::new();
    for record in records {
        let kind = match record {
            Record::Identity { .. } => "identity",
            Record::Hard { .. } => "hard",
            Record::Entry { .. } => "entry",
            Record::Snapshot { .. } => "snapshot",
            Record::Members { .. } => "members",
        };
        *census.entry(kind).or_default() += 1;
    }
    census
}

fn alone() -> (Consensus, Vec<Record>) {
    let (mut consensus, mut log) = Consensus::bootstrap("n".into(), 7, 1).unwrap();
    settle(&mut consensus, &mut log);
    assert!(consensus.is_leader());
    (consensus, log)
}

#[test]
fn one_manager_commits_with_one_write() {
    let (mut consensus, _) = alone();
    let number = consensus.propose(b"a".to_vec()).unwrap();
    let ready = consensus.ready().unwrap();
    assert_eq!(census(&ready.records).get("entry"), Some(&1));
    assert!(ready.committed.is_empty(), "not durable yet");
    assert!(consensus.ready().is_none());
    consensus.stored(ready.number);
    let ready = consensus.ready().unwrap();
    assert!(ready.records.is_empty(), "the commit alone is not written");
    assert_eq!(ready.committed[0].proposal, Some(number));
    assert_eq!(ready.committed[0].data, b"a");
}

#[test]
fn ticks_of_an_idle_manager_write_nothing() {
    let (mut consensus, _) = alone();
    for tick in 0..1000 {
        consensus.tick(10 + tick % 10);
        while let Some(ready) = consensus.ready() {
            assert!(ready.records.is_empty());
            consensus.stored(ready.number);
        }
    }
    assert!(consensus.is_leader());
}

#[test]
fn a_restart_gives_out_the_log_again() {
    let (mut consensus, mut log) = alone();
    for text in ["a", "b", "c"] {
        consensus.propose(text.into()).unwrap();
        settle(&mut consensus, &mut log);
    }
    let (mut again, snapshot) = Consensus::recover(log.clone(), 2).unwrap().unwrap();
    assert_eq!(snapshot, None);
    let committed = settle(&mut again, &mut log);
    let data: Vec<_> = committed.iter().map(|c| c.data.as_slice()).collect();
    assert_eq!(data, [b"a", b"b", b"c"]);
    assert_eq!(committed[0].proposal, None, "another start's proposal");
}

#[test]
fn a_compacted_log_starts_with_its_snapshot() {
    let (mut consensus, mut log) = alone();
    for text in ["a", "b"] {
        consensus.propose(text.into()).unwrap();
        settle(&mut consensus, &mut log);
    }
    let mut log = consensus.compact(b"tables".to_vec());
    consensus.propose(b"c".to_vec()).unwrap();
    settle(&mut consensus, &mut log);
    let (mut again, snapshot) = Consensus::recover(log.clone(), 2).unwrap().unwrap();
    assert_eq!(snapshot.as_deref(), Some(&b"tables"[..]));
    let committed = settle(&mut again, &mut log);
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[0].data, b"c");
    let more = again.propose(b"d".to_vec()).unwrap();
    assert_eq!(settle(&mut again, &mut log)[0].proposal, Some(more));
}
