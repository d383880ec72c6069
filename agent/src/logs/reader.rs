//! The agent's half: records out of the ring.

use super::format::{HEADER, TRAILER, data_length, decode, size};
use super::{Entry, FOLDER, file_name, files};
use crate::error::Result;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes read from a file at once: some hundred lines, and always a record.
const READ_BYTES: usize = 64 * 1024;

/// Entries handed over between threads at once.
const BATCH: usize = 256;

/// Which records. `Default` chooses no stream at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Select {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The last so many lines; `None` is all.
    pub(crate) tail: Option<u64>,
    /// Wall nanoseconds since 1970; inclusive.
    pub(crate) since: Option<i64>,
    /// Wall nanoseconds since 1970; inclusive.
    pub(crate) until: Option<i64>,
}

impl Select {
    fn takes(&self, entry: &Entry) -> bool {
        let stream = if entry.stderr { self.stderr } else { self.stdout };
        stream
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }
}

/// Reads a ring from old to new; blocking. At the end `next` gives `None`,
/// and goes on when more was written.
pub(crate) struct Reader {
    folder: PathBuf,
    select: Select,
    number: u64,
    file: Option<File>,
    /// Where `buffer` ends in the file, and where in it the next record is.
    offset: u64,
    buffer: Vec<u8>,
    at: usize,
}

/// What is there now. `task_dir` is DATA/tasks/ID. Blocking.
pub(crate) fn read(task_dir: &Path, select: &Select) -> Result<Reader> {
    let folder = task_dir.join(FOLDER);
    let mut reader = Reader {
        number: files(&folder).first().copied().unwrap_or(0),
        folder,
        select: select.clone(),
        file: None,
        offset: 0,
        buffer: Vec::new(),
        at: 0,
    };
    if let Some(lines) = select.tail {
        reader.rewind(lines);
    }
    Ok(reader)
}

impl Iterator for Reader {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some((entry, length)) = self.buffer.get(self.at..).and_then(decode) {
                self.at += length;
                if self.select.takes(&entry) {
                    return Some(entry);
                }
            } else if !self.fill() && !self.turn() {
                return None;
            }
        }
    }
}

impl Reader {
    /// Reads more of the current file; false when there is none.
    fn fill(&mut self) -> bool {
        if self.file.is_none() {
            self.file = File::open(self.folder.join(file_name(self.number))).ok();
        }
        let Some(file) = &self.file else { return false };
        self.buffer.drain(..self.at);
        self.at = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + READ_BYTES, 0);
        let space = self.buffer.get_mut(old..).unwrap_or_default();
        let length = file.read_at(space, self.offset).unwrap_or(0);
        self.buffer.truncate(old + length);
        self.offset += length as u64;
        length > 0
    }

    /// Goes on to the next file, if there is one: the current one is then
    /// complete. What is left of it is a torn record and skipped.
    fn turn(&mut self) -> bool {
        let Some(next) = files(&self.folder).into_iter().find(|n| *n > self.number) else {
            return false;
        };
        // It may have grown between the last look and the next file's birth.
        if self.fill() {
            return true;
        }
        self.go_to(next, 0);
        true
    }

    fn go_to(&mut self, number: u64, offset: u64) {
        self.number = number;
        self.file = None;
        self.buffer.clear();
        self.at = 0;
        self.offset = offset;
    }

    /// Moves to before the last `lines` chosen ones, from the end backwards.
    fn rewind(&mut self, lines: u64) {
        let mut wanted = lines;
        for number in files(&self.folder).into_iter().rev() {
            let Ok(file) = File::open(self.folder.join(file_name(number))) else {
                continue;
            };
            let mut end = whole(&file);
            self.go_to(number, end);
            while wanted > 0
                && let Some((entry, start)) = before(&file, end)
            {
                // A line's last piece counts for the line; those before it
                // belong to it.
                if self.select.takes(&entry) && !entry.partial {
                    wanted -= 1;
                    if wanted == 0 {
                        self.go_to(number, self.line_start(&file, start, entry.stderr));
                        return;
                    }
                }
                end = start;
            }
            if wanted == 0 {
                return;
            }
            self.go_to(number, 0);
        }
    }

    /// Where the line begins whose last piece begins at `start`.
    fn line_start(&self, file: &File, start: u64, stderr: bool) -> u64 {
        let (mut at, mut line) = (start, start);
        while let Some((entry, begin)) = before(file, at) {
            if entry.stderr == stderr {
                if !entry.partial {
                    break;
                }
                line = begin;
            }
            at = begin;
            if start - at > 1 << 20 {
                break;
            }
        }
        line
    }
}

