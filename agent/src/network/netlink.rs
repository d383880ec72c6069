//! A conversation with the kernel over netlink: requests out, acknowledgements
//! and dumps in.
//!
//! Owns framing, sequence numbers and errors; what the bytes mean is its
//! users' business (rtnetlink's types for links, our own attributes for
//! nf_tables and conntrack). Invariant: one request at a time, and every reply
//! of a request is read before the next one is sent. Blocking: the kernel
//! answers inside `send`, so nothing here waits for another party. A socket
//! stays in the network namespace in which its thread opened it.

use crate::error::{Error, Result};
use rtnetlink::sys::{Socket, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Bytes of a message header.
const HEADER: usize = 16;
/// Bytes asked for at both ends of the socket: a ruleset of some thousand
/// rules goes out as one message, and one acknowledgement a message comes in.
static BUFFER_BYTES: libc::c_int = 8 << 20;
/// Bytes received at once: the kernel's largest dump datagram is 32 KiB.
const RECEIVE_BYTES: usize = 64 << 10;
/// A dump that the tables changed under is asked for again; so often at most.
const DUMP_TRIES: usize = 8;

/// What a request's header says beside its length.
pub(super) mod flag {
    pub(in crate::network) const REQUEST: u16 = 0x1;
    pub(in crate::network) const ACK: u16 = 0x4;
    pub(in crate::network) const DUMP: u16 = 0x300;
    pub(in crate::network) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(in crate::network) const EXCLUSIVE: u16 = 0x200;
    pub(in crate::network) const REPLACE: u16 = 0x100;
    pub(in crate::network) const CREATE: u16 = 0x400;
    pub(in crate::network) const APPEND: u16 = 0x800;
}

const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

/// One message of a dump: its kind and its payload.
pub(super) type Dumped = (u16, Vec<u8>);

/// One message: kind, flags, payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) payload: Vec<u8>,
}

/// A refusal: which message of those sent, and the kernel's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Position in what was sent.
    pub(super) message: usize,
    /// Positive errno.
    pub(super) errno: i32,
}

impl Refusal {
    pub(super) fn text(&self) -> String {
        std::io::Error::from_raw_os_error(self.errno).to_string()
    }
}

/// An open netlink socket.
pub(super) struct Conversation {
    socket: Socket,
    sequence: u32,
}

impl Conversation {
    /// `protocol`: `NETLINK_ROUTE`, `NETLINK_NETFILTER`.
    pub(super) fn open(protocol: isize) -> Result<Self> {
        let mut socket = Socket::new(protocol).map_err(|e| failed("open", &e))?;
        for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
            // SAFETY: an int option of an open socket, passed with its size.
            // A refusal leaves the default size, which does for small rulesets.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const BUFFER_BYTES).cast(),
                    size_of_val(&BUFFER_BYTES) as libc::socklen_t,
                );
            }
        }
        socket.bind_auto().map_err(|e| failed("bind", &e))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(|e| failed("connect", &e))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// For calls that need any socket of its namespace.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends all of them in one datagram and returns what the kernel refused.
    /// Only the last one is acknowledged; errors come for each.
    pub(super) fn send(&mut self, messages: &[Message]) -> Result<Vec<Refusal>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (position, message) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let last = position + 1 == messages.len();
            let flags = message.flags | flag::REQUEST | if last { flag::ACK } else { 0 };
            frame(
                &mut bytes,
                message.kind,
                flags,
                self.sequence,
                &message.payload,
            );
        }
        self.socket
            .send(&bytes, 0)
            .map_err(|e| failed("send to", &e))?;
        let mut refusals = Vec::new();
        // The kernel has put every reply into the queue before `send` returned.
        while let Some(datagram) = self.receive()? {
            for reply in split(&datagram) {
                if reply.kind != KIND_ERROR {
                    continue;
                }
                let errno = errno_of(reply.payload);
                let message = reply.sequence.wrapping_sub(first) as usize;
                if errno != 0 && message < messages.len() {
                    refusals.push(Refusal { message, errno });
                }
            }
        }
        Ok(refusals)
    }

    /// Sends one request that has one answer (kind and payload).
    pub(super) fn ask(&mut self, request: &Message) -> Result<Option<(u16, Vec<u8>)>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let flags = request.flags | flag::REQUEST;
        frame(
            &mut bytes,
            request.kind,
            flags,
            self.sequence,
            &request.payload,
        );
        self.socket
            .send(&bytes, 0)
            .map_err(|e| failed("send to", &e))?;
        let mut answer = None;
        while let Some(datagram) = self.receive()? {
            for reply in split(&datagram) {
                if reply.sequence == self.sequence && reply.kind != KIND_ERROR {
                    answer = Some((reply.kind, reply.payload.to_vec()));
                }
            }
        }
        Ok(answer)
    }

    /// Sends one request and gives its answers (kind and payload).
    pub(super) fn dump(&mut self, request: &Message) -> Result<Vec<Dumped>> {
        for _ in 0..DUMP_TRIES {
            if let Some(answers) = self.dump_once(request)? {
                return Ok(answers);
            }
        }
        Err(Error::internal(
            "netlink: the kernel's tables changed during each of several dumps",
        ))
    }

    /// `None`: the tables changed while they were read.
    fn dump_once(&mut self, request: &Message) -> Result<Option<Vec<Dumped>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let flags = request.flags | flag::REQUEST | flag::DUMP;
        frame(
            &mut bytes,
            request.kind,
            flags,
            self.sequence,
            &request.payload,
        );
        self.socket
            .send(&bytes, 0)
            .map_err(|e| failed("send to", &e))?;
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            // A dump goes on while it is read: its datagrams may come one by one.
            let Some(datagram) = self.receive()? else {
                return Err(Error::internal("netlink: a dump ended without its end"));
            };
            for reply in split(&datagram) {
                if reply.sequence != self.sequence {
                    continue;
                }
                whole &= reply.flags & flag::DUMP_INTERRUPTED == 0;
                match reply.kind {
                    KIND_DONE => return Ok(whole.then_some(answers)),
                    KIND_ERROR => {
                        let errno = errno_of(reply.payload);
                        let error = std::io::Error::from_raw_os_error(errno);
                        return Err(failed("dump from", &error));
                    }
                    kind => answers.push((kind, reply.payload.to_vec())),
                }
            }
        }
    }

    /// The next datagram, `None` when there is none.
    fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut bytes: Vec<u8> = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            match self.socket.recv(&mut bytes, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(failed("receive from", &e)),
            }
        }
    }
}

