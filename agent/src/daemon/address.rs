//! Which addresses this machine has, and which one leads where.

use crate::error::{Error, Result};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};

/// Interfaces and their addresses looked at: a node with more has bridges for
/// every container.
const ADDRESSES_MAX: usize = 4096;
/// An address in a range for documentation: the way there is the default
/// route's, and no packet is ever sent.
const FAR_AWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 9);

/// An address that somebody named.
pub(super) struct Wished {
    pub(super) addr: SocketAddr,
    /// The interface that it was named by.
    pub(super) interface: Option<String>,
}

/// Reads an address or an interface, either with a port or without.
///
/// # Errors
/// When it is neither.
pub(super) fn wished(wish: &str, port: u16) -> Result<Wished> {
    let (host, port) = split(wish, port);
    let (ip, interface) = match host.parse() {
        Ok(ip) => (ip, None),
        Err(_) => {
            let ip = of_interface(host).ok_or_else(|| {
                let message = format!("interface {host} not found, and it is no IP address");
                Error::invalid(message)
            })?;
            (ip, Some(host.to_owned()))
        }
    };
    Ok(Wished {
        addr: SocketAddr::new(ip, port),
        interface,
    })
}

fn split(wish: &str, default: u16) -> (&str, u16) {
    if wish.parse::<IpAddr>().is_ok() {
        return (wish, default);
    }
    match wish.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host.trim_matches(['[', ']']), port),
            Err(_) => (wish, default),
        },
        None => (wish, default),
    }
}

/// This machine's address as seen by `far`. No packet is sent.
pub(super) fn towards(far: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The address that leads out, else any that others may reach.
pub(super) fn outward() -> Option<IpAddr> {
    towards(FAR_AWAY.into()).or_else(|| {
        let all = addresses();
        let mut usable = all.iter().map(|(_, ip)| *ip).filter(|ip| !ip.is_loopback());
        usable.find(IpAddr::is_ipv4)
    })
}

/// The same, or at least itself.
pub(super) fn best() -> IpAddr {
    outward().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// The address of an interface.
pub(super) fn of_interface(name: &str) -> Option<IpAddr> {
    let mut all = addresses();
    all.retain(|(interface, _)| interface == name);
    all.sort_by_key(|(_, ip)| ip.is_ipv6());
    all.first().map(|(_, ip)| *ip)
}

/// Whether an interface of this machine has it.
pub(super) fn is_own(ip: IpAddr) -> bool {
    addresses().iter().any(|(_, own)| *own == ip)
}

/// Interfaces with their addresses.
fn addresses() -> Vec<(String, IpAddr)> {
    let mut found = Vec::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer that the call stores.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return found;
    }
    let mut next = list;
    while !next.is_null() && found.len() < ADDRESSES_MAX {
        // SAFETY: the list's entries are valid until it is freed below, and
        // `next` is one of them.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        if entry.ifa_addr.is_null() || entry.ifa_name.is_null() {
            continue;
        }
        // SAFETY: not null, and of the family that its first field names, for
        // which the kernel stores the whole structure.
        let ip = unsafe {
            match i32::from((*entry.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(
                        address.sin_addr.s_addr,
                    ))))
                }
                libc::AF_INET6 => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                    Some(IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)))
                }
                _ => None,
            }
        };
        // SAFETY: not null, and a string that ends, valid until the list is freed.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        if let Some(ip) = ip {
            found.push((name.to_string_lossy().into_owned(), ip));
        }
    }
    // SAFETY: `list` came from `getifaddrs` and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_may_have_a_port_or_be_an_interface() {
        let of = |wish: &str| wished(wish, 2377).expect(wish).addr.to_string();
        assert_eq!(of("10.1.2.3"), "10.1.2.3:2377");
        assert_eq!(of("10.1.2.3:99"), "10.1.2.3:99");
        assert_eq!(of("fd00::1"), "[fd00::1]:2377");
        assert_eq!(of("[fd00::1]:5"), "[fd00::1]:5");
        assert!(wished("no-such-interface", 1).is_err());
        let lo = wished("lo:7", 1).expect("every machine has it");
        assert_eq!(lo.interface.as_deref(), Some("lo"));
        assert!(is_own(lo.addr.ip()));
    }
}
