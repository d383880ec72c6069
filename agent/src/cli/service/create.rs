//! `service create`.

use super::super::Invocation;
use super::super::convert::{self, pairs, resources};
use super::super::exit::{self, Exit, Outcome};
use super::super::flags::Flags;
use super::super::json::Value;
use super::spec::{file_references, network_id, pin_image, scalars};
use super::{progress, registry_auth};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let interrupt = progress::Interrupt::take(flags.bool("detach"))?;
    let mut spec = specification(inv)?;
    scalars(flags, &mut spec)?;
    let job = !spec.at("Mode.ReplicatedJob").is_null() || !spec.at("Mode.GlobalJob").is_null();
    if job && !(spec.at("UpdateConfig").is_null() && spec.at("RollbackConfig").is_null()) {
        return Err(Exit::failure(
            "update and rollback configuration is not supported for jobs",
        ));
    }
    registry_auth(inv)?;
    let warning = pin_image(inv, &mut spec, !flags.bool("no-resolve-image"));
    let created = inv.client.post_document("/services/create", &spec)?;
    let mut warnings: Vec<&str> = created.strings("Warnings");
    warnings.extend(created.text("Warning").lines());
    warnings.into_iter().for_each(exit::warn);
    if let Some(warning) = warning {
        exit::warn(&warning);
    }
    exit::print_line(created.text("ID"))?;
    if flags.bool("detach") {
        Ok(())
    } else {
        progress::wait(inv, created.text("ID"), flags.bool("quiet"), &interrupt)
    }
}

/// The lists of a specification; scalars come after.
fn specification(inv: &Invocation) -> Outcome<Value> {
    let flags = &inv.flags;
    let mut spec = Value::Null;
    spec.set("Name", flags.str("name"));
    spec.set("Labels", map(flags.list("label")));
    spec.set("TaskTemplate", task(inv)?);
    spec.set("Mode", mode(flags)?);
    let mut endpoint = Value::Null;
    endpoint.set("Mode", "vip");
    let mut ports = Vec::new();
    for word in flags.list("publish") {
        ports.extend(
            convert::service::publish(word)?
                .into_iter()
                .map(Value::from),
        );
    }
    if !ports.is_empty() {
        endpoint.set("Ports", Value::List(ports));
    }
    spec.set("EndpointSpec", endpoint);
    Ok(spec)
}

fn map(words: &[String]) -> Value {
    Value::Map(
        pairs::map(words)
            .into_iter()
            .map(|(k, v)| (k, v.into()))
            .collect(),
    )
}

fn task(inv: &Invocation) -> Outcome<Value> {
    let flags = &inv.flags;
    let mut task = Value::Null;
    task.set("ContainerSpec", container(inv)?);
    let mut networks = Vec::new();
    for word in flags.list("network") {
        networks.push(network(inv, word)?);
    }
    networks.sort_by(|a: &Value, b| a.text("Target").cmp(b.text("Target")));
    if !networks.is_empty() {
        task.set("Networks", Value::List(networks));
    }
    let generic = flags
        .list("generic-resource")
        .iter()
        .map(|word| convert::service::generic_resource(word).map(Value::from))
        .collect::<Result<Vec<_>, _>>()?;
    task.at_mut("Resources")
        .set("Limits", Value::Map(Vec::new()));
    task.at_mut("Resources")
        .set("Reservations", Value::Map(Vec::new()));
    if !generic.is_empty() {
        task.at_mut("Resources.Reservations")
            .set("GenericResources", Value::List(generic));
    }
    let mut placement = Value::Map(Vec::new());
    if flags.changed("constraint") {
        placement.set("Constraints", flags.list("constraint").to_vec());
    }
    let preferences = flags
        .list("placement-pref")
        .iter()
        .map(|word| convert::service::preference(word).map(Value::from))
        .collect::<Result<Vec<_>, _>>()?;
    if !preferences.is_empty() {
        placement.set("Preferences", Value::List(preferences));
    }
    task.set("Placement", placement);
    Ok(task)
}

/// An attachment to a network, by its id.
pub(super) fn network(inv: &Invocation, word: &str) -> Outcome<Value> {
    let attachment = convert::networks::attachment(word)?;
    let mut value = Value::Null;
    value.set("Target", network_id(inv, &attachment.target)?);
    if !attachment.aliases.is_empty() {
        value.set("Aliases", attachment.aliases);
    }
    if !attachment.options.is_empty() {
        value.set(
            "DriverOpts",
            Value::from(serde_json::Value::Object(attachment.options)),
        );
    }
    Ok(value)
}

