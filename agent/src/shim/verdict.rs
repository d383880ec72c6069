//! How a start went, told across the forks between a shim and the program.
//!
//! One pipe: its writing end is inherited by the process that calls
//! libcontainer and by the container's first process, and closes on exec. Who
//! fails writes why; the reader's end of file therefore means that everybody
//! is done and, if there was no failure, that the program runs.

use super::wire::{Failure, Started};
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Bytes of all that is ever said on one pipe: fits a pipe's buffer, so that
/// a writer never waits for the reader.
const BYTES_MAX: usize = 32 * 1024;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Started(Started),
    Failed(Failure),
}

/// The writing end.
#[derive(Clone)]
pub(super) struct Verdict(Rc<OwnedFd>);

/// The reading end and what came so far.
pub(super) struct Pending {
    pub(super) pipe: OwnedFd,
    bytes: Vec<u8>,
}

/// A new pipe.
pub(super) fn pipe() -> std::io::Result<(Pending, Verdict)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pending = Pending {
        pipe: reader,
        bytes: Vec::new(),
    };
    Ok((pending, Verdict(Rc::new(writer))))
}

impl Verdict {
    pub(super) fn fail(&self, failure: &Failure) {
        self.say(&Message::Failed(Failure {
            exit_code: failure.exit_code,
            message: failure.message.chars().take(BYTES_MAX / 16).collect(),
        }));
    }

    pub(super) fn start(&self, started: Started) {
        self.say(&Message::Started(started));
    }

    fn say(&self, message: &Message) {
        if let Ok(bytes) = postcard::to_allocvec_cobs(message) {
            let _ = rustix::io::write(self.0.as_fd(), &bytes);
        }
    }
}

impl Pending {
    /// Reads what there is; `None` while somebody may still speak.
    pub(super) fn read(&mut self) -> Option<Result<Started, Failure>> {
        let mut buffer = [0; 512];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => return Some(self.verdict()),
                Ok(length) if self.bytes.len() < BYTES_MAX => {
                    self.bytes.extend(buffer.iter().take(length));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(_) => return Some(self.verdict()),
            }
        }
    }

    /// The first failure is the cause of those that follow it.
    fn verdict(&mut self) -> Result<Started, Failure> {
        let mut started = Err(Failure {
            exit_code: 128,
            message: "OCI runtime create failed: the runtime ended without a word".to_owned(),
        });
        for frame in self.bytes.split_mut(|byte| *byte == 0) {
            match postcard::from_bytes_cobs(frame) {
                Ok(Message::Failed(failure)) => return Err(failure),
                Ok(Message::Started(there)) => started = Ok(there),
                Err(_) => {}
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_wins_and_silence_is_one() {
        let (mut pending, verdict) = pipe().unwrap();
        drop(verdict);
        assert!(pending.read().unwrap().is_err());

        let (mut pending, verdict) = pipe().unwrap();
        verdict.start(Started {
            pid: 7,
            ..Started::default()
        });
        drop(verdict);
        assert_eq!(pending.read().unwrap().unwrap().pid, 7);

        let (mut pending, verdict) = pipe().unwrap();
        for reason in ["cause", "consequence"] {
            verdict.fail(&Failure {
                exit_code: 127,
                message: reason.to_owned(),
            });
        }
        verdict.start(Started::default());
        drop(verdict);
        assert_eq!(pending.read().unwrap().unwrap_err().message, "cause");
    }
}
