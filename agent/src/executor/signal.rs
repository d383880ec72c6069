//! Signals by name or number, as Docker reads them.

use crate::error::{Error, Result};

/// Names without `SIG`, by the numbers that Linux has on all of skep's targets.
const NAMES: [(&str, i32); 37] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", 34),
    ("RTMAX", 64),
    ("UNUSED", 31),
];
/// The highest number.
const LAST: i32 = 64;

pub(super) const KILL: i32 = 9;
pub(super) const TERM: i32 = 15;

/// `TERM`, `sigterm`, `15`, `RTMIN+3`.
pub(super) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return match (1..=LAST).contains(&number) {
            true => Ok(number),
            false => Err(invalid()),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = |name: &str| {
        NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, number)| *number)
    };
    let number = match name.split_once(['+', '-']) {
        None => named(name),
        Some((base @ ("RTMIN" | "RTMAX"), offset)) => {
            let offset: i32 = offset.parse().map_err(|_| invalid())?;
            named(base).map(|base| {
                if name.contains('+') {
                    base + offset
                } else {
                    base - offset
                }
            })
        }
        Some(_) => None,
    };
    number
        .filter(|number| (1..=LAST).contains(number))
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("1", 1),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).expect(text), number);
        }
        for text in ["", "NOPE", "0", "65", "RTMIN+40", "TERM+1"] {
            assert_eq!(
                parse(text).expect_err(text).message,
                format!("invalid signal: {text}")
            );
        }
    }
}
