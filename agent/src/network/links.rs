//! The edge to the kernel's links, addresses and routes.
//!
//! Owns the translation between [`Operation`]s and route netlink; decides
//! nothing. Invariant: everything that is made here carries an alias that
//! begins with [`MARK`], so that a later agent knows its own from Docker's or
//! the operator's.

use super::netlink::{Conversation, Message, flag};
use super::nft::Prefix;
use crate::error::{Error, Result};
use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::time::Duration;

/// Looks at a new port's carrier, and the wait between them: a second in all,
/// for the millisecond that it takes where the machine is not overloaded.
const CARRIER_TRIES: usize = 1000;
const CARRIER_PAUSE: Duration = Duration::from_millis(1);

/// First word of the alias of what is ours.
pub(super) const MARK: &str = "skep";

/// A link as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_bridge: bool,
    pub(super) alias: String,
    /// Index of the bridge it is a port of.
    pub(super) controller: Option<u32>,
    pub(super) mtu: u32,
    pub(super) is_up: bool,
}

impl Link {
    /// The words of the alias after the mark; `None`: not ours.
    pub(super) fn owner(&self) -> Option<Vec<&str>> {
        let mut words = self.alias.split(' ');
        (words.next() == Some(MARK)).then(|| words.collect())
    }
}

/// What a namespace has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) links: Vec<Link>,
    /// Index of the link, and the address.
    pub(super) addresses: Vec<(u32, Prefix)>,
}

impl Found {
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// A pair of ends: one on a bridge here, one in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Veth {
    /// The end on the bridge.
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) bridge: String,
    /// The end in the container.
    pub(super) inside: String,
    pub(super) mac: [u8; 6],
    /// 0: the kernel's.
    pub(super) mtu: u32,
    /// Reaches the bridge itself, and no other port of it.
    pub(super) is_isolated: bool,
}

/// A change to one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AddBridge {
        name: String,
        alias: String,
        mac: [u8; 6],
        mtu: u32,
    },
    Remove {
        name: String,
    },
    Up {
        name: String,
    },
    SetMtu {
        name: String,
        mtu: u32,
    },
    SetController {
        name: String,
        bridge: String,
    },
    AddAddress {
        name: String,
        address: Prefix,
    },
    RemoveAddress {
        name: String,
        address: Prefix,
    },
    /// The way out to everywhere of the gateway's family.
    DefaultRoute {
        name: String,
        gateway: IpAddr,
    },
}

/// Links of the network namespace in which it was opened.
pub(super) struct Links(Conversation);

impl Links {
    pub(super) fn open() -> Result<Self> {
        const NETLINK_ROUTE: isize = 0;
        Conversation::open(NETLINK_ROUTE).map(Self)
    }

    pub(super) fn found(&mut self) -> Result<Found> {
        Ok(Found {
            links: self.links()?,
            addresses: self.addresses()?,
        })
    }