fn failed(what: &str, error: &std::io::Error) -> Error {
    Error::internal(format!("netlink: {what} the kernel: {error}"))
}

fn frame(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = (HEADER + payload.len()) as u32;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram; a malformed rest is left out.
fn split(mut bytes: &[u8]) -> Vec<Reply<'_>> {
    let mut replies = Vec::new();
    while let (Some(length), Some(kind), Some(flags), Some(sequence)) = (
        u32_at(bytes, 0),
        u16_at(bytes, 4),
        u16_at(bytes, 6),
        u32_at(bytes, 8),
    ) {
        let length = length as usize;
        let Some(payload) = bytes.get(HEADER..length) else {
            break;
        };
        replies.push(Reply {
            kind,
            flags,
            sequence,
            payload,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    replies
}

/// Positive errno of an error message, 0 of an acknowledgement.
fn errno_of(payload: &[u8]) -> i32 {
    u32_at(payload, 0).map_or(libc::EBADMSG, |code| (code as i32).wrapping_neg())
}

/// Native-endian numbers at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(two.try_into().ok()?))
}

/// Bit of an attribute's kind: its value is attributes again.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's kind that are the kind.
const KIND_MASK: u16 = 0x3fff;

/// Attributes (kind, length, value) as they are written, for the netfilter
/// protocols; numbers in them are big-endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string, with the zero that ends it.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nest(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The value of the first attribute of a kind.
pub(super) fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    while let (Some(length), Some(found)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let value = bytes.get(4..length)?;
        if found & KIND_MASK == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let bytes = Attributes::default()
            .text(1, "skep")
            .be32(2, 7)
            .nest(3, Attributes::default().bytes(9, &[1]))
            .into_bytes();
        assert_eq!(bytes.len(), 12 + 8 + 4 + 8);
        assert_eq!(attribute(&bytes, 1), Some(&b"skep\0"[..]));
        assert_eq!(attribute(&bytes, 2), Some(&[0, 0, 0, 7][..]));
        let inner = attribute(&bytes, 3).unwrap();
        assert_eq!(attribute(inner, 9), Some(&[1][..]));
        assert_eq!(attribute(&bytes, 4), None);
    }

    #[test]
    fn torn_input_ends_the_reading_and_nothing_else() {
        let mut bytes = Vec::new();
        frame(&mut bytes, 16, 0, 1, &[1, 2, 3]);
        frame(&mut bytes, 17, 0, 2, &[]);
        assert_eq!(split(&bytes).len(), 2);
        for end in 0..bytes.len() {
            split(&bytes[..end]);
            attribute(&bytes[..end], 1);
        }
        assert!(split(&[0; 64]).is_empty(), "a length of zero must not loop");
        assert_eq!(attribute(&[0; 64], 1), None);
    }
}
