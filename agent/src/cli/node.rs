//! Nodes of the swarm.

use super::command::{Arity, Command};
use super::container::natural_key;
use super::convert::pairs;
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::format::{Listing, Row};
use super::http::{Answer, Fault, Query, escape};
use super::json::Value;
use super::task::{self, capitalised};
use super::time::Moment;
use super::{Invocation, ask, inspect, units};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["node ls", "node list"],
        "[OPTIONS]",
        "List the swarm's nodes",
        Arity::Exactly(0),
        &["\
f filter filter Show only these (id=…, name=…, role=…, membership=…, label=…, node.label=…)
. format string Print by a template, table TEMPLATE, or json
q quiet bool Only ids"],
        list,
    ),
    Command::new(
        &["node inspect"],
        "[OPTIONS] self|NODE [NODE...]",
        "Show all there is to know of nodes",
        Arity::AtLeast(1),
        &[inspect::FLAGS, ". pretty bool Print for people"],
        inspect_nodes,
    ),
    Command::new(
        &["node ps"],
        "[OPTIONS] [NODE...]",
        "List the tasks of nodes, of this one unless told otherwise",
        Arity::Any,
        &[task::FLAGS],
        ps,
    ),
    Command::new(
        &["node update"],
        "[OPTIONS] NODE",
        "Change a node",
        Arity::Exactly(1),
        &["\
. availability string active, pause or drain
. label-add list Add or change a label (key=value)
. label-rm list Remove a label
. role string worker or manager"],
        update,
    ),
    Command::new(
        &["node promote"],
        "NODE [NODE...]",
        "Make nodes managers",
        Arity::AtLeast(1),
        &[],
        |inv| {
            change_role(
                inv,
                "manager",
                "Node {} promoted to a manager in the swarm.",
            )
        },
    ),
    Command::new(
        &["node demote"],
        "NODE [NODE...]",
        "Make managers workers",
        Arity::AtLeast(1),
        &[],
        |inv| change_role(inv, "worker", "Manager {} demoted in the swarm."),
    ),
    Command::new(
        &["node rm", "node remove"],
        "[OPTIONS] NODE [NODE...]",
        "Remove nodes from the swarm",
        Arity::AtLeast(1),
        &["f force bool Also a node that is not down"],
        remove,
    ),
    Command::new(
        &["node prune"],
        "[OPTIONS]",
        "Remove all workers that are down",
        Arity::Exactly(0),
        &["f force bool Do not ask"],
        prune,
    ),
];

const LISTING: Listing = Listing {
    row_type: "node.nodeContext",
    columns: "{{.ID}} {{if .Self}}*{{else}} {{ end }}\\t{{.Hostname}}\\t{{.Status}}\\t{{.Availability}}\\t{{.ManagerStatus}}\\t{{.EngineVersion}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "ID"),
        ("Self", ""),
        ("Hostname", "HOSTNAME"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("ManagerStatus", "MANAGER STATUS"),
        ("EngineVersion", "ENGINE VERSION"),
        ("TLSStatus", "TLS STATUS"),
    ],
};

fn list(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let query = Query::new().filters(&Filters::parse(flags.list("filter"))?);
    let nodes = inv.client.get(&query.on("/nodes"))?;
    let info = if nodes.elements().is_empty() || flags.bool("quiet") {
        Value::Null
    } else {
        inv.client.get("/info")?
    };
    let mut nodes: Vec<&Value> = nodes.elements().iter().collect();
    nodes.sort_by_cached_key(|n| natural_key(n.text("Description.Hostname")));
    let rows: Vec<Value> = nodes.into_iter().map(|node| row(node, &info)).collect();
    LISTING.print(
        &LISTING.choose(flags.str("format"), flags.bool("quiet")),
        &rows,
    )
}

fn row(node: &Value, info: &Value) -> Value {
    let manager = match node.bool("ManagerStatus.Leader") {
        true => "Leader".to_owned(),
        false => capitalised(node.text("ManagerStatus.Reachability")),
    };
    let (own, cluster) = (
        node.at("Description.TLSInfo"),
        info.at("Swarm.Cluster.TLSInfo"),
    );
    let tls = match () {
        () if own.text("TrustRoot").is_empty() || cluster.text("TrustRoot").is_empty() => "Unknown",
        () if own == cluster => "Ready",
        () => "Needs Rotation",
    };
    Row::new()
        .with("ID", node.text("ID"))
        .with("Self", node.text("ID") == info.text("Swarm.NodeID"))
        .with("Hostname", node.text("Description.Hostname"))
        .with("Status", capitalised(node.text("Status.State")))
        .with("Availability", capitalised(node.text("Spec.Availability")))
        .with("ManagerStatus", manager)
        .with(
            "EngineVersion",
            node.text("Description.Engine.EngineVersion"),
        )
        .with("TLSStatus", tls)
        .done()
}

