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
const DESTINATION_V4: u16 = 2;
const SOURCE_V6: u16 = 3;
const DESTINATION_V6: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const FLOW_ID: u16 = 12;

/// Which flows are meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flows<'a> {
    /// One of the addresses asked or answered, over this protocol.
    Of(&'a BTreeSet<IpAddr>, Option<Protocol>),
    /// UDP to one of these ports that was never led elsewhere.
    NotRedirected(&'a BTreeSet<u16>),
}

impl Flows<'_> {
    fn families(self) -> BTreeSet<u8> {
        const V4: u8 = libc::AF_INET as u8;
        const V6: u8 = libc::AF_INET6 as u8;
        match self {
            Self::Of(addresses, _) => addresses
                .iter()
                .map(|address| if address.is_ipv4() { V4 } else { V6 })
                .collect(),
            Self::NotRedirected(ports) if ports.is_empty() => BTreeSet::new(),
            Self::NotRedirected(_) => BTreeSet::from([V4, V6]),
        }
    }

    fn contain(self, flow: &Flow) -> bool {
        match self {
            Self::Of(addresses, only) => {
                let named = [flow.original.source, flow.reply.source];
                named.iter().any(|source| addresses.contains(source))
                    && only.is_none_or(|only| flow.original.protocol == only.number())
            }
            Self::NotRedirected(ports) => {
                flow.original.protocol == Protocol::Udp.number()
                    && ports.contains(&flow.original.destination_port)
                    && flow.original.destination == flow.reply.source
            }
        }
    }
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// 0 for protocols without ports.
    destination_port: u16,
}

struct Flow {
    original: Tuple,
    reply: Tuple,
}

/// Makes the kernel forget them.
pub(super) fn forget(flows: Flows<'_>) -> Result<()> {
    let families = flows.families();
    if families.is_empty() {
        return Ok(());
    }
    const NETLINK_NETFILTER: isize = 12;
    let mut conversation = Conversation::open(NETLINK_NETFILTER)?;
    for family in families {
        let request = message(GET, family, Attributes::default());
        let gone: Vec<Message> = conversation
            .dump(&request)?
            .iter()
            .filter_map(|(_, payload)| payload.get(4..))
            .filter(|bytes| parse(bytes).is_some_and(|flow| flows.contain(&flow)))
            .filter_map(|bytes| deletion(bytes, family))
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

fn parse(bytes: &[u8]) -> Option<Flow> {
    Some(Flow {
        original: tuple(attribute(bytes, TUPLE_ORIGINAL)?)?,
        reply: tuple(attribute(bytes, TUPLE_REPLY)?)?,
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = attribute(bytes, TUPLE_ADDRESSES)?;
    let protocol = attribute(bytes, TUPLE_PROTOCOL)?;
    let port = attribute(protocol, DESTINATION_PORT).and_then(|port| port.try_into().ok());
    Some(Tuple {
        source: address(addresses, SOURCE_V4, SOURCE_V6)?,
        destination: address(addresses, DESTINATION_V4, DESTINATION_V6)?,
        protocol: *attribute(protocol, PROTOCOL_NUMBER)?.first()?,
        destination_port: port.map_or(0, u16::from_be_bytes),
    })
}

fn address(bytes: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(octets) = attribute(bytes, v4) {
        let octets: [u8; 4] = octets.try_into().ok()?;
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let octets: [u8; 16] = attribute(bytes, v6)?.try_into().ok()?;
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

    fn tuple(from: [u8; 4], to: [u8; 4], port: u16) -> Attributes {
        let addresses = Attributes::default()
            .bytes(SOURCE_V4, &from)
            .bytes(DESTINATION_V4, &to);
        let protocol = Attributes::default()
            .bytes(PROTOCOL_NUMBER, &[17])
            .bytes(DESTINATION_PORT, &port.to_be_bytes());
        Attributes::default()
            .nest(TUPLE_ADDRESSES, addresses)
            .nest(TUPLE_PROTOCOL, protocol)
    }

    /// A client at 192.0.2.9 sent to port 53 of 192.0.2.1; who answers.
    fn flow(answers: [u8; 4]) -> Vec<u8> {
        Attributes::default()
            .nest(TUPLE_ORIGINAL, tuple([192, 0, 2, 9], [192, 0, 2, 1], 53))
            .nest(TUPLE_REPLY, tuple(answers, [192, 0, 2, 9], 4000))
            .into_bytes()
    }

    #[test]
    fn only_flows_of_the_named_are_chosen() {
        let bytes = flow([10, 0, 0, 2]);
        let flow = parse(&bytes).unwrap();
        let of = |text: &str| BTreeSet::from([text.parse::<IpAddr>().unwrap()]);
        assert!(Flows::Of(&of("10.0.0.2"), None).contain(&flow));
        assert!(Flows::Of(&of("10.0.0.2"), Some(Protocol::Udp)).contain(&flow));
        assert!(!Flows::Of(&of("10.0.0.2"), Some(Protocol::Tcp)).contain(&flow));
        assert!(!Flows::Of(&of("10.0.0.3"), None).contain(&flow));
        assert!(deletion(&bytes, 2).is_some());
        for end in 0..bytes.len() {
            parse(&bytes[..end]);
        }
    }

    #[test]
    fn flows_that_were_led_on_stay() {
        let ports = BTreeSet::from([53]);
        let chosen = |answers| {
            let flow = parse(&flow(answers)).unwrap();
            Flows::NotRedirected(&ports).contain(&flow)
        };
        assert!(chosen([192, 0, 2, 1]) && !chosen([10, 0, 0, 2]));
        assert!(Flows::NotRedirected(&BTreeSet::new()).families().is_empty());
    }
}
