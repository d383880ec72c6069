//! A ruleset as the messages of one nf_tables batch. Pure.
//!
//! Numbers and names from the kernel's `linux/netfilter/nf_tables.h`.

use super::{Base, Chain, ChainType, Expression, Family, Hook, Prefix, Ruleset, TABLE, octets};
use crate::network::netlink::{Attributes, Message, flag};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// nfnetlink's subsystem number, in the high byte of a message's kind.
const NF_TABLES: u16 = 10;
/// Family of our tables: both IP versions (`NFPROTO_INET`).
const INET: u8 = 1;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;

/// Register for values; the second one starts 16 bytes later.
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// The second four bytes of register 1: a port after an IPv4 address.
const REGISTER_1_WORD_1: u32 = 9;
/// The fifth four bytes from register 1 on: a port after an IPv6 address.
const REGISTER_1_WORD_4: u32 = 12;
/// The register that holds a verdict.
const REGISTER_VERDICT: u32 = 0;

/// `IFNAMSIZ`: names are compared with their padding.
const INTERFACE_NAME_BYTES: usize = 16;

/// Prefix of the empty chain whose name tells a table's content.
const FINGERPRINT: &str = "content-";

/// The chain by which a table is recognised as this very ruleset.
pub(super) fn fingerprint(ruleset: &Ruleset) -> String {
    let mut hasher = DefaultHasher::new();
    ruleset.hash(&mut hasher);
    format!("{FINGERPRINT}{:016x}", hasher.finish())
}

/// The batch that replaces the table, whatever it was.
pub(super) fn replace(ruleset: &Ruleset) -> Vec<Message> {
    // Add before delete: deleting a table that is not there is an error.
    let mut batch = vec![begin(), table(NEW_TABLE), table(DELETE_TABLE)];
    batch.push(table(NEW_TABLE));
    let marker = Chain {
        name: fingerprint(ruleset),
        base: None,
        rules: Vec::new(),
    };
    let chains = || ruleset.chains.iter().chain([&marker]);
    batch.extend(chains().map(chain));
    let mut maps = 0;
    for chain in chains() {
        for expressions in &chain.rules {
            for expression in expressions {
                if let Expression::RedirectToAny(targets) = expression {
                    maps += 1;
                    batch.extend(map(maps, targets));
                }
            }
            batch.push(rule(&chain.name, expressions, maps));
        }
    }
    batch.push(end());
    batch
}

pub(super) fn message(kind: u16, flags: u16, family: u8, attributes: Attributes) -> Message {
    let mut payload = vec![family, 0, 0, 0];
    payload.extend(attributes.into_bytes());
    Message {
        kind: NF_TABLES << 8 | kind,
        flags,
        payload,
    }
}

fn batch_edge(kind: u16) -> Message {
    let subsystem = NF_TABLES.to_be_bytes();
    Message {
        kind,
        flags: 0,
        payload: vec![0, 0, subsystem[0], subsystem[1]],
    }
}

fn begin() -> Message {
    batch_edge(BATCH_BEGIN)
}

fn end() -> Message {
    batch_edge(BATCH_END)
}

fn table(kind: u16) -> Message {
    message(
        kind,
        flag::CREATE,
        INET,
        Attributes::default().text(1, TABLE),
    )
}

fn chain(chain: &Chain) -> Message {
    let mut attributes = Attributes::default().text(1, TABLE).text(3, &chain.name);
    if let Some(Base {
        kind,
        hook,
        priority,
    }) = chain.base
    {
        let number = match hook {
            Hook::Prerouting => 0,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        };
        let hook = Attributes::default()
            .be32(1, number)
            .be32(2, priority as u32);
        let name = match kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        attributes = attributes.nest(4, hook).text(7, name);
    }
    message(NEW_CHAIN, flag::CREATE, INET, attributes)
}

fn rule(chain: &str, expressions: &[Expression], map: u32) -> Message {
    let mut list = Attributes::default();
    for expression in expressions {
        for (name, data) in encode(expression, map) {
            let expression = Attributes::default().text(1, name).nest(2, data);
            list = list.nest(1, expression);
        }
    }
    let attributes = Attributes::default()
        .text(1, TABLE)
        .text(2, chain)
        .nest(4, list);
    message(NEW_RULE, flag::CREATE | flag::APPEND, INET, attributes)
}

fn map_name(number: u32) -> String {
    format!("backends{number}")
}

