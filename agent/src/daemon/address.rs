//! Under which address other nodes reach this one.

use super::Flags;
use crate::error::{Error, Result};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Interfaces and their addresses looked at: a node with more has bridges for
/// every container.
const ADDRESSES_MAX: usize = 4096;
/// An address in a range for documentation: the way there is the default
/// route's, and no packet is ever sent.
const FAR_AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 1), 9);

/// What `swarm init` advertises: `wish` is an address, an interface, either
/// with a port, or empty for the flag's or the one that leads out.
pub(super) fn advertised(wish: &str, flags: &Flags) -> Result<String> {
    let port = flags.listen.port();
    if wish.is_empty() {
        let own = flags.advertise_addr.or_else(|| specific(flags.listen.ip()));
        let ip = own
            .or_else(leading_out)
            .or_else(first)
            .unwrap_or(Ipv4Addr::LOCALHOST.into());
        return Ok(SocketAddr::new(ip, port).to_string());
    }
    let (host, port) = split(wish, port);
    let ip = match host.parse() {
        Ok(ip) => ip,
        Err(_) => of_interface(host).ok_or_else(|| {
            Error::invalid(format!(
                "interface {host} not found, and it is no IP address"
            ))
        })?,
    };
    Ok(SocketAddr::new(ip, port).to_string())
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

fn specific(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

fn leading_out() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(FAR_AWAY).ok()?;
    specific(socket.local_addr().ok()?.ip())
}

fn first() -> Option<IpAddr> {
    let all = addresses();
    let mut usable = all.iter().map(|(_, ip)| *ip).filter(|ip| !ip.is_loopback());
    usable.find(IpAddr::is_ipv4)
}

fn of_interface(name: &str) -> Option<IpAddr> {
    let mut all = addresses();
    all.retain(|(interface, _)| interface == name);
    all.sort_by_key(|(_, ip)| ip.is_ipv6());
    all.first().map(|(_, ip)| *ip)
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
    use clap::Parser as _;

    #[test]
    fn a_wish_may_have_a_port_or_be_an_interface() {
        let flags = Flags::try_parse_from(["agent"]).expect("no flag is required");
        let of = |wish: &str| advertised(wish, &flags).expect(wish);
        assert_eq!(of("10.1.2.3"), "10.1.2.3:2377");
        assert_eq!(of("10.1.2.3:99"), "10.1.2.3:99");
        assert_eq!(of("fd00::1"), "[fd00::1]:2377");
        assert_eq!(of("[fd00::1]:5"), "[fd00::1]:5");
        assert!(advertised("no-such-interface", &flags).is_err());
    }

    #[test]
    fn flags_come_before_guesses() {
        let flags = [
            "agent",
            "--advertise-addr",
            "10.9.9.9",
            "--listen",
            "0.0.0.0:7000",
        ];
        let flags = Flags::try_parse_from(flags).expect("are valid");
        assert_eq!(advertised("", &flags).expect("is given"), "10.9.9.9:7000");
    }
}
