//! `stats`: what containers use, as it changes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;

use super::path;
use crate::cli::Invocation;
use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::format::{Listing, Row, short_id};
use crate::cli::http::{Client, Query, Upload};
use crate::cli::json::Value;
use crate::cli::{terminal, units};

pub(super) const FLAGS: &str = "\
a all bool Show stopped containers too
. format string Print by a template, table TEMPLATE, or json
. no-stream bool Print once
. no-trunc bool Do not shorten";

const LISTING: Listing = Listing {
    row_type: "container.statsContext",
    columns: "{{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDs}}",
    quiet: "{{.ID}}",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// How often the screen is drawn again.
const REDRAW: Duration = Duration::from_millis(500);
/// A sample longer than this is none.
const SAMPLE_BYTES_MAX: u64 = 1024 * 1024;
/// Containers watched at once: each has a connection and a thread.
const WATCHED_MAX: usize = 512;

/// A container watched and what it last used.
#[derive(Clone)]
struct Watched {
    /// As it was asked for.
    name: String,
    latest: Arc<Mutex<Latest>>,
}

#[derive(Default)]
struct Latest {
    sample: Option<Value>,
    failed: Option<String>,
}

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let once = flags.bool("no-stream");
    let format = LISTING.choose(flags.str("format"), false);
    let truncate = !flags.bool("no-trunc");
    let mut watched: Vec<Watched> = Vec::new();
    for name in names(inv)? {
        watched.push(watch(inv, name, once));
    }
    if once {
        return print_once(&format, &watched, truncate, !inv.operands.is_empty());
    }
    loop {
        std::thread::sleep(REDRAW);
        if inv.operands.is_empty() {
            follow(inv, &mut watched)?;
        } else if let Some(failed) = all_failed(&watched) {
            return Err(Exit::failure(failed));
        }
        let rows: Vec<Value> = watched.iter().map(|w| row(w, truncate)).collect();
        let text = LISTING.text(&format, &rows)?;
        // Drawn over the last screen, so that nothing flickers.
        let screen = if terminal::stdout_is_terminal() {
            format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
        } else {
            text
        };
        exit::print(&screen)?;
    }
}

/// The containers asked for, or all that run.
fn names(inv: &Invocation) -> Outcome<Vec<String>> {
    if !inv.operands.is_empty() {
        return Ok(inv.operands.clone());
    }
    let query = Query::new().flag("all", inv.flags.bool("all"));
    let listed = inv.client.get(&query.on("/containers/json"))?;
    Ok(listed
        .elements()
        .iter()
        .take(WATCHED_MAX)
        .map(|c| short_id(c.text("Id")))
        .collect())
}

/// Containers come and go while all are watched.
fn follow(inv: &Invocation, watched: &mut Vec<Watched>) -> Outcome {
    let now = names(inv)?;
    watched.retain(|w| now.contains(&w.name));
    for name in now {
        if !watched.iter().any(|w| w.name == name) {
            watched.push(watch(inv, name, false));
        }
    }
    Ok(())
}

fn lock(latest: &Mutex<Latest>) -> std::sync::MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(inv: &Invocation, name: String, once: bool) -> Watched {
    let latest = Arc::new(Mutex::new(Latest::default()));
    let watched = Watched { name, latest };
    let (host, mine) = (inv.client.host().clone(), watched.clone());
    std::thread::spawn(move || {
        let query = Query::new().with("stream", if once { "0" } else { "1" });
        let url = path(&mine.name, &query.on("/stats"));
        let failed = match Client::new(host).request(Method::GET, &url, Upload::Nothing) {
            Err(fault) => fault.to_string(),
            Ok(response) => {
                let mut lines = BufReader::new(response);
                loop {
                    let mut line = Vec::new();
                    match lines
                        .by_ref()
                        .take(SAMPLE_BYTES_MAX)
                        .read_until(b'\n', &mut line)
                    {
                        Ok(0) | Err(_) => break "no more samples".to_owned(),
                        Ok(_) => {
                            if let Ok(sample) = Value::parse(&line) {
                                lock(&mine.latest).sample = Some(sample);
                            }
                        }
                    }
                }
            }
        };
        let mut latest = lock(&mine.latest);
        latest.failed = Some(failed);
    });
    watched
}

/// The failure to end with once nothing is left to watch.
fn all_failed(watched: &[Watched]) -> Option<String> {
    let failures: Vec<String> = watched
        .iter()
        .filter_map(|w| lock(&w.latest).failed.clone())
        .filter(|f| f != "no more samples")
        .collect();
    (failures.len() == watched.len() && !failures.is_empty()).then(|| failures.join("\n"))
}

/// How long one sample may take: the daemon measures over a second or two.
const ONCE_POLL: Duration = Duration::from_millis(50);
const ONCE_POLLS_MAX: u32 = 600;