    fn links(&mut self) -> Result<Vec<Link>> {
        let mut request = LinkMessage::default();
        // The counters are most of what the kernel would say of a link.
        let brief = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        request.attributes.push(brief);
        let request = RouteNetlinkMessage::GetLink(request);
        let answers = self.dump(request)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(found_link(link)),
                _ => None,
            })
            .collect())
    }

    fn addresses(&mut self) -> Result<Vec<(u32, Prefix)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(request)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => found_address(&address),
                _ => None,
            })
            .collect())
    }

    /// Destinations that this namespace knows a way to, the default routes
    /// left out.
    pub(super) fn routes(&mut self) -> Result<Vec<Prefix>> {
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let answers = self.dump(request)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => found_route(&route),
                _ => None,
            })
            .collect())
    }

    fn dump(&mut self, request: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let answers = self.0.dump(&encoded(&request, 0))?;
        Ok(answers
            .into_iter()
            .filter_map(|(kind, payload)| decoded(kind, &payload))
            .collect())
    }

    /// Applies them in order; stops at the first that fails.
    pub(super) fn apply(&mut self, operations: &[Operation]) -> Result<()> {
        for operation in operations {
            self.apply_one(operation)
                .map_err(|e| e.within(format!("network: {operation:?}")))?;
        }
        Ok(())
    }

    fn apply_one(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::AddBridge {
                name,
                alias,
                mac,
                mtu,
            } => {
                let mut bridge = LinkBridge::new(name).address(mac.to_vec());
                if *mtu != 0 {
                    bridge = bridge.mtu(*mtu);
                }
                let add = RouteNetlinkMessage::NewLink(bridge.build());
                let add = encoded(&add, flag::CREATE | flag::EXCLUSIVE);
                self.send(&[add, set_alias(name, alias)])
            }
            Operation::Remove { name } => {
                let link = LinkUnspec::new_with_name(name).build();
                let remove = RouteNetlinkMessage::DelLink(link);
                self.send(&[encoded(&remove, 0)]).or_else(unless_gone)
            }
            Operation::Up { name } => self.set(LinkUnspec::new_with_name(name).up()),
            Operation::SetMtu { name, mtu } => self.set(LinkUnspec::new_with_name(name).mtu(*mtu)),
            Operation::SetController { name, bridge } => {
                let index = self.index(bridge)?;
                self.set(LinkUnspec::new_with_name(name).controller(index))
            }
            Operation::AddAddress { name, address } => {
                let index = self.index(name)?;
                let add = RouteNetlinkMessage::NewAddress(address_message(index, *address));
                self.send(&[encoded(&add, flag::CREATE | flag::REPLACE)])
            }
            Operation::RemoveAddress { name, address } => {
                let index = self.index(name)?;
                let remove = RouteNetlinkMessage::DelAddress(address_message(index, *address));
                self.send(&[encoded(&remove, 0)])
            }
            Operation::DefaultRoute { name, gateway } => {
                let index = self.index(name)?;
                let add = RouteNetlinkMessage::NewRoute(default_route(index, *gateway));
                self.send(&[encoded(&add, flag::CREATE | flag::REPLACE)])
            }
        }
    }

    /// Makes both ends at once, the inner one already in its namespace.
    pub(super) fn add_veth(&mut self, veth: &Veth, namespace: RawFd) -> Result<()> {
        let bridge = self.index(&veth.bridge)?;
        let mut inside = LinkMessageBuilder::<LinkUnspec>::new()
            .name(veth.inside.clone())
            .address(veth.mac.to_vec())
            .setns_by_fd(namespace);
        let mut outside = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(veth.name.clone())
            .controller(bridge);
        if veth.mtu != 0 {
            inside = inside.mtu(veth.mtu);
            outside = outside.mtu(veth.mtu);
        }
        let pair = InfoData::Veth(InfoVeth::Peer(inside.build()));
        let outside = outside.up().set_info_data(pair).build();
        let add = RouteNetlinkMessage::NewLink(outside);
        let add = encoded(&add, flag::CREATE | flag::EXCLUSIVE);
        let mut messages = vec![add, set_alias(&veth.name, &veth.alias)];
        // Where bridged frames pass the packet filter (br_netfilter), a
        // container that asks for its own published port gets it back through
        // the port it came from.
        let port = LinkUnspec::new_with_name(&veth.name)
            .set_port_kind(InfoPortKind::Bridge)
            .set_port_data(InfoPortData::BridgePort(vec![
                InfoBridgePort::HairpinMode(true),
                InfoBridgePort::Isolated(veth.is_isolated),
            ]))
            .build();
        messages.push(encoded(&RouteNetlinkMessage::NewLink(port), 0));
        self.send(&messages)
            .map_err(|e| e.within(format!("network: veth {} on {}", veth.name, veth.bridge)))
    }

    /// Waits until a bridge or its port carries packets: the kernel notices a
    /// new carrier a moment after the ends are up, and a first packet that is
    /// lost costs its sender a second.
    pub(super) fn await_carrier(&mut self, name: &str) -> Result<()> {
        for _ in 0..CARRIER_TRIES {
            let link = LinkUnspec::new_with_name(name).build();
            let request = encoded(&RouteNetlinkMessage::GetLink(link), 0);
            let answer = self.0.ask(&request)?;
            let is_up = answer.is_some_and(|(kind, payload)| {
                matches!(
                    decoded(kind, &payload),
                    Some(RouteNetlinkMessage::NewLink(link)) if link
                        .attributes
                        .contains(&LinkAttribute::OperState(State::Up))
                )
            });
            if is_up {
                return Ok(());
            }
            std::thread::sleep(CARRIER_PAUSE);
        }
        log::debug!("network: {name} has no carrier yet");
        Ok(())
    }

    fn set(&mut self, link: LinkMessageBuilder<LinkUnspec>) -> Result<()> {
        let set = RouteNetlinkMessage::SetLink(link.build());
        self.send(&[encoded(&set, 0)])
    }

    fn index(&self, name: &str) -> Result<u32> {
        rustix::net::netdevice::name_to_index(self.0.socket(), name)
            .map_err(|e| Error::not_found(format!("there is no link {name}: {e}")))
    }

    fn send(&mut self, messages: &[Message]) -> Result<()> {
        match self.0.send(messages)?.first() {
            None => Ok(()),
            Some(refusal) if refusal.errno == libc::ENODEV => Err(Error::not_found(refusal.text())),
            Some(refusal) => Err(Error::internal(refusal.text())),
        }
    }
}

/// What was to be removed is gone already: as wanted.
fn unless_gone(error: Error) -> Result<()> {
    match error.kind {
        crate::error::Kind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn encoded(message: &RouteNetlinkMessage, flags: u16) -> Message {
    let mut payload = vec![0; NetlinkSerializable::buffer_len(message)];
    NetlinkSerializable::serialize(message, &mut payload);
    Message {
        kind: NetlinkSerializable::message_type(message),
        flags,
        payload,
    }
}

/// `None`: the kernel says what the library does not know; it is not of ours.
fn decoded(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload).ok()
}

fn set_alias(name: &str, alias: &str) -> Message {
    let link = LinkUnspec::new_with_name(name).alias(alias).build();
    encoded(&RouteNetlinkMessage::SetLink(link), 0)
}

fn address_message(index: u32, address: Prefix) -> AddressMessage {
    match address.address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(v4, address.length)
            .build(),
        IpAddr::V6(v6) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(v6, address.length)
                .build();
            // Unique by our own account: usable at once, without the second
            // that the kernel would ask the neighbours for.
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    }
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    match gateway {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(v4)
            .output_interface(index)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(v6)
            .output_interface(index)
            .build(),
    }
}

fn found_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)));
            }
            _ => {}
        }
    }
    link
}

fn found_address(message: &AddressMessage) -> Option<(u32, Prefix)> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // A local address is the more exact one where both are given.
            AddressAttribute::Local(address) => {
                found = Some(*address);
                break;
            }
            AddressAttribute::Address(address) => found = Some(*address),
            _ => {}
        }
    }
    let prefix = Prefix {
        address: found?,
        length: message.header.prefix_len,
    };
    Some((message.header.index, prefix))
}

fn found_route(message: &RouteMessage) -> Option<Prefix> {
    let length = message.header.destination_prefix_length;
    if message.header.kind != RouteType::Unicast || length == 0 {
        return None;
    }
    let address = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    Some(Prefix { address, length })
}
