//! What the node's containers are, on disk: one log for all their records.
//!
//! Owns `node/containers/log`. A record in a file of its own costs a card a
//! block and an inode, and a promise about it three commits of the file
//! system's journal; a place in a log whose blocks are there beforehand costs
//! its own bytes, and the promise one flush. An entry is JSON without what is
//! as by default, deflated: half a kilobyte.
//!
//! Invariants: the last entry of a container counts; what was written durably
//! is read back whole after a power cut, and nothing that comes later in the
//! file can hide it; what was not may be gone from some entry on. Folders of
//! containers without a record are nobody's.
//!
//! Does not know: what a record means, containers' folders and states.

use super::record::Record;
use crate::disk::Durability;
use crate::error::{Error, Result};
use crate::storage::Log;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value;
use skep_control::journal::{self, Journal, Write};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A log smaller than this is never written anew: it is one piece of the
/// pre-allocated file. Bytes.
const COMPACT_FLOOR_BYTES: u64 = 256 << 10;

/// Largest entry that is read, bytes: the API takes requests of 4 MiB.
const ENTRY_BYTES_MAX: u64 = 16 << 20;

pub(super) struct Ledger {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    log: Log,
    journal: Journal,
    /// A write failed: the file is read and written anew before the next.
    is_doubtful: bool,
}

/// What the ledger held at the start.
pub(super) type Inherited = BTreeMap<String, Result<Record>>;

/// By container id, in no order of time.
type Entries = BTreeMap<String, Value>;

impl Ledger {
    /// Opens the ledger in `folder` and reads every container's record, or why
    /// it cannot be read, by its id.
    pub(super) fn open(folder: &Path) -> Result<(Self, Inherited)> {
        let (inner, entries) = Inner::open(folder)?;
        let default = value(&Record::default())?;
        let read = |entry| {
            serde_json::from_value(filled(entry, &default))
                .map_err(|e| Error::internal(e.to_string()))
        };
        let records = entries
            .into_iter()
            .map(|(id, entry)| (id, read(entry)))
            .collect();
        let ledger = Self {
            folder: folder.to_owned(),
            inner: Mutex::new(inner),
        };
        Ok((ledger, records))
    }

    /// Keeps a container's record in the place of its older one.
    pub(super) fn put(&self, record: &Record, durability: Durability) -> Result<()> {
        let entry = lean(value(record)?, &value(&Record::default())?);
        self.append(&entry, durability)
    }

    /// Forgets a container.
    pub(super) fn remove(&self, id: &str, durability: Durability) -> Result<()> {
        self.append(&Value::from(id), durability)
    }

    fn append(&self, entry: &Value, durability: Durability) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock: deflating takes 300 kB, once and not for each of many.
        let bytes = packed(entry)?;
        if inner.is_doubtful || inner.journal.is_bloated(COMPACT_FLOOR_BYTES) {
            let (mut fresh, entries) = Inner::open(&self.folder)?;
            fresh.compact(&entries)?;
            *inner = fresh;
        }
        let done = inner.write(&bytes).and_then(|()| match durability {
            Durability::Synced => inner.log.sync(),
            Durability::Cached => Ok(()),
        });
        inner.is_doubtful = done.is_err();
        done.map_err(|error| error.within("keep a container's record"))
    }
}

impl Inner {
    fn open(folder: &Path) -> Result<(Self, Entries)> {
        let (log, bytes) = Log::open(folder)?;
        let (recovery, is_damaged) = match Journal::recover(journal::Log::Node, &bytes) {
            Ok(recovery) => (recovery, false),
            Err(damage) => {
                // Entries that were not synced may reach the disk in any order:
                // a power cut can leave a later one without an earlier one.
                // What was promised comes before both.
                log::warn!(
                    "{}: not read from byte {} on: {}",
                    folder.display(),
                    damage.offset,
                    damage.reason
                );
                let whole = bytes.get(..damage.offset).unwrap_or_default();
                let recovery = Journal::recover(journal::Log::Node, whole)
                    .map_err(|e| Error::internal(format!("{}: {e}", folder.display())));
                (recovery?, true)
            }
        };
        let mut entries = Entries::new();
        for payload in &recovery.payloads {
            match unpacked(payload) {
                Ok(Value::String(id)) => drop(entries.remove(&id)),
                Ok(entry) => {
                    let id = entry.get("id").and_then(Value::as_str).unwrap_or_default();
                    entries.insert(id.to_owned(), entry);
                }
                Err(error) => log::error!("{}: {error}", folder.display()),
            }
        }
        let is_torn = recovery.is_torn || is_damaged;
        let mut inner = Self {
            log,
            journal: recovery.journal,
            is_doubtful: false,
        };
        if is_torn {
            inner.compact(&entries)?;
        }
        Ok((inner, entries))
    }

    /// Writes only what counts.
    fn compact(&mut self, entries: &Entries) -> Result<()> {
        let payloads: Vec<Vec<u8>> = entries.values().map(packed).collect::<Result<_>>()?;
        let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let write = match payloads.is_empty() {
            true => self.journal.erase(),
            false => self.journal.replace(first_number()?, &payloads),
        };
        self.perform(write)
    }

    fn write(&mut self, payload: &[u8]) -> Result<()> {
        let write = match self.journal.is_empty() {
            true => self.journal.replace(first_number()?, &[payload]),
            false => self.journal.append(payload),
        };
        self.perform(write)
    }

