//! The query part of an address, read as Docker reads it.

use super::time::parse_timestamp;
use crate::error::{Error, Result};
use skep_control::model::WallTime;

/// Parameters looked at; the API's longest list is images to save.
const PARAMETERS_MAX: usize = 1024;

/// Decoded parameters in the order given; a name may come more than once.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(raw: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(raw.unwrap_or("").as_bytes());
        Self(pairs.into_owned().take(PARAMETERS_MAX).collect())
    }

    /// The first value, or the empty string.
    pub(super) fn text(&self, name: &str) -> &str {
        self.optional(name).unwrap_or("")
    }

    /// The first value; `None` when the name is not there at all.
    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Docker's idea of a boolean: anything but these words is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    pub(super) fn flag_or(&self, name: &str, absent: bool) -> bool {
        match self.optional(name) {
            None => absent,
            Some(value) => {
                let value = value.trim().to_ascii_lowercase();
                !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
            }
        }
    }

    /// A whole number; absent and empty are `None`.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
            }),
        }
    }

    /// A number of the name, which must be there and fit.
    pub(super) fn required_number<T: TryFrom<i64>>(&self, name: &str) -> Result<T> {
        let number = self.number(name)?.unwrap_or(0);
        T::try_from(number)
            .map_err(|_| Error::invalid(format!("invalid value for {name}: {number}")))
    }

    /// Seconds with an optional fraction since 1970, or RFC 3339; absent,
    /// empty and 0 are `None`.
    pub(super) fn time(&self, name: &str) -> Result<Option<WallTime>> {
        match self.text(name) {
            "" => Ok(None),
            text => {
                let time = parse_timestamp(text)
                    .ok_or_else(|| Error::invalid(format!("invalid value for {name}: {text}")))?;
                Ok((!time.is_never()).then_some(time))
            }
        }
    }

    /// The `version` of an update, that every update of a swarm object needs.
    pub(super) fn version(&self) -> Result<u64> {
        let text = self.text("version");
        text.parse().map_err(|_| {
            let place = if text.is_empty() { "missing" } else { text };
            Error::invalid(format!("invalid swarm object version '{place}': strconv.ParseUint: parsing \"{text}\": invalid syntax"))
        })
    }
}

/// A path segment without its percent signs; `+` stays.
/// A segment of a path, or a value of a query, as it is written.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

pub(super) fn decode_path(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut left = segment.bytes();
    while let Some(byte) = left.next() {
        let hex = |b: u8| char::from(b).to_digit(16);
        let mut ahead = left.clone();
        match (byte, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                left = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_as_docker_reads_them() {
        let query = Query::parse(Some("a=1&b=0&c=False&d=none&e=&f=yes&g"));
        let on = |name| query.flag(name);
        assert!(on("a") && on("f"));
        assert!(!on("b") && !on("c") && !on("d") && !on("e") && !on("g") && !on("missing"));
        assert!(query.flag_or("missing", true) && !query.flag_or("b", true));
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("name=a%20b+c&names=x&names=y%2Fz"));
        assert_eq!(query.text("name"), "a b c");
        assert_eq!(query.all("names"), ["x", "y/z"]);
        assert_eq!(decode_path("a%2fb+%zz%4"), "a/b+%zz%4");
    }

    #[test]
    fn numbers_and_versions() {
        let query = Query::parse(Some("t=12&x=abc&version=7"));
        assert_eq!(query.number("t").unwrap(), Some(12));
        assert_eq!(query.number("missing").unwrap(), None);
        assert!(query.number("x").is_err());
        assert_eq!(query.version().unwrap(), 7);
        assert!(Query::parse(None).version().is_err());
    }
}
