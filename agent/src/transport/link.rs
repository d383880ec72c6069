//! One connection to a proven peer, and all that flows on it.
//!
//! One task drives a connection: a writer for each lane, and what comes in.
//! Streams that the peer opened have a task each, as many as are allowed.

use super::frame::{self, Fault, StreamCode};
use super::limits;
use super::peers::{Slot, superseded};
use super::stream::{Held, Stream};
use super::{Event, Shared, join};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use skep_control::model::{NodeId, NodeRole};
use skep_control::wire::{FRAME_MAX, Kind, Lane, Message, Peer};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{or, zip};
use smol::lock::Semaphore;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Why a connection was closed; its other end sees the number and a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum CloseCode {
    Stopping = 0,
    /// Another connection between the two is used.
    Replaced = 1,
    /// The peer is no member any more.
    Removed = 2,
    /// What came cannot be, or may not.
    Violation = 3,
    /// Too much waits; begin anew.
    Overflow = 4,
    Busy = 5,
    Silent = 6,
    /// This node left the cluster.
    Left = 7,
    /// The conversation is over.
    Done = 8,
    /// Two nodes have the same key.
    Copy = 9,
}

/// Closes a connection; the text is for the other side's log.
pub(super) fn close(connection: &Connection, code: CloseCode, why: &str) {
    /// Fits one packet.
    const TEXT_MAX: usize = 256;
    let text = why.as_bytes();
    let text = text.get(..TEXT_MAX).unwrap_or(text);
    connection.close(VarInt::from_u32(code as u32), text);
}

/// A connection whose other end has proven who it is.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) node: NodeId,
    pub(super) role: NodeRole,
    /// What it has shown.
    pub(super) leaf: CertificateDer<'static>,
    /// What this node has shown.
    pub(super) own: CertificateDer<'static>,
    /// And thereby was to the other end.
    own_role: NodeRole,
    /// Whether this node dialed.
    pub(super) dialed: bool,
    pub(super) since: Instant,
    /// Streams both ways, and large messages under way: a connection that was
    /// replaced waits for them.
    pub(super) streams: AtomicUsize,
    /// Frames that are large are read one at a time.
    large_in: Semaphore,
    large_out: Arc<Semaphore>,
    /// Dropped when another connection takes over; the receiver's end tells.
    current: Mutex<Option<Sender<()>>>,
    pub(super) superseded: Receiver<()>,
    pub(super) heard: Mutex<Heard>,
}

/// Signs of life, as seen by the watch.
pub(super) struct Heard {
    pub(super) received: u64,
    pub(super) sent: u64,
    /// Since when something sent has no answer.
    pub(super) waiting_since: Option<Instant>,
}

/// What a link is made of.
pub(super) struct Made {
    pub(super) connection: Connection,
    pub(super) node: NodeId,
    pub(super) role: NodeRole,
    pub(super) leaf: CertificateDer<'static>,
    pub(super) own: CertificateDer<'static>,
    pub(super) own_role: NodeRole,
    pub(super) dialed: bool,
}

impl Link {
    pub(super) fn new(made: Made) -> Arc<Self> {
        let (current, superseded) = smol::channel::bounded(1);
        let one_way = VarInt::from_u32(limits::STREAMS_ONE_WAY);
        made.connection.set_max_concurrent_uni_streams(one_way);
        let both_ways = VarInt::from_u32(limits::STREAMS_BOTH_WAYS);
        made.connection.set_max_concurrent_bi_streams(both_ways);
        Arc::new(Self {
            connection: made.connection,
            node: made.node,
            role: made.role,
            leaf: made.leaf,
            own: made.own,
            own_role: made.own_role,
            dialed: made.dialed,
            since: Instant::now(),
            streams: AtomicUsize::new(0),
            large_in: Semaphore::new(1),
            large_out: Arc::new(Semaphore::new(limits::LARGE_AT_ONCE)),
            current: Mutex::new(Some(current)),
            superseded,
            heard: Mutex::new(Heard {
                received: 0,
                sent: 0,
                waiting_since: None,
            }),
        })
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            node: self.node.clone(),
            role: self.role,
            addr: self.connection.remote_address(),
        }
    }

    /// Another connection is used from now on.
    pub(super) fn supersede(&self) {
        super::lock(&self.current).take();
    }

    pub(super) fn is_current(&self) -> bool {
        super::lock(&self.current).is_some()
    }

    /// Whether the same key speaks from two places: the peer dialed although an
    /// older connection to somewhere else is alive, of which it knows nothing.
    pub(super) async fn is_copy_beside(&self, old: &Self) -> bool {
        if self.dialed
            || old.since.elapsed() < limits::AT_ONCE
            || old.connection.remote_address() == self.connection.remote_address()
        {
            return false;
        }
        or(old.is_alive(), async {
            Timer::after(limits::ALIVE).await;
            false
        })
        .await
    }

    /// Asks the other end for a sign of life.
    async fn is_alive(&self) -> bool {
        let asked = async {
            let mut stream = open_lane(self, Lane::Gossip).await?;
            let _ = stream.finish();
            let arrived = stream.stopped().await;
            arrived.map_err(|e| Fault::Gone(e.to_string()))
        };
        asked.await.is_ok()
    }

    /// Closes it for what the peer did.
    fn accuse(&self, why: &str) {
        log::warn!(
            "node {} at {}: {why}; connection closed",
            self.node,
            self.connection.remote_address()
        );
        close(&self.connection, CloseCode::Violation, why);
    }
}