/// The id that `self` stands for, or the name as it is.
fn reference(inv: &Invocation, name: &str) -> Answer<String> {
    if name != "self" {
        return Ok(name.to_owned());
    }
    let info = inv.client.get("/info")?;
    match info.text("Swarm.NodeID") {
        // Asking for the nodes gives the daemon's own reason.
        "" => {
            inv.client.get("/nodes")?;
            Err(Fault {
                status: None,
                message: "node ID not found in /info".to_owned(),
            })
        }
        id => Ok(id.to_owned()),
    }
}

fn path(id: &str) -> String {
    format!("/nodes/{}", escape(id))
}

fn inspect_nodes(inv: &Invocation) -> Outcome {
    let pretty = inv.flags.bool("pretty");
    if !pretty {
        return inspect::each(inv, &inv.operands, |name| {
            let id = reference(inv, name)?;
            let text = inv.client.get_text(&path(&id))?;
            Ok((text, super::template::Scope::typed_document()))
        });
    }
    if inv.flags.changed("format") {
        return Err(Exit::failure(
            "--format is incompatible with human friendly format",
        ));
    }
    let mut page = String::new();
    for name in &inv.operands {
        let id = reference(inv, name)?;
        let node = inv.client.get(&path(&id))?;
        page += &pretty_text(&node);
    }
    exit::print(&page)
}

fn labels_text(title: &str, labels: &Value) -> String {
    let mut text = String::new();
    for (key, value) in labels.sorted_root() {
        let value = value.str();
        text += &if value.is_empty() {
            format!(" - {key}\n")
        } else {
            format!(" - {key}={value}\n")
        };
    }
    if text.is_empty() {
        text
    } else {
        format!("{title}\n{text}")
    }
}

fn pretty_text(node: &Value) -> String {
    let mut text = format!("ID:\t\t\t{}\n", node.text("ID"));
    let mut line = |label: &str, value: &str| text += &format!("{label}{value}\n");
    if !node.text("Spec.Name").is_empty() {
        line("Name:\t\t\t", node.text("Spec.Name"));
    }
    text += &labels_text("Labels:", node.at("Spec.Labels"));
    // Docker's own pretty printer puts the zone's name in small letters.
    let joined = Moment::parse(node.text("CreatedAt"))
        .map(|at| at.utc_go_text().to_lowercase())
        .unwrap_or_default();
    text += &format!(
        "Hostname:              \t{}\n",
        node.text("Description.Hostname")
    );
    text += &format!("Joined at:             \t{joined}\n");
    text += &format!(
        "Status:\n State:\t\t\t{}\n",
        capitalised(node.text("Status.State"))
    );
    if !node.text("Status.Message").is_empty() {
        text += &format!(
            " Message:              \t{}\n",
            capitalised(node.text("Status.Message"))
        );
    }
    text += &format!(
        " Availability:         \t{}\n",
        capitalised(node.text("Spec.Availability"))
    );
    if !node.text("Status.Addr").is_empty() {
        text += &format!(" Address:\t\t{}\n", node.text("Status.Addr"));
    }
    if !node.at("ManagerStatus").is_null() {
        text += &format!(
            "Manager Status:\n Address:\t\t{}\n Raft Status:\t\t{}\n Leader:\t\t{}\n",
            node.text("ManagerStatus.Addr"),
            capitalised(node.text("ManagerStatus.Reachability")),
            if node.bool("ManagerStatus.Leader") {
                "Yes"
            } else {
                "No"
            }
        );
    }
    text += &format!(
        "Platform:\n Operating System:\t{}\n Architecture:\t\t{}\nResources:\n CPUs:\t\t\t{}\n Memory:\t\t{}\n",
        node.text("Description.Platform.OS"),
        node.text("Description.Platform.Architecture"),
        node.int("Description.Resources.NanoCPUs") / units::SECOND,
        units::binary_size(node.float("Description.Resources.MemoryBytes"))
    );
    text += &plugins_text(node.list("Description.Engine.Plugins"));
    text += &format!(
        "Engine Version:\t\t{}\n",
        node.text("Description.Engine.EngineVersion")
    );
    text += &labels_text("Engine Labels:", node.at("Description.Engine.Labels"));
    let tls = node.at("Description.TLSInfo");
    if !tls.at("CertIssuerSubject").is_null() || !tls.text("TrustRoot").is_empty() {
        text += &format!(
            "TLS Info:\n TrustRoot:\n{}\n Issuer Subject:\t{}\n Issuer Public Key:\t{}\n",
            tls.text("TrustRoot"),
            tls.text("CertIssuerSubject"),
            tls.text("CertIssuerPublicKey")
        );
    }
    text
}

