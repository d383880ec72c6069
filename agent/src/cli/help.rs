//! Usage texts, made from the command tables, and the errors that end in one.

use super::command::{self, Command, Group};
use super::exit::{self, Exit, Outcome};
use super::flags::{self, Wrong};

/// What may stand before the command's words.
pub(super) const GLOBAL_FLAGS: &str = "\
H host list The node to talk to: unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST (default $SKEP_HOST, $DOCKER_HOST, unix:///run/skep/skep.sock)
D debug bool Accepted, without effect
l log-level string Accepted, without effect
c context string Accepted, without effect
. config string Accepted, without effect
. tls bool Refused: this client does not speak TLS
. tlsverify bool Refused: this client does not speak TLS
. tlscacert string Accepted, without effect
. tlscert string Accepted, without effect
. tlskey string Accepted, without effect
v version bool Print the client's version";

/// Commands a newcomer looks for first.
const COMMON: &[&str] = &["run", "exec", "ps", "load", "images", "version", "info"];

/// A flag that was not understood: Docker ends these with 125.
pub(super) fn flag_error(program: &str, path: &str, operands: &str, wrong: Wrong) -> Exit {
    let name = join(program, path);
    let usage = usage_line(&name, operands);
    Exit::with_code(
        125,
        format!(
            "{}\n\nUsage:  {usage}\n\nRun '{name} --help' for more information",
            wrong.0
        ),
    )
}

pub(super) fn arity_error(program: &str, path: &str, operands: &str, complaint: &str) -> Exit {
    // Docker's own wording differs here.
    let verb = if complaint.contains("at least") {
        "See"
    } else {
        "Run"
    };
    let name = join(program, path);
    let usage = usage_line(&name, operands);
    Exit::failure(format!(
        "{program}: '{name}' {complaint}\n\nUsage:  {usage}\n\n{verb} '{name} --help' for more information"
    ))
}

fn join(program: &str, path: &str) -> String {
    if path.is_empty() {
        program.to_owned()
    } else {
        format!("{program} {path}")
    }
}

fn usage_line(name: &str, operands: &str) -> String {
    if operands.is_empty() {
        name.to_owned()
    } else {
        format!("{name} {operands}")
    }
}

/// `help WORDS` and `WORDS --help`.
pub(super) fn print_for(program: &str, words: &[String]) -> Outcome {
    if words.is_empty() {
        print_top(program);
        return Ok(());
    }
    if let Some((command, used)) = command::find(words) {
        return exit::print(&command_text(program, &words[..used].join(" "), command));
    }
    match command::GROUPS.iter().find(|g| g.name == words[0]) {
        Some(group) => exit::print(&group_text(program, group)),
        None => Err(Exit::failure(format!(
            "{program}: unknown command: {program} {}\n\nRun '{program} --help' for more information",
            words[0]
        ))),
    }
}

fn command_text(program: &str, path: &str, command: &Command) -> String {
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_line(&join(program, path), command.operands),
        command.about
    );
    if command.names.len() > 1 {
        let names: Vec<String> = command
            .names
            .iter()
            .map(|n| format!("{program} {n}"))
            .collect();
        text += &format!("\nAliases:\n  {}\n", names.join(", "));
    }
    text + &options_text(&flags::table(command.flags), "Options")
}

/// The flags of a table, a title and a block a group.
fn options_text(table: &[flags::Flag], untitled: &str) -> String {
    let left = |flag: &flags::Flag| {
        let short = flag
            .short
            .map_or_else(|| "    ".to_owned(), |c| format!("-{c}, "));
        let kind = if flag.kind == "bool" {
            String::new()
        } else {
            format!(" {}", flag.kind)
        };
        format!("  {short}--{}{kind}", flag.long)
    };
    let width = table
        .iter()
        .map(|f| left(f).chars().count())
        .max()
        .unwrap_or(0)
        + 3;
    let mut titles: Vec<&str> = Vec::new();
    for flag in table {
        if !titles.contains(&flag.group) {
            titles.push(flag.group);
        }
    }
    let mut text = String::new();
    for title in titles {
        text += &format!("\n{}:\n", if title.is_empty() { untitled } else { title });
        for flag in table.iter().filter(|f| f.group == title) {
            text += format!("{:width$}{}", left(flag), flag.about).trim_end();
            text.push('\n');
        }
    }
    text
}

fn listing(title: &str, rows: &[(&str, &str)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(9)
        + 2;
    let mut text = format!("\n{title}:\n");
    for (name, about) in rows {
        text += &format!("  {name:width$}{about}\n");
    }
    text
}

/// What a group holds.
pub(super) fn group_text(program: &str, group: &Group) -> String {
    let prefix = format!("{} ", group.name);
    let mut rows: Vec<(&str, &str)> = command::all()
        .filter_map(|c| {
            c.names[0]
                .strip_prefix(prefix.as_str())
                .map(|name| (name, c.about))
        })
        .collect();
    rows.sort_unstable();
    format!(
        "Usage:  {program} {} COMMAND\n\n{}\n{}\nRun '{program} {} COMMAND --help' for more information on a command.\n",
        group.name,
        group.about,
        listing("Commands", &rows),
        group.name
    )
}

pub(super) fn print_top(program: &str) {
    let short = |c: &'static Command| {
        c.names
            .iter()
            .copied()
            .find(|n| !n.contains(' '))
            .map(|n| (n, c.about))
    };
    let mut rows: Vec<(&str, &str)> = command::all().filter_map(short).collect();
    rows.sort_unstable();
    let common: Vec<_> = COMMON
        .iter()
        .filter_map(|name| rows.iter().find(|(n, _)| n == name).copied())
        .collect();
    rows.retain(|(name, _)| !COMMON.contains(name));
    let groups = |swarm| -> Vec<_> {
        command::GROUPS
            .iter()
            .filter(|g| g.swarm == swarm)
            .map(|g| (g.name, g.about))
            .collect()
    };
    // Called as docker, the program is the client and nothing else.
    let node = match program {
        "docker" => String::new(),
        _ => listing(
            "The node itself",
            &[("agent", "Be a node; see skep agent --help")],
        ),
    };
    let text = format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA container orchestrator for fleets of small machines\n{}{}{}{}{}{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        listing("Common Commands", &common),
        listing("Management Commands", &groups(false)),
        listing("Swarm Commands", &groups(true)),
        listing("Commands", &rows),
        node,
        options_text(&flags::table(&[GLOBAL_FLAGS]), "Global Options"),
    );
    let _ = exit::print(&text);
}
