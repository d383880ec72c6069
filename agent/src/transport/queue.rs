//! What waits to be sent on one lane to one peer.
//!
//! **Invariant:** bounded in messages and bytes, and one message that is larger
//! than all that finds place beside: a snapshot that waits makes nothing else
//! wait. What a full queue does is the lane's policy, as `wire` writes it down.

use skep_control::wire::Lane;
use std::collections::VecDeque;

/// A message as it goes on a stream: length, then bytes.
pub(super) type Frame = Vec<u8>;

/// Messages that wait: at ten heartbeats a second a peer is long given up
/// before there are so many.
const MESSAGES_MAX: usize = 256;
/// Bytes that wait, those of a larger message apart. Assignments of thousands of
/// tasks are some hundred kilobytes.
const BYTES_MAX: usize = 1 << 20;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// It is gone: it will be repaired.
    Dropped,
    /// All that waited is gone with it: the peer must begin anew.
    Overflowed,
}

#[derive(Default)]
pub(super) struct Queue {
    frames: VecDeque<Frame>,
    /// Of all but the one that is larger.
    bytes: usize,
    has_larger: bool,
}

impl Queue {
    pub(super) fn push(&mut self, lane: Lane, frame: Frame) -> Pushed {
        let is_larger = frame.len() > BYTES_MAX;
        let has_place = match is_larger {
            true => !self.has_larger,
            false => self.bytes + frame.len() <= BYTES_MAX,
        };
        if !has_place || self.frames.len() >= MESSAGES_MAX {
            return match lane {
                Lane::Consensus | Lane::Gossip => Pushed::Dropped,
                Lane::Control => {
                    self.clear();
                    Pushed::Overflowed
                }
            };
        }
        match is_larger {
            true => self.has_larger = true,
            false => self.bytes += frame.len(),
        }
        self.frames.push_back(frame);
        Pushed::Queued
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        match frame.len() > BYTES_MAX {
            true => self.has_larger = false,
            false => self.bytes -= frame.len(),
        }
        Some(frame)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_dropped_but_on_control_all_of_it() {
        for (lane, end) in [
            (Lane::Consensus, Pushed::Dropped),
            (Lane::Gossip, Pushed::Dropped),
            (Lane::Control, Pushed::Overflowed),
        ] {
            let mut queue = Queue::default();
            for _ in 0..MESSAGES_MAX {
                assert_eq!(queue.push(lane, vec![1]), Pushed::Queued);
            }
            assert_eq!(queue.push(lane, vec![2]), end);
            let left = std::iter::from_fn(|| queue.pop()).count();
            let kept = if lane == Lane::Control {
                0
            } else {
                MESSAGES_MAX
            };
            assert_eq!(left, kept);
            assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn one_larger_message_waits_beside_the_others() {
        let mut queue = Queue::default();
        let large = || vec![0; BYTES_MAX + 1];
        assert_eq!(queue.push(Lane::Consensus, large()), Pushed::Queued);
        assert_eq!(queue.push(Lane::Consensus, large()), Pushed::Dropped);
        assert_eq!(queue.push(Lane::Consensus, vec![0]), Pushed::Queued);
        let rest = vec![0; BYTES_MAX];
        assert_eq!(queue.push(Lane::Consensus, rest), Pushed::Dropped);
        assert_eq!(queue.pop().map(|frame| frame.len()), Some(BYTES_MAX + 1));
        assert_eq!(queue.push(Lane::Consensus, large()), Pushed::Queued);
        assert_eq!(queue.pop().map(|frame| frame.len()), Some(1));
        assert_eq!(
            queue.push(Lane::Consensus, vec![0; BYTES_MAX]),
            Pushed::Queued
        );
    }
}