fn plugins_text(plugins: &[Value]) -> String {
    let mut kinds: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for plugin in plugins {
        kinds
            .entry(plugin.text("Type"))
            .or_default()
            .push(plugin.text("Name"));
    }
    let mut text = String::new();
    for (kind, names) in kinds {
        text += &format!(" {kind}:\t\t{}\n", names.join(", "));
    }
    if text.is_empty() {
        text
    } else {
        format!("Plugins:\n{text}")
    }
}

fn ps(inv: &Invocation) -> Outcome {
    let own = ["self".to_owned()];
    let nodes: &[String] = if inv.operands.is_empty() {
        &own
    } else {
        &inv.operands
    };
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for name in nodes {
        let found = reference(inv, name)
            .and_then(|id| inv.client.get(&path(&id)))
            .map_err(Exit::from);
        let listed = found.and_then(|node| {
            let mut filters = Filters::parse(inv.flags.list("filter"))?;
            filters.add("node", node.text("ID"));
            Ok(inv
                .client
                .get(&Query::new().filters(&filters).on("/tasks"))?)
        });
        match listed {
            Ok(listed) => tasks.extend(listed.elements().iter().cloned()),
            Err(exit) => failures.push(exit.message),
        }
    }
    if failures.is_empty() || !tasks.is_empty() {
        task::print(inv, tasks)?;
    }
    Exit::all(failures)
}

/// Reads a node, changes its spec and writes it back.
fn change(
    inv: &Invocation,
    name: &str,
    mut edit: impl FnMut(&Value, &mut Value) -> Outcome<bool>,
) -> Outcome<bool> {
    let node = inv.client.get(&path(name))?;
    let mut spec = node.at("Spec").clone();
    if !edit(&node, &mut spec)? {
        return Ok(false);
    }
    let url = Query::new().with("version", node.int("Version.Index").to_string());
    inv.client
        .post_document(&url.on(&format!("{}/update", path(node.text("ID")))), &spec)?;
    Ok(true)
}

fn update(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let name = &inv.operands[0];
    change(inv, name, |_, spec| {
        if let Some(role) = flags.get("role") {
            spec.set("Role", role);
        }
        if let Some(availability) = flags.get("availability") {
            spec.set("Availability", availability);
        }
        for (key, value) in pairs::map(flags.list("label-add")) {
            spec.at_mut("Labels").set(&key, value);
        }
        for key in flags.list("label-rm") {
            if spec.at("Labels").get(key).is_none() {
                return Err(Exit::failure(format!(
                    "key {key} doesn't exist in node's labels"
                )));
            }
            spec.at_mut("Labels").remove(key);
        }
        Ok(true)
    })?;
    exit::print_line(name)
}

fn change_role(inv: &Invocation, role: &str, done: &str) -> Outcome {
    for name in &inv.operands {
        let mut already = String::new();
        let changed = change(inv, name, |node, spec| {
            if spec.text("Role") == role {
                already = format!("Node {} is already a {role}.", node.text("ID"));
                return Ok(false);
            }
            spec.set("Role", role);
            Ok(true)
        })?;
        exit::print_line(&if changed {
            done.replace("{}", name)
        } else {
            already
        })?;
    }
    Ok(())
}

fn remove(inv: &Invocation) -> Outcome {
    let query = Query::new().flag("force", inv.flags.bool("force")).on("");
    let mut failures = Vec::new();
    for name in &inv.operands {
        match inv.client.delete(&format!("{}{query}", path(name))) {
            Ok(_) => exit::print_line(name)?,
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    Exit::all(failures)
}

fn prune(inv: &Invocation) -> Outcome {
    const WARNING: &str =
        "WARNING! This will remove all workers that are down.\nAre you sure you want to continue?";
    ask::confirm(inv.flags.bool("force"), WARNING)?;
    let pruned = inv.client.post("/skep/v1/nodes/prune", None)?;
    match pruned.strings("NodesDeleted") {
        nodes if nodes.is_empty() => Ok(()),
        nodes => exit::print_line(&format!("Deleted Nodes:\n{}\n", nodes.join("\n"))),
    }
}
