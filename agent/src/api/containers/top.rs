//! `GET /containers/{id}/top`: the container's processes, as `ps` shows them.
//!
//! Docker runs the host's `ps` and keeps the lines of the container. A board
//! may have none, so the default form is read from /proc here; other forms ask
//! the host's `ps`.

use crate::api::call::Call;
use crate::api::reply::{self, Reply};
use crate::api::time;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;

/// Clock ticks a second in /proc; fixed in the kernel's interface.
const TICKS: u64 = 100;

pub(super) async fn top<B: Backend>(call: Call<B>) -> Result<Reply> {
    let args = match call.query.text("ps_args") {
        "" => "-ef".to_owned(),
        args => args.to_owned(),
    };
    let pids: BTreeSet<u32> = call
        .node
        .container_pids(call.param("id"))
        .await?
        .into_iter()
        .collect();
    let table = smol::unblock(move || match args.as_str() {
        "-ef" => Ok(from_proc(&pids)),
        _ => from_ps(&args, &pids),
    })
    .await?;
    Ok(reply::json(
        &json!({"Titles": table.titles, "Processes": table.lines}),
    ))
}

struct Table {
    titles: Vec<String>,
    lines: Vec<Vec<String>>,
}

fn from_ps(args: &str, pids: &BTreeSet<u32>) -> Result<Table> {
    let words: Vec<&str> = args.split_whitespace().collect();
    let output = Command::new("ps").args(&words).output().map_err(|e| {
        Error::invalid(format!(
            "ps: {e}: without ps on this node only the default `-ef` works"
        ))
    })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!(
            "ps: exit status {}: {}",
            output.status,
            why.trim()
        )));
    }
    parse_ps(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The last column takes the rest of its line.
fn parse_ps(output: &str, pids: &BTreeSet<u32>) -> Result<Table> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or("")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let pid_column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::internal("Couldn't find PID field in ps output"))?;
    let mut kept = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid = fields.get(pid_column).and_then(|pid| pid.parse().ok());
        if !pid.is_some_and(|pid| pids.contains(&pid)) {
            continue;
        }
        let last = titles.len().saturating_sub(1);
        let mut cells: Vec<String> = fields.iter().take(last).map(|s| s.to_string()).collect();
        cells.push(fields.get(last..).unwrap_or_default().join(" "));
        kept.push(cells);
    }
    Ok(Table {
        titles,
        lines: kept,
    })
}

fn from_proc(pids: &BTreeSet<u32>) -> Table {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let booted = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| {
        stat.lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
    });
    // A process that ended meanwhile is in no line.
    let lines = pids
        .iter()
        .filter_map(|pid| process(*pid, &users, booted.unwrap_or(0)));
    Table {
        titles: titles.map(str::to_owned).to_vec(),
        lines: lines.collect(),
    }
}

fn process(pid: u32, users: &str, booted: i64) -> Option<Vec<String>> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let words: Vec<String> = read("cmdline")?
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| -> Option<u64> { fields.get(index)?.parse().ok() };
    let (parent, terminal) = (fields.get(1)?, fields.get(4)?.parse::<i64>().ok()?);
    let (user_ticks, kernel_ticks, start) = (number(11)?, number(12)?, number(19)?);
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next())?;
    let started = booted + (start / TICKS) as i64;
    let seconds = (user_ticks + kernel_ticks) / TICKS;
    let age = (time::now().seconds() - started).max(1) as u64;
    let command = if words.is_empty() {
        format!("[{name}]")
    } else {
        words.join(" ")
    };
    Some(vec![
        user_name(uid, users),
        pid.to_string(),
        (*parent).to_owned(),
        (seconds * 100 / age).min(99).to_string(),
        clock(started),
        terminal_name(terminal),
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        command,
    ])
}

fn user_name(uid: &str, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_owned())
}

/// `HH:MM` in UTC: boards have no time zone worth the name.
fn clock(seconds: i64) -> String {
    format!(
        "{:02}:{:02}",
        seconds.rem_euclid(86_400) / 3600,
        seconds.rem_euclid(3600) / 60
    )
}

/// The device number of /proc in words: unix98 terminals are major 136 to 143.
fn terminal_name(device: i64) -> String {
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ps_are_kept_by_pid() {
        let output = "  PID CMD\n   12 sh -c  sleep 1\n   13 sleep 1\n";
        let table = parse_ps(output, &BTreeSet::from([12])).unwrap();
        assert_eq!(table.titles, ["PID", "CMD"]);
        assert_eq!(table.lines, [["12", "sh -c sleep 1"]]);
        assert!(parse_ps("USER CMD\n", &BTreeSet::new()).is_err());
    }

    #[test]
    fn this_process_is_found_in_proc() {
        let me = std::process::id();
        let table = from_proc(&BTreeSet::from([me, u32::MAX]));
        assert_eq!(table.lines.len(), 1);
        assert_eq!(table.lines[0][1], me.to_string());
        assert_eq!(table.lines[0].len(), table.titles.len());
    }

    #[test]
    fn terminals() {
        assert_eq!(terminal_name(0), "?");
        assert_eq!(terminal_name(136 << 8 | 3), "pts/3");
    }
}
