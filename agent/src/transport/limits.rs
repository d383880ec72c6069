//! How much of everything, and why.

use std::time::Duration;

// Time. Nothing here is sent to keep a connection alive: probes flow anyway.

/// A connection on which nothing was said for so long ends by itself; both
/// sides must be silent. Probes go round a cluster of up to a hundred nodes
/// meanwhile, so that a handshake a probe is not the rule.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// A peer that leaves what was sent to it without a sign of life for so long
/// is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
/// How often that is looked at.
pub(super) const WATCH: Duration = Duration::from_secs(2);
/// A handshake, from the first packet to the peer's consent.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);
/// Before a network has been measured, the round trip is taken to be this: a
/// lost first packet is sent again after three of it, where QUIC's default
/// waits a second.
pub(super) const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Pause after the first failed dial; doubles with each.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause: with [`HANDSHAKE`], how late a node that is back is found by
/// those who dial it.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Failed dials after which a node is looked for on the local link.
pub(super) const SEARCH_AFTER: u32 = 2;
/// Two connections made within so short a time were dialed at once from both
/// sides. One made later means that its dialer had lost the first.
pub(super) const AT_ONCE: Duration = Duration::from_secs(2);
/// A connection that another replaced is kept for so long, for what is under
/// way on it.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// For a sign of life from a node that seems to be at two places.
pub(super) const ALIVE: Duration = Duration::from_millis(1500);
/// Between two bytes of one frame, and for the first frame of a stream.
pub(super) const FRAME_STALL: Duration = Duration::from_secs(15);
/// Before a lane that the peer refused is tried again.
pub(super) const REFUSED: Duration = Duration::from_secs(2);
/// A manager's judgement on a join goes through consensus.
pub(super) const JOIN: Duration = Duration::from_secs(30);
/// For a node to be reached when a stream to it is wanted.
pub(super) const REACH: Duration = Duration::from_secs(6);
/// For the last words at the end.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

// Bytes a connection. An idle one holds no windows, only what is unread or
// unacknowledged counts: these bound a peer that is slow or hostile.

/// Unread bytes of one stream: 100 Mbit/s at a round trip of 20 ms.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// Unread bytes of a connection.
pub(super) const CONNECTION_WINDOW: u32 = 512 << 10;
/// Bytes sent and not yet acknowledged.
pub(super) const SEND_WINDOW: u64 = 512 << 10;
/// Datagrams that nobody has read yet; the oldest go first.
pub(super) const DATAGRAMS_IN: usize = 64 << 10;
/// Datagrams that could not be sent yet; the oldest go first.
pub(super) const DATAGRAMS_OUT: usize = 16 << 10;
/// Of a handshake in pieces: two certificates have some thousand bytes.
pub(super) const HANDSHAKE_BYTES: usize = 16 << 10;

// Counts a connection.

/// One way, opened by the peer: three lanes, the large messages beside them,
/// and those of a lane that is moving over.
pub(super) const STREAMS_ONE_WAY: u32 = 16;
/// Both ways, opened by the peer: each is a request or somebody's terminal.
pub(super) const STREAMS_BOTH_WAYS: u32 = 64;
/// Of a peer that has proven nothing.
pub(super) const STREAMS_ANONYMOUS: u32 = 1;
/// Large messages sent beside the lanes at once.
pub(super) const LARGE_AT_ONCE: usize = 2;
/// Connections to one peer that linger: one is the rule.
pub(super) const LINGERING_MAX: usize = 3;
/// Datagrams kept while a node is dialed: a probe is worthless a second later.
pub(super) const DATAGRAMS_KEPT: usize = 4;

// Counts of the endpoint.

/// Handshakes under way that others began; beyond, packets are ignored, and
/// come again.
pub(super) const HANDSHAKES_MAX: usize = 128;
/// From here on a stranger must first show that its address is its own.
pub(super) const HANDSHAKES_UNPROVEN: usize = 32;
/// Connections without a certificate at once.
pub(super) const STRANGERS_MAX: usize = 64;
/// Joins under way.
pub(super) const JOINS_MAX: usize = 32;

// Frames.

/// A larger message goes beside its lane where order does not matter, so that
/// a snapshot holds up no heartbeat. In bytes.
pub(super) const LARGE: usize = 64 << 10;
/// Frames above this are taken in one at a time from a connection. In bytes.
pub(super) const LARGE_IN: usize = 256 << 10;
/// What a worker may say in one frame, in bytes: a report of a hundred
/// thousand tasks fits.
pub(super) const WORKER_FRAME_MAX: usize = 16 << 20;
/// One frame of gossip, in bytes: deltas and digests are small.
pub(super) const GOSSIP_FRAME_MAX: usize = 1 << 20;
/// The first frame of a stream, in bytes.
pub(super) const HELLO_MAX: usize = 64;
/// What is asked to join, and the answer, in bytes.
pub(super) const JOIN_FRAME_MAX: usize = 64 << 10;
/// A frame is read in pieces of so many bytes, so that one that only claims
/// to be large takes no memory.
pub(super) const PIECE: usize = 64 << 10;