/// The record that ends at `end` and where it begins.
fn before(file: &File, end: u64) -> Option<(Entry, u64)> {
    let mut field = [0; TRAILER];
    file.read_exact_at(&mut field, end.checked_sub(TRAILER as u64)?).ok()?;
    let length = size(data_length(&field)?);
    let start = end.checked_sub(length as u64)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start).ok()?;
    decode(&bytes).map(|(entry, _)| (entry, start))
}

/// The end of the last whole record. That of the file, unless a crash or a
/// writer at work has left part of one.
fn whole(file: &File) -> u64 {
    let length = file.metadata().map_or(0, |m| m.len());
    if before(file, length).is_some() {
        return length;
    }
    let mut at = 0;
    let mut header = [0; HEADER];
    while file.read_exact_at(&mut header, at).is_ok()
        && let Some(data) = data_length(&header)
    {
        let end = at + size(data) as u64;
        if end > length || before(file, end).is_none() {
            break;
        }
        at = end;
    }
    at
}

/// Follows a ring; see [`follow`].
struct Follower {
    task_dir: PathBuf,
    reader: Option<Reader>,
    watch: Option<smol::Async<OwnedFd>>,
    ready: VecDeque<Entry>,
    until: Option<i64>,
    /// The run had ended before the last look.
    last: bool,
}

/// What is there now and what comes, until the container's run has ended
/// (its exit record is there) and all of it is read, or the time of `until`.
pub(crate) fn follow(
    task_dir: PathBuf,
    select: Select,
) -> impl smol::stream::Stream<Item = Result<Entry>> + Send {
    let follower = Follower {
        until: select.until,
        task_dir: task_dir.clone(),
        reader: None,
        watch: None,
        ready: VecDeque::new(),
        last: false,
    };
    smol::stream::unfold(Some((follower, select)), async |state| {
        let (mut follower, select) = state?;
        match follower.next(&select).await {
            Ok(Some(entry)) => Some((Ok(entry), Some((follower, select)))),
            Ok(None) => None,
            Err(e) => Some((Err(e), None)),
        }
    })
}

impl Follower {
    async fn next(&mut self, select: &Select) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            if self.reader.is_none() {
                self.watch = Some(watch(&self.task_dir)?);
                let (task_dir, select) = (self.task_dir.clone(), select.clone());
                self.reader = Some(smol::unblock(move || read(&task_dir, &select)).await?);
            }
            // Ended first, read second: what was written before the end is
            // there when the end is.
            let ended = self.task_dir.join("exit").exists() || self.is_over();
            let Some(mut reader) = self.reader.take() else {
                return Ok(None);
            };
            let (reader, batch) = smol::unblock(move || {
                let batch: VecDeque<Entry> = reader.by_ref().take(BATCH).collect();
                (reader, batch)
            })
            .await;
            self.reader = Some(reader);
            self.ready = batch;
            if !self.ready.is_empty() {
                continue;
            }
            if ended {
                return Ok(None);
            }
            self.wait().await?;
        }
    }

    fn is_over(&self) -> bool {
        let now = || {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        };
        self.until.is_some_and(|until| now() > until)
    }

    /// Until something happened in the folders.
    async fn wait(&mut self) -> Result<()> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let mut buffer = [0; 4096];
        let changed = async {
            watch
                .read_with(|fd| Ok(rustix::io::read(fd, &mut buffer)?))
                .await
                .map(drop)
        };
        // A deadline in the request has to be noticed without any output.
        let deadline = async {
            if self.until.is_some() {
                smol::Timer::after(std::time::Duration::from_secs(1)).await;
            } else {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        smol::future::or(changed, deadline).await?;
        if !self.last {
            self.last = self.watch_ring();
        }
        Ok(())
    }

    /// The ring's folder may be born later than its follower.
    fn watch_ring(&self) -> bool {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        let folder = self.task_dir.join(FOLDER);
        self.watch
            .as_ref()
            .is_some_and(|watch| inotify::add_watch(watch.get_ref(), folder, flags).is_ok())
    }
}

fn watch(task_dir: &Path) -> Result<smol::Async<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(std::io::Error::from)?;
    let names = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, task_dir, names).map_err(std::io::Error::from)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    let _ = inotify::add_watch(&fd, task_dir.join(FOLDER), flags);
    Ok(smol::Async::new(fd)?)
}
