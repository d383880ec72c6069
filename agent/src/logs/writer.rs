//! The shim's half: bytes into lines, lines into the ring.

use super::format::{LINE_BYTES_MAX, encode};
use super::tail::whole;
use super::{FOLDER, Options, files};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends to the ring in a task's folder.
pub(crate) struct Writer {
    folder: PathBuf,
    max_size: u64,
    max_file: u64,
    /// `None` until there is a record: a silent container's ring costs a card
    /// nothing.
    file: Option<File>,
    number: u64,
    size: u64,
    /// Lines that have begun: stdout's and stderr's.
    begun: [Vec<u8>; 2],
    /// Records of one call, to be written at once.
    records: Vec<u8>,
}

impl Writer {
    /// Goes on after the last whole record; `None` when nothing is to be kept.
    pub(crate) fn open(task_dir: &Path, options: &Options) -> std::io::Result<Option<Self>> {
        if options.max_size == 0 || options.max_file == 0 {
            return Ok(None);
        }
        let folder = task_dir.join(FOLDER);
        let last = files(&folder).last().copied();
        let number = last.unwrap_or(0);
        let file = match last {
            Some(_) => Some(open(&folder, number)?),
            None => None,
        };
        let size = match &file {
            Some(file) => mend(file)?,
            None => 0,
        };
        Ok(Some(Self {
            folder,
            max_size: options.max_size,
            max_file: u64::from(options.max_file),
            file,
            number,
            size,
            begun: [Vec::new(), Vec::new()],
            records: Vec::new(),
        }))
    }

    /// Takes output as it was read, at wall time `time` (nanoseconds); writes
    /// whole lines with one call and keeps what has not ended.
    pub(crate) fn write(&mut self, stderr: bool, time: i64, data: &[u8]) -> std::io::Result<()> {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.line(stderr, time, line);
            rest = after.get(1..).unwrap_or_default();
        }
        self.begin(stderr, time, rest);
        self.flush()
    }

    /// Writes the lines that have begun and will not end any more.
    pub(crate) fn finish(&mut self, time: i64) -> std::io::Result<()> {
        for (at, begun) in std::mem::take(&mut self.begun).into_iter().enumerate() {
            if !begun.is_empty() {
                encode(&mut self.records, time, at == 1, false, &begun);
            }
        }
        self.flush()
    }

    fn line(&mut self, stderr: bool, time: i64, line: &[u8]) {
        let [out, err] = &mut self.begun;
        let begun = if stderr { err } else { out };
        if begun.is_empty() && line.len() <= LINE_BYTES_MAX {
            encode(&mut self.records, time, stderr, false, line);
            return;
        }
        begun.extend(line);
        let whole = std::mem::take(begun);
        let mut pieces = whole.chunks(LINE_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            encode(
                &mut self.records,
                time,
                stderr,
                pieces.peek().is_some(),
                piece,
            );
        }
    }

    fn begin(&mut self, stderr: bool, time: i64, rest: &[u8]) {
        let [out, err] = &mut self.begun;
        let begun = if stderr { err } else { out };
        begun.extend(rest);
        while begun.len() >= LINE_BYTES_MAX {
            let piece: Vec<u8> = begun.drain(..LINE_BYTES_MAX).collect();
            encode(&mut self.records, time, stderr, true, &piece);
        }
        if begun.is_empty() {
            begun.shrink_to(0);
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + self.records.len() as u64 > self.max_size {
            self.turn()?;
        }
        let records = std::mem::take(&mut self.records);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                std::fs::create_dir_all(&self.folder)?;
                none.insert(open(&self.folder, self.number)?)
            }
        };
        let written = file.write_all(&records);
        self.size += records.len() as u64;
        if written.is_err() {
            // A record cut in two (no space left) would hide all that follow.
            self.size = mend(file)?;
        }
        self.records = records;
        self.records.clear();
        self.records.shrink_to(LINE_BYTES_MAX);
        written
    }

    /// Begins the next file and forgets the oldest.
    fn turn(&mut self) -> std::io::Result<()> {
        let next = self.number + 1;
        self.file = Some(open(&self.folder, next)?);
        self.number = next;
        self.size = 0;
        for old in files(&self.folder) {
            if old + self.max_file <= next {
                std::fs::remove_file(self.folder.join(super::file_name(old)))?;
            }
        }
        Ok(())
    }
}

fn open(folder: &Path, number: u64) -> std::io::Result<File> {
    File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(folder.join(super::file_name(number)))
}

/// Cuts a torn record off the end; the size that is left.
fn mend(file: &File) -> std::io::Result<u64> {
    let size = whole(file);
    file.set_len(size)?;
    Ok(size)
}
