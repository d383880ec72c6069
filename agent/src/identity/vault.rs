//! Where the key to the consensus log lies.
//!
//! Owns `DATA/node/seal`: made at the first start, for root only. A card that
//! is lost with this file on it tells everything; one that lost the file alone
//! tells nothing, to its owner neither.

use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use skep_control::engine::{KEY_BYTES, LogKey};
use std::fs;
use std::path::Path;

/// Beside the node's log.
const FILE: &str = "seal";

/// What is on disk. Variants are only ever added at the end.
#[derive(Serialize, Deserialize)]
enum Stored {
    Plain([u8; KEY_BYTES]),
}

/// The key to the consensus log; a new one is made and durable when there is
/// none. `folder` is `DATA/node`. Blocks on the disk.
///
/// # Errors
/// When the file cannot be read, made or is damaged.
pub(crate) fn open(folder: &Path) -> Result<LogKey> {
    fs::create_dir_all(folder).map_err(|e| disk::failure("mkdir", folder, &e))?;
    let path = folder.join(FILE);
    if let Some(Stored::Plain(key)) = disk::read_record(&path)? {
        return Ok(LogKey::new(key));
    }
    let key = random()?;
    disk::write_record(&path, &Stored::Plain(key), Durability::Synced)?;
    Ok(LogKey::new(key))
}

/// From the operating system's source.
fn random() -> Result<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_for_root_only() {
        let name = format!("skep-vault-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let key = open(&folder.join("a")).unwrap();
        assert_eq!(open(&folder.join("a")).unwrap(), key);
        let mode = fs::metadata(folder.join("a").join(FILE))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(open(&folder.join("b")).unwrap() != key);
        fs::remove_dir_all(&folder).unwrap();
    }
}
