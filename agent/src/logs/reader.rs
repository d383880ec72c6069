//! The agent's half: records out of the ring.

use super::format::decode;
use super::tail::{before, whole};
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

/// How far back the beginning of a line of several pieces is looked for: a
/// line that long is no line.
const LINE_SEARCH_BYTES: u64 = 1 << 20;

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
        let stream = if entry.stderr {
            self.stderr
        } else {
            self.stdout
        };
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
            if start - at > LINE_SEARCH_BYTES {
                break;
            }
        }
        line
    }
}

/// Follows a ring; see [`follow`].
struct Follower {
    task_dir: PathBuf,
    reader: Option<Reader>,
    watch: Option<smol::Async<OwnedFd>>,
    ready: VecDeque<Entry>,
    until: Option<i64>,
    /// The ring's folder is there and watched.
    ring_watched: bool,
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
        ring_watched: false,
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
                self.ring_watched = self.watch_ring();
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
        let Some(watch) = &self.watch else {
            return Ok(());
        };
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
        if !self.ring_watched {
            self.ring_watched = self.watch_ring();
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
    Ok(smol::Async::new(fd)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Writer};
    use super::*;

    struct Ring(PathBuf);

    impl Drop for Ring {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ring(name: &str) -> Ring {
        let dir = std::env::temp_dir().join(format!("skep-logs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Ring(dir)
    }

    fn writer(ring: &Ring, max_size: u64, max_file: u32) -> Writer {
        Writer::open(&ring.0, &Options { max_size, max_file })
            .unwrap()
            .unwrap()
    }

    fn select(tail: Option<u64>) -> Select {
        Select {
            stdout: true,
            stderr: true,
            tail,
            ..Select::default()
        }
    }

    fn lines(ring: &Ring, select: &Select) -> Vec<String> {
        let entries = read(&ring.0, select).unwrap();
        entries
            .map(|e| String::from_utf8(e.data).unwrap())
            .collect()
    }

    #[test]
    fn streams_times_and_tails_are_chosen() {
        let ring = ring("choose");
        let mut log = writer(&ring, 1000, 2);
        for n in 0..10 {
            log.write(n % 2 == 1, n, format!("line {n}\n").as_bytes())
                .unwrap();
        }
        assert_eq!(lines(&ring, &select(None)).len(), 10);
        assert_eq!(lines(&ring, &select(Some(2))), ["line 8", "line 9"]);
        assert_eq!(lines(&ring, &select(Some(0))), [""; 0]);
        assert_eq!(lines(&ring, &select(Some(99))).len(), 10);
        let mut chosen = select(Some(2));
        chosen.stderr = false;
        assert_eq!(lines(&ring, &chosen), ["line 6", "line 8"]);
        chosen = select(None);
        (chosen.since, chosen.until) = (Some(3), Some(5));
        assert_eq!(lines(&ring, &chosen), ["line 3", "line 4", "line 5"]);
    }

    #[test]
    fn the_ring_is_bounded_and_tails_cross_files() {
        let ring = ring("bound");
        let mut log = writer(&ring, 300, 3);
        for n in 0..100 {
            log.write(false, n, format!("{n}\n").as_bytes()).unwrap();
        }
        let folder = ring.0.join(FOLDER);
        assert_eq!(files(&folder).len(), 3);
        for number in files(&folder) {
            assert!(
                std::fs::metadata(folder.join(file_name(number)))
                    .unwrap()
                    .len()
                    <= 300
            );
        }
        let all = lines(&ring, &select(None));
        assert_eq!(all.last().unwrap(), "99");
        let tail = lines(&ring, &select(Some(20)));
        assert_eq!((tail.len(), tail[0].as_str()), (20, "80"));
    }

    #[test]
    fn long_lines_are_cut_as_dockers_and_tail_together() {
        let ring = ring("long");
        let mut log = writer(&ring, 1 << 20, 2);
        let long = "x".repeat(40_000);
        // As a pipe hands it over: pieces that do not end where lines do.
        for piece in format!("before\n{long}\nafter\nopen")
            .as_bytes()
            .chunks(7_777)
        {
            log.write(false, 1, piece).unwrap();
        }
        log.finish(2).unwrap();
        let entries: Vec<Entry> = read(&ring.0, &select(None)).unwrap().collect();
        let shape: Vec<_> = entries.iter().map(|e| (e.data.len(), e.partial)).collect();
        assert_eq!(
            shape,
            [
                (6, false),
                (16_384, true),
                (16_384, true),
                (7_232, false),
                (5, false),
                (4, false)
            ]
        );
        assert_eq!(lines(&ring, &select(Some(3))).len(), 5);
    }

    #[test]
    fn a_torn_tail_is_skipped_and_written_over() {
        let ring = ring("torn");
        let mut log = writer(&ring, 1 << 20, 2);
        for n in 0..5 {
            log.write(false, n, format!("{n}\n").as_bytes()).unwrap();
        }
        drop(log);
        let path = ring.0.join(FOLDER).join(file_name(0));
        let length = std::fs::metadata(&path).unwrap().len();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(length - 3).unwrap();
        assert_eq!(lines(&ring, &select(None)), ["0", "1", "2", "3"]);
        assert_eq!(lines(&ring, &select(Some(1))), ["3"]);
        let mut log = writer(&ring, 1 << 20, 2);
        log.write(false, 9, b"again\n").unwrap();
        assert_eq!(lines(&ring, &select(None)), ["0", "1", "2", "3", "again"]);
    }

    #[test]
    fn a_reader_goes_on_when_more_was_written() {
        let ring = ring("more");
        let mut log = writer(&ring, 200, 4);
        log.write(false, 1, b"a\n").unwrap();
        let mut reader = read(&ring.0, &select(None)).unwrap();
        assert_eq!(reader.next().unwrap().data, b"a");
        assert!(reader.next().is_none());
        for n in 0..20 {
            log.write(false, n, format!("{n}\n").as_bytes()).unwrap();
            assert_eq!(reader.next().unwrap().data, n.to_string().as_bytes());
        }
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_wanted() {
        let ring = ring("none");
        let none = Options {
            max_size: 0,
            max_file: 1,
        };
        assert!(Writer::open(&ring.0, &none).unwrap().is_none());
        assert_eq!(lines(&ring, &select(Some(3))).len(), 0);
    }
}
