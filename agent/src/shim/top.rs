//! `docker top`: the container's processes in the columns of `ps`, read from
//! /proc: a board may have no `ps` of the host's, or busybox's.
//!
//! Understood are the usual forms: nothing or `-ef` (Docker's default), `aux`,
//! and `-o`/`-eo` with column names.

use super::cgroup;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Ticks of /proc/PID/stat in a second, on all our architectures.
const TICKS: u64 = 100;

/// Titles and one row a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Top {
    pub(crate) titles: Vec<String>,
    pub(crate) processes: Vec<Vec<String>>,
}

/// The columns of a call: keyword and title.
type Columns = Vec<(&'static str, &'static str)>;

const FULL: [(&str, &str); 8] = [
    ("uid", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("args", "CMD"),
];

const AUX: [(&str, &str); 11] = [
    ("user", "USER"),
    ("pid", "PID"),
    ("pcpu", "%CPU"),
    ("pmem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("stat", "STAT"),
    ("stime", "START"),
    ("time", "TIME"),
    ("args", "COMMAND"),
];

const NAMED: [(&str, &str, &str); 20] = [
    ("pid", "pid", "PID"),
    ("ppid", "ppid", "PPID"),
    ("pgid", "pgid", "PGID"),
    ("sid", "sid", "SID"),
    ("uid", "uid", "UID"),
    ("user", "user", "USER"),
    ("gid", "gid", "GID"),
    ("comm", "comm", "COMMAND"),
    ("cmd", "args", "CMD"),
    ("args", "args", "COMMAND"),
    ("command", "args", "COMMAND"),
    ("time", "time", "TIME"),
    ("etime", "etime", "ELAPSED"),
    ("stime", "stime", "STIME"),
    ("tty", "tty", "TTY"),
    ("stat", "stat", "STAT"),
    ("rss", "rss", "RSS"),
    ("vsz", "vsz", "VSZ"),
    ("nlwp", "nlwp", "NLWP"),
    ("ni", "ni", "NI"),
];

/// `ps_args` empty is Docker's `-ef`; other forms choose their columns.
///
/// # Errors
/// Words that are no form of `ps` known here.
pub(crate) fn read(cgroup: &Path, ps_args: &str) -> Result<Top> {
    let columns = columns(ps_args)?;
    let mut pids = cgroup::pids(cgroup)?;
    pids.sort_unstable();
    let host = Host::read();
    // A process that ended meanwhile has no row.
    let rows = pids.iter().filter_map(|pid| Process::read(*pid));
    let cells = |process: Process| {
        let cell = |(keyword, _): &(&str, &str)| process.cell(keyword, &host);
        columns.iter().map(cell).collect()
    };
    Ok(Top {
        titles: columns
            .iter()
            .map(|(_, title)| (*title).to_owned())
            .collect(),
        processes: rows.map(cells).collect(),
    })
}

fn columns(ps_args: &str) -> Result<Columns> {
    let words: Vec<&str> = ps_args.split_whitespace().collect();
    let unknown = || {
        Error::invalid(format!(
            "Error running ps: unsupported arguments: {ps_args}"
        ))
    };
    let mut chosen: Columns = Vec::new();
    let mut names = Vec::new();
    let mut at = words.iter();
    while let Some(word) = at.next() {
        let bare = word.strip_prefix('-').unwrap_or(word);
        if let Some(list) = bare.strip_prefix("eo").or_else(|| bare.strip_prefix('o')) {
            let list = if list.is_empty() {
                at.next().copied().unwrap_or_default()
            } else {
                list
            };
            names.extend(list.trim_start_matches('=').split(','));
        } else if bare.contains('u') && bare.chars().all(|c| "auxw".contains(c)) {
            chosen = AUX.to_vec();
        } else if bare.chars().all(|c| "efaxwFl".contains(c)) {
            if chosen.is_empty() {
                chosen = FULL.to_vec();
            }
        } else {
            return Err(unknown());
        }
    }
    if !names.is_empty() {
        chosen.clear();
    }
    for name in names {
        let known = NAMED.iter().find(|(known, _, _)| *known == name);
        let (_, keyword, title) = known.ok_or_else(unknown)?;
        chosen.push((keyword, title));
    }
    if !chosen.iter().any(|(keyword, _)| *keyword == "pid") && !chosen.is_empty() {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    }
    Ok(if chosen.is_empty() {
        FULL.to_vec()
    } else {
        chosen
    })
}

/// What all rows need of the machine.
struct Host {
    /// Seconds since boot, and the wall second of boot.
    uptime: u64,
    boot: i64,
    memory_kilobytes: u64,
    users: BTreeMap<String, String>,
}

impl Host {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let first = |text: String| text.split(['.', ' ']).next().and_then(|n| n.parse().ok());
        let uptime: u64 = first(read("/proc/uptime")).unwrap_or(0);
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs();
        let meminfo = read("/proc/meminfo");
        let memory = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let users = read("/etc/passwd");
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.to_owned(), name))
        };
        Self {
            uptime,
            boot: i64::try_from(now.saturating_sub(uptime)).unwrap_or(0),
            memory_kilobytes: memory
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(1),
            users: users.lines().filter_map(user).collect(),
        }
    }

    /// `ps` shows the host's name of a user, as dockerd's `ps` does.
    fn user(&self, uid: &str) -> String {
        self.users
            .get(uid)
            .cloned()
            .unwrap_or_else(|| uid.to_owned())
    }
}

