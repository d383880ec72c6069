//! Finding members on the local link whose addresses all changed (RFC 6762,
//! 6763), as when a whole cluster was carried to another network.
//!
//! Who fails to reach a member asks the link for its cluster; members answer
//! with their id and port, and the address is the one that the answer came
//! from. Nothing is said while all is well.
//!
//! ```text
//!   PTR CLUSTER._sub._skep._udp.local → NODE._skep._udp.local
//!   SRV NODE._skep._udp.local         → port
//! ```
//!
//! **Invariant:** an answer is no more than a place to dial: who answers there
//! proves itself in the handshake, and a lie costs one attempt in three. Only
//! nodes that are known already are looked for, so that nothing grows. IPv4
//! only: that is what small networks have.

use super::{Shared, limits, spread};
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, ipproto, sockopt};
use simple_dns::rdata::{PTR, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};
use skep_control::model::{ClusterId, NodeId};
use smol::Timer;
use smol::channel::Receiver;
use smol::future::or;
use smol::net::UdpSocket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Weak;
use std::time::{Duration, Instant};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// RFC 6762: shows that a packet crossed no router.
const HOPS: u32 = 255;
/// How long an answer may be kept, in seconds.
const KEPT: u32 = 120;
/// Largest packet that is read, in bytes.
const PACKET_MAX: usize = 1500;
/// Answers read from one packet.
const FOUND_MAX: usize = 16;
/// Network interfaces spoken on.
const INTERFACES_MAX: usize = 16;
/// Between two questions of this node.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Between two answers of this node.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// When the link cannot be spoken on, until the next attempt.
const RETRY: Duration = Duration::from_secs(60);

/// What happens next.
enum Next {
    Heard(usize, SocketAddr),
    Lost,
    Failed(io::Error),
    Ended,
}

/// Asks when `lost` says so, and answers, until the transport is gone.
pub(super) async fn run(shared: Weak<Shared>, lost: Receiver<()>, interfaces: fn() -> Vec<u32>) {
    loop {
        let error = match open() {
            Ok(socket) => match speak(&shared, &lost, &socket, interfaces).await {
                Some(error) => error,
                None => return,
            },
            Err(error) => error,
        };
        log::debug!("the local link cannot be asked for members: {error}");
        Timer::after(RETRY).await;
        if lost.is_closed() {
            return;
        }
    }
}

/// Speaks until the socket fails, or the transport is gone.
async fn speak(
    shared: &Weak<Shared>,
    lost: &Receiver<()>,
    socket: &UdpSocket,
    interfaces: fn() -> Vec<u32>,
) -> Option<io::Error> {
    // Not to answer oneself.
    let id = u16::from_le_bytes([spread(), spread()]);
    let mut packet = [0; PACKET_MAX];
    let (mut asked, mut answered) = (None, None);
    join(socket, &interfaces());
    loop {
        let heard = async {
            match socket.recv_from(&mut packet).await {
                Ok((length, from)) => Next::Heard(length, from),
                Err(error) => Next::Failed(error),
            }
        };
        let told = async { lost.recv().await.map_or(Next::Ended, |()| Next::Lost) };
        let next = or(heard, told).await;
        let shared = shared.upgrade()?;
        let Some(cluster) = shared.standing().map(|it| it.cluster.clone()) else {
            continue;
        };
        match next {
            Next::Ended => return None,
            Next::Failed(error) => return Some(error),
            Next::Lost if is_due(&mut asked, ASK_EVERY) => {
                log::debug!("asking the local link for members");
                say(socket, question(&cluster, id), &interfaces()).await;
            }
            Next::Lost => {}
            Next::Heard(length, from) => {
                let bytes = packet.get(..length).unwrap_or_default();
                for (node, port) in found(bytes, &cluster) {
                    shared.nearby(&node, (from.ip(), port).into());
                }
                if asks(bytes, &cluster, id) && is_due(&mut answered, ANSWER_EVERY) {
                    let port = shared.endpoint.local_addr().map_or(0, |addr| addr.port());
                    let answer = answer(&cluster, &shared.node, port);
                    say(socket, answer, &interfaces()).await;
                }
            }
        }
    }
}

/// Whether something that may be done so often may be done now; then it was.
fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= every);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// A socket beside those of others, for the port is everybody's.
fn open() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, flags, Some(ipproto::UDP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_ip_multicast_ttl(&socket, HOPS)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    std::net::UdpSocket::from(socket).try_into()
}

/// The interfaces that other machines may be behind: not the loopback, and not
/// those of containers.
pub(super) fn interfaces() -> Vec<u32> {
    // Lists what can do multicast, in the network namespace of this process.
    let text = std::fs::read_to_string("/proc/self/net/igmp").unwrap_or_default();
    listed(&text)
}

fn listed(text: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let index = words.next()?.parse().ok()?;
        let name = words.next()?.trim_end_matches(':');
        let is_inside = name == "lo" || name.starts_with("veth") || name.starts_with("br-");
        (!is_inside).then_some(index)
    };
    // Below each interface its groups follow, indented.
    let lines = text.lines().filter(|line| !line.starts_with([' ', '\t']));
    lines.filter_map(of_line).take(INTERFACES_MAX).collect()
}

