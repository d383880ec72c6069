//! A query's bytes in, an answer's bytes out, or the word to forward it. Pure.

use super::zone::{Asker, Zone};
use simple_dns::rdata::{A, AAAA, OPT, PTR, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds an answer may be kept. Tasks come and go, and a client that keeps
/// an old address longer than this speaks to nobody.
const TTL_SECONDS: u32 = 2;
/// Largest answer to a client that did not say that it takes more, bytes.
const PLAIN_UDP_BYTES: usize = 512;
/// Largest answer over UDP at all, bytes: loopback fragments nothing.
pub(super) const UDP_BYTES_MAX: usize = 4096;
/// Bytes of a message's header, without which nothing can be answered.
const HEADER_BYTES: usize = 12;

/// How the client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply(Vec<u8>),
    /// Not a name of ours.
    Forward,
    /// Not worth an answer.
    Ignore,
}

/// `turn` rotates the addresses, so that clients that take the first one are
/// spread.
pub(super) fn answer(
    query: &[u8],
    zone: &Zone,
    asker: &Asker,
    transport: Transport,
    turn: usize,
) -> Outcome {
    const RESPONSE: u8 = 0x80;
    if query.len() < HEADER_BYTES || query.get(2).is_some_and(|b| b & RESPONSE != 0) {
        return Outcome::Ignore;
    }
    let Some(packet) = parse(query) else {
        return failure(query, RCODE::FormatError);
    };
    if packet.opcode() != OPCODE::StandardQuery {
        return failure(query, RCODE::NotImplemented);
    }
    let [question] = packet.questions.as_slice() else {
        return failure(query, RCODE::FormatError);
    };
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        return Outcome::Forward;
    }
    let name = question.qname.to_string();
    let records = if question.qtype == QTYPE::TYPE(TYPE::PTR) {
        let named = reverse_address(&name).and_then(|address| zone.reverse(asker, address));
        named.and_then(|target| pointer(question, &target))
    } else {
        zone.resolve(asker, &name)
            .map(|addresses| address_records(question, addresses, turn))
    };
    match records {
        Some(records) => reply(&packet, question, records, transport),
        None => Outcome::Forward,
    }
}

/// `None`: not a query. What the header counts is looked at first, for memory
/// is reserved by it: twelve bytes may announce 200,000 records.
fn parse(query: &[u8]) -> Option<Packet<'_>> {
    /// A query has one question, and at most its options and a signature.
    const ADDITIONAL_MAX: u16 = 4;
    let count = |at: usize| {
        let bytes = query.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let sane = count(4)? <= 1 && count(6)? == 0 && count(8)? == 0 && count(10)? <= ADDITIONAL_MAX;
    sane.then(|| Packet::parse(query).ok()).flatten()
}

fn address_records<'a>(
    question: &Question<'a>,
    mut addresses: Vec<IpAddr>,
    turn: usize,
) -> Vec<ResourceRecord<'a>> {
    if !addresses.is_empty() {
        let turn = turn % addresses.len();
        addresses.rotate_left(turn);
    }
    let wants = |kind| question.qtype == QTYPE::TYPE(kind) || question.qtype == QTYPE::ANY;
    let (v4, v6) = (wants(TYPE::A), wants(TYPE::AAAA));
    let data = addresses.into_iter().filter_map(|address| match address {
        IpAddr::V4(address) if v4 => Some(RData::A(A::from(address))),
        IpAddr::V6(address) if v6 => Some(RData::AAAA(AAAA::from(address))),
        _ => None,
    });
    data.map(|data| record(question, data)).collect()
}

fn record<'a>(question: &Question<'a>, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_SECONDS, data)
}

fn pointer<'a>(question: &Question<'a>, target: &str) -> Option<Vec<ResourceRecord<'a>>> {
    let target = Name::new(target).ok()?.into_owned();
    Some(vec![record(question, RData::PTR(PTR(target)))])
}

fn reply<'a>(
    query: &Packet<'a>,
    question: &Question<'a>,
    records: Vec<ResourceRecord<'a>>,
    transport: Transport,
) -> Outcome {
    let limit = match (transport, query.opt()) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(opt)) => {
            usize::from(opt.udp_packet_size).clamp(PLAIN_UDP_BYTES, UDP_BYTES_MAX)
        }
        (Transport::Udp, None) => PLAIN_UDP_BYTES,
    };
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(question.clone());
    reply.answers = records;
    if query.opt().is_some() {
        *reply.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: UDP_BYTES_MAX as u16,
            version: 0,
        });
    }
    let Ok(mut bytes) = reply.build_bytes_vec_compressed() else {
        return Outcome::Ignore;
    };
    if bytes.len() > limit {
        // The client asks again over TCP; what fits is still of use to those
        // that do not.
        reply.set_flags(PacketFlag::TRUNCATION);
        while bytes.len() > limit && !reply.answers.is_empty() {
            let kept = reply.answers.len() * limit / bytes.len();
            reply.answers.truncate(kept.min(reply.answers.len() - 1));
            match reply.build_bytes_vec_compressed() {
                Ok(shorter) => bytes = shorter,
                Err(_) => return Outcome::Ignore,
            }
        }
    }
    Outcome::Reply(bytes)
}

