//! Tasks as `service ps` and `node ps` list them.

use std::collections::BTreeMap;

use super::Invocation;
use super::exit::Outcome;
use super::format::{Listing, Row, ellipsis, short_id};
use super::http::escape;
use super::json::Value;
use super::reference::without_digest;
use super::time::Moment;
use super::units;

pub(super) const FLAGS: &str = "\
f filter filter Show only these (id=…, name=…, node=…, desired-state=…, label=…)
. format string Print by a template, table TEMPLATE, or json
. no-resolve bool Show ids, not names
. no-trunc bool Do not shorten
q quiet bool Only ids";

const LISTING: Listing = Listing {
    row_type: "task.taskContext",
    columns: "{{.ID}}\\t{{.Name}}\\t{{.Image}}\\t{{.Node}}\\t{{.DesiredState}}\\t{{.CurrentState}}\\t{{.Error}}\\t{{.Ports}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Node", "NODE"),
        ("DesiredState", "DESIRED STATE"),
        ("CurrentState", "CURRENT STATE"),
        ("Error", "ERROR"),
        ("Ports", "PORTS"),
    ],
};

/// Longest error in the table, characters.
const ERROR_WIDTH: usize = 30;

/// Names of services and nodes, asked for once each.
pub(super) struct Names<'i> {
    inv: &'i Invocation,
    resolve: bool,
    known: BTreeMap<(&'static str, String), String>,
}

impl<'i> Names<'i> {
    pub(super) fn new(inv: &'i Invocation, resolve: bool) -> Self {
        Self {
            inv,
            resolve,
            known: BTreeMap::new(),
        }
    }

    /// A node's name, or its id when it has none or is gone.
    pub(super) fn node(&mut self, id: &str) -> String {
        self.look_up("nodes", id, |node| match node.text("Spec.Name") {
            "" => node.text("Description.Hostname").to_owned(),
            name => name.to_owned(),
        })
    }

    pub(super) fn service(&mut self, id: &str) -> String {
        self.look_up("services", id, |service| {
            service.text("Spec.Name").to_owned()
        })
    }

    fn look_up(&mut self, kind: &'static str, id: &str, name: impl Fn(&Value) -> String) -> String {
        if !self.resolve || id.is_empty() {
            return id.to_owned();
        }
        if let Some(name) = self.known.get(&(kind, id.to_owned())) {
            return name.clone();
        }
        let found = self
            .inv
            .client
            .get(&format!("/{kind}/{}", escape(id)))
            .map(|object| name(&object));
        let name = found
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| id.to_owned());
        self.known.insert((kind, id.to_owned()), name.clone());
        name
    }
}

/// Upper case the first letter and no other, as states are shown.
pub(super) fn capitalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut chars = lower.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Prints tasks by name and age, older ones of a slot set back.
pub(super) fn print(inv: &Invocation, tasks: Vec<Value>) -> Outcome {
    let flags = &inv.flags;
    let mut names = Names::new(inv, !flags.bool("no-resolve"));
    let mut tasks: Vec<(String, Value)> = tasks
        .into_iter()
        .map(|task| {
            let service = names.service(task.text("ServiceID"));
            let name = match task.int("Slot") {
                0 => format!("{service}.{}", task.text("NodeID")),
                slot => format!("{service}.{slot}"),
            };
            (name, task)
        })
        .collect();
    tasks.sort_by(|(a_name, a), (b_name, b)| {
        let created = |task: &Value| Moment::parse(task.text("CreatedAt"));
        super::container::natural_key(a_name)
            .cmp(&super::container::natural_key(b_name))
            .then_with(|| created(b).cmp(&created(a)))
    });
    let format = LISTING.choose(flags.str("format"), flags.bool("quiet"));
    let indent = if format.starts_with("table") {
        " \\_ "
    } else {
        ""
    };
    // Ids for another command are whole.
    let truncate = !flags.bool("no-trunc") && !flags.bool("quiet");
    let mut previous = String::new();
    let mut rows = Vec::new();
    for (name, task) in &tasks {
        let shown = if *name == previous {
            format!("{indent}{name}")
        } else {
            name.clone()
        };
        previous.clone_from(name);
        rows.push(row(task, shown, names.node(task.text("NodeID")), truncate));
    }
    LISTING.print(&format, &rows)
}

fn row(task: &Value, name: String, node: String, truncate: bool) -> Value {
    let id = task.text("ID");
    let image = task.text("Spec.ContainerSpec.Image");
    let since = Moment::parse(task.text("Status.Timestamp")).map_or(0, Moment::age_seconds);
    let mut error = task.text("Status.Err").to_owned();
    if truncate {
        error = ellipsis(&error, ERROR_WIDTH);
    }
    if !error.is_empty() {
        error = format!("\"{error}\"");
    }
    let ports: Vec<String> = task
        .list("Status.PortStatus.Ports")
        .iter()
        .map(|p| {
            format!(
                "*:{}->{}/{}",
                p.int("PublishedPort"),
                p.int("TargetPort"),
                p.text("Protocol")
            )
        })
        .collect();
    Row::new()
        .with(
            "ID",
            if truncate {
                short_id(id)
            } else {
                id.to_owned()
            },
        )
        .with("Name", name)
        .with(
            "Image",
            if truncate {
                without_digest(image)
            } else {
                image.to_owned()
            },
        )
        .with("Node", node)
        .with("DesiredState", capitalised(task.text("DesiredState")))
        .with(
            "CurrentState",
            format!(
                "{} {} ago",
                capitalised(task.text("Status.State")),
                units::human_duration(since).to_lowercase()
            ),
        )
        .with("Error", error)
        .with("Ports", ports.join(","))
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_as_it_is_shown() {
        let task = Value::parse(br#"{"ID":"abcdefghijklmnop","Spec":{"ContainerSpec":{"Image":"i:1@sha256:0"}},"DesiredState":"running","Status":{"State":"failed","Err":"task: non-zero exit (137): and more","PortStatus":{"Ports":[{"PublishedPort":1,"TargetPort":2,"Protocol":"tcp"}]}}}"#).unwrap();
        let row = row(&task, "s.1".into(), "n".into(), true);
        assert_eq!(row.text("ID"), "abcdefghijkl");
        assert_eq!(row.text("Image"), "i:1");
        assert_eq!(row.text("Error"), "\"task: non-zero exit (137): an…\"");
        assert_eq!(row.text("CurrentState"), "Failed less than a second ago");
        assert_eq!(row.text("Ports"), "*:1->2/tcp");
    }
}
