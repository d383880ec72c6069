//! The node's own resolvers, as they are now: a board gets them from its LAN
//! long after its first container has started, and other ones when it moves.

use crate::network::files::Resolvers;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

const DNS_PORT: u16 = 53;

/// A resolv.conf, read again when it has changed.
#[derive(Debug, Default)]
pub(in crate::network) struct NodeResolvers {
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// `None`: not looked at, or not there.
    changed: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl NodeResolvers {
    pub(in crate::network) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Vec<SocketAddr> {
        let changed = std::fs::metadata(&self.path)
            .and_then(|m| m.modified())
            .ok();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_none() || seen.changed != changed {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *seen = Seen {
                changed,
                servers: servers(&Resolvers::parse(&text).servers),
            };
        }
        seen.servers.clone()
    }
}

/// Those that are addresses.
pub(in crate::network) fn servers(texts: &[String]) -> Vec<SocketAddr> {
    let addresses = texts.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    addresses
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_when_it_has_changed() {
        let name = format!("skep-resolv-{}", crate::network::random_hex::<6>());
        let path = std::env::temp_dir().join(name);
        let resolvers = NodeResolvers::new(path.clone());
        assert!(resolvers.now().is_empty());
        std::fs::write(&path, "nameserver 192.0.2.53\nnameserver bad\n").unwrap();
        assert_eq!(resolvers.now(), ["192.0.2.53:53".parse().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert!(resolvers.now().is_empty());
    }
}
