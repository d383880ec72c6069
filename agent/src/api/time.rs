//! Times as clients write them and as people read them.

use crate::error::{Error, Result};
use skep_control::model::{SECOND, WallTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock, for what is shown to people.
pub(super) fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// `1700000000`, `1700000000.5`, `2023-11-14T22:13:20Z`.
pub(super) fn parse_timestamp(text: &str) -> Option<WallTime> {
    if text.is_empty() {
        return None;
    }
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let quoted = serde_json::Value::String(text.to_owned());
        return serde_json::from_value(quoted).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: i64 = digits.parse().ok()?;
    Some(WallTime(seconds.checked_mul(SECOND)?.checked_add(nanos)?))
}

/// The `until` filter: a moment, or how long ago (`10m`, `1h30m`).
pub(super) fn until(text: &str, now: WallTime) -> Result<WallTime> {
    parse_duration(text)
        .map(|ago| WallTime(now.0.saturating_sub(ago)))
        .or_else(|| parse_timestamp(text))
        .ok_or_else(|| Error::invalid(format!("invalid until filter: {text}")))
}

/// Go's durations, in nanoseconds: `300ms`, `1.5h`, `2h45m`.
fn parse_duration(text: &str) -> Option<i64> {
    let mut left = text;
    let mut nanos = 0.0;
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = left.split_at(digits);
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        let unit_nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * unit_nanos;
        left = rest;
    }
    (!text.is_empty()).then_some(nanos as i64)
}

/// Docker's rough words: `About a minute`, `3 hours`, `2 weeks`.
pub(super) fn human_duration(nanos: i64) -> String {
    let seconds = nanos.max(0) / SECOND;
    let minutes = seconds / 60;
    let hours = (nanos.max(0) as f64 / (3600.0 * SECOND as f64)).round() as i64;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..=59 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_all_forms() {
        let at = WallTime(1_700_000_000 * SECOND);
        assert_eq!(parse_timestamp("1700000000"), Some(at));
        assert_eq!(
            parse_timestamp("1700000000.000000001"),
            Some(WallTime(at.0 + 1))
        );
        assert_eq!(
            parse_timestamp("1700000000.5"),
            Some(WallTime(at.0 + SECOND / 2))
        );
        assert_eq!(parse_timestamp("2023-11-14T22:13:20Z"), Some(at));
        assert_eq!(parse_timestamp("2023-11-14T23:13:20+01:00"), Some(at));
        for bad in ["x", "1.x", "1e9", "99999999999999999999"] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn until_is_a_moment_or_an_age() {
        let now = WallTime(10_000 * SECOND);
        assert_eq!(until("1h30m", now).unwrap(), WallTime(4_600 * SECOND));
        assert_eq!(
            until("500ms", now).unwrap(),
            WallTime(10_000 * SECOND - SECOND / 2)
        );
        assert_eq!(until("7", now).unwrap(), WallTime(7 * SECOND));
        assert!(until("soon", now).is_err() && until("", now).is_err());
    }

    #[test]
    fn durations_as_docker_says_them() {
        let said = |seconds: i64| human_duration(seconds * SECOND);
        assert_eq!(said(0), "Less than a second");
        assert_eq!(said(1), "1 second");
        assert_eq!(said(59), "59 seconds");
        assert_eq!(said(60), "About a minute");
        assert_eq!(said(120), "2 minutes");
        assert_eq!(said(3600), "About an hour");
        assert_eq!(said(3 * 3600), "3 hours");
        assert_eq!(said(47 * 3600), "47 hours");
        assert_eq!(said(72 * 3600), "3 days");
        assert_eq!(said(24 * 3600 * 21), "3 weeks");
        assert_eq!(said(24 * 3600 * 90), "3 months");
        assert_eq!(said(24 * 3600 * 365 * 3), "3 years");
    }
}