fn container(inv: &Invocation) -> Outcome<Value> {
    let flags = &inv.flags;
    let mut container = Value::Null;
    container.set("Image", inv.operands[0].as_str());
    container.set("Init", false);
    let strings = |name: &str| flags.list(name).to_vec();
    let mut put = |field: &str, values: Vec<String>| {
        if !values.is_empty() {
            container.set(field, values);
        }
    };
    put("Args", inv.operands[1..].to_vec());
    put(
        "Command",
        convert::service::command_line(flags.str("entrypoint"))?,
    );
    put("Env", environment(flags)?);
    put("Groups", strings("group"));
    let hosts: Result<Vec<String>, String> =
        flags.list("host").iter().map(|h| swarm_host(h)).collect();
    put("Hosts", hosts?);
    let (add, drop) = capabilities(flags);
    put("CapabilityAdd", add);
    put("CapabilityDrop", drop);
    if flags.changed("container-label") {
        container.set("Labels", map(flags.list("container-label")));
    }
    if flags.changed("sysctl") {
        container.set("Sysctls", map(flags.list("sysctl")));
    }
    let documents = |name: &str, read: fn(&str) -> Result<serde_json::Value, String>| {
        flags
            .list(name)
            .iter()
            .map(|word| read(word).map(Value::from))
            .collect::<Result<Vec<_>, _>>()
    };
    let lists = [
        ("Mounts", documents("mount", convert::mount::mount)?),
        ("Ulimits", documents("ulimit", resources::ulimit)?),
        (
            "Secrets",
            file_references(inv, "secret", flags.list("secret"))?,
        ),
        (
            "Configs",
            file_references(inv, "config", flags.list("config"))?,
        ),
    ];
    for (field, list) in lists {
        if !list.is_empty() {
            container.set(field, Value::List(list));
        }
    }
    let mut dns = Value::Map(Vec::new());
    for (flag, field) in [
        ("dns", "Nameservers"),
        ("dns-search", "Search"),
        ("dns-option", "Options"),
    ] {
        if flags.changed(flag) {
            dns.set(field, strings(flag));
        }
    }
    container.set("DNSConfig", dns);
    if let Some(health) = resources::health(flags)? {
        container.set("Healthcheck", Value::from(health));
    }
    Ok(container)
}

/// Variables, the last of a name only.
fn environment(flags: &Flags) -> Outcome<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for variable in pairs::environment(flags.list("env-file"), flags.list("env"))? {
        let name = variable.split('=').next().unwrap_or("").to_owned();
        if !all.contains(&variable) {
            all.retain(|v| v.split('=').next() != Some(name.as_str()));
            all.push(variable);
        }
    }
    Ok(all)
}

/// `name:ip` as a line of /etc/hosts.
pub(super) fn swarm_host(word: &str) -> Result<String, String> {
    let host = resources::extra_host(word)?;
    let (name, address) = host.split_once(':').unwrap_or((&host, ""));
    Ok(format!("{address} {name}"))
}

/// Capabilities to give and take; what is given is not taken.
fn capabilities(flags: &Flags) -> (Vec<String>, Vec<String>) {
    let read = |name: &str| {
        let mut all: Vec<String> = flags
            .list(name)
            .iter()
            .map(|c| convert::service::capability(c))
            .collect();
        all.sort();
        all.dedup();
        all
    };
    let (mut add, mut drop) = (read("cap-add"), read("cap-drop"));
    if add.iter().any(|c| c == "ALL") {
        add = vec!["ALL".to_owned()];
    }
    if drop.iter().any(|c| c == "ALL") {
        drop = vec!["ALL".to_owned()];
    }
    drop.retain(|c| !add.contains(c));
    (add, drop)
}

fn mode(flags: &Flags) -> Outcome<Value> {
    let (replicas, concurrent) = (flags.int("replicas"), flags.int("max-concurrent"));
    let name = flags.get("mode").unwrap_or("replicated");
    let mut mode = Value::Null;
    let refuse = |what: &str| Err(Exit::failure(what));
    match name {
        "replicated" | "global" if concurrent.is_some() => {
            return refuse("max-concurrent can only be used with replicated-job mode");
        }
        "global" | "global-job" if replicas.is_some() => {
            return refuse("replicas can only be used with replicated or replicated-job mode");
        }
        "global" | "global-job" if flags.int("replicas-max-per-node").unwrap_or(0) > 0 => {
            return refuse(
                "replicas-max-per-node can only be used with replicated or replicated-job mode",
            );
        }
        "global-job" if concurrent.is_some() => {
            return refuse("max-concurrent can only be used with replicated-job mode");
        }
        "global" => mode.set("Global", Value::Map(Vec::new())),
        "global-job" => mode.set("GlobalJob", Value::Map(Vec::new())),
        "replicated" => {
            let mut replicated = Value::Map(Vec::new());
            if let Some(n) = replicas {
                replicated.set("Replicas", n);
            }
            mode.set("Replicated", replicated);
        }
        "replicated-job" => {
            let mut job = Value::Map(Vec::new());
            if let Some(n) = concurrent.or(replicas) {
                job.set("MaxConcurrent", n);
            }
            if let Some(n) = replicas {
                job.set("TotalCompletions", n);
            }
            mode.set("ReplicatedJob", job);
        }
        other => {
            return refuse(&format!(
                "Unknown mode: {other}, only replicated and global supported"
            ));
        }
    }
    Ok(mode)
}
