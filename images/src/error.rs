//! The library's one error: which kind of answer it is to the caller, and a
//! message that names the input, the place and the reason. Where Docker has
//! a wording for a refusal, the message is Docker's.

use std::{fmt, io};

/// What went wrong, in the terms a caller acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The input is wrong: a name, an archive, a change line. Nothing was stored.
    Invalid,
    /// No such image, tag or blob. Nothing was changed.
    NotFound,
    /// The image is in use or has other names. Nothing was changed.
    Conflict,
    /// The disk or the store itself failed. What was stored before is whole.
    Internal,
}

/// A failure of the image library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What the caller may do about it.
    pub kind: Kind,
    /// For a person; lower case, no full stop.
    pub message: String,
}

/// What every fallible function of this library gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Invalid,
            message: message.into(),
        }
    }

    /// There is no such thing here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::NotFound,
            message: message.into(),
        }
    }

    /// The state of the image does not allow it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Conflict,
            message: message.into(),
        }
    }

    /// The disk or the store failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Internal,
            message: message.into(),
        }
    }

    /// The same failure with where it happened in front.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        // Bytes that end early or do not decode are the sender's fault.
        let kind = match e.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput => Kind::Invalid,
            _ => Kind::Internal,
        };
        Self {
            kind,
            message: words(&e),
        }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(e: rustix::io::Errno) -> Self {
        io::Error::from(e).into()
    }
}

/// An I/O error in Docker's words: no `(os error 28)` tail, lower case.
fn words(e: &io::Error) -> String {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        return "unexpected EOF".into();
    }
    let text = e.to_string();
    match (e.raw_os_error(), text.find(" (os error")) {
        (Some(_), Some(end)) => text[..end].to_lowercase(),
        _ => text,
    }
}