/// Listens on these; again is no harm.
fn join(socket: &UdpSocket, interfaces: &[u32]) {
    let any = Ipv4Addr::UNSPECIFIED;
    for index in interfaces {
        let _ = sockopt::set_ip_add_membership_with_ifindex(socket, &GROUP, &any, *index);
    }
}

async fn say(socket: &UdpSocket, packet: Option<Vec<u8>>, interfaces: &[u32]) {
    let Some(packet) = packet else {
        return;
    };
    // Interfaces come and go with the cables.
    join(socket, interfaces);
    let any = Ipv4Addr::UNSPECIFIED;
    for index in interfaces {
        let chosen = sockopt::set_ip_multicast_if_with_ifindex(socket, &GROUP, &any, *index);
        if chosen.is_ok() {
            let _ = socket.send_to(&packet, (GROUP, PORT)).await;
        }
    }
}

fn service(cluster: &ClusterId) -> String {
    format!("{cluster}._sub.{SERVICE}")
}
const SERVICE: &str = "_skep._udp.local";

fn question(cluster: &ClusterId, id: u16) -> Option<Vec<u8>> {
    let name = service(cluster);
    let (kind, class) = (QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN));
    let mut packet = Packet::new_query(id);
    let question = Question::new(Name::new(&name).ok()?, kind, class, false);
    packet.questions.push(question);
    packet.build_bytes_vec().ok()
}

fn answer(cluster: &ClusterId, node: &NodeId, port: u16) -> Option<Vec<u8>> {
    let (service, instance) = (service(cluster), format!("{node}.{SERVICE}"));
    let service = Name::new(&service).ok()?;
    let instance = Name::new(&instance).ok()?;
    let mut packet = Packet::new_reply(0);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let pointer = RData::PTR(PTR(instance.clone()));
    let place = RData::SRV(SRV {
        priority: 0,
        weight: 0,
        port,
        target: instance.clone(),
    });
    for (name, data) in [(service, pointer), (instance, place)] {
        let record = ResourceRecord::new(name, CLASS::IN, KEPT, data);
        packet.answers.push(record);
    }
    packet.build_bytes_vec_compressed().ok()
}

/// Whether somebody else asks for the members of this cluster.
fn asks(bytes: &[u8], cluster: &ClusterId, own: u16) -> bool {
    let Ok(packet) = Packet::parse(bytes) else {
        return false;
    };
    let service = service(cluster);
    let is_it = |question: &Question<'_>| is_name(&question.qname, &service);
    !packet.has_flags(PacketFlag::RESPONSE)
        && packet.id() != own
        && packet.questions.iter().any(is_it)
}

/// Who answers as a member of this cluster, with its port.
fn found(bytes: &[u8], cluster: &ClusterId) -> Vec<(NodeId, u16)> {
    let Ok(packet) = Packet::parse(bytes) else {
        return Vec::new();
    };
    let service = service(cluster);
    let is_ours = packet
        .answers
        .iter()
        .any(|record| matches!(record.rdata, RData::PTR(_)) && is_name(&record.name, &service));
    if !is_ours || !packet.has_flags(PacketFlag::RESPONSE) {
        return Vec::new();
    }
    let place = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::SRV(place) => {
            let name = record.name.to_string();
            let node = name.strip_suffix(SERVICE)?.strip_suffix('.')?;
            Some((NodeId::from(node), place.port))
        }
        _ => None,
    };
    let places = packet.answers.iter().filter_map(place);
    places.take(FOUND_MAX).collect()
}

fn is_name(name: &Name<'_>, text: &str) -> bool {
    name.to_string().eq_ignore_ascii_case(text)
}

impl Shared {
    /// Takes note of where a member seems to be.
    fn nearby(&self, node: &NodeId, addr: SocketAddr) {
        let slot = self.members().slots.get(node).cloned();
        if let Some(slot) = slot {
            slot.state().dial.nearby = Some(addr);
            log::debug!("node {node} says on the local link that it is at {addr}");
        }
    }

    /// A member is not where it was. Asks the link, after some attempts.
    pub(super) fn search(&self, failures: u32) {
        if failures >= limits::SEARCH_AFTER {
            let _ = self.lost.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_answered_and_understood_in_one_cluster_only() {
        let (ours, theirs) = (ClusterId::from("c1"), ClusterId::from("c2"));
        let asked = question(&ours, 7).expect("builds");
        assert!(asks(&asked, &ours, 8));
        assert!(!asks(&asked, &ours, 7), "its own");
        assert!(!asks(&asked, &theirs, 8));
        assert!(found(&asked, &ours).is_empty());
        let node = NodeId::from("n0de");
        let answered = answer(&ours, &node, 2377).expect("builds");
        assert_eq!(found(&answered, &ours), [(node, 2377)]);
        assert!(found(&answered, &theirs).is_empty());
        assert!(!asks(&answered, &ours, 8));
        for cut in 0..answered.len() {
            found(&answered[..cut], &ours);
            asks(&answered[..cut], &ours, 8);
        }
    }

    #[test]
    fn only_interfaces_to_other_machines_are_spoken_on() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            4\teth0      :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            9\tvethab    :     1      V3\n12\tbr-3f     :     1      V3\n";
        assert_eq!(listed(text), [4]);
    }
}
