//! Commands that are one call a container.

use std::io;

use hyper::Method;

use super::list::join_host_port;
use super::{each, path};
use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::filters::Filters;
use crate::cli::http::{Query, Upload};
use crate::cli::{Invocation, ask, streams, table, units};

/// The query of `stop` and `restart`.
fn stop_query(inv: &Invocation) -> Query {
    let timeout = inv.flags.int("timeout").or_else(|| inv.flags.int("time"));
    let query = Query::new().some("signal", inv.flags.str("signal"));
    match timeout {
        Some(seconds) => query.with("t", seconds.to_string()),
        None => query,
    }
}

pub(super) fn stop(inv: &Invocation) -> Outcome {
    let query = stop_query(inv).on("/stop");
    each(inv, |name| {
        inv.client.post(&path(name, &query), None).map(|_| true)
    })
}

pub(super) fn restart(inv: &Invocation) -> Outcome {
    let query = stop_query(inv).on("/restart");
    let mut failures = Vec::new();
    for name in &inv.operands {
        match inv.client.post(&path(name, &query), None) {
            Ok(_) => exit::print_line(name)?,
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    Exit::all(failures)
}

pub(super) fn kill(inv: &Invocation) -> Outcome {
    let query = Query::new()
        .some("signal", inv.flags.str("signal"))
        .on("/kill");
    each(inv, |name| {
        inv.client.post(&path(name, &query), None).map(|_| true)
    })
}

pub(super) fn remove(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let force = flags.bool("force");
    let query = Query::new()
        .flag("v", flags.bool("volumes"))
        .flag("link", flags.bool("link"))
        .flag("force", force)
        .on("");
    each(inv, |name| {
        match inv.client.delete(&path(name.trim_matches('/'), &query)) {
            // What is not there needs no force to be gone.
            Err(fault) if force && fault.is_not_found() => Ok(false),
            other => other.map(|_| true),
        }
    })
}

pub(super) fn pause(inv: &Invocation) -> Outcome {
    each(inv, |name| {
        inv.client.post(&path(name, "/pause"), None).map(|_| true)
    })
}

pub(super) fn unpause(inv: &Invocation) -> Outcome {
    each(inv, |name| {
        inv.client.post(&path(name, "/unpause"), None).map(|_| true)
    })
}

pub(super) fn wait(inv: &Invocation) -> Outcome {
    let mut failures = Vec::new();
    for name in &inv.operands {
        match inv.client.post(&path(name, "/wait"), None) {
            Ok(answer) => exit::print_line(&answer.int("StatusCode").to_string())?,
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    Exit::all(failures)
}

pub(super) fn rename(inv: &Invocation) -> Outcome {
    let [old, new] = [0, 1].map(|i| inv.operands[i].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Exit::failure(
            "Error: Neither old nor new names may be empty",
        ));
    }
    let url = path(old, &Query::new().with("name", new).on("/rename"));
    inv.client.post(&url, None).map(drop).map_err(|fault| {
        exit::warn(&fault.to_string());
        Exit::failure(format!("Error: failed to rename container named {old}"))
    })
}

pub(super) fn port(inv: &Invocation) -> Outcome {
    let name = &inv.operands[0];
    let container = inv.client.get(&path(name, "/json"))?;
    let ports = container.entries("NetworkSettings.Ports");
    let address = |frontend: &crate::cli::json::Value| {
        join_host_port(frontend.text("HostIp"), frontend.text("HostPort"))
    };
    let mut lines = Vec::new();
    match inv.operands.get(1) {
        Some(wanted) => {
            let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if number.parse::<u16>().is_err() {
                return Err(Exit::failure(format!(
                    "Error: invalid port '{number}': invalid syntax"
                )));
            }
            let key = format!("{number}/{protocol}");
            let frontends = ports
                .iter()
                .find(|(k, _)| *k == key)
                .map_or(&[][..], |(_, v)| v.elements());
            if frontends.is_empty() {
                return Err(Exit::failure(format!(
                    "Error: No public port '{wanted}' published for {name}"
                )));
            }
            lines.extend(frontends.iter().map(address));
        }
        None => {
            for (from, frontends) in ports {
                lines.extend(
                    frontends
                        .elements()
                        .iter()
                        .map(|f| format!("{from} -> {}", address(f))),
                );
            }
        }
    }
    lines.sort_by_key(|line| natural_key(line));
    if lines.is_empty() {
        Ok(())
    } else {
        exit::print_line(&lines.join("\n"))
    }
}

/// Sorts numbers in text by value.
pub(in crate::cli) fn natural_key(text: &str) -> Vec<(u64, String)> {
    let mut key: Vec<(u64, String)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let digits = rest[word..]
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len() - word);
        key.push((0, rest[..word].to_owned()));
        key.push((
            rest[word..word + digits].parse().unwrap_or(0),
            String::new(),
        ));
        rest = &rest[word + digits..];
    }
    key
}

pub(super) fn top(inv: &Invocation) -> Outcome {
    let query = Query::new()
        .some("ps_args", &inv.operands[1..].join(" "))
        .on("/top");
    let answer = inv.client.get(&path(&inv.operands[0], &query))?;
    let mut text = answer.strings("Titles").join("\t") + "\n";
    for process in answer.list("Processes") {
        text += &process
            .elements()
            .iter()
            .map(|v| v.str())
            .collect::<Vec<_>>()
            .join("\t");
        text.push('\n');
    }
    exit::print(&table::align(&text, 20, 3))
}

pub(super) fn diff(inv: &Invocation) -> Outcome {
    let answer = inv.client.get(&path(&inv.operands[0], "/changes"))?;
    for change in answer.elements() {
        let kind = match change.int("Kind") {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        exit::print_line(&format!("{kind} {}", change.text("Path")))?;
    }
    Ok(())
}

pub(super) fn export(inv: &Invocation) -> Outcome {
    let output = inv.flags.str("output");
    if output.is_empty() && rustix::termios::isatty(io::stdout()) {
        return Err(Exit::failure(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let mut response = inv.client.request(
        Method::GET,
        &path(&inv.operands[0], "/export"),
        Upload::Nothing,
    )?;
    write_to(&mut response, output)
}

/// Copies a download to a file, or to standard output when none is named.
/// The file appears only when it is whole.
pub(in crate::cli) fn write_to(from: &mut impl io::Read, output: &str) -> Outcome {
    if output.is_empty() {
        streams::copy(from, &mut io::stdout().lock())?;
        return Ok(());
    }
    let partial = format!("{output}.{}.partial", std::process::id());
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::create_new(&partial)?;
        io::copy(from, &mut file)?;
        file.sync_all()?;
        std::fs::rename(&partial, output)
    };
    let mut write = write;
    write().map_err(|e| {
        let _ = std::fs::remove_file(&partial);
        Exit::failure(format!("{output}: {e}"))
    })
}

pub(super) fn prune(inv: &Invocation) -> Outcome {
    const WARNING: &str =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    ask::confirm(inv.flags.bool("force"), WARNING)?;
    let (text, bytes) = prune_stopped(inv, &Filters::parse(inv.flags.list("filter"))?)?;
    if !text.is_empty() {
        exit::print_line(&text)?;
    }
    exit::print_line(&format!(
        "Total reclaimed space: {}",
        units::human_size(bytes)
    ))
}

/// Removes stopped containers; what went, and how many bytes it had.
pub(in crate::cli) fn prune_stopped(inv: &Invocation, filters: &Filters) -> Outcome<(String, f64)> {
    let answer = inv
        .client
        .post(&Query::new().filters(filters).on("/containers/prune"), None)?;
    let gone = answer.strings("ContainersDeleted");
    if gone.is_empty() {
        return Ok((String::new(), 0.0));
    }
    Ok((
        format!("Deleted Containers:\n{}\n", gone.join("\n")),
        answer.float("SpaceReclaimed"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_by_value() {
        let mut lines = vec!["8080/tcp -> a", "80/tcp -> b", "443/udp -> c"];
        lines.sort_by_key(|l| natural_key(l));
        assert_eq!(lines, ["80/tcp -> b", "443/udp -> c", "8080/tcp -> a"]);
    }
}
