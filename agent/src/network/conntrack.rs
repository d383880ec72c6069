//! Flows that the kernel remembers: forgotten when who answered them is gone.
//!
//! Invariant: only flows that one of the named addresses takes part in are
//! touched. Without this a UDP client that keeps its source port would be led
//! to a dead container for as long as it keeps sending.

use super::netlink::{Attributes, Conversation, Message, attribute};
use super::nft::Protocol;
use crate::error::Result;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// nfnetlink's subsystem number, in the high byte of a message's kind.
const CONNTRACK: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCE_V4: u16 = 1;
const SOURCE_V6: u16 = 3;
const PROTOCOL_NUMBER: u16 = 1;
const FLOW_ID: u16 = 12;

/// Forgets the flows of these addresses; with `only`, those of one protocol.
pub(super) fn forget(addresses: &BTreeSet<IpAddr>, only: Option<Protocol>) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    const NETLINK_NETFILTER: isize = 12;
    let mut conversation = Conversation::open(NETLINK_NETFILTER)?;
    let families = addresses.iter().map(|address| match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    });
    for family in families.collect::<BTreeSet<u8>>() {
        let request = message(GET, family, Attributes::default());
        let flows = conversation.dump(&request)?;
        let gone: Vec<Message> = flows
            .iter()
            .filter_map(|(_, payload)| payload.get(4..))
            .filter(|flow| concerns(flow, addresses, only))
            .filter_map(|flow| deletion(flow, family))
            .collect();
        if !gone.is_empty() {
            // A flow that ended meanwhile is refused: as wanted.
            conversation.send(&gone)?;
        }
    }
    Ok(())
}

fn message(kind: u16, family: u8, attributes: Attributes) -> Message {
    let mut payload = vec![family, 0, 0, 0];
    payload.extend(attributes.into_bytes());
    Message {
        kind: CONNTRACK << 8 | kind,
        flags: 0,
        payload,
    }
}

/// One of the addresses asked or answered.
fn concerns(flow: &[u8], addresses: &BTreeSet<IpAddr>, only: Option<Protocol>) -> bool {
    let tuples = [TUPLE_ORIGINAL, TUPLE_REPLY].map(|kind| attribute(flow, kind));
    let named = tuples
        .iter()
        .flatten()
        .filter_map(|tuple| source(tuple))
        .any(|source| addresses.contains(&source));
    let protocol = tuples
        .first()
        .copied()
        .flatten()
        .and_then(|tuple| attribute(tuple, TUPLE_PROTOCOL))
        .and_then(|protocol| attribute(protocol, PROTOCOL_NUMBER))
        .and_then(|number| number.first().copied());
    named && only.is_none_or(|only| protocol == Some(only.number()))
}

fn source(tuple: &[u8]) -> Option<IpAddr> {
    let addresses = attribute(tuple, TUPLE_ADDRESSES)?;
    if let Some(v4) = attribute(addresses, SOURCE_V4) {
        let octets: [u8; 4] = v4.try_into().ok()?;
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let octets: [u8; 16] = attribute(addresses, SOURCE_V6)?.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)))
}

/// Names the flow by its original direction and its id, so that a new flow
/// with the same addresses is never the one that goes.
fn deletion(flow: &[u8], family: u8) -> Option<Message> {
    const NESTED: u16 = 0x8000;
    let original = attribute(flow, TUPLE_ORIGINAL)?;
    let mut attributes = Attributes::default().bytes(TUPLE_ORIGINAL | NESTED, original);
    if let Some(id) = attribute(flow, FLOW_ID) {
        attributes = attributes.bytes(FLOW_ID, id);
    }
    Some(message(DELETE, family, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: [u8; 4], protocol: u8) -> Attributes {
        Attributes::default()
            .nest(
                TUPLE_ADDRESSES,
                Attributes::default().bytes(SOURCE_V4, &source),
            )
            .nest(
                TUPLE_PROTOCOL,
                Attributes::default().bytes(PROTOCOL_NUMBER, &[protocol]),
            )
    }

    #[test]
    fn only_flows_of_the_named_are_chosen() {
        let flow = Attributes::default()
            .nest(TUPLE_ORIGINAL, tuple([192, 0, 2, 1], 17))
            .nest(TUPLE_REPLY, tuple([10, 0, 0, 2], 17))
            .into_bytes();
        let of = |text: &str| BTreeSet::from([text.parse::<IpAddr>().unwrap()]);
        assert!(concerns(&flow, &of("10.0.0.2"), None));
        assert!(concerns(&flow, &of("10.0.0.2"), Some(Protocol::Udp)));
        assert!(!concerns(&flow, &of("10.0.0.2"), Some(Protocol::Tcp)));
        assert!(!concerns(&flow, &of("10.0.0.3"), None));
        assert!(deletion(&flow, 2).is_some());
        for end in 0..flow.len() {
            concerns(&flow[..end], &of("10.0.0.2"), None);
        }
    }
}
