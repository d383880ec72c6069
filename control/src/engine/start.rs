//! From what survived to a running engine.

use super::*;
use crate::journal::{Journal, WrongKey};
use crate::seal::{Closed, Seal};
use serde::de::DeserializeOwned;
use std::borrow::Cow;

impl Engine {
    /// Starts from what survived. Call [`Engine::step`] with `Describe` next.
    ///
    /// # Errors
    /// When what survived is damaged beyond a torn tail, or the consensus log
    /// was sealed with another key.
    pub fn new(
        now: Millis,
        wall: WallTime,
        config: Config,
        recovered: Recovered,
    ) -> Result<Self, Unreadable> {
        let mut random = Random::new(config.seed);
        let seal = Seal::new(&config.log_key, &mut random);
        let tables = recover_tables(&recovered.consensus, seal, random.word())?;
        let (consensus_disk, quorum, state) = tables;
        let (records, journal, is_torn) = read(Log::Node, &recovered.node, None)?;
        let node_disk = Disk::new(journal, None, is_torn);
        let bulletin = last_bulletin(&records);
        let worker = Worker::recover(Moment { now, wall }, records, recovered.found);
        let node = quorum.as_ref().map(|quorum| quorum.node().clone());
        let member = config.member;
        let node = node.or_else(|| member.as_ref().map(|member| member.node.clone()));
        let mut reach = Reach::default();
        reach.become_node(node.clone());
        let led = Led {
            term: bulletin.as_ref().map_or(0, |told| told.term),
            node: None,
        };
        Ok(Self {
            random,
            listen_addr: config.listen_addr,
            about: NodeDescription::default(),
            state,
            reach,
            keys: None,
            gossip: None,
            is_record_stale: true,
            double_of: None,
            node,
            member,
            is_trust_stale: bulletin.is_some(),
            bulletin,
            is_told: false,
            led,
            is_stopping: false,
            leaving: None,
            refusals: Vec::new(),
            reporter: Reporter::default(),
            replies: Vec::new(),
            trusted: None,
            manager: quorum.map(|quorum| Manager::new(quorum, None)),
            worker,
            seen: BTreeMap::new(),
            consensus_disk,
            node_disk,
            writes: 0,
            held: VecDeque::new(),
            node_writes_wanted: 0,
            node_writes_done: 0,
            erasing: None,
            answers: VecDeque::new(),
            routes: Routes::default(),
            is_routing_stale: true,
        })
    }
}

/// The managers' log, and what is in it.
fn recover_tables(
    file: &[u8],
    seal: Seal,
    epoch: u64,
) -> Result<(Disk<Record>, Option<Quorum>, State), Unreadable> {
    let (records, journal, is_torn) = read(Log::Consensus, file, Some(&seal))?;
    let wrong = |reason: String| Corrupt {
        log: Log::Consensus,
        offset: 0,
        reason,
    };
    let (quorum, snapshot) = Quorum::recover(records, epoch).map_err(wrong)?.unzip();
    let state = match snapshot.flatten() {
        None => State::default(),
        Some(bytes) => State::from_snapshot(&bytes)
            .map_err(|e| wrong(format!("its snapshot does not read: {e}")))?,
    };
    if let Some(quorum) = &quorum {
        manager::check(quorum).map_err(wrong)?;
    }
    Ok((Disk::new(journal, Some(seal), is_torn), quorum, state))
}

/// What the node was told last, unless it left that cluster since.
fn last_bulletin(records: &[NodeRecord]) -> Option<Box<Bulletin>> {
    records.iter().fold(None, |last, record| match record {
        NodeRecord::Bulletin(told) => Some(told.clone()),
        NodeRecord::Told { node, .. } if *node == NodeId::default() => None,
        _ => last,
    })
}

/// The records of one log.
fn read<R: DeserializeOwned>(
    log: Log,
    file: &[u8],
    seal: Option<&Seal>,
) -> Result<(Vec<R>, Journal, bool), Unreadable> {
    let recovery = Journal::recover(log, file)?;
    let damage = |reason: String| Corrupt {
        log,
        offset: 0,
        reason,
    };
    let mut records = Vec::new();
    let numbers = (0..).map(|count| recovery.first_seq.wrapping_add(count));
    for (seq, payload) in numbers.zip(recovery.payloads) {
        let opened = match seal.map(|seal| seal.open(seq, payload)) {
            None => Cow::Borrowed(payload),
            Some(Ok(opened)) => Cow::Owned(opened),
            Some(Err(Closed::WrongKey)) => return Err(WrongKey { log }.into()),
            Some(Err(Closed::Damaged)) => {
                return Err(damage("a record does not open".into()).into());
            }
        };
        let batch: Vec<R> = postcard::from_bytes(&opened)
            .map_err(|e| damage(format!("a record does not read (a newer version's?): {e}")))?;
        records.extend(batch);
    }
    Ok((records, recovery.journal, recovery.is_torn))
}