/// A map: number → address and port.
fn map(number: u32, targets: &[(IpAddr, u16)]) -> [Message; 2] {
    const TYPE_INTEGER: u32 = 4;
    const TYPE_IPV4_SERVICE: u32 = 7 << 6 | 13;
    const TYPE_IPV6_SERVICE: u32 = 8 << 6 | 13;
    const FLAG_MAP: u32 = 8;
    let is_v4 = targets.iter().all(|(address, _)| address.is_ipv4());
    let (kind, bytes) = if is_v4 {
        (TYPE_IPV4_SERVICE, 8)
    } else {
        (TYPE_IPV6_SERVICE, 20)
    };
    let name = map_name(number);
    let set = Attributes::default()
        .text(1, TABLE)
        .text(2, &name)
        .be32(3, FLAG_MAP)
        .be32(4, TYPE_INTEGER)
        .be32(5, 4)
        .be32(6, kind)
        .be32(7, bytes)
        .be32(10, number);
    let mut elements = Attributes::default();
    for (key, (address, port)) in (0u32..).zip(targets) {
        let mut target = octets(*address);
        target.extend(port.to_be_bytes());
        target.extend([0, 0]);
        let element = Attributes::default()
            // What numgen yields is in the machine's own order.
            .nest(1, Attributes::default().bytes(1, &key.to_ne_bytes()))
            .nest(2, Attributes::default().bytes(1, &target));
        elements = elements.nest(1, element);
    }
    let elements = Attributes::default()
        .text(1, TABLE)
        .text(2, &name)
        .nest(3, elements)
        .be32(4, number);
    [
        message(NEW_SET, flag::CREATE, INET, set),
        message(NEW_ELEMENT, flag::CREATE, INET, elements),
    ]
}

