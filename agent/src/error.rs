//! The one error that crosses module borders on a node: what kind of failure
//! it is (the API turns that into a status code) and a message for a person.

use std::fmt;

/// What went wrong, in the API's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 304: already so; nothing was done.
    NotModified,
    /// 400: the request itself is wrong.
    Invalid,
    /// 403: known, and not allowed.
    Forbidden,
    /// 404: no such object.
    NotFound,
    /// 409: the object's state does not allow it.
    Conflict,
    /// 500: it failed, and it is not the caller's fault.
    Internal,
    /// 501: skep does not do this.
    NotImplemented,
    /// 503: not now: no swarm, not a manager, no quorum, locked.
    Unavailable,
}

/// A failure with a message that names the input, the place and the way out.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($name:ident => $kind:ident;)*) => {$(
        pub(crate) fn $name(message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, message: message.into() }
        }
    )*};
}

impl Error {
    constructors! {
        not_modified => NotModified;
        invalid => Invalid;
        forbidden => Forbidden;
        not_found => NotFound;
        conflict => Conflict;
        internal => Internal;
        not_implemented => NotImplemented;
        unavailable => Unavailable;
    }

    /// The same failure with where it happened in front.
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
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

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::internal(e.to_string())
    }
}

impl From<skep_images::Error> for Error {
    fn from(error: skep_images::Error) -> Self {
        let kind = match error.kind {
            skep_images::Kind::Invalid => Kind::Invalid,
            skep_images::Kind::NotFound => Kind::NotFound,
            skep_images::Kind::Conflict => Kind::Conflict,
            skep_images::Kind::Internal => Kind::Internal,
        };
        Self {
            kind,
            message: error.message,
        }
    }
}

impl From<skep_control::engine::Refusal> for Error {
    fn from(refusal: skep_control::engine::Refusal) -> Self {
        use skep_control::engine::Kind as Why;
        let kind = match refusal.kind {
            Why::Invalid => Kind::Invalid,
            Why::NotFound => Kind::NotFound,
            Why::Conflict => Kind::Conflict,
            Why::Internal => Kind::Internal,
            Why::NotImplemented => Kind::NotImplemented,
            Why::Unavailable | Why::NotLeader => Kind::Unavailable,
        };
        Self {
            kind,
            message: refusal.message,
        }
    }
}
