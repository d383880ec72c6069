//! One connection to the shim, as the shim sees it.

use super::wire::{Answer, Attach, REQUEST_BYTES_MAX, Source};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What a connection is for.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// Its request has not come, or is answered: it may send another.
    Asking,
    /// For the container's end.
    Waiting,
    /// For this exec's end.
    WaitingForExec(String),
    /// Carries a process's stdio: its number, and which streams.
    Streaming(u64, Attach),
}

impl PartialEq for Role {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Asking, Self::Asking) | (Self::Waiting, Self::Waiting) => true,
            (Self::WaitingForExec(a), Self::WaitingForExec(b)) => a == b,
            (Self::Streaming(a, _), Self::Streaming(b, _)) => a == b,
            _ => false,
        }
    }
}

/// A connection.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) fd: OwnedFd,
    pub(super) role: Role,
    /// Packets that its socket had no room for; while there are any, nothing
    /// more is read from the process, so they stay few.
    queue: VecDeque<Vec<u8>>,
    blocked_since: Option<Instant>,
    input_ended: bool,
    /// To go once its queue is sent.
    closing: bool,
    dead: bool,
}

impl Client {
    pub(super) fn new(id: u64, fd: OwnedFd) -> Self {
        Self {
            id,
            fd,
            role: Role::Asking,
            queue: VecDeque::new(),
            blocked_since: None,
            input_ended: false,
            closing: false,
            dead: false,
        }
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        if let Ok(packet) = postcard::to_allocvec(answer) {
            self.send(&packet);
        }
    }

    /// Sends now or when there is room, in order.
    pub(super) fn send(&mut self, packet: &[u8]) {
        if self.queue.is_empty() {
            match net::send(&self.fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => return,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return self.die(),
            }
        }
        self.blocked_since.get_or_insert_with(Instant::now);
        self.queue.push_back(packet.to_vec());
    }

    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            match net::send(&self.fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => {
                    self.queue.pop_front();
                    self.blocked_since = Some(Instant::now());
                }
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => return,
                Err(_) => return self.die(),
            }
        }
        self.blocked_since = None;
        self.dead |= self.closing;
    }

    /// A packet; 0 bytes at the end of what it sends; `None` for nothing now.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        match net::recv(&self.fd, buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Some(length),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(0),
        }
    }

    /// A request, in memory of its own; empty at the end of what it sends.
    pub(super) fn receive_request(&self) -> Option<Vec<u8>> {
        // The packet's whole length, without taking it.
        let look = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
        let length = match net::recv(&self.fd, &mut [0; 1][..], look) {
            Ok((_, length)) => length.min(REQUEST_BYTES_MAX),
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => 0,
        };
        let mut packet = vec![0; length];
        if length > 0 {
            self.receive(&mut packet)?;
        }
        Some(packet)
    }

    pub(super) fn stop_input(&mut self) {
        self.input_ended = true;
    }

    /// Closes once all is sent.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn blocked(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn blocked_for(&self) -> Option<Duration> {
        self.blocked_since
            .filter(|_| self.blocked())
            .map(|since| since.elapsed())
    }

    /// Whether to listen for what it says beside stdin: a request, or its end.
    pub(super) fn is_asking(&self) -> bool {
        !matches!(self.role, Role::Streaming(..))
    }

    pub(super) fn stream(&self) -> Option<(u64, Attach)> {
        match self.role {
            Role::Streaming(number, attach) => Some((number, attach)),
            _ => None,
        }
    }

    pub(super) fn streams(&self, number: u64) -> bool {
        self.stream().is_some_and(|(of, _)| of == number)
    }

    pub(super) fn sends_input(&self) -> bool {
        !self.input_ended && self.stream().is_some_and(|(_, attach)| attach.stdin)
    }

    pub(super) fn wants(&self, number: u64, source: Source) -> bool {
        self.stream().is_some_and(|(of, attach)| {
            let asked = match source {
                Source::Stdout => attach.stdout,
                Source::Stderr => attach.stderr,
            };
            of == number && asked && !self.closing
        })
    }
}
