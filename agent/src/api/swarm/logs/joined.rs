//! Many containers' logs as one: by time when they are read to their end, as
//! they come when they are followed.

use super::source::{after, open, unavailable};
use super::{SOURCES_MAX, Source, sources_of};
use crate::backend::{Backend, LogLine, LogQuery, LogStream};
use crate::error::{Error, Result};
use skep_control::model::{ServiceId, WallTime};
use smol::Task;
use smol::channel::{Sender, bounded};
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Lines between the readers and the client.
const LINES_MAX: usize = 64;
/// A log that is read to its end comes from a disk: a node that is silent for
/// so long in the middle of it is gone.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// A service that is followed is looked at for new tasks so often.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// What could not be had, each reason once.
#[derive(Default)]
struct Missing(BTreeSet<String>);

impl Missing {
    fn note(&mut self, error: &Error) {
        self.0.insert(error.message.clone());
    }

    /// The node was found silent: its other logs are not waited for.
    fn has(&self, error: &Error) -> bool {
        self.0.contains(&error.message)
    }

    /// Docker's last word, if there is a reason for it.
    fn error(&self) -> Option<Error> {
        let reasons: Vec<&str> = self.0.iter().map(String::as_str).collect();
        (!reasons.is_empty()).then(|| {
            Error::unavailable(format!(
                "warning: incomplete log stream. some logs could not be retrieved for the \
                 following reasons: {}",
                reasons.join(", ")
            ))
        })
    }

    fn note_more(&mut self, sources: &mut Vec<Source>) {
        let more = sources.len().saturating_sub(SOURCES_MAX);
        if more > 0 {
            sources.truncate(SOURCES_MAX);
            self.0.insert(format!(
                "{more} more tasks have logs: ask for those of single tasks"
            ));
        }
    }
}

/// One log and its next line.
struct Part {
    source: Source,
    log: LogStream,
    next: Option<LogLine>,
}

impl Part {
    async fn advance(&mut self, missing: &mut Missing) {
        let silent = unavailable(&self.source);
        if missing.has(&silent) {
            self.next = None;
            return;
        }
        let line = async { self.log.next().await };
        let late = async {
            smol::Timer::after(LINE_PATIENCE).await;
            Some(Err(silent))
        };
        self.next = match line.or(late).await {
            Some(Ok(line)) => Some(line),
            Some(Err(error)) => {
                missing.note(&error);
                None
            }
            None => None,
        };
    }
}

/// All lines that there are, oldest first, and what is missing at the end.
pub(super) fn merged<B: Backend>(node: B, query: LogQuery, sources: Vec<Source>) -> LogStream {
    let merge = smol::stream::once_future(Merge::begin(node, query, sources));
    Box::pin(merge.flat_map(|merge| {
        smol::stream::unfold(merge, |mut merge| async {
            let line = merge.next().await?;
            Some((line, merge))
        })
        .boxed()
    }))
}

struct Merge {
    parts: Vec<Part>,
    /// Whose line has no end yet.
    last: Option<usize>,
    missing: Missing,
    is_over: bool,
}