type Encoded = Vec<(&'static str, Attributes)>;

/// `map`: the number of the map that a `RedirectToAny` looks into.
fn encode(expression: &Expression, map: u32) -> Encoded {
    match expression {
        Expression::Family(family) => {
            const META_NFPROTO: u32 = 15;
            let number = match family {
                Family::V4 => 2,
                Family::V6 => 10,
            };
            vec![meta(META_NFPROTO), compare(true, &[number])]
        }
        Expression::Source(prefix) => address(prefix, 12, 8),
        Expression::Destination(prefix) => address(prefix, 16, 24),
        Expression::Protocol(protocol) => {
            const META_L4PROTO: u32 = 16;
            vec![meta(META_L4PROTO), compare(true, &[protocol.number()])]
        }
        Expression::DestinationPort(port) => {
            const TRANSPORT_HEADER: u32 = 2;
            vec![
                payload(TRANSPORT_HEADER, 2, 2),
                compare(true, &port.to_be_bytes()),
            ]
        }
        Expression::InputIs(name) => interface(META_INPUT_NAME, name, true),
        Expression::InputIsNot(name) => interface(META_INPUT_NAME, name, false),
        Expression::OutputIs(name) => interface(META_OUTPUT_NAME, name, true),
        Expression::OutputIsNot(name) => interface(META_OUTPUT_NAME, name, false),
        Expression::ToLocal => {
            const RESULT_ADDRESS_TYPE: u32 = 3;
            const OF_DESTINATION: u32 = 2;
            const TYPE_LOCAL: u32 = 2;
            let fib = Attributes::default()
                .be32(1, REGISTER_1)
                .be32(2, RESULT_ADDRESS_TYPE)
                .be32(3, OF_DESTINATION);
            vec![("fib", fib), compare(true, &TYPE_LOCAL.to_ne_bytes())]
        }
        Expression::Established => conntrack(CT_STATE, STATE_ESTABLISHED | STATE_RELATED),
        Expression::Redirected => conntrack(CT_STATUS, STATUS_DESTINATION_NAT),
        Expression::Jump(chain) => vec![verdict(VERDICT_JUMP, Some(chain))],
        Expression::Return => vec![verdict(VERDICT_RETURN, None)],
        Expression::Accept => vec![verdict(VERDICT_ACCEPT, None)],
        Expression::Drop => vec![verdict(VERDICT_DROP, None)],
        Expression::RedirectTo(address, port) => vec![
            immediate(REGISTER_1, &octets(*address)),
            immediate(REGISTER_2, &port.to_be_bytes()),
            redirect(Family::of(*address), REGISTER_2),
        ],
        Expression::RedirectToAny(targets) => redirect_to_any(targets, map),
        Expression::Masquerade => vec![("masq", Attributes::default())],
    }
}

fn redirect_to_any(targets: &[(IpAddr, u16)], map: u32) -> Encoded {
    const BY_CHANCE: u32 = 1;
    let name = map_name(map);
    let choose = Attributes::default()
        .be32(1, REGISTER_1)
        .be32(2, targets.len() as u32)
        .be32(3, BY_CHANCE);
    let look_up = Attributes::default()
        .text(1, &name)
        .be32(2, REGISTER_1)
        .be32(3, REGISTER_1)
        .be32(4, map);
    let is_v4 = targets.iter().all(|(address, _)| address.is_ipv4());
    let (family, port_at) = if is_v4 {
        (Family::V4, REGISTER_1_WORD_1)
    } else {
        (Family::V6, REGISTER_1_WORD_4)
    };
    vec![
        ("numgen", choose),
        ("lookup", look_up),
        redirect(family, port_at),
    ]
}

fn meta(key: u32) -> (&'static str, Attributes) {
    let attributes = Attributes::default().be32(1, REGISTER_1).be32(2, key);
    ("meta", attributes)
}

fn compare(equal: bool, value: &[u8]) -> (&'static str, Attributes) {
    let attributes = Attributes::default()
        .be32(1, REGISTER_1)
        .be32(2, u32::from(!equal))
        .nest(3, Attributes::default().bytes(1, value));
    ("cmp", attributes)
}

fn payload(header: u32, offset: u32, bytes: u32) -> (&'static str, Attributes) {
    let attributes = Attributes::default()
        .be32(1, REGISTER_1)
        .be32(2, header)
        .be32(3, offset)
        .be32(4, bytes);
    ("payload", attributes)
}

/// `register 1 & mask`.
fn mask(mask: &[u8]) -> (&'static str, Attributes) {
    let zero = vec![0; mask.len()];
    let attributes = Attributes::default()
        .be32(1, REGISTER_1)
        .be32(2, REGISTER_1)
        .be32(3, mask.len() as u32)
        .nest(4, Attributes::default().bytes(1, mask))
        .nest(5, Attributes::default().bytes(1, &zero));
    ("bitwise", attributes)
}

fn immediate(register: u32, value: &[u8]) -> (&'static str, Attributes) {
    let attributes = Attributes::default()
        .be32(1, register)
        .nest(2, Attributes::default().bytes(1, value));
    ("immediate", attributes)
}

const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const VERDICT_JUMP: u32 = -3i32 as u32;
const VERDICT_RETURN: u32 = -5i32 as u32;

fn verdict(code: u32, chain: Option<&str>) -> (&'static str, Attributes) {
    let mut verdict = Attributes::default().be32(1, code);
    if let Some(chain) = chain {
        verdict = verdict.text(2, chain);
    }
    let attributes = Attributes::default()
        .be32(1, REGISTER_VERDICT)
        .nest(2, Attributes::default().nest(2, verdict));
    ("immediate", attributes)
}

fn redirect(family: Family, port_register: u32) -> (&'static str, Attributes) {
    const TO_DESTINATION: u32 = 1;
    let family = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    let attributes = Attributes::default()
        .be32(1, TO_DESTINATION)
        .be32(2, family)
        .be32(3, REGISTER_1)
        .be32(5, port_register);
    ("nat", attributes)
}

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;

fn interface(key: u32, name: &str, equal: bool) -> Encoded {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(INTERFACE_NAME_BYTES, 0);
    vec![meta(key), compare(equal, &padded)]
}

/// `v4` and `v6`: where the address is in the header.
fn address(prefix: &Prefix, v4: u32, v6: u32) -> Encoded {
    const NETWORK_HEADER: u32 = 1;
    let bytes = octets(prefix.address);
    let offset = if bytes.len() == 4 { v4 } else { v6 };
    let kept = prefix_mask(bytes.len(), prefix.length);
    let wanted: Vec<u8> = bytes.iter().zip(&kept).map(|(b, m)| b & m).collect();
    let mut encoded = vec![payload(NETWORK_HEADER, offset, bytes.len() as u32)];
    if kept.iter().any(|byte| *byte != 0xff) {
        encoded.push(mask(&kept));
    }
    encoded.push(compare(true, &wanted));
    encoded
}

fn prefix_mask(bytes: usize, length: u8) -> Vec<u8> {
    (0..bytes)
        .map(|at| {
            let bits = u32::from(length).saturating_sub(at as u32 * 8).min(8);
            (0xff00u16 >> bits) as u8
        })
        .collect()
}

const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
const STATUS_DESTINATION_NAT: u32 = 0x20;

/// Any of the bits is set.
fn conntrack(key: u32, bits: u32) -> Encoded {
    let load = Attributes::default().be32(1, REGISTER_1).be32(2, key);
    vec![
        ("ct", load),
        mask(&bits.to_ne_bytes()),
        compare(false, &0u32.to_ne_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_end_inside_a_byte() {
        assert_eq!(prefix_mask(4, 12), [0xff, 0xf0, 0, 0]);
        assert_eq!(prefix_mask(4, 32), [0xff; 4]);
        assert_eq!(prefix_mask(4, 0), [0; 4]);
    }

    #[test]
    fn an_equal_ruleset_has_an_equal_fingerprint() {
        let one = |port| Ruleset {
            chains: vec![Chain {
                name: "ports".into(),
                base: None,
                rules: vec![vec![Expression::DestinationPort(port), Expression::Accept]],
            }],
        };
        assert_eq!(fingerprint(&one(80)), fingerprint(&one(80)));
        assert_ne!(fingerprint(&one(80)), fingerprint(&one(81)));
    }
}