/// Drives a connection to its end.
pub(super) async fn run(shared: Arc<Shared>, slot: Arc<Slot>, link: Arc<Link>) {
    let writers = zip(
        write_lane(&slot, &link, Lane::Consensus),
        zip(
            write_lane(&slot, &link, Lane::Gossip),
            write_lane(&slot, &link, Lane::Control),
        ),
    );
    let readers = zip(
        accept_one_way(&shared, &link),
        zip(accept_both_ways(&shared, &link), datagrams(&shared, &link)),
    );
    let work = zip(writers, zip(readers, linger(&link)));
    let ended = async {
        let why = link.connection.closed().await;
        log::debug!("node {}: connection ended: {why}", link.node);
    };
    or(ended, async {
        work.await;
    })
    .await;
    shared.ended(&slot, &link).await;
}

/// Sends what waits on a lane, in order, while this connection is the one to
/// use; then lets the next one go on once all of it has arrived.
async fn write_lane(slot: &Slot, link: &Arc<Link>, lane: Lane) {
    let _turn = slot.turn(lane).lock().await;
    let mut stream = None;
    while link.is_current() {
        if !Kind::Messages(lane).may_open(Some(link.own_role)) {
            // A node that was just promoted: the connection that says so is
            // under way, and what waits goes there.
            superseded(link).await;
            continue;
        }
        let Some(next) = slot.pop(lane) else {
            or(slot.rung(lane), superseded(link)).await;
            continue;
        };
        if let Some(next) = send_beside(link, lane, next)
            && let Err(fault) = write_one(link, lane, &mut stream, &next).await
        {
            if link.connection.close_reason().is_some() {
                return;
            }
            log::warn!("node {}: {lane:?}: {fault}", link.node);
            stream = None;
            // It is not going to want the next one at once.
            let pause = async {
                Timer::after(limits::REFUSED).await;
            };
            or(pause, superseded(link)).await;
        }
    }
    if let Some(mut stream) = stream
        && stream.finish().is_ok()
    {
        let arrived = async {
            let _ = stream.stopped().await;
        };
        or(arrived, async {
            Timer::after(limits::LINGER).await;
        })
        .await;
    }
}

async fn write_one(
    link: &Link,
    lane: Lane,
    stream: &mut Option<SendStream>,
    bytes: &[u8],
) -> Result<(), Fault> {
    if stream.is_none() {
        *stream = Some(open_lane(link, lane).await?);
    }
    match stream {
        Some(stream) => frame::write(stream, bytes).await,
        None => Ok(()),
    }
}

async fn open_lane(link: &Link, lane: Lane) -> Result<SendStream, Fault> {
    let opened = link.connection.open_uni().await;
    let mut stream = opened.map_err(|e| Fault::Gone(e.to_string()))?;
    let priority = match lane {
        Lane::Consensus => 2,
        Lane::Control => 1,
        Lane::Gossip => 0,
    };
    let _ = stream.set_priority(priority);
    frame::write_hello(&mut stream, Kind::Messages(lane)).await?;
    Ok(stream)
}

/// Sends a large message on a stream of its own, where order does not matter;
/// gives it back when it must go with the others.
fn send_beside(link: &Arc<Link>, lane: Lane, bytes: Vec<u8>) -> Option<Vec<u8>> {
    /// Behind everything else.
    const PRIORITY: i32 = -1;
    if bytes.len() <= limits::LARGE || lane == Lane::Control {
        return Some(bytes);
    }
    let Some(permit) = link.large_out.try_acquire_arc() else {
        return Some(bytes);
    };
    let link = link.clone();
    smol::spawn(async move {
        let _held = (permit, Held::new(link.clone()));
        let sent = async {
            let mut stream = open_lane(&link, lane).await?;
            let _ = stream.set_priority(PRIORITY);
            frame::write(&mut stream, &bytes).await?;
            let _ = stream.finish();
            let _ = stream.stopped().await;
            Ok::<(), Fault>(())
        };
        if let Err(fault) = sent.await {
            log::debug!("node {}: {lane:?}: {fault}", link.node);
        }
    })
    .detach();
    None
}