impl Merge {
    async fn begin<B: Backend>(node: B, query: LogQuery, mut sources: Vec<Source>) -> Self {
        let mut missing = Missing::default();
        missing.note_more(&mut sources);
        // At once: nodes that are out of reach take their time beside each
        // other.
        let begin = |source: Source| {
            let (node, query) = (node.clone(), query.clone());
            smol::spawn(async move {
                let mut missing = Missing::default();
                let mut part = Part {
                    log: open(&node, &query, &source).await?,
                    source,
                    next: None,
                };
                part.advance(&mut missing).await;
                Ok::<_, Error>((part, missing))
            })
        };
        let beginning: Vec<Task<_>> = sources.into_iter().map(begin).collect();
        let mut parts = Vec::new();
        for begun in beginning {
            match begun.await {
                Ok((part, lost)) => {
                    missing.0.extend(lost.0);
                    parts.push(part);
                }
                Err(error) => missing.note(&error),
            }
        }
        Self {
            parts,
            last: None,
            missing,
            is_over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<LogLine>> {
        let unfinished = self.last.filter(|at| self.time(*at).is_some());
        let earliest = || {
            let times = (0..self.parts.len()).filter_map(|at| Some((self.time(at)?, at)));
            times.min().map(|(_, at)| at)
        };
        let Some(at) = unfinished.or_else(earliest) else {
            let error = self.missing.error().filter(|_| !self.is_over)?;
            self.is_over = true;
            return Some(Err(error));
        };
        let part = self.parts.get_mut(at)?;
        let line = part.next.take()?;
        part.advance(&mut self.missing).await;
        self.last = Some(at).filter(|_| !line.bytes.ends_with(b"\n"));
        Some(Ok(line))
    }

    fn time(&self, at: usize) -> Option<WallTime> {
        Some(self.parts.get(at)?.next.as_ref()?.time)
    }
}

/// Lines as they come, also of what the service starts from now on.
pub(super) fn followed<B: Backend>(
    node: B,
    query: LogQuery,
    sources: Vec<Source>,
    service: Option<ServiceId>,
) -> LogStream {
    let (lines, joined) = bounded(LINES_MAX);
    // Dropped with the answer's stream, and the readers with it.
    let follow = smol::spawn(follow(node, query, sources, service, lines));
    Box::pin(smol::stream::unfold(
        (joined, follow),
        |(joined, follow)| async {
            let line = joined.recv().await.ok()?;
            Some((line, (joined, follow)))
        },
    ))
}

/// How a reader ended.
enum Ended {
    AtItsEnd,
    /// Its node was lost, after a line of that time.
    Lost(Option<WallTime>, Error),
}

async fn follow<B: Backend>(
    node: B,
    query: LogQuery,
    mut sources: Vec<Source>,
    service: Option<ServiceId>,
    lines: Sender<Result<LogLine>>,
) {
    let mut missing = Missing::default();
    missing.note_more(&mut sources);
    let read = |source: Source, query: LogQuery| {
        smol::spawn(read_one(node.clone(), query, source, lines.clone()))
    };
    let Some(service) = service else {
        for source in sources {
            if let Ended::Lost(_, error) = read(source, query.clone()).await {
                missing.note(&error);
            }
        }
        if let Some(error) = missing.error() {
            let _ = lines.send(Err(error)).await;
        }
        return;
    };
    let mut readers: BTreeMap<String, Task<Ended>> = BTreeMap::new();
    let mut ended: BTreeSet<String> = BTreeSet::new();
    let first = sources.into_iter().map(|source| (source, query.clone()));
    let mut begin: Vec<(Source, LogQuery)> = first.collect();
    // What starts from now on is read from its begin.
    let from_begin = LogQuery {
        tail: None,
        ..query.clone()
    };
    while !lines.is_closed() {
        for (source, query) in begin.drain(..) {
            readers.insert(source.container.clone(), read(source, query));
        }
        smol::Timer::after(LOOK_PAUSE).await;
        let now = sources_of(&node, service.clone()).await;
        let known: BTreeSet<&String> = now.iter().map(|source| &source.container).collect();
        ended.retain(|container| known.contains(container));
        for source in &now {
            let container = &source.container;
            let state = match readers.remove(container) {
                Some(reader) if reader.is_finished() => Some(reader.await),
                Some(reader) => {
                    readers.insert(container.clone(), reader);
                    continue;
                }
                None => None,
            };
            match state {
                Some(Ended::AtItsEnd) => {
                    ended.insert(container.clone());
                }
                Some(Ended::Lost(time, _)) => begin.push((source.clone(), after(&query, time))),
                None if !ended.contains(container) && readers.len() < SOURCES_MAX => {
                    begin.push((source.clone(), from_begin.clone()));
                }
                None => {}
            }
        }
    }
}

async fn read_one<B: Backend>(
    node: B,
    query: LogQuery,
    source: Source,
    lines: Sender<Result<LogLine>>,
) -> Ended {
    let mut last = None;
    let mut log = match open(&node, &query, &source).await {
        Ok(log) => log,
        Err(error) => return Ended::Lost(last, error),
    };
    while let Some(line) = log.next().await {
        match line {
            Ok(line) => {
                last = Some(line.time);
                if lines.send(Ok(line)).await.is_err() {
                    break;
                }
            }
            Err(error) => return Ended::Lost(last, error),
        }
    }
    Ended::AtItsEnd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StdStream;

    fn part(node: &str, lines: &[(i64, &str)], end: Option<Error>) -> Part {
        let lines: Vec<Result<LogLine>> = lines
            .iter()
            .map(|(time, text)| {
                Ok(LogLine {
                    stream: StdStream::Stdout,
                    time: WallTime(*time),
                    bytes: text.as_bytes().to_vec(),
                    details: Default::default(),
                })
            })
            .chain(end.map(Err))
            .collect();
        Part {
            source: Source {
                container: node.into(),
                node: node.into(),
                details: Default::default(),
            },
            log: Box::pin(smol::stream::iter(lines)),
            next: None,
        }
    }

    #[test]
    fn lines_are_merged_by_time_and_what_is_missing_comes_last() {
        smol::block_on(async {
            let mut merge = Merge {
                parts: vec![
                    part("a", &[(1, "a1\n"), (4, "a4-"), (6, "a6\n")], None),
                    part(
                        "b",
                        &[(2, "b2\n"), (5, "b5\n")],
                        Some(Error::internal("gone")),
                    ),
                ],
                last: None,
                missing: Missing::default(),
                is_over: false,
            };
            for part in &mut merge.parts {
                part.advance(&mut merge.missing).await;
            }
            let mut told = Vec::new();
            while let Some(line) = merge.next().await {
                told.push(match line {
                    Ok(line) => String::from_utf8(line.bytes).unwrap(),
                    Err(error) => error.message,
                });
            }
            assert_eq!(
                told,
                [
                    "a1\n",
                    "b2\n",
                    "a4-",
                    "a6\n",
                    "b5\n",
                    "warning: incomplete log stream. some logs could not be retrieved for the \
                     following reasons: gone"
                ]
            );
        });
    }
}
