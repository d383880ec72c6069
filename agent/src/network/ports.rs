//! Ports of the node: who has which.
//!
//! Invariant: a published port is held by a bound socket of ours for as long
//! as it is published, so that neither a process of the host nor a second
//! container can take it unnoticed. Nothing ever listens on that socket: the
//! packets are redirected before they could reach it.

use super::nft::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

/// Where ports come from that nobody asked for by number.
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// Why a port cannot be had, in Docker's words.
pub(super) type Refusal = String;

struct Held {
    owner: String,
    protocol: Protocol,
    host: IpAddr,
    port: u16,
    /// `None`: a protocol that this kernel has no sockets for.
    _socket: Option<OwnedFd>,
}

pub(super) struct Ports {
    held: Vec<Held>,
    /// The next ephemeral port to try.
    next: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            next: *EPHEMERAL.start(),
        }
    }
}

impl Ports {
    /// Takes the first free port of the range on all of `hosts` alike; `None`
    /// is any port.
    pub(super) fn take(
        &mut self,
        owner: &str,
        protocol: Protocol,
        hosts: &[IpAddr],
        range: Option<RangeInclusive<u16>>,
    ) -> Result<u16, Refusal> {
        let Some(range) = range else {
            return self.take_ephemeral(owner, protocol, hosts);
        };
        let mut last = Refusal::new();
        for port in range {
            match self.take_exactly(owner, protocol, hosts, port) {
                Ok(()) => return Ok(port),
                Err(refusal) => last = refusal,
            }
        }
        Err(last)
    }

    fn take_ephemeral(
        &mut self,
        owner: &str,
        protocol: Protocol,
        hosts: &[IpAddr],
    ) -> Result<u16, Refusal> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = match port {
                port if port >= *EPHEMERAL.end() => *EPHEMERAL.start(),
                port => port + 1,
            };
            if self.take_exactly(owner, protocol, hosts, port).is_ok() {
                return Ok(port);
            }
        }
        Err("all ports are allocated".into())
    }

    fn take_exactly(
        &mut self,
        owner: &str,
        protocol: Protocol,
        hosts: &[IpAddr],
        port: u16,
    ) -> Result<(), Refusal> {
        let mut taken = Vec::new();
        for host in hosts {
            let collides = |held: &Held| {
                held.protocol == protocol
                    && held.port == port
                    && held.host.is_ipv4() == host.is_ipv4()
                    && (held.host == *host || held.host.is_unspecified() || host.is_unspecified())
            };
            if self.held.iter().any(collides) {
                return Err(format!(
                    "Bind for {} failed: port is already allocated",
                    SocketAddr::new(*host, port)
                ));
            }
            taken.push(Held {
                owner: owner.to_owned(),
                protocol,
                host: *host,
                port,
                _socket: bind(protocol, *host, port)?,
            });
        }
        self.held.extend(taken);
        Ok(())
    }

    /// Whether the owner has this port on any address.
    pub(super) fn has(&self, owner: &str, protocol: Protocol, port: u16) -> bool {
        self.held
            .iter()
            .any(|held| held.owner == owner && held.protocol == protocol && held.port == port)
    }

    /// The same, on this very address.
    pub(super) fn holds(&self, owner: &str, protocol: Protocol, host: IpAddr, port: u16) -> bool {
        let mut held = self.held.iter();
        held.any(|held| {
            held.owner == owner
                && held.protocol == protocol
                && held.host == host
                && held.port == port
        })
    }

    /// Gives back all of the owner's ports that `keep` does not want.
    pub(super) fn release(&mut self, owner: &str, keep: impl Fn(Protocol, u16) -> bool) {
        self.held
            .retain(|held| held.owner != owner || keep(held.protocol, held.port));
    }

    /// Gives back the ports of all owners that `keep` does not know.
    pub(super) fn release_owners(&mut self, keep: impl Fn(&str) -> bool) {
        self.held.retain(|held| keep(&held.owner));
    }
}

fn bind(protocol: Protocol, host: IpAddr, port: u16) -> Result<Option<OwnedFd>, Refusal> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(None),
    };
    let (family, version) = match host {
        IpAddr::V4(_) => (AddressFamily::INET, 4),
        IpAddr::V6(_) => (AddressFamily::INET6, 6),
    };
    let address = SocketAddr::new(host, port);
    let bound = || -> rustix::io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if host.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        Ok(socket)
    };
    bound().map(Some).map_err(|errno| {
        let reason = match errno {
            rustix::io::Errno::ADDRINUSE => "address already in use".to_owned(),
            rustix::io::Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
            rustix::io::Errno::ACCESS => "permission denied".to_owned(),
            other => other.to_string(),
        };
        format!(
            "listen {}{version} {address}: bind: {reason}",
            protocol.as_str()
        )
    })
}

/// `8000`, `8000-8010`; empty and `0` are any. `None`: it is neither.
pub(super) fn parse_range(text: &str) -> Option<Option<RangeInclusive<u16>>> {
    if text.is_empty() || text == "0" {
        return Some(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first != 0 && first <= last).then_some(Some(first..=last))
}

/// `80/tcp`, `80`: a container's port.
pub(super) fn parse_port(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some((port, Protocol::parse(protocol)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_has_one_owner_until_it_is_given_back() {
        let mut ports = Ports::default();
        let port = ports.take("a", Protocol::Tcp, &[LOOPBACK], None).unwrap();
        let wanted = Some(port..=port);
        let refusal = ports.take("b", Protocol::Tcp, &[LOOPBACK], wanted.clone());
        assert_eq!(
            refusal.unwrap_err(),
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
        );
        assert!(TcpListener::bind((LOOPBACK, port)).is_err());
        assert!(ports.has("a", Protocol::Tcp, port));
        ports.release("a", |_, _| false);
        assert!(ports.take("b", Protocol::Tcp, &[LOOPBACK], wanted).is_ok());
    }

    #[test]
    fn a_listening_process_is_told_from_another_container() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut ports = Ports::default();
        let refusal = ports.take("a", Protocol::Tcp, &[ANY], Some(port..=port));
        assert_eq!(
            refusal.unwrap_err(),
            format!("listen tcp4 0.0.0.0:{port}: bind: address already in use")
        );
        let next = ports.take("a", Protocol::Tcp, &[ANY], Some(port..=port + 20));
        assert!(
            next.unwrap() > port,
            "the range goes on behind a taken port"
        );
    }

    #[test]
    fn ports_are_read_as_docker_writes_them() {
        assert_eq!(parse_range(""), Some(None));
        assert_eq!(parse_range("80"), Some(Some(80..=80)));
        assert_eq!(parse_range("80-82"), Some(Some(80..=82)));
        for bad in ["x", "82-80", "70000", "1-", "-1"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        assert_eq!(parse_port("53/udp"), Some((53, Protocol::Udp)));
        assert_eq!(parse_port("80"), Some((80, Protocol::Tcp)));
        assert_eq!(parse_port("0/tcp"), None);
        assert_eq!(parse_port("80/icmp"), None);
    }
}
