//! Services.

mod create;
mod flags;
mod list;
mod logs;
mod pretty;
mod progress;
mod screen;
mod spec;
mod update;

use super::command::{Arity, Command};
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::http::{Query, escape};
use super::json::Value;
use super::{Invocation, inspect, task};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["service create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Make a service",
        Arity::AtLeast(1),
        &[flags::SHARED, flags::CREATE],
        create::run,
    )
    .flags_first(),
    Command::new(
        &["service update"],
        "[OPTIONS] SERVICE",
        "Change a service",
        Arity::Exactly(1),
        &[flags::SHARED, flags::UPDATE],
        update::run,
    ),
    Command::new(
        &["service scale"],
        "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
        "Change how many tasks services run",
        Arity::AtLeast(1),
        &["d detach bool Do not wait for the services to settle"],
        update::scale,
    ),
    Command::new(
        &["service rollback"],
        "[OPTIONS] SERVICE",
        "Go back to a service's specification before",
        Arity::Exactly(1),
        &["d detach bool Do not wait for the service to settle\nq quiet bool Show no progress"],
        update::rollback,
    ),
    Command::new(
        &["service ls", "service list"],
        "[OPTIONS]",
        "List services",
        Arity::Exactly(0),
        &[list::FLAGS],
        list::run,
    ),
    Command::new(
        &["service ps"],
        "[OPTIONS] SERVICE [SERVICE...]",
        "List the tasks of services",
        Arity::AtLeast(1),
        &[task::FLAGS],
        ps,
    ),
    Command::new(
        &["service inspect"],
        "[OPTIONS] SERVICE [SERVICE...]",
        "Show all there is to know of services",
        Arity::AtLeast(1),
        &[inspect::FLAGS, ". pretty bool Print for people"],
        pretty::run,
    ),
    Command::new(
        &["service logs"],
        "[OPTIONS] SERVICE|TASK",
        "Show what the tasks of a service wrote",
        Arity::Exactly(1),
        &[logs::FLAGS],
        logs::run,
    ),
    Command::new(
        &["service rm", "service remove"],
        "SERVICE [SERVICE...]",
        "Remove services",
        Arity::AtLeast(1),
        &[],
        remove,
    ),
];

fn path(name: &str, rest: &str) -> String {
    format!("/services/{}{rest}", escape(name))
}

/// This client keeps no registry logins, so it has none to give away.
fn registry_auth(inv: &Invocation) -> Outcome {
    if inv.flags.bool("with-registry-auth") {
        exit::warn(
            "WARNING: --with-registry-auth has no effect: this client keeps no registry logins",
        );
    }
    Ok(())
}

fn remove(inv: &Invocation) -> Outcome {
    let mut failures = Vec::new();
    for name in &inv.operands {
        match inv.client.delete(&path(name, "")) {
            Ok(_) => exit::print_line(name)?,
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    Exit::all(failures)
}

fn ps(inv: &Invocation) -> Outcome {
    let (mut filters, missing) = tasks_filter(inv)?;
    // `self` in a node filter is this node.
    let nodes: Vec<String> = filters.get("node").to_vec();
    if nodes.iter().any(|n| n == "self") {
        let info = inv.client.get("/info")?;
        filters.remove("node");
        for node in nodes {
            filters.add(
                "node",
                if node == "self" {
                    info.text("Swarm.NodeID").to_owned()
                } else {
                    node
                },
            );
        }
    }
    let tasks = inv
        .client
        .get(&Query::new().filters(&filters).on("/tasks"))?;
    task::print(inv, tasks.elements().to_vec())?;
    Exit::all(missing)
}

/// The filter for the services named, by id, name or the beginning of an id;
/// and a line for each that is none.
fn tasks_filter(inv: &Invocation) -> Outcome<(Filters, Vec<String>)> {
    let named = |key: &str| -> Outcome<Value> {
        let mut filters = Filters::default();
        inv.operands
            .iter()
            .for_each(|name| filters.add(key, name.as_str()));
        Ok(inv
            .client
            .get(&Query::new().filters(&filters).on("/services"))?)
    };
    let (by_id, by_name) = (named("id")?, named("name")?);
    let mut filters = Filters::parse(inv.flags.list("filter"))?;
    let (mut missing, mut found) = (Vec::new(), 0);
    for name in &inv.operands {
        let same = |path: &str, services: &Value| {
            services
                .elements()
                .iter()
                .find(|s| s.text(path) == name)
                .map(|s| s.text("ID").to_owned())
        };
        let exact = same("ID", &by_id).or_else(|| same("Spec.Name", &by_name));
        let mut begins = by_id
            .elements()
            .iter()
            .filter(|s| s.text("ID").starts_with(name.as_str()));
        let id = match (exact, begins.next(), begins.next()) {
            (Some(id), ..) => Some(id),
            (None, Some(_), Some(_)) => {
                return Err(Exit::failure(
                    "multiple services found with provided prefix: ".to_owned() + name,
                ));
            }
            (None, Some(only), None) => Some(only.text("ID").to_owned()),
            (None, None, _) => None,
        };
        match id {
            Some(id) => {
                filters.add("service", id);
                found += 1;
            }
            None => missing.push(format!("no such service: {name}")),
        }
    }
    if found == 0 {
        return Err(Exit::failure(missing.join("\n")));
    }
    Ok((filters, missing))
}
