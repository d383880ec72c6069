//! Containers: `container …` and the short forms.

mod attach;
mod config;
mod copy;
mod exec;
mod list;
mod logs;
mod plain;
mod run;
mod stats;

use super::Invocation;
use super::command::{Arity, Command};
use super::exit::{Exit, Outcome};
use super::http::{Answer, escape};

pub(in crate::cli) use list::{LISTING, row};
pub(in crate::cli) use logs::query as logs_query;
pub(in crate::cli) use plain::{natural_key, prune_stopped, write_to};

const STOP_FLAGS: &str = "\
s signal string Signal to send instead of the container's stop signal
t timeout int Seconds to wait before killing it
. time int The same as --timeout";

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["container run", "run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Make a container from an image and run it",
        Arity::AtLeast(1),
        &[run::RUN_FLAGS, config::FLAGS],
        run::run,
    )
    .flags_first(),
    Command::new(
        &["container create", "create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Make a container from an image",
        Arity::AtLeast(1),
        &[config::FLAGS],
        run::run_create,
    )
    .flags_first(),
    Command::new(
        &["container exec", "exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Run a command in a running container",
        Arity::AtLeast(2),
        &[exec::FLAGS],
        exec::run,
    )
    .flags_first(),
    Command::new(
        &["container attach", "attach"],
        "[OPTIONS] CONTAINER",
        "Join this terminal to a running container's streams",
        Arity::Exactly(1),
        &[attach::FLAGS],
        attach::run_attach,
    ),
    Command::new(
        &["container start", "start"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start stopped containers",
        Arity::AtLeast(1),
        &[attach::START_FLAGS],
        attach::run_start,
    ),
    Command::new(
        &["container update", "update"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Change the limits of containers",
        Arity::AtLeast(1),
        &[run::UPDATE_FLAGS],
        run::run_update,
    ),
    Command::new(
        &["container cp", "cp"],
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- or SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files between a container and here",
        Arity::Exactly(2),
        &[copy::FLAGS],
        copy::run,
    ),
    Command::new(
        &["container stats", "stats"],
        "[OPTIONS] [CONTAINER...]",
        "Show what containers use, as it changes",
        Arity::Any,
        &[stats::FLAGS],
        stats::run,
    ),
    Command::new(
        &["container inspect"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Show all there is to know of containers",
        Arity::AtLeast(1),
        &[super::inspect::FLAGS, "s size bool Add their sizes"],
        |inv| super::inspect::of_type(inv, "container"),
    ),
    Command::new(
        &["container ls", "container ps", "container list", "ps"],
        "[OPTIONS]",
        "List containers",
        Arity::Exactly(0),
        &[list::FLAGS],
        list::run,
    ),
    Command::new(
        &["container logs", "logs"],
        "[OPTIONS] CONTAINER",
        "Show what a container wrote",
        Arity::Exactly(1),
        &[logs::FLAGS],
        logs::run,
    ),
    Command::new(
        &["container stop", "stop"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop running containers",
        Arity::AtLeast(1),
        &[STOP_FLAGS],
        plain::stop,
    ),
    Command::new(
        &["container restart", "restart"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop containers and start them again",
        Arity::AtLeast(1),
        &[STOP_FLAGS],
        plain::restart,
    ),
    Command::new(
        &["container kill", "kill"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Send running containers a signal, KILL unless told otherwise",
        Arity::AtLeast(1),
        &["s signal string Signal to send"],
        plain::kill,
    ),
    Command::new(
        &["container rm", "container remove", "rm"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove containers",
        Arity::AtLeast(1),
        &[
            "f force bool Kill a running container first\nl link bool Remove the link of this name\nv volumes bool Remove its anonymous volumes too",
        ],
        plain::remove,
    ),
    Command::new(
        &["container pause", "pause"],
        "CONTAINER [CONTAINER...]",
        "Freeze all processes of containers",
        Arity::AtLeast(1),
        &[],
        plain::pause,
    ),
    Command::new(
        &["container unpause", "unpause"],
        "CONTAINER [CONTAINER...]",
        "Let frozen containers run on",
        Arity::AtLeast(1),
        &[],
        plain::unpause,
    ),
    Command::new(
        &["container wait", "wait"],
        "CONTAINER [CONTAINER...]",
        "Wait for containers to stop and print their exit codes",
        Arity::AtLeast(1),
        &[],
        plain::wait,
    ),
    Command::new(
        &["container rename", "rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Arity::Exactly(2),
        &[],
        plain::rename,
    ),
    Command::new(
        &["container port", "port"],
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "Show a container's published ports, or where one of them is",
        Arity::Between(1, 2),
        &[],
        plain::port,
    ),
    Command::new(
        &["container top", "top"],
        "CONTAINER [ps OPTIONS]",
        "Show a container's processes",
        Arity::AtLeast(1),
        &[],
        plain::top,
    )
    .flags_first(),
    Command::new(
        &["container diff", "diff"],
        "CONTAINER",
        "Show what changed in a container's file system",
        Arity::Exactly(1),
        &[],
        plain::diff,
    ),
    Command::new(
        &["container export", "export"],
        "[OPTIONS] CONTAINER",
        "Write a container's file system as a tar archive",
        Arity::Exactly(1),
        &["o output string Write to this file, not to standard output"],
        plain::export,
    ),
    Command::new(
        &["container prune"],
        "[OPTIONS]",
        "Remove all stopped containers",
        Arity::Exactly(0),
        &[". filter filter Remove only these (until=…, label=…)\nf force bool Do not ask"],
        plain::prune,
    ),
];

/// Operations on many containers that run side by side; more would only
/// queue up in the daemon.
const PARALLEL_MAX: usize = 50;

/// Does something for every operand, many at once, and prints those for
/// which it was done, in the order given.
fn each(inv: &Invocation, act: impl Fn(&str) -> Answer<bool> + Sync) -> Outcome {
    let mut failures = Vec::new();
    for names in inv.operands.chunks(PARALLEL_MAX) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = names.iter().map(|name| scope.spawn(|| act(name))).collect();
            running
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect()
        });
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(Ok(true)) => super::exit::print_line(name)?,
                Ok(Ok(false)) => {}
                Ok(Err(fault)) => failures.push(fault.to_string()),
                Err(_) => failures.push(format!("{name}: gave up")),
            }
        }
    }
    Exit::all(failures)
}

/// The path of a container's resource.
fn path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", escape(name))
}
