//! The user's terminal: raw mode that is always undone, its size, and the
//! keys that detach.

use std::io::{self, Read};
use std::sync::Mutex;

use rustix::termios::{self, OptionalActions, Termios};

/// How the terminal was before it was made raw; what a panic or a signal
/// puts back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

pub(super) fn stdin_is_terminal() -> bool {
    termios::isatty(io::stdin())
}

pub(super) fn stdout_is_terminal() -> bool {
    termios::isatty(io::stdout())
}

/// Rows and columns, when standard output is a terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Raw mode, until dropped.
pub(super) struct Raw(());

impl Raw {
    /// Makes the terminal on standard input raw; nothing when it is none.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !stdin_is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if let Ok(mut saved) = BEFORE.lock() {
            *saved = Some(before);
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was, if it was changed.
pub(super) fn restore() {
    if let Ok(mut saved) = BEFORE.try_lock()
        && let Some(before) = saved.take()
    {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// The keys that detach when no others are named: ctrl-p, ctrl-q.
const DETACH: &[u8] = &[16, 17];

/// Reads `ctrl-p,ctrl-q` or `ctrl-a,x`; nothing named means the default.
pub(super) fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(DETACH.to_vec());
    }
    let key = |name: &str| match name.as_bytes() {
        [plain] => Ok(*plain),
        [
            b'c' | b'C',
            b't' | b'T',
            b'r' | b'R',
            b'l' | b'L',
            b'-',
            key,
        ] => match key.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => Ok(letter - b'a' + 1),
            b'@' => Ok(0),
            b'[' => Ok(27),
            b'\\' => Ok(28),
            b']' => Ok(29),
            b'^' => Ok(30),
            b'_' => Ok(31),
            _ => Err(format!(
                "invalid detach keys ({text}): Unknown character: '{name}'"
            )),
        },
        _ => Err(format!(
            "invalid detach keys ({text}): Unknown character: '{name}'"
        )),
    };
    text.split(',').map(key).collect()
}

/// Input that ends when the detach keys are typed. Keys that may begin the
/// sequence are held back until it is clear whether they do.
pub(super) struct Escapable<R> {
    from: R,
    keys: Vec<u8>,
    /// Keys of the sequence seen so far.
    seen: usize,
    /// Bytes to give out before reading on.
    ready: Vec<u8>,
    pub(super) escaped: bool,
}

impl<R: Read> Escapable<R> {
    pub(super) fn new(from: R, keys: Vec<u8>) -> Self {
        Self {
            from,
            keys,
            seen: 0,
            ready: Vec::new(),
            escaped: false,
        }
    }

    fn take(&mut self, byte: u8) {
        if self.keys.get(self.seen) == Some(&byte) {
            self.seen += 1;
            self.escaped = self.seen == self.keys.len();
            return;
        }
        let held = self.keys.get(..self.seen).unwrap_or(&[]).to_vec();
        self.ready.extend(held);
        self.seen = 0;
        if self.keys.first() == Some(&byte) {
            self.seen = 1
        } else {
            self.ready.push(byte)
        }
    }
}

impl<R: Read> Read for Escapable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if self.escaped {
                return Ok(0);
            }
            let n = self.from.read(buf)?;
            if n == 0 {
                return Ok(0);
            }
            for byte in buf[..n].iter().copied() {
                self.take(byte);
                if self.escaped {
                    break;
                }
            }
        }
        let n = buf.len().min(self.ready.len());
        buf[..n].copy_from_slice(&self.ready[..n]);
        self.ready.drain(..n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut input = Escapable::new(bytes, detach_keys("").unwrap());
        let mut out = Vec::new();
        input.read_to_end(&mut out).unwrap();
        (out, input.escaped)
    }

    #[test]
    fn the_sequence_detaches_and_its_parts_pass() {
        assert_eq!(pass(b"ab\x10\x11cd"), (b"ab".to_vec(), true));
        assert_eq!(pass(b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(pass(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn keys_are_named() {
        assert_eq!(detach_keys("ctrl-a,x"), Ok(vec![1, b'x']));
        assert_eq!(
            detach_keys("foo").unwrap_err(),
            "invalid detach keys (foo): Unknown character: 'foo'"
        );
    }
}
