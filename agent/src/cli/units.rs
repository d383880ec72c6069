//! Sizes, durations and shares of a CPU, read and written in Docker's units.

/// Nanoseconds in a second.
pub(super) const SECOND: i64 = 1_000_000_000;

/// A size given with binary units: `512`, `64m`, `1.5GiB`.
pub(super) fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .ok_or_else(invalid)?;
    let number_end = match text.as_bytes().get(split + 1) {
        Some(b' ') => split + 2,
        _ => split + 1,
    };
    let (number, suffix) = (text[..=split].trim(), text.get(number_end..).unwrap_or(""));
    if text == "-1" {
        return Ok(-1);
    }
    let size: f64 = number.parse().map_err(|_| invalid())?;
    if size < 0.0 || !size.is_finite() {
        return Err(invalid());
    }
    let suffix = suffix.to_ascii_lowercase();
    let unit = suffix
        .strip_suffix("ib")
        .or_else(|| suffix.strip_suffix('b'))
        .unwrap_or(&suffix);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    Ok((size * 1024_f64.powi(power)) as i64)
}

/// Shares of a CPU in billionths: `0.5`, `1/4`.
pub(super) fn nano_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    if let Some((a, b)) = text.split_once('/') {
        let (a, b): (i128, i128) = (
            a.parse().map_err(|_| invalid())?,
            b.parse().map_err(|_| invalid())?,
        );
        if b == 0 {
            return Err(invalid());
        }
        if a * 1_000_000_000 % b != 0 {
            return Err("value is too precise".to_owned());
        }
        return i64::try_from(a * 1_000_000_000 / b).map_err(|_| invalid());
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Err(invalid());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| invalid())?
    };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    whole
        .checked_mul(SECOND)
        .and_then(|n| n.checked_add(fraction))
        .map(|n| sign * n)
        .ok_or_else(invalid)
}

/// A duration in nanoseconds: `300ms`, `-1.5h`, `2h45m`, `0`.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unknown => {
                return Err(format!(
                    "time: unknown unit {unknown:?} in duration {text:?}"
                ));
            }
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    Ok((sign * total).round() as i64)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let n = nanoseconds.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        match fraction {
            "" => (value / unit).to_string(),
            _ => format!("{}.{fraction}", value / unit),
        }
    };
    let text = match n {
        0..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(n, 1_000_000)),
        _ => {
            let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = format!("{}s", decimal(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// How long ago, roughly: `2 minutes`, `About an hour`.
pub(super) fn human_duration(seconds: i64) -> String {
    let hours = (seconds as f64 / 3600.0).round() as i64;
    let minutes = seconds / 60;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A size in powers of 1000: `1.24MB`.
pub(super) fn human_size(bytes: f64) -> String {
    scaled(
        bytes,
        1000.0,
        4,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
    )
}

/// [`human_size`] with three digits, as in tables.
pub(super) fn short_size(bytes: f64) -> String {
    scaled(
        bytes,
        1000.0,
        3,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
    )
}

/// A size in powers of 1024: `15.5GiB`.
pub(super) fn binary_size(bytes: f64) -> String {
    scaled(
        bytes,
        1024.0,
        4,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
    )
}

fn scaled(bytes: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let (mut size, mut unit) = (bytes, 0);
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// A number with so many significant digits and no trailing zeros: C's `%g`.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1))
        .parse()
        .unwrap_or(value);
    let magnitude = rounded.abs().log10().floor() as i32;
    let digits = digits as i32;
    if magnitude < -4 || magnitude >= digits {
        let text = format!("{rounded:.*e}", digits.saturating_sub(1) as usize);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!(
            "{mantissa}e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    let places = usize::try_from(digits - 1 - magnitude).unwrap_or(0);
    let text = format!("{rounded:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(ram_in_bytes("32"), Ok(32));
        assert_eq!(ram_in_bytes("32b"), Ok(32));
        assert_eq!(ram_in_bytes("32kB"), Ok(32 << 10));
        assert_eq!(ram_in_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(ram_in_bytes("-1"), Ok(-1));
        for bad in ["", "hello", "-32", " 32 b x"] {
            assert!(ram_in_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_written() {
        assert_eq!(human_size(1_240_000.0), "1.24MB");
        assert_eq!(human_size(0.0), "0B");
        assert_eq!(human_size(999.0), "999B");
        assert_eq!(human_size(1_234_567.0), "1.235MB");
        assert_eq!(short_size(1_234_567.0), "1.23MB");
        assert_eq!(binary_size(16.0 * 1024.0 * 1024.0), "16MiB");
        assert_eq!(binary_size(15.5 * 1024.0 * 1024.0 * 1024.0), "15.5GiB");
        assert_eq!(short_size(999_900.0), "1e+03kB");
    }

    #[test]
    fn cpus_are_read_exactly() {
        assert_eq!(nano_cpus("0.5"), Ok(500_000_000));
        assert_eq!(nano_cpus("1/4"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(
            nano_cpus("abc"),
            Err("failed to parse abc as a rational number".into())
        );
        assert_eq!(
            nano_cpus("0.0000000001"),
            Err("value is too precise".into())
        );
    }

    #[test]
    fn durations_go_both_ways() {
        assert_eq!(parse_duration("1m30s"), Ok(90 * SECOND));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(
            parse_duration("x"),
            Err("time: invalid duration \"x\"".into())
        );
        assert_eq!(
            parse_duration("5"),
            Err("time: missing unit in duration \"5\"".into())
        );
        assert_eq!(
            parse_duration("5q"),
            Err("time: unknown unit \"q\" in duration \"5q\"".into())
        );
        assert_eq!(duration(90 * SECOND), "1m30s");
        assert_eq!(duration(2160 * 3600 * SECOND), "2160h0m0s");
        assert_eq!(duration(1_500_000_000), "1.5s");
        assert_eq!(duration(300_000_000), "300ms");
        assert_eq!(duration(0), "0s");
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!(human_duration(0), "Less than a second");
        assert_eq!(human_duration(59), "59 seconds");
        assert_eq!(human_duration(60), "About a minute");
        assert_eq!(human_duration(45 * 60), "45 minutes");
        assert_eq!(human_duration(3600), "About an hour");
        assert_eq!(human_duration(46 * 3600), "46 hours");
        assert_eq!(human_duration(60 * 3600), "2 days");
        assert_eq!(human_duration(24 * 3600 * 20), "2 weeks");
    }
}
