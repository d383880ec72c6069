//! Small files that are whole or absent, never half.
//!
//! Owns the way a record gets to disk: a header line with version and
//! checksum, a temporary file beside the target, a rename. What the record
//! says is its user's business.

use crate::error::{Error, Result};
use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives a power cut that comes after the call returned.
    Synced,
    /// It survives this process; a power cut may lose it, and then the older
    /// version or nothing is there. For what can be made again.
    Cached,
}

/// First word of every record; the number is the format's version.
const MAGIC: &str = "skep-record-1";
/// Largest record accepted, bytes: a container's request is limited to 4 MiB
/// by the API, so that anything larger is not ours.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Mode of records: environments may hold secrets.
const RECORD_MODE: u32 = 0o600;

/// Puts `bytes` at `path` in one step.
pub(crate) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let staged = path.with_extension("new");
    let written = stage(&staged, bytes, durability)
        .and_then(|()| fs::rename(&staged, path))
        .and_then(|()| match (durability, path.parent()) {
            (Durability::Synced, Some(folder)) => sync_folder(folder),
            _ => Ok(()),
        });
    if written.is_err() {
        // Nothing half-made stays; a leftover would only waste the space that
        // may just have run out.
        let _ = fs::remove_file(&staged);
    }
    written.map_err(|e| failure("write", path, &e))
}

fn stage(staged: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(RECORD_MODE)
        .open(staged)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    Ok(())
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Puts a record at `path` in one step.
pub(crate) fn write_record<T: Serialize>(
    path: &Path,
    record: &T,
    durability: Durability,
) -> Result<()> {
    write(path, &encode(record)?, durability)
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(record).map_err(|e| Error::internal(format!("record: {e}")))?;
    let mut bytes = format!("{MAGIC} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The record at `path`; `None` when there is none. A damaged one is an error
/// that names the file.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failure("read", path, &e)),
    };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| failure("read", path, &e))?;
    decode(&bytes)
        .map(Some)
        .map_err(|why| Error::internal(format!("{}: {why}", path.display())))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (header, body) = bytes.split_at(end.ok_or("damaged record: no header")?);
    let body = body.get(1..).unwrap_or_default();
    let header = std::str::from_utf8(header).map_err(|_| "damaged record: bad header")?;
    let (magic, sum) = header.split_once(' ').ok_or("damaged record: bad header")?;
    if magic != MAGIC {
        return Err(format!(
            "unknown record format {magic:?}, expected {MAGIC:?}"
        ));
    }
    if u32::from_str_radix(sum, 16).ok() != Some(crc32c::crc32c(body)) {
        return Err("damaged record: checksum does not match".into());
    }
    serde_json::from_slice(body).map_err(|e| format!("damaged record: {e}"))
}

/// An input or output error in the words that Docker's daemon would use.
pub(crate) fn failure(action: &str, path: &Path, error: &io::Error) -> Error {
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => "no space left on device".to_owned(),
        Some(Errno::DQUOT) => "disk quota exceeded".to_owned(),
        Some(Errno::ROFS) => "read-only file system".to_owned(),
        _ => error.to_string(),
    };
    Error::internal(format!("{action} {}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let bytes = encode(&vec!["a", "b"]).expect("strings have a JSON form");
        assert_eq!(
            decode::<Vec<String>>(&bytes),
            Ok(vec!["a".into(), "b".into()])
        );
    }

    #[test]
    fn every_torn_or_flipped_record_is_told() {
        let bytes = encode(&vec!["one", "two"]).expect("strings have a JSON form");
        for cut in 0..bytes.len() {
            assert!(
                decode::<Vec<String>>(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x11;
            assert!(decode::<Vec<String>>(&bad).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn full_disk_has_dockers_words() {
        let error = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        let told = failure("write", Path::new("/d/x"), &error);
        assert_eq!(told.message, "write /d/x: no space left on device");
    }

    #[test]
    fn write_replaces_whole_and_leaves_no_staging() {
        let folder = std::env::temp_dir().join(format!("skep-disk-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join("record");
        for text in ["first", "second"] {
            write_record(&path, &text, Durability::Synced).expect("writes");
        }
        assert_eq!(
            read_record::<String>(&path).expect("reads"),
            Some("second".into())
        );
        assert_eq!(fs::read_dir(&folder).expect("lists").count(), 1);
        assert!(write(&folder.join("no/such"), b"x", Durability::Cached).is_err());
        let _ = fs::remove_dir_all(&folder);
    }
}
