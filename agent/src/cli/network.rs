//! Networks.

use serde_json::json;

use super::command::{Arity, Command};
use super::container::natural_key;
use super::convert::{pairs, subnets};
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::format::{Listing, Row, short_id};
use super::http::{Query, escape};
use super::json::Value;
use super::time::Moment;
use super::{Invocation, ask, inspect};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["network create"],
        "[OPTIONS] NETWORK",
        "Make a network",
        Arity::Exactly(1),
        &["\
. attachable bool Let standalone containers join a swarm network
. config-from string Take the settings from this network
. config-only bool Hold settings for other networks only
d driver string Driver of the network (default bridge)
. ingress bool Make the swarm's routing mesh network
. internal bool No way out of the network
. ipv4 bool Give IPv4 addresses (the default)
. ipv6 bool Give IPv6 addresses
. label list Label of the network
o opt map Option for the driver
. scope string Where the network is known (local, swarm)
# Addresses
. aux-address map Address the network must not give (name=address)
. gateway list Gateway of a subnet
. ip-range list Part of a subnet to give addresses from
. ipam-driver string Driver of addresses (default default)
. ipam-opt map Option for the driver of addresses
. subnet list Subnet in CIDR form"],
        create,
    ),
    Command::new(
        &["network ls", "network list"],
        "[OPTIONS]",
        "List networks",
        Arity::Exactly(0),
        &["\
f filter filter Show only these (driver=…, name=…, scope=…, label=…, type=…)
. format string Print by a template, table TEMPLATE, or json
. no-trunc bool Do not shorten
q quiet bool Only ids"],
        list,
    ),
    Command::new(
        &["network inspect"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Show all there is to know of networks",
        Arity::AtLeast(1),
        &[
            inspect::FLAGS,
            "v verbose bool Services and tasks of all nodes too",
        ],
        |inv| inspect::of_type(inv, "network"),
    ),
    Command::new(
        &["network rm", "network remove"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Remove networks",
        Arity::AtLeast(1),
        &["f force bool A network that is not there is no failure"],
        remove,
    ),
    Command::new(
        &["network connect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Join a container to a network",
        Arity::Exactly(2),
        &["\
. alias list Another name of the container in the network
. driver-opt list Option for the driver (key=value)
. gw-priority int The highest gives the default gateway
. ip string IPv4 address
. ip6 string IPv6 address
. link list Another container's name and an alias
. link-local-ip list Link-local address"],
        connect,
    ),
    Command::new(
        &["network disconnect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Take a container off a network",
        Arity::Exactly(2),
        &["f force bool Also when the container is gone"],
        disconnect,
    ),
    Command::new(
        &["network prune"],
        "[OPTIONS]",
        "Remove unused networks",
        Arity::Exactly(0),
        &[". filter filter Remove only these (until=…, label=…)\nf force bool Do not ask"],
        prune,
    ),
];

const LISTING: Listing = Listing {
    row_type: "network.networkContext",
    columns: "{{.ID}}\\t{{.Name}}\\t{{.Driver}}\\t{{.Scope}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

fn create(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let config = subnets::plan(
        flags.list("subnet"),
        flags.list("ip-range"),
        flags.list("gateway"),
        &pairs::map(flags.list("aux-address")),
    )?;
    let mut body = json!({
        "Name": inv.operands[0],
        "Driver": flags.get("driver").unwrap_or("bridge"),
        "Scope": flags.str("scope"),
        "Internal": flags.bool("internal"),
        "Attachable": flags.bool("attachable"),
        "Ingress": flags.bool("ingress"),
        "ConfigOnly": flags.bool("config-only"),
        "ConfigFrom": null,
        "IPAM": {
            "Driver": flags.get("ipam-driver").unwrap_or("default"),
            "Options": pairs::map(flags.list("ipam-opt")),
            "Config": config,
        },
        "Options": pairs::map(flags.list("opt")),
        "Labels": pairs::map(flags.list("label")),
    });
    for (flag, field) in [("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")] {
        if flags.changed(flag) {
            body[field] = flags.bool(flag).into();
        }
    }
    if flags.changed("config-from") {
        body["ConfigFrom"] = json!({ "Network": flags.str("config-from") });
    }
    let answer = inv.client.post("/networks/create", Some(body))?;
    if !answer.text("Warning").is_empty() {
        exit::warn(&format!("WARNING: {}", answer.text("Warning")));
    }
    exit::print_line(answer.text("Id"))
}

fn list(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let query = Query::new().filters(&Filters::parse(flags.list("filter"))?);
    let networks = inv.client.get(&query.on("/networks"))?;
    let truncate = !flags.bool("no-trunc");
    let mut rows: Vec<Value> = networks
        .elements()
        .iter()
        .map(|n| {
            let id = n.text("Id");
            let created = Moment::parse(n.text("Created"));
            Row::new()
                .with(
                    "ID",
                    if truncate {
                        short_id(id)
                    } else {
                        id.to_owned()
                    },
                )
                .with("Name", n.text("Name"))
                .with("Driver", n.text("Driver"))
                .with("Scope", n.text("Scope"))
                .with("IPv4", n.bool("EnableIPv4").to_string())
                .with("IPv6", n.bool("EnableIPv6").to_string())
                .with("Internal", n.bool("Internal").to_string())
                .with(
                    "CreatedAt",
                    created.map(Moment::utc_go_text).unwrap_or_default(),
                )
                .labels(n.at("Labels"))
                .done()
        })
        .collect();
    rows.sort_by_cached_key(|row| natural_key(row.text("Name")));
    LISTING.print(
        &LISTING.choose(flags.str("format"), flags.bool("quiet")),
        &rows,
    )
}

fn remove(inv: &Invocation) -> Outcome {
    const INGRESS: &str = "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.\nAre you sure you want to continue?";
    let mut failed = false;
    for name in &inv.operands {
        let path = format!("/networks/{}", escape(name));
        if inv
            .client
            .get(&path)
            .is_ok_and(|network| network.bool("Ingress"))
            && ask::confirm(false, INGRESS).is_err()
        {
            continue;
        }
        match inv.client.delete(&path) {
            Ok(_) => exit::print_line(name)?,
            Err(fault) if fault.is_not_found() && inv.flags.bool("force") => {}
            Err(fault) => {
                exit::warn(&fault.to_string());
                failed = true;
            }
        }
    }
    if failed {
        Err(Exit::failure("exit status 1"))
    } else {
        Ok(())
    }
}

fn connect(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let mut options = serde_json::Map::new();
    for word in flags.list("driver-opt") {
        let Some((key, value)) = word
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
        else {
            return Err(Exit::failure(
                "invalid key/value pair format in driver options",
            ));
        };
        options.insert(key.trim().to_owned(), value.trim().into());
    }
    let body = json!({
        "Container": inv.operands[1],
        "EndpointConfig": {
            "IPAMConfig": {
                "IPv4Address": flags.str("ip"),
                "IPv6Address": flags.str("ip6"),
                "LinkLocalIPs": flags.list("link-local-ip"),
            },
            "Links": flags.list("link"),
            "Aliases": flags.list("alias"),
            "DriverOpts": options,
            "GwPriority": flags.int("gw-priority").unwrap_or(0),
        },
    });
    inv.client.post(
        &format!("/networks/{}/connect", escape(&inv.operands[0])),
        Some(body),
    )?;
    Ok(())
}

fn disconnect(inv: &Invocation) -> Outcome {
    let body = json!({ "Container": inv.operands[1], "Force": inv.flags.bool("force") });
    inv.client.post(
        &format!("/networks/{}/disconnect", escape(&inv.operands[0])),
        Some(body),
    )?;
    Ok(())
}

fn prune(inv: &Invocation) -> Outcome {
    const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    ask::confirm(inv.flags.bool("force"), WARNING)?;
    let text = prune_unused(inv, &Filters::parse(inv.flags.list("filter"))?)?;
    if text.is_empty() {
        Ok(())
    } else {
        exit::print_line(&text)
    }
}

/// Removes unused networks; what went.
pub(super) fn prune_unused(inv: &Invocation, filters: &Filters) -> Outcome<String> {
    let answer = inv
        .client
        .post(&Query::new().filters(filters).on("/networks/prune"), None)?;
    let gone = answer.strings("NetworksDeleted");
    Ok(if gone.is_empty() {
        String::new()
    } else {
        format!("Deleted Networks:\n{}\n", gone.join("\n"))
    })
}
