//! Where this node listens, and where others find it.
//!
//! Owns `DATA/node/place`: what `swarm init` or `swarm join` was told, kept as
//! long as the membership. Invariant: an address that the operator gave and
//! that is none of this machine's (a router forwards it) is never changed;
//! any other follows the machine to another network.

use super::super::{Flags, address};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What Docker's client always sends unless it is told otherwise: no wish.
const LISTEN_DEFAULT: &str = "0.0.0.0:2377";

/// What was wished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The one UDP port.
    pub(super) listen: SocketAddr,
    /// Where others reach this node, as of now.
    pub(super) addr: SocketAddr,
    /// An interface that leads, when one was named.
    interface: Option<String>,
    /// Not to be changed.
    is_fixed: bool,
}

impl Place {
    /// Of a request's wishes, empty ones being the flags' to say. `towards`
    /// is somebody that is to be reached from there.
    ///
    /// # Errors
    /// When a wish is no address and no interface.
    pub(super) fn of(
        listen: &str,
        advertise: &str,
        flags: &Flags,
        towards: Option<SocketAddr>,
    ) -> Result<Self> {
        let listen = listening(listen, flags.listen)?;
        let port = listen.port();
        if advertise.is_empty() {
            let own = flags.advertise_addr.or_else(|| specific(listen.ip()));
            let found = own.or_else(|| towards.and_then(address::towards));
            let ip = found.unwrap_or_else(address::best);
            return Ok(Self {
                listen,
                addr: SocketAddr::new(ip, port),
                interface: None,
                is_fixed: own.is_some(),
            });
        }
        let wish = address::wished(advertise, port)?;
        Ok(Self {
            listen,
            addr: wish.addr,
            is_fixed: wish.interface.is_none() && !address::is_own(wish.addr.ip()),
            interface: wish.interface,
        })
    }

    /// Of which nothing more is known.
    pub(super) fn at(listen: SocketAddr, addr: SocketAddr) -> Self {
        Self {
            listen,
            addr,
            interface: None,
            is_fixed: false,
        }
    }

    /// Where others find this node now, if that is not where it was.
    pub(super) fn moved(&self) -> Option<Self> {
        if self.is_fixed || address::is_own(self.addr.ip()) {
            return None;
        }
        let of_interface = self.interface.as_deref().and_then(address::of_interface);
        // Nowhere to be found now: the cable is out, and the old address is
        // as good as any.
        let ip = of_interface.or_else(address::outward)?;
        Some(Self {
            addr: SocketAddr::new(ip, self.addr.port()),
            ..self.clone()
        })
    }

    pub(super) fn load(data_dir: &Path) -> Result<Option<Self>> {
        disk::read_record(&path(data_dir))
    }

    /// Durable when it returns.
    pub(super) fn save(&self, data_dir: &Path) -> Result<()> {
        disk::write_record(&path(data_dir), self, Durability::Synced)
    }

    pub(super) fn forget(data_dir: &Path) {
        // It says nothing without the membership.
        let _ = std::fs::remove_file(path(data_dir));
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("place")
}

fn specific(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

/// `IP`, `IP:PORT` or an interface, either of them.
fn listening(wish: &str, default: SocketAddr) -> Result<SocketAddr> {
    if wish.is_empty() || wish == LISTEN_DEFAULT {
        return Ok(default);
    }
    let wished = address::wished(wish, default.port())
        .map_err(|e| Error::invalid(format!("listen address must be an IP address or network interface (with optional port number): {e}")))?;
    Ok(wished.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn of(flags: &[&str], listen: &str, advertise: &str) -> Place {
        let flags = Flags::try_parse_from([&["agent"], flags].concat()).expect("valid");
        Place::of(listen, advertise, &flags, None).expect("a place")
    }

    #[test]
    fn the_clients_default_is_no_wish() {
        let flags = ["--listen", "127.0.0.1:7000"];
        let place = of(&flags, LISTEN_DEFAULT, "");
        assert_eq!(place.listen.to_string(), "127.0.0.1:7000");
        assert_eq!(place.addr.to_string(), "127.0.0.1:7000");
        assert_eq!(of(&flags, "0.0.0.0:9", "").listen.to_string(), "0.0.0.0:9");
        assert_eq!(
            of(&flags, "127.0.0.2", "").listen.to_string(),
            "127.0.0.2:7000"
        );
    }

    #[test]
    fn what_a_router_forwards_stays() {
        let forwarded = of(&[], "", "203.0.113.9:99");
        assert_eq!(forwarded.addr.to_string(), "203.0.113.9:99");
        assert_eq!(forwarded.moved(), None);
        assert_eq!(of(&[], "", "127.0.0.1").moved(), None, "it is there");
        let gone = Place {
            addr: "203.0.113.9:99".parse().expect("an address"),
            interface: Some("lo".into()),
            ..of(&[], "", "127.0.0.1")
        };
        let moved = gone.moved().expect("it is not there");
        assert_eq!(moved.addr.to_string(), "127.0.0.1:99");
    }
}
