//! Addresses of one subnet: given, kept, given back. Pure.
//!
//! Invariant: an address is never given twice while it is held, and the one
//! given back last is the last to be given again, so that a peer's stale
//! cache does not meet a stranger. Nothing is written down: the containers'
//! records say which addresses are held.

use super::nft::Prefix;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses looked at in search of a free one: more than any bridge carries
/// ports (1024), so that a full range is told after a bounded walk.
const WALK_MAX: u128 = 1 << 17;

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

impl Prefix {
    /// `10.0.0.0/24`; host bits are kept as they are.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= bits(address)).then_some(Self { address, length })
    }

    /// The block itself, host bits zero.
    pub(super) fn block(self) -> Self {
        Self {
            address: address(number(self.address) & !self.host_mask(), self.address),
            length: self.length,
        }
    }

    fn host_mask(self) -> u128 {
        match bits(self.address) - self.length {
            128 => u128::MAX,
            host => (1 << host) - 1,
        }
    }

    pub(super) fn first(self) -> u128 {
        number(self.address) & !self.host_mask()
    }

    pub(super) fn last(self) -> u128 {
        number(self.address) | self.host_mask()
    }

    pub(super) fn contains(self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4()
            && (self.first()..=self.last()).contains(&number(other))
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.first() <= other.last()
            && other.first() <= self.last()
    }

    /// The address that far from the block's first.
    pub(super) fn at(self, offset: u128) -> IpAddr {
        address(self.first() + offset, self.address)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    subnet: Prefix,
    /// Where addresses nobody asked for by number come from.
    range: Prefix,
    held: BTreeSet<u128>,
    /// The address after the one given last.
    next: u128,
}

impl Pool {
    /// `taken`: the gateway and the auxiliary addresses, never given.
    pub(super) fn new(subnet: Prefix, range: Option<Prefix>, taken: &[IpAddr]) -> Self {
        let subnet = subnet.block();
        let range = range.map_or(subnet, Prefix::block);
        Self {
            subnet,
            range,
            held: taken.iter().map(|address| number(*address)).collect(),
            next: range.first(),
        }
    }

    pub(super) fn subnet(&self) -> Prefix {
        self.subnet
    }

    /// The next free address.
    pub(super) fn take(&mut self) -> Result<IpAddr> {
        // A subnet's first address names it and, in IPv4, its last one is the
        // broadcast; a block of two or one has neither.
        let tiny = bits(self.subnet.address) - self.subnet.length <= 1;
        let mut low = self.range.first();
        let mut high = self.range.last();
        if !tiny {
            low = low.max(self.subnet.first() + 1);
            let reserved = u128::from(self.subnet.address.is_ipv4());
            high = high.min(self.subnet.last() - reserved);
        }
        if low > high {
            return Err(self.full());
        }
        let span = (high - low).saturating_add(1);
        let start = self.next.clamp(low, high);
        for step in 0..span.min(WALK_MAX) {
            let candidate = low + (start - low + step) % span;
            if self.held.insert(candidate) {
                self.next = candidate + 1;
                if self.next > high {
                    self.next = low;
                }
                return Ok(address(candidate, self.subnet.address));
            }
        }
        Err(self.full())
    }

    fn full(&self) -> Error {
        Error::internal(format!(
            "no available IPv{} addresses on this network's address pools: {}",
            if self.subnet.address.is_ipv4() { 4 } else { 6 },
            self.range
        ))
    }

    /// This very address, as the user asked.
    pub(super) fn claim(&mut self, wanted: IpAddr) -> Result<()> {
        if !self.subnet.contains(wanted) {
            return Err(Error::invalid(format!(
                "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {wanted}"
            )));
        }
        if self.held.insert(number(wanted)) {
            Ok(())
        } else {
            Err(Error::forbidden("Address already in use"))
        }
    }

    /// A container that lives holds it: after an agent's restart.
    pub(super) fn hold(&mut self, held: IpAddr) {
        if self.subnet.contains(held) && self.held.insert(number(held)) {
            self.next = self.next.max(number(held) + 1);
        }
    }

    pub(super) fn give_back(&mut self, address: IpAddr) {
        self.held.remove(&number(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::parse(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_given_back_comes_last() {
        let mut pool = Pool::new(prefix("10.0.0.0/29"), None, &[ip("10.0.0.1")]);
        let all: Vec<_> = (0..5).map(|_| pool.take().unwrap().to_string()).collect();
        assert_eq!(
            all,
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        assert!(pool.take().is_err(), "broadcast and subnet are never given");
        pool.give_back(ip("10.0.0.4"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.4"));
        pool.give_back(ip("10.0.0.2"));
        pool.give_back(ip("10.0.0.6"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.6"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.2"));
    }

    #[test]
    fn a_range_bounds_what_is_chosen_but_not_what_is_asked_for() {
        let mut pool = Pool::new(prefix("10.0.0.0/24"), Some(prefix("10.0.0.128/30")), &[]);
        assert_eq!(pool.take().unwrap(), ip("10.0.0.128"));
        assert!(pool.claim(ip("10.0.0.7")).is_ok());
        assert!(pool.claim(ip("10.0.0.7")).is_err());
        assert!(pool.claim(ip("10.0.1.7")).is_err());
    }

    #[test]
    fn after_a_restart_held_addresses_are_not_given() {
        let mut pool = Pool::new(prefix("10.0.0.0/24"), None, &[ip("10.0.0.1")]);
        pool.hold(ip("10.0.0.2"));
        pool.hold(ip("10.0.0.9"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.10"));
    }

    #[test]
    fn a_large_ipv6_subnet_and_whole_ranges_do_not_overflow() {
        let mut pool = Pool::new(prefix("fd00::/64"), None, &[ip("fd00::1")]);
        assert_eq!(pool.take().unwrap(), ip("fd00::2"));
        let mut all = Pool::new(prefix("::/0"), None, &[]);
        assert_eq!(all.take().unwrap(), ip("::1"));
        let mut v4 = Pool::new(prefix("0.0.0.0/0"), None, &[]);
        assert_eq!(v4.take().unwrap(), ip("0.0.0.1"));
        let mut one = Pool::new(prefix("10.0.0.0/31"), None, &[]);
        assert_eq!(one.take().unwrap(), ip("10.0.0.0"));
    }

    #[test]
    fn blocks_compare_by_their_ends() {
        assert!(prefix("10.0.0.0/8").overlaps(prefix("10.9.0.0/16")));
        assert!(!prefix("10.0.0.0/16").overlaps(prefix("10.1.0.0/16")));
        assert!(!prefix("::/0").overlaps(prefix("0.0.0.0/0")));
        assert_eq!(prefix("10.1.2.3/16").block().to_string(), "10.1.0.0/16");
        assert_eq!(Prefix::parse("10.0.0.0/33"), None);
        assert_eq!(Prefix::parse("10.0.0.0"), None);
    }
}
