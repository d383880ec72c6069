//! `service logs`: lines of many tasks, each with where it came from.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use hyper::Method;

use super::super::Invocation;
use super::super::container::logs_query;
use super::super::exit::{Exit, Outcome};
use super::super::format::short_id;
use super::super::http::{Response, Upload, escape};
use super::super::streams;
use super::super::task::Names;
use super::path;

pub(super) const FLAGS: &str = "\
. details bool Show what the log options add to lines
f follow bool Go on as more is written
. no-resolve bool Show ids, not names
. no-task-ids bool Leave task ids out
. no-trunc bool Do not shorten
. raw bool Lines as they were written
. since string Begin at a time (2013-01-02T13:23:37Z) or so long ago (42m)
n tail string Show that many lines from the end
t timestamps bool Show when each line was written";

/// Longest line of a log that is labelled; what is longer comes in pieces.
const LINE_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let name = &inv.operands[0];
    let (tty, width, logs) = match inv.client.get(&path(name, "")) {
        Ok(service) => {
            let replicas = service.int("Spec.Mode.Replicated.Replicas");
            let width = if service.at("Spec.Mode.Replicated").is_null() {
                1
            } else {
                digits(replicas)
            };
            (
                service.bool("Spec.TaskTemplate.ContainerSpec.TTY"),
                width,
                path(name, "/logs"),
            )
        }
        Err(fault) if fault.is_not_found() => {
            let task = inv
                .client
                .get(&format!("/tasks/{}", escape(name)))
                .map_err(|fault| match fault.is_not_found() {
                    true => Exit::failure(format!("no such task or service: {name}")),
                    false => fault.into(),
                })?;
            let tty = task.bool("Spec.ContainerSpec.TTY");
            (
                tty,
                digits(task.int("Slot")),
                format!("/tasks/{}/logs", escape(name)),
            )
        }
        Err(fault) => return Err(fault.into()),
    };
    let raw = flags.bool("raw");
    if tty && !raw {
        return Err(Exit::failure("tty service logs only supported with --raw"));
    }
    // The details say which task a line is of.
    let query = logs_query(inv, flags.bool("details") || !raw);
    let mut response = inv
        .client
        .request(Method::GET, &query.on(&logs), Upload::Nothing)?;
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    match (tty, raw) {
        (true, _) => streams::copy(&mut response, &mut out)?,
        (false, true) => streams::demultiplex(&mut response, &mut out, &mut err)?,
        (false, false) => label(inv, &mut response, width, &mut out, &mut err)?,
    }
    Ok(())
}

fn digits(n: i64) -> usize {
    n.to_string().len()
}

/// Copies lines with their task's name in front.
fn label(
    inv: &Invocation,
    response: &mut Response,
    width: usize,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Outcome {
    let mut labels = Labels {
        inv,
        names: Names::new(inv, !inv.flags.bool("no-resolve")),
        width,
        known: BTreeMap::new(),
    };
    while let Some(frame) = streams::next_frame(response)? {
        let mut line = Vec::new();
        response
            .by_ref()
            .take(frame.length.min(LINE_BYTES_MAX) as u64)
            .read_to_end(&mut line)?;
        if frame.stream == 3 {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            return Err(Exit::failure(format!(
                "error from daemon in stream: {text}"
            )));
        }
        let labelled = labels.line(&line)?;
        if frame.stream == 2 {
            err.write_all(&labelled)?;
            err.flush()?;
        } else {
            out.write_all(&labelled)?;
            out.flush()?;
        }
    }
    Ok(())
}

struct Labels<'i> {
    inv: &'i Invocation,
    names: Names<'i>,
    width: usize,
    known: BTreeMap<(String, String, String), String>,
}

impl Labels<'_> {
    /// `[TIME ]DETAILS TEXT` as `[TIME ]NAME    | [DETAILS ]TEXT`.
    fn line(&mut self, line: &[u8]) -> Outcome<Vec<u8>> {
        let timestamps = self.inv.flags.bool("timestamps");
        let mut parts = line.splitn(if timestamps { 3 } else { 2 }, |b| *b == b' ');
        let time = if timestamps { parts.next() } else { None };
        let (Some(details), Some(text)) = (parts.next(), parts.next()) else {
            let line = String::from_utf8_lossy(line);
            return Err(Exit::failure(format!(
                "invalid context in log message: {line}"
            )));
        };
        let mut details = parse_details(&String::from_utf8_lossy(details));
        let mut take = |key: &str, what: &str| {
            let value = details.remove(&format!("com.docker.swarm.{key}"));
            value.ok_or_else(|| {
                Exit::failure(format!(
                    "missing {what} id in details: {}",
                    String::from_utf8_lossy(line)
                ))
            })
        };
        let key = (
            take("node.id", "node")?,
            take("service.id", "service")?,
            take("task.id", "task")?,
        );
        let mut out = Vec::with_capacity(line.len() + 64);
        if let Some(time) = time {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(self.label(key)?.as_bytes());
        out.extend_from_slice(b"    | ");
        if self.inv.flags.bool("details") {
            let shown: Vec<String> = details.iter().map(|(k, v)| format!("{k}={v}")).collect();
            out.extend_from_slice(shown.join(",").as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        Ok(out)
    }

    fn label(&mut self, key: (String, String, String)) -> Outcome<String> {
        if let Some(label) = self.known.get(&key) {
            return Ok(label.clone());
        }
        let (node, service, task) = &key;
        let flags = &self.inv.flags;
        let found = self.inv.client.get(&format!("/tasks/{}", escape(task)))?;
        let slot = found.int("Slot");
        let mut label = format!("{}.{slot}", self.names.service(service));
        if !flags.bool("no-task-ids") {
            let id = found.text("ID");
            label += &format!(
                ".{}",
                if flags.bool("no-trunc") {
                    id.to_owned()
                } else {
                    short_id(id)
                }
            );
        }
        label += &format!("@{}", self.names.node(node));
        label += &" ".repeat(self.width.saturating_sub(digits(slot)));
        self.known.insert(key, label.clone());
        Ok(label)
    }
}

/// `k=v,k=v`, each percent-encoded.
fn parse_details(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (unescape(k), unescape(v)))
        .collect()
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_unescaped() {
        let details = parse_details("com.docker.swarm.node.id=a,x%2Cy=1%203");
        assert_eq!(details["com.docker.swarm.node.id"], "a");
        assert_eq!(details["x,y"], "1 3");
    }
}