/// One process: the fields of /proc/PID/stat after the name, and the rest.
struct Process {
    pid: i32,
    name: String,
    stat: Vec<String>,
    status: String,
    command: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let stat = text(read("stat")?);
        let (start, fields) = stat.rsplit_once(')')?;
        let name = start.split_once('(')?.1.to_owned();
        let command = read("cmdline")?;
        let words = command
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(|word| text(word.to_vec())).collect();
        let command = if words.is_empty() {
            format!("[{name}]")
        } else {
            words.join(" ")
        };
        Some(Self {
            pid,
            name,
            stat: fields.split_whitespace().map(str::to_owned).collect(),
            status: text(read("status")?),
            command,
        })
    }

    /// A field by its number in proc(5).
    fn field(&self, number: usize) -> &str {
        let at = number.checked_sub(3).and_then(|at| self.stat.get(at));
        at.map_or("0", String::as_str)
    }

    fn number(&self, field: usize) -> u64 {
        self.field(field).parse().unwrap_or(0)
    }

    /// The effective one.
    fn owner(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|ids| ids.split_whitespace().nth(1))
            .unwrap_or("0")
    }

    fn cpu_seconds(&self) -> u64 {
        (self.number(14) + self.number(15)) / TICKS
    }

    fn age(&self, host: &Host) -> u64 {
        host.uptime.saturating_sub(self.number(22) / TICKS)
    }

    fn cell(&self, keyword: &str, host: &Host) -> String {
        let percent = |part: u64, whole: u64| part * 1000 / whole.max(1);
        let tenths = |n: u64| format!("{}.{}", n / 10, n % 10);
        let cpu = || percent(self.cpu_seconds(), self.age(host));
        match keyword {
            "pid" => self.pid.to_string(),
            "ppid" => self.field(4).to_owned(),
            "pgid" => self.field(5).to_owned(),
            "sid" => self.field(6).to_owned(),
            "uid" | "user" => host.user(self.owner("Uid:")),
            "gid" => self.owner("Gid:").to_owned(),
            "comm" => self.name.clone(),
            "args" => self.command.clone(),
            "c" => (cpu() / 10).to_string(),
            "pcpu" => tenths(cpu()),
            "pmem" => tenths(percent(self.number(24) * 4, host.memory_kilobytes)),
            "time" => clock(self.cpu_seconds(), true),
            "etime" => clock(self.age(host), false),
            "stime" => {
                let started = host.boot + i64::try_from(self.number(22) / TICKS).unwrap_or(0);
                let day = started.rem_euclid(86_400);
                format!("{:02}:{:02}", day / 3600, day / 60 % 60)
            }
            "tty" => terminal(self.number(7)),
            "stat" => self.field(3).to_owned(),
            "rss" => (self.number(24) * 4).to_string(),
            "vsz" => (self.number(23) / 1024).to_string(),
            "nlwp" => self.field(20).to_owned(),
            "ni" => self.field(19).to_owned(),
            _ => String::new(),
        }
    }
}

/// `[dd-]hh:mm:ss`; `hours` false leaves a leading zero hour out.
fn clock(seconds: u64, hours: bool) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    match (days, h) {
        (0, 0) if !hours => format!("{m:02}:{s:02}"),
        (0, _) => format!("{h:02}:{m:02}:{s:02}"),
        _ => format!("{days}-{h:02}:{m:02}:{s:02}"),
    }
}

/// `ps`'s name of a terminal's device number.
fn terminal(device: u64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_ps_choose_columns() {
        let titles = |args: &str| {
            let columns = columns(args).unwrap();
            columns
                .into_iter()
                .map(|(_, title)| title)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(titles(""), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-ef"), titles(""));
        assert!(titles("aux").starts_with("USER PID %CPU"));
        assert_eq!(titles("-o pid,comm"), "PID COMMAND");
        assert_eq!(titles("-eo pid,ppid,cmd"), "PID PPID CMD");
        assert!(columns("-o comm").is_err());
        assert!(columns("--forest").is_err());
    }

    #[test]
    fn this_process_has_a_row() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (process, host) = (Process::read(pid).unwrap(), Host::read());
        assert_eq!(process.cell("pid", &host), pid.to_string());
        assert!(process.cell("args", &host).contains("skep"));
        assert_eq!(clock(3_661, true), "01:01:01");
        assert_eq!(clock(61, false), "01:01");
        assert_eq!(clock(90_000, true), "1-01:00:00");
        assert_eq!(
            (terminal(0), terminal(0x8801)),
            ("?".to_owned(), "pts/1".to_owned())
        );
    }
}