    fn perform(&mut self, write: Write) -> Result<()> {
        match write {
            Write::At { offset, bytes, .. } => self.log.write(offset, &bytes),
            Write::Replace { bytes, .. } => self.log.replace(&bytes),
        }
    }
}

/// Random: old bytes behind a file's end cannot pose as its next entry.
fn first_number() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(u64::from_le_bytes(bytes))
}

fn packed(entry: &Value) -> Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut encoder, entry)
        .map_err(std::io::Error::from)
        .and_then(|()| encoder.finish())
        .map_err(|e| Error::internal(format!("record: {e}")))
}

fn unpacked(payload: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_reader(DeflateDecoder::new(payload).take(ENTRY_BYTES_MAX))
}

fn value(record: &Record) -> Result<Value> {
    serde_json::to_value(record).map_err(|e| Error::internal(format!("record: {e}")))
}

/// What of `value` is not as in `default`. Lists go as a whole.
fn lean(value: Value, default: &Value) -> Value {
    match (value, default) {
        (Value::Object(fields), Value::Object(defaults)) => fields
            .into_iter()
            .filter_map(|(key, field)| match defaults.get(&key) {
                Some(same) if *same == field => None,
                Some(other) => {
                    let field = lean(field, other);
                    Some((key, field))
                }
                None => Some((key, field)),
            })
            .collect(),
        (value, _) => value,
    }
}

/// The other way: `value` with what only `default` has. What a later version
/// adds to records is filled in by it, too.
fn filled(value: Value, default: &Value) -> Value {
    match (value, default) {
        (Value::Object(mut fields), Value::Object(defaults)) => {
            for (key, same) in defaults {
                let field = match fields.remove(key) {
                    Some(field) => filled(field, same),
                    None => same.clone(),
                };
                fields.insert(key.clone(), field);
            }
            Value::Object(fields)
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Argv, Empty};

    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn place(name: &str) -> Place {
        let folder = format!("skep-ledger-{name}-{}", std::process::id());
        let place = Place(std::env::temp_dir().join(folder));
        let _ = std::fs::remove_dir_all(&place.0);
        place
    }

    fn record(id: &str, name: &str) -> Record {
        let mut record = Record {
            id: id.into(),
            name: name.into(),
            ..Record::default()
        };
        record.create.config.cmd = Some(Argv(vec!["sleep".into(), "1d".into()]));
        record
            .create
            .config
            .exposed_ports
            .insert("80/tcp".into(), Empty {});
        record.create.host.memory = 5;
        record.create.host.init = Some(false);
        record
    }

    fn names(records: &Inherited) -> Vec<String> {
        let name = |record: &Result<Record>| record.as_ref().expect("is read").name.clone();
        records.values().map(name).collect()
    }

    #[test]
    fn the_last_entry_counts_and_nothing_of_it_is_lost() {
        let place = place("last");
        let (ledger, none) = Ledger::open(&place.0).expect("opens");
        assert!(none.is_empty());
        for (id, name) in [("aa", "old"), ("bb", "gone"), ("aa", "new")] {
            ledger
                .put(&record(id, name), Durability::Cached)
                .expect("keeps");
        }
        ledger.remove("bb", Durability::Synced).expect("forgets");
        let (_, found) = Ledger::open(&place.0).expect("opens again");
        assert_eq!(names(&found), ["new"]);
        let json = |record: &Record| serde_json::to_value(record).expect("is JSON");
        assert_eq!(
            json(found["aa"].as_ref().expect("is read")),
            json(&record("aa", "new"))
        );
    }

    #[test]
    fn entries_are_small_and_the_file_does_not_grow_for_ever() {
        let place = place("small");
        let (ledger, _) = Ledger::open(&place.0).expect("opens");
        for round in 0..2000 {
            let id = format!("{:064}", round % 3);
            ledger
                .put(&record(&id, &format!("n{round}")), Durability::Cached)
                .expect("keeps");
        }
        let size = std::fs::metadata(place.0.join("log")).expect("is there");
        assert!(
            size.len() <= 2 * COMPACT_FLOOR_BYTES,
            "{} bytes",
            size.len()
        );
        let (_, found) = Ledger::open(&place.0).expect("opens again");
        assert_eq!(names(&found), ["n1998", "n1999", "n1997"]);
    }

    #[test]
    fn what_follows_a_hole_is_dropped_and_what_comes_before_it_stays() {
        for (hole, kept) in [(false, 3), (true, 1)] {
            let place = place(&format!("hole-{hole}"));
            let (ledger, _) = Ledger::open(&place.0).expect("opens");
            let mut ends = Vec::new();
            for id in ["aa", "bb", "cc"] {
                ledger
                    .put(&record(id, id), Durability::Synced)
                    .expect("keeps");
                let inner = ledger.inner.lock().expect("no test panics");
                ends.push(inner.journal.len() as usize);
            }
            let path = place.0.join("log");
            let mut bytes = std::fs::read(&path).expect("reads");
            if hole {
                bytes[ends[0]..ends[1]].fill(0);
            } else {
                bytes[ends[2]..ends[2] + 40].fill(7);
            }
            std::fs::write(&path, bytes).expect("writes");
            let (ledger, found) = Ledger::open(&place.0).expect("opens again");
            assert_eq!(found.len(), kept);
            ledger
                .put(&record("dd", "dd"), Durability::Cached)
                .expect("goes on");
            let (_, found) = Ledger::open(&place.0).expect("opens once more");
            assert_eq!(found.len(), kept + 1);
        }
    }
}