fn print_once(format: &str, watched: &[Watched], truncate: bool, named: bool) -> Outcome {
    for _ in 0..ONCE_POLLS_MAX {
        if watched.iter().all(|w| lock(&w.latest).failed.is_some()) {
            break;
        }
        std::thread::sleep(ONCE_POLL);
    }
    let failures: Vec<String> = watched
        .iter()
        .filter_map(|w| lock(&w.latest).failed.clone())
        .filter(|f| named && f != "no more samples")
        .collect();
    if !failures.is_empty() {
        return Exit::all(failures);
    }
    let rows: Vec<Value> = watched.iter().map(|w| row(w, truncate)).collect();
    LISTING.print(format, &rows)
}

fn row(watched: &Watched, truncate: bool) -> Value {
    let latest = lock(&watched.latest);
    let Some(sample) = &latest.sample else {
        return blank(&watched.name);
    };
    let id = sample.text("id");
    let (memory, limit) = (memory_used(sample), sample.float("memory_stats.limit"));
    let share = if limit > 0.0 {
        memory / limit * 100.0
    } else {
        0.0
    };
    let sum = |field: &str| {
        sample
            .entries("networks")
            .iter()
            .map(|(_, n)| n.float(field))
            .sum::<f64>()
    };
    let pair = |a: f64, b: f64| format!("{} / {}", units::short_size(a), units::short_size(b));
    let (read, written) = blocks(sample);
    Row::new()
        .with("Container", watched.name.as_str())
        .with("Name", sample.text("name").trim_start_matches('/'))
        .with(
            "ID",
            if truncate {
                short_id(id)
            } else {
                id.to_owned()
            },
        )
        .with("CPUPerc", format!("{:.2}%", cpu_share(sample)))
        .with(
            "MemUsage",
            format!(
                "{} / {}",
                units::binary_size(memory),
                units::binary_size(limit)
            ),
        )
        .with("MemPerc", format!("{share:.2}%"))
        .with("NetIO", pair(sum("rx_bytes"), sum("tx_bytes")))
        .with("BlockIO", pair(read, written))
        .with("PIDs", sample.int("pids_stats.current").to_string())
        .done()
}

/// A container nothing is known of yet.
fn blank(name: &str) -> Value {
    Row::new()
        .with("Container", name)
        .with("Name", "--")
        .with("ID", "--")
        .with("CPUPerc", "--")
        .with("MemUsage", "-- / --")
        .with("MemPerc", "--")
        .with("NetIO", "--")
        .with("BlockIO", "--")
        .with("PIDs", "--")
        .done()
}

/// Memory without the page cache that can be dropped.
fn memory_used(sample: &Value) -> f64 {
    let usage = sample.float("memory_stats.usage");
    let stats = sample.at("memory_stats.stats");
    // cgroup v1 has the first, v2 the second.
    for field in ["total_inactive_file", "inactive_file"] {
        if !stats.at(field).is_null() && stats.float(field) < usage {
            return usage - stats.float(field);
        }
    }
    usage
}

/// The share of one CPU since the sample before, per cent.
fn cpu_share(sample: &Value) -> f64 {
    let difference = |field: &str| {
        sample.float(&format!("cpu_stats.{field}")) - sample.float(&format!("precpu_stats.{field}"))
    };
    let (used, system) = (
        difference("cpu_usage.total_usage"),
        difference("system_cpu_usage"),
    );
    let mut cpus = sample.float("cpu_stats.online_cpus");
    if cpus == 0.0 {
        cpus = sample.list("cpu_stats.cpu_usage.percpu_usage").len() as f64;
    }
    if system > 0.0 && used > 0.0 {
        used / system * cpus * 100.0
    } else {
        0.0
    }
}

/// Bytes read from and written to disks.
fn blocks(sample: &Value) -> (f64, f64) {
    let (mut read, mut written) = (0.0, 0.0);
    for entry in sample.list("blkio_stats.io_service_bytes_recursive") {
        match entry.text("op").bytes().next() {
            Some(b'r' | b'R') => read += entry.float("value"),
            Some(b'w' | b'W') => written += entry.float("value"),
            _ => {}
        }
    }
    (read, written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between_samples() {
        let sample = Value::parse(
            br#"{"cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},"precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},"memory_stats":{"usage":100,"stats":{"inactive_file":40}},"blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":5},{"op":"write","value":7}]}}"#,
        )
        .unwrap();
        assert!((cpu_share(&sample) - 40.0).abs() < 1e-9);
        assert!((memory_used(&sample) - 60.0).abs() < 1e-9);
        assert_eq!(blocks(&sample), (5.0, 7.0));
    }
}
