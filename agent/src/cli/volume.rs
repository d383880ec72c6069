//! Volumes.

use serde_json::json;

use super::command::{Arity, Command};
use super::container::natural_key;
use super::convert::pairs;
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::format::{Listing, Row};
use super::http::{Query, escape};
use super::json::Value;
use super::{Invocation, ask, inspect, units};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["volume create"],
        "[OPTIONS] [VOLUME]",
        "Make a volume",
        Arity::AtMost(1),
        &[
            "d driver string Volume driver (default local)\n. label list Label of the volume\n. name string The same as VOLUME\no opt map Option for the driver",
        ],
        create,
    ),
    Command::new(
        &["volume ls", "volume list"],
        "[OPTIONS]",
        "List volumes",
        Arity::Exactly(0),
        &["\
f filter filter Show only these (dangling=true, driver=…, label=…, name=…)
. format string Print by a template, table TEMPLATE, or json
q quiet bool Only names"],
        list,
    ),
    Command::new(
        &["volume inspect"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Show all there is to know of volumes",
        Arity::AtLeast(1),
        &[inspect::FLAGS],
        |inv| inspect::of_type(inv, "volume"),
    ),
    Command::new(
        &["volume rm", "volume remove"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove volumes",
        Arity::AtLeast(1),
        &["f force bool Remove though the driver refuses"],
        remove,
    ),
    Command::new(
        &["volume prune"],
        "[OPTIONS]",
        "Remove unused volumes",
        Arity::Exactly(0),
        &[
            "a all bool Volumes with names too\n. filter filter Remove only these (label=…)\nf force bool Do not ask",
        ],
        prune,
    ),
];

pub(super) const LISTING: Listing = Listing {
    row_type: "formatter.volumeContext",
    columns: "{{.Driver}}\\t{{.Name}}",
    quiet: "{{.Name}}",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Availability", "AVAILABILITY"),
        ("Status", "STATUS"),
    ],
};

fn create(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let name = match (inv.operands.first(), flags.get("name")) {
        (Some(_), Some(_)) => {
            return Err(Exit::failure(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (Some(name), None) => name.as_str(),
        (None, name) => name.unwrap_or(""),
    };
    let body = json!({
        "Name": name,
        "Driver": flags.get("driver").unwrap_or("local"),
        "DriverOpts": pairs::map(flags.list("opt")),
        "Labels": pairs::map(flags.list("label")),
    });
    let volume = inv.client.post("/volumes/create", Some(body))?;
    exit::print_line(volume.text("Name"))
}

fn list(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let query = Query::new().filters(&Filters::parse(flags.list("filter"))?);
    let answer = inv.client.get(&query.on("/volumes"))?;
    let mut rows: Vec<Value> = answer.list("Volumes").iter().map(row).collect();
    rows.sort_by_cached_key(|row| natural_key(row.text("Name")));
    LISTING.print(
        &LISTING.choose(flags.str("format"), flags.bool("quiet")),
        &rows,
    )
}

/// A volume as the listing shows it.
pub(super) fn row(volume: &Value) -> Value {
    let used = |text: String| {
        if volume.at("UsageData").is_null() {
            "N/A".to_owned()
        } else {
            text
        }
    };
    Row::new()
        .with("Name", volume.text("Name"))
        .with("Driver", volume.text("Driver"))
        .with("Scope", volume.text("Scope"))
        .with("Mountpoint", volume.text("Mountpoint"))
        .with("Links", used(volume.int("UsageData.RefCount").to_string()))
        .with(
            "Size",
            used(units::human_size(volume.float("UsageData.Size"))),
        )
        .with("Group", "N/A")
        .with("Availability", "N/A")
        .with("Status", "N/A")
        .labels(volume.at("Labels"))
        .done()
}

fn remove(inv: &Invocation) -> Outcome {
    let query = Query::new().flag("force", inv.flags.bool("force")).on("");
    let mut failures = Vec::new();
    for name in &inv.operands {
        match inv
            .client
            .delete(&format!("/volumes/{}{query}", escape(name)))
        {
            Ok(_) => exit::print_line(name)?,
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    Exit::all(failures)
}

fn prune(inv: &Invocation) -> Outcome {
    let all = inv.flags.bool("all");
    let mut filters = Filters::parse(inv.flags.list("filter"))?;
    let warning = if all {
        if filters.has("all") {
            return Err(Exit::failure(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        filters.add("all", "true");
        "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue?"
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue?"
    };
    ask::confirm(inv.flags.bool("force"), warning)?;
    let (text, bytes) = prune_unused(inv, &filters)?;
    if !text.is_empty() {
        exit::print_line(&text)?;
    }
    exit::print_line(&format!(
        "Total reclaimed space: {}",
        units::human_size(bytes)
    ))
}

/// Removes unused volumes; what went, and how many bytes it had.
pub(super) fn prune_unused(inv: &Invocation, filters: &Filters) -> Outcome<(String, f64)> {
    let answer = inv
        .client
        .post(&Query::new().filters(filters).on("/volumes/prune"), None)?;
    let gone = answer.strings("VolumesDeleted");
    if gone.is_empty() {
        return Ok((String::new(), 0.0));
    }
    Ok((
        format!("Deleted Volumes:\n{}\n", gone.join("\n")),
        answer.float("SpaceReclaimed"),
    ))
}