/// Closes a connection that was replaced, once nothing is under way on it.
async fn linger(link: &Link) {
    superseded(link).await;
    loop {
        Timer::after(limits::LINGER).await;
        if link.streams.load(Ordering::Relaxed) == 0 {
            break;
        }
    }
    close(&link.connection, CloseCode::Replaced, "replaced");
}

async fn datagrams(shared: &Shared, link: &Link) {
    while let Ok(bytes) = link.connection.read_datagram().await {
        let event = Event::Datagram {
            from: link.peer(),
            bytes: bytes.to_vec(),
        };
        shared.tell(event).await;
    }
}

async fn accept_one_way(shared: &Arc<Shared>, link: &Arc<Link>) {
    while let Ok(stream) = link.connection.accept_uni().await {
        let (shared, link) = (shared.clone(), link.clone());
        smol::spawn(async move {
            let read = read_messages(&shared, &link, stream);
            let gone = async {
                link.connection.closed().await;
            };
            or(read, gone).await;
        })
        .detach();
    }
}

/// Takes in what comes on a stream of one lane.
async fn read_messages(shared: &Shared, link: &Link, mut stream: RecvStream) {
    let lane = match frame::read_hello(&mut stream).await {
        Ok(kind) if !kind.may_open(Some(link.role)) => {
            let role = link.role;
            return link.accuse(&format!("a {role:?} may not open {kind:?}"));
        }
        Ok(Kind::Messages(lane)) => lane,
        Ok(kind) => return link.accuse(&format!("{kind:?} is a stream both ways")),
        Err(fault) => return refuse(link, None, &mut stream, fault),
    };
    loop {
        match read_message(link, lane, &mut stream).await {
            Ok(None) => return,
            Ok(Some(message)) if message.lane() != lane => {
                return link.accuse(&format!("a message of another lane on {lane:?}"));
            }
            Ok(Some(message)) if !message.may_send(link.role) => {
                let role = link.role;
                return link.accuse(&format!("a {role:?} may not say that on {lane:?}"));
            }
            Ok(Some(message)) => {
                let from = link.peer();
                shared.tell(Event::Received { from, message }).await;
            }
            Err(fault) => return refuse(link, None, &mut stream, fault),
        }
    }
}

async fn read_message(
    link: &Link,
    lane: Lane,
    stream: &mut RecvStream,
) -> Result<Option<Message>, Fault> {
    let Some(length) = frame::read_length(stream).await? else {
        return Ok(None);
    };
    let max = frame_max(link.role, lane);
    if length > max {
        return Err(Fault::TooLarge { bytes: length, max });
    }
    let _turn = match length > limits::LARGE_IN {
        true => Some(link.large_in.acquire().await),
        false => None,
    };
    let bytes = frame::read_body(stream, length).await?;
    frame::decode(&bytes, "message").map(Some)
}

/// What one frame may have, by who says it and where.
fn frame_max(role: NodeRole, lane: Lane) -> usize {
    match (role, lane) {
        (_, Lane::Gossip) => limits::GOSSIP_FRAME_MAX,
        (NodeRole::Worker, _) => limits::WORKER_FRAME_MAX,
        (NodeRole::Manager, _) => FRAME_MAX,
    }
}

async fn accept_both_ways(shared: &Arc<Shared>, link: &Arc<Link>) {
    while let Ok((send, receive)) = link.connection.accept_bi().await {
        let (shared, link) = (shared.clone(), link.clone());
        smol::spawn(async move { serve(&shared, link, send, receive).await }).detach();
    }
}

async fn serve(
    shared: &Arc<Shared>,
    link: Arc<Link>,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let held = Held::new(link.clone());
    match frame::read_hello(&mut receive).await {
        Ok(Kind::Api) => {
            let stream = Stream::new(send, receive, held);
            let from = link.peer();
            shared.tell(Event::Api { from, stream }).await;
        }
        Ok(Kind::Join) => {
            let from = link.connection.remote_address();
            if let Err(fault) = join::serve(shared, from, &mut send, &mut receive).await {
                refuse(&link, Some(&mut send), &mut receive, fault);
            }
        }
        Ok(kind) => link.accuse(&format!("{kind:?} is a stream one way")),
        Err(fault) => refuse(&link, Some(&mut send), &mut receive, fault),
    }
}

/// Ends a stream for what came on it, or the whole connection when no honest
/// peer would have sent it.
fn refuse(link: &Link, send: Option<&mut SendStream>, receive: &mut RecvStream, fault: Fault) {
    match fault {
        Fault::Gone(_) => {
            let _ = receive.stop(VarInt::from_u32(StreamCode::Gone as u32));
        }
        fault => match fault.stream_code() {
            Some(code) => {
                log::warn!("node {}: refused {fault}", link.node);
                let _ = receive.stop(code);
                if let Some(send) = send {
                    let _ = send.reset(code);
                }
            }
            None => link.accuse(&fault.to_string()),
        },
    }
}
