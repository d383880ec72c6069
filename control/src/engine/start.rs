//! From what survived to a running engine.

use super::*;
use crate::journal::Journal;
use serde::de::DeserializeOwned;

impl Engine {
    /// Starts from what survived. Call [`Engine::step`] with `Describe` next.
    ///
    /// # Errors
    /// When what survived is damaged beyond a torn tail.
    pub fn new(
        now: Millis,
        wall: WallTime,
        config: Config,
        recovered: Recovered,
    ) -> Result<Self, Corrupt> {
        let mut random = Random::new(config.seed);
        let (consensus_disk, quorum, state) = recover_tables(&recovered.consensus, random.word())?;
        let (records, journal, is_torn) = read(Log::Node, &recovered.node)?;
        let node_disk = Disk::new(journal, is_torn);
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
    epoch: u64,
) -> Result<(Disk<Record>, Option<Quorum>, State), Corrupt> {
    let (records, journal, is_torn) = read(Log::Consensus, file)?;
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
    Ok((Disk::new(journal, is_torn), quorum, state))
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
fn read<R: DeserializeOwned>(log: Log, file: &[u8]) -> Result<(Vec<R>, Journal, bool), Corrupt> {
    let recovery = Journal::recover(log, file)?;
    let mut records = Vec::new();
    for payload in recovery.payloads {
        let batch: Vec<R> = postcard::from_bytes(payload).map_err(|e| Corrupt {
            log,
            offset: 0,
            reason: format!("a record does not read (a newer version's?): {e}"),
        })?;
        records.extend(batch);
    }
    Ok((records, recovery.journal, recovery.is_torn))
}
