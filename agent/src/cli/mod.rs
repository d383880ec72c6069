//! Docker's words, spoken to a node over its HTTP socket.
//!
//! Owns: finding the command, its flags and its help; turning them into calls
//! of the Docker Engine API; printing what comes back as `docker` does, with
//! its exit codes. Invariant: nothing is reached but the socket, so whatever
//! works here works for every other client of the API too. Does not know:
//! the agent, its stores or its types; JSON is all it sees.

mod ask;
mod command;
mod container;
mod convert;
mod exit;
mod filters;
mod flags;
mod format;
mod help;
mod host;
mod http;
mod image;
mod inspect;
mod json;
mod network;
mod node;
mod progress;
mod reference;
mod service;
mod signals;
mod streams;
mod swarm;
mod system;
mod table;
mod task;
mod template;
mod terminal;
mod time;
mod units;
mod volume;

use std::ffi::OsString;
use std::process::ExitCode;

use command::{Command, Group};
use exit::{Exit, Outcome};
use flags::Flags;
use host::Host;
use http::Client;

/// One command on its way: what was asked, and whom to ask.
pub(super) struct Invocation {
    /// The program's name as the user called it.
    program: String,
    /// The command's words as the user wrote them (`container ls`, `ps`).
    path: String,
    flags: Flags,
    operands: Vec<String>,
    client: Client,
}

/// Runs the client with the process's arguments, the program name first.
/// Must be called before any thread exists: attaching masks signals.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let mut words = args.into_iter().map(|a| a.to_string_lossy().into_owned());
    let program = words
        .next()
        .map_or_else(|| "skep".to_owned(), |path| program_name(&path));
    let words: Vec<String> = words.collect();
    exit::report(run(&program, &words))
}

fn program_name(path: &str) -> String {
    match path.rsplit('/').next() {
        Some("docker") => "docker".to_owned(),
        _ => "skep".to_owned(),
    }
}

fn run(program: &str, words: &[String]) -> Outcome {
    let top = flags::parse(
        &flags::table(&[help::GLOBAL_FLAGS]),
        words,
        flags::Order::FlagsFirst,
    )
    .map_err(|wrong| help::flag_error(program, "", "[OPTIONS] COMMAND [ARG...]", wrong))?;
    let rest = &top.operands;
    if top.flags.bool("version") {
        return system::short_version(program);
    }
    if rest.is_empty() {
        help::print_top(program);
        return Ok(());
    }
    if rest[0] == "help" {
        return help::print_for(program, &rest[1..]);
    }
    let Some((command, used)) = command::find(rest) else {
        return no_such_command(program, rest);
    };
    if top.flags.bool("help") {
        return help::print_for(program, &rest[..used]);
    }
    start(program, command, rest, used, &top.flags)
}

fn start(
    program: &str,
    command: &'static Command,
    words: &[String],
    used: usize,
    top: &Flags,
) -> Outcome {
    let path = words[..used].join(" ");
    let table = flags::table(command.flags);
    let order = if command.flags_end_at_operand {
        flags::Order::FlagsFirst
    } else {
        flags::Order::Mixed
    };
    let parsed = flags::parse(&table, &words[used..], order)
        .map_err(|wrong| help::flag_error(program, &path, command.operands, wrong))?;
    if parsed.flags.bool("help") {
        return help::print_for(program, &words[..used]);
    }
    if let Some(complaint) = command.arity.complain(parsed.operands.len()) {
        return Err(help::arity_error(
            program,
            &path,
            command.operands,
            &complaint,
        ));
    }
    if ["tls", "tlsverify"].iter().any(|flag| top.bool(flag)) {
        return Err(Exit::failure(
            "this client does not speak TLS: reach the node by its unix socket or by ssh://",
        ));
    }
    let host = Host::choose(top.list("host"))?;
    let invocation = Invocation {
        program: program.to_owned(),
        path,
        flags: parsed.flags,
        operands: parsed.operands,
        client: Client::new(host),
    };
    (command.run)(&invocation)
}

fn no_such_command(program: &str, words: &[String]) -> Outcome {
    let group = command::GROUPS.iter().find(|g| g.name == words[0]);
    match (group, words.get(1).map(String::as_str)) {
        (Some(group), Some("--help" | "-h")) => exit::print(&help::group_text(program, group)),
        // A group alone is no command; Docker tells so where errors go.
        (Some(group), None) => {
            exit::warn(help::group_text(program, group).trim_end());
            Ok(())
        }
        (Some(Group { name, .. }), Some(word)) if word.starts_with('-') => {
            let wrong = flags::Wrong::unknown(word);
            Err(help::flag_error(program, name, "", wrong))
        }
        (Some(Group { name, .. }), Some(word)) => Err(Exit::failure(format!(
            "{program}: unknown command: {program} {name} {word}\n\nUsage:  {program} {name}\n\nRun '{program} {name} --help' for more information"
        ))),
        (None, _) => Err(Exit::failure(format!(
            "{program}: unknown command: {program} {}\n\nRun '{program} --help' for more information",
            words[0]
        ))),
    }
}
