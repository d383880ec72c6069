//! The agent's own log: standard error, one line an event, in one write so
//! that lines of different threads never mix. It keeps nothing.

use log::{LevelFilter, Log, Metadata, Record};
use skep_control::model::WallTime;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // A library's information is this program's detail.
        let ours = record.target().starts_with("skep");
        if !ours && record.level() > log::Level::Warn && log::max_level() < LevelFilter::Trace {
            return;
        }
        let line = line(now(), record);
        // Nobody is left to tell when stderr is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }))
}

/// `2026-01-02T03:04:05.678Z WARN executor: what happened`.
fn line(at: WallTime, record: &Record<'_>) -> String {
    let place = record.target();
    let place = place.strip_prefix("skep::").unwrap_or(place);
    let text = record.args().to_string().replace('\n', " | ");
    let at = at.to_string();
    let millis = at.get(..23).unwrap_or(&at);
    format!("{millis}Z {:<5} {place}: {text}\n", record.level())
}

/// Sends everything up to `level` to stderr; later calls change the level only.
pub(crate) fn install(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    // Only a second installation fails, and then it is the same logger.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let at = WallTime(1_700_000_000_123_456_789);
        let text = line(
            at,
            &Record::builder()
                .level(log::Level::Warn)
                .target("skep::executor::start")
                .args(format_args!("two\nlines"))
                .build(),
        );
        assert_eq!(
            text,
            "2023-11-14T22:13:20.123Z WARN  executor::start: two | lines\n"
        );
    }
}