/// An answer without records, made of the query's own bytes: they may be such
/// that nothing can be made of them.
pub(super) fn failure(query: &[u8], code: RCODE) -> Outcome {
    let Some(header) = query.get(..HEADER_BYTES) else {
        return Outcome::Ignore;
    };
    let mut reply = header.to_vec();
    let well_formed = parse(query);
    let question = well_formed.as_ref().and_then(|packet| {
        let question = packet.questions.first()?.clone();
        let mut only = Packet::new_query(0);
        only.questions.push(question);
        only.build_bytes_vec().ok()
    });
    let code = match code {
        RCODE::FormatError => 1,
        RCODE::NotImplemented => 4,
        _ => 2,
    };
    let opcode_and_recursion = header.get(2).copied().unwrap_or_default() & 0x79;
    let flags = [0x80 | opcode_and_recursion, 0x80 | code];
    let questions = u8::from(question.is_some());
    for (at, byte) in [(2, flags[0]), (3, flags[1]), (4, 0), (5, questions)] {
        if let Some(to) = reply.get_mut(at) {
            *to = byte;
        }
    }
    if let Some(counts) = reply.get_mut(6..HEADER_BYTES) {
        counts.fill(0);
    }
    if let Some(question) = question {
        reply.extend(question.get(HEADER_BYTES..).unwrap_or_default());
    }
    Outcome::Reply(reply)
}

/// `2.0.17.172.in-addr.arpa` and its IPv6 brother.
fn reverse_address(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut labels = reversed.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(octets).into());
    }
    let reversed = name.strip_suffix(".ip6.arpa")?;
    let mut number = 0u128;
    let mut digits = 0;
    for label in reversed.split('.') {
        if label.len() != 1 || digits == 32 {
            return None;
        }
        let digit = u128::from(u8::from_str_radix(label, 16).ok()?);
        number |= digit << (4 * digits);
        digits += 1;
    }
    (digits == 32).then(|| Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(backends: u8) -> (Zone, Asker) {
        let mut zone = Zone::default();
        zone.add_network("n", "front");
        for last in 0..backends {
            zone.add_service("n", "web", Some(IpAddr::from([10, 0, 0, last + 2])));
        }
        let asker = Asker {
            networks: vec!["n".into()],
            ..Asker::default()
        };
        (zone, asker)
    }

    fn query(name: &str, kind: TYPE, edns: bool) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            Name::new(name).unwrap(),
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        if edns {
            *packet.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: 4096,
                version: 0,
            });
        }
        packet.build_bytes_vec().unwrap()
    }

    fn replied(outcome: Outcome) -> Vec<u8> {
        match outcome {
            Outcome::Reply(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_names_are_answered_and_turned() {
        let (zone, asker) = zone(3);
        let first = |turn| {
            let bytes = query("Web", TYPE::A, false);
            let bytes = replied(answer(&bytes, &zone, &asker, Transport::Udp, turn));
            let reply = Packet::parse(&bytes).unwrap();
            assert_eq!((reply.id(), reply.answers.len()), (0x1234, 3));
            match &reply.answers[0].rdata {
                RData::A(a) => a.address & 0xff,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([first(0), first(1), first(2), first(3)], [2, 3, 4, 2]);
    }

    #[test]
    fn a_name_without_such_a_record_is_no_error_and_an_unknown_one_is_forwarded() {
        let (zone, asker) = zone(1);
        let bytes = query("web", TYPE::AAAA, true);
        let bytes = replied(answer(&bytes, &zone, &asker, Transport::Udp, 0));
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!(reply.rcode(), RCODE::NoError);
        assert!(reply.answers.is_empty() && reply.opt().is_some());
        let other = query("example.org", TYPE::A, false);
        assert_eq!(
            answer(&other, &zone, &asker, Transport::Udp, 0),
            Outcome::Forward
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_over_udp_only() {
        let (zone, asker) = zone(100);
        let plain = query("web", TYPE::A, false);
        let cut = replied(answer(&plain, &zone, &asker, Transport::Udp, 0));
        assert!(cut.len() <= PLAIN_UDP_BYTES);
        let parsed = Packet::parse(&cut).unwrap();
        assert!(parsed.has_flags(PacketFlag::TRUNCATION) && !parsed.answers.is_empty());
        let whole = replied(answer(&plain, &zone, &asker, Transport::Tcp, 0));
        assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 100);
        let large = query("web", TYPE::A, true);
        let whole = replied(answer(&large, &zone, &asker, Transport::Udp, 0));
        assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 100);
    }

    #[test]
    fn addresses_are_turned_back_into_names() {
        let (zone, asker) = zone(1);
        let bytes = query("2.0.0.10.in-addr.arpa", TYPE::PTR, false);
        let bytes = replied(answer(&bytes, &zone, &asker, Transport::Udp, 0));
        let reply = Packet::parse(&bytes).unwrap();
        match &reply.answers[0].rdata {
            RData::PTR(name) => assert_eq!(name.0.to_string(), "web.front"),
            other => panic!("{other:?}"),
        }
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse_address(v6), Some("fd00::1".parse().unwrap()));
        for bad in [
            "",
            "1.2.3.in-addr.arpa",
            "x.0.0.10.in-addr.arpa",
            "1.ip6.arpa",
        ] {
            assert_eq!(reverse_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_an_answer() {
        let (zone, asker) = zone(3);
        let good = query("web", TYPE::A, true);
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..200_000u64 {
            let mut bytes = if round % 2 == 0 {
                (0..random() % 64).map(|_| random() as u8).collect()
            } else {
                good.clone()
            };
            for _ in 0..random() % 4 {
                let length = bytes.len().max(1) as u64;
                if let Some(byte) = bytes.get_mut((random() % length) as usize) {
                    *byte = random() as u8;
                }
            }
            bytes.truncate((random() % 80) as usize);
            let outcome = answer(&bytes, &zone, &asker, Transport::Udp, round as usize);
            let is_answer = bytes.get(2).is_some_and(|b| b & 0x80 != 0);
            assert!(
                !is_answer || outcome == Outcome::Ignore,
                "two resolvers would talk for ever"
            );
            failure(&bytes, RCODE::ServerFailure);
        }
    }
}
