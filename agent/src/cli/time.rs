//! Moments: RFC 3339 in and out, Docker's `--since` forms, local time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::units;

/// A moment: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// A day and a time of it, with the offset from UTC in seconds and the zone's
/// name.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    offset: i32,
    zone: String,
}

pub(super) fn now() -> Moment {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment {
        seconds: i64::try_from(since.as_secs()).unwrap_or(0),
        nanoseconds: since.subsec_nanos(),
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Moment {
    /// Reads RFC 3339, also without a zone (then local), time or seconds.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = match text.split_once(['T', ' ']) {
            Some((date, rest)) => (date, rest),
            None => (text, ""),
        };
        let mut parts = date.splitn(3, '-');
        let year: i64 = parts.next()?.parse().ok()?;
        let month: u32 = parts.next()?.parse().ok()?;
        let day: u32 = parts.next()?.parse().ok()?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(zone_at);
        let mut parts = clock.trim().splitn(3, ':');
        let mut number = || -> Option<u32> {
            match parts.next() {
                None | Some("") => Some(0),
                Some(text) => text.split('.').next()?.parse().ok(),
            }
        };
        let (hour, minute, second) = (number()?, number()?, number()?);
        let fraction = clock.split_once('.').map_or("", |(_, f)| f.trim());
        let nanoseconds = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction))
            .parse()
            .ok()?;
        let clock_seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let naive = days_from_civil(year, month, day) * 86_400 + clock_seconds;
        let offset = match zone.as_bytes().first() {
            Some(b'Z') => 0,
            Some(sign) => {
                let digits: String = zone[1..]
                    .chars()
                    .filter(char::is_ascii_digit)
                    .take(4)
                    .collect();
                let number: i64 = digits.parse().ok()?;
                let seconds = number / 100 * 3600 + number % 100 * 60;
                if *sign == b'-' { -seconds } else { seconds }
            }
            None => i64::from(
                Self {
                    seconds: naive,
                    nanoseconds: 0,
                }
                .local()
                .offset,
            ),
        };
        Some(Self {
            seconds: naive - offset,
            nanoseconds,
        })
    }

    /// What `--since` and `--until` mean: a moment, a count of seconds since
    /// 1970, or a duration back from now; as the API takes it.
    pub(super) fn api_parameter(text: &str) -> String {
        if let Ok(back) = units::parse_duration(text) {
            let now = now();
            let total = i128::from(now.seconds) * 1_000_000_000 + i128::from(now.nanoseconds)
                - i128::from(back);
            return format!(
                "{}.{:09}",
                total.div_euclid(1_000_000_000),
                total.rem_euclid(1_000_000_000)
            );
        }
        if text.parse::<f64>().is_ok() {
            return text.to_owned();
        }
        match Self::parse(text) {
            Some(m) => format!("{}.{:09}", m.seconds, m.nanoseconds),
            None => text.to_owned(),
        }
    }

    /// Whole seconds from this moment until now.
    pub(super) fn age_seconds(self) -> i64 {
        let now = now();
        now.seconds - self.seconds - i64::from(now.nanoseconds < self.nanoseconds)
    }

    fn utc(self) -> Civil {
        self.civil(0, "UTC")
    }

    fn civil(self, offset: i32, zone: &str) -> Civil {
        let shifted = self.seconds + i64::from(offset);
        let (year, month, day) = civil_from_days(shifted.div_euclid(86_400));
        let clock = shifted.rem_euclid(86_400) as u32;
        Civil {
            year,
            month,
            day,
            hour: clock / 3600,
            minute: clock / 60 % 60,
            second: clock % 60,
            offset,
            zone: zone.to_owned(),
        }
    }

    fn local(self) -> Civil {
        let seconds: libc::time_t = self.seconds as libc::time_t;
        // SAFETY: all-zero is a valid `tm`: integers and a null name.
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of the right type.
        let known = unsafe { libc::localtime_r(&seconds, &mut tm) };
        if known.is_null() {
            return self.utc();
        }
        let zone = if tm.tm_zone.is_null() {
            "UTC".to_owned()
        } else {
            // SAFETY: not null, so it names a zone, in storage of the C library
            // that lives as long as the process.
            unsafe { std::ffi::CStr::from_ptr(tm.tm_zone) }
                .to_string_lossy()
                .into_owned()
        };
        self.civil(tm.tm_gmtoff as i32, &zone)
    }

    /// `2024-05-01 10:00:00 +0000 UTC`, in local time.
    pub(super) fn local_go_text(self) -> String {
        let c = self.local();
        format!("{} {} {}", c.date_and_clock(' '), c.offset_text(""), c.zone)
    }

    /// As Go prints a time in UTC: `2024-05-01 10:00:00.5 +0000 UTC`.
    pub(super) fn utc_go_text(self) -> String {
        let fraction = format!("{:09}", self.nanoseconds);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!(
            "{}{dot}{fraction} +0000 UTC",
            self.utc().date_and_clock(' ')
        )
    }

    /// RFC 3339 in local time, nine fractional digits.
    pub(super) fn local_rfc3339_nanos(self) -> String {
        let c = self.local();
        format!(
            "{}.{:09}{}",
            c.date_and_clock('T'),
            self.nanoseconds,
            c.offset_or_z()
        )
    }

    /// RFC 3339 in local time, whole seconds.
    pub(super) fn local_rfc3339(self) -> String {
        let c = self.local();
        format!("{}{}", c.date_and_clock('T'), c.offset_or_z())
    }

    /// `Fri May 30 12:07:14 2025`.
    pub(super) fn ansi_c(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let c = self.utc();
        let weekday = DAYS[self.seconds.div_euclid(86_400).rem_euclid(7) as usize];
        let month = MONTHS[c.month.saturating_sub(1) as usize % 12];
        format!(
            "{weekday} {month} {:2} {:02}:{:02}:{:02} {}",
            c.day, c.hour, c.minute, c.second, c.year
        )
    }
}

impl Civil {
    fn date_and_clock(&self, between: char) -> String {
        format!(
            "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }

    fn offset_text(&self, colon: &str) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs() / 60;
        format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
    }

    fn offset_or_z(&self) -> String {
        if self.offset == 0 {
            "Z".to_owned()
        } else {
            self.offset_text(":")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_zones_and_fractions() {
        let at = |text| Moment::parse(text).map(|m| (m.seconds, m.nanoseconds));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some((1, 500_000_000)));
        assert_eq!(at("2024-02-29T12:00:00+02:00"), Some((1_709_200_800, 0)));
        assert_eq!(at("0001-01-01T00:00:00Z"), Some((-62_135_596_800, 0)));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn moments_are_written() {
        let m = Moment {
            seconds: 1_748_606_834,
            nanoseconds: 120_000_000,
        };
        assert_eq!(m.ansi_c(), "Fri May 30 12:07:14 2025");
        assert_eq!(m.utc_go_text(), "2025-05-30 12:07:14.12 +0000 UTC");
    }
}
