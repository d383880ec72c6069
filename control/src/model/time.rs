//! Wall time as data. Nothing here reads a clock: the shell passes the time in.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// Milliseconds on this node's monotonic clock, which runs while the machine
/// sleeps (`CLOCK_BOOTTIME`) and starts anew with the machine. Every decision
/// about time is made on it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Millis {
    /// Later by a duration of the API (nanoseconds, negative as zero), rounded up.
    pub fn plus_nanos(self, nanos: i64) -> Self {
        let nanos = u64::try_from(nanos).unwrap_or(0);
        Self(self.0.saturating_add(nanos.div_ceil(1_000_000)))
    }
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
    /// Milliseconds since `earlier`; zero if it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds since 1970-01-01 UTC; for people to read, never to decide by.
/// RFC 3339 with nanoseconds in JSON, a number elsewhere. Zero is Docker's
/// "never", `0001-01-01T00:00:00Z` in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl WallTime {
    pub const NEVER: Self = Self(0);

    pub fn is_never(self) -> bool {
        self.0 == 0
    }
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let at = DateTime::<Utc>::from_timestamp_nanos(self.0);
        f.write_str(&at.to_rfc3339_opts(SecondsFormat::Nanos, true))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(self)
        } else {
            to.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return i64::deserialize(from).map(Self);
        }
        let text = String::deserialize(from)?;
        if text.is_empty() || text.starts_with("0001-01-01") {
            return Ok(Self::NEVER);
        }
        let at = DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
        Ok(Self(at.timestamp_nanos_opt().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_rfc3339_with_nine_digits() {
        assert_eq!(
            WallTime(1_700_000_000_000_000_001).to_string(),
            "2023-11-14T22:13:20.000000001Z"
        );
        assert_eq!(WallTime::NEVER.to_string(), "0001-01-01T00:00:00Z");
    }
}
