//! `service update`, `scale` and `rollback`.

use super::super::Invocation;
use super::super::convert::{self, pairs, resources};
use super::super::exit::{self, Exit, Outcome};
use super::super::flags::Flags;
use super::super::http::{Answer, Query};
use super::super::json::Value;
use super::create::{network, swarm_host};
use super::spec::{any, file_references, network_id, pin_image, scalars};
use super::{path, progress, registry_auth};

/// Writes a specification back to the service it came from.
fn write_back(
    inv: &Invocation,
    service: &Value,
    spec: &Value,
    rollback: bool,
) -> Answer<Vec<String>> {
    let query = Query::new()
        .with("version", service.int("Version.Index").to_string())
        .with("registryAuthFrom", "spec")
        .some("rollback", if rollback { "previous" } else { "" });
    let answer = inv
        .client
        .post_document(&query.on(&path(service.text("ID"), "/update")), spec)?;
    Ok(answer
        .strings("Warnings")
        .into_iter()
        .map(str::to_owned)
        .collect())
}

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let interrupt = progress::Interrupt::take(flags.bool("detach"))?;
    let name = &inv.operands[0];
    let service = inv.client.get(&path(name, ""))?;
    let rollback = flags.bool("rollback");
    if rollback {
        let tables = [super::flags::SHARED, super::flags::UPDATE];
        let known = super::super::flags::table(&tables);
        let other =
            |long: &str| !matches!(long, "rollback" | "detach" | "quiet") && flags.changed(long);
        if known.iter().any(|flag| other(flag.long)) {
            return Err(Exit::failure(
                "other flags may not be combined with --rollback",
            ));
        }
    }
    let mut spec = service.at("Spec").clone();
    edit(inv, &mut spec)?;
    registry_auth(inv)?;
    let mut warning = None;
    if flags.changed("image") {
        warning = pin_image(inv, &mut spec, !flags.bool("no-resolve-image"));
    }
    for line in write_back(inv, &service, &spec, rollback)? {
        exit::warn(&line);
    }
    if let Some(warning) = warning {
        exit::warn(&warning);
    }
    exit::print_line(name)?;
    if flags.bool("detach") {
        Ok(())
    } else {
        progress::wait(inv, name, flags.bool("quiet"), &interrupt)
    }
}

pub(super) fn rollback(inv: &Invocation) -> Outcome {
    let interrupt = progress::Interrupt::take(inv.flags.bool("detach"))?;
    let name = &inv.operands[0];
    let service = inv.client.get(&path(name, ""))?;
    for warning in write_back(inv, &service, service.at("Spec"), true)? {
        exit::warn(&warning);
    }
    exit::print_line(name)?;
    if inv.flags.bool("detach") {
        Ok(())
    } else {
        progress::wait(inv, name, inv.flags.bool("quiet"), &interrupt)
    }
}

pub(super) fn scale(inv: &Invocation) -> Outcome {
    let mut wanted: Vec<(&str, i64)> = Vec::new();
    for word in &inv.operands {
        let (name, count) = word.split_once('=').filter(|(name, count)| !name.is_empty() && !count.is_empty()).ok_or_else(|| {
            Exit::failure(format!(
                "invalid scale specifier '{word}'.\nSee '{} {} --help'.\n\nUsage:  {0} {1} SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\nScale one or multiple replicated services",
                inv.program, inv.path
            ))
        })?;
        let count = count.parse::<u32>().map_err(|_| {
            Exit::failure(format!("{name}: invalid replicas value {count}: strconv.ParseUint: parsing {count:?}: invalid syntax"))
        });
        wanted.push((name, i64::from(count?)));
    }
    let interrupt = progress::Interrupt::take(inv.flags.bool("detach"))?;
    let (mut failures, mut done) = (Vec::new(), Vec::new());
    for (name, count) in wanted {
        match scale_one(inv, name, count) {
            Ok(()) => done.push(name),
            Err(exit) => failures.push(format!("{name}: {}", exit.message)),
        }
    }
    if !inv.flags.bool("detach") {
        for name in done {
            if let Err(exit) = progress::wait(inv, name, false, &interrupt) {
                failures.push(format!("{name}: {}", exit.message));
            }
        }
    }
    Exit::all(failures)
}

fn scale_one(inv: &Invocation, name: &str, count: i64) -> Outcome {
    let service = inv.client.get(&path(name, ""))?;
    let mut spec = service.at("Spec").clone();
    if !spec.at("Mode.Replicated").is_null() {
        spec.at_mut("Mode.Replicated").set("Replicas", count);
    } else if !spec.at("Mode.ReplicatedJob").is_null() {
        spec.at_mut("Mode.ReplicatedJob")
            .set("TotalCompletions", count);
    } else {
        return Err(Exit::failure(
            "scale can only be used with replicated or replicated-job mode",
        ));
    }
    for warning in write_back(inv, &service, &spec, false)? {
        exit::warn(&warning);
    }
    exit::print_line(&format!("{name} scaled to {count}"))
}

/// Puts what the flags say into a specification.
fn edit(inv: &Invocation, spec: &mut Value) -> Outcome {
    let flags = &inv.flags;
    replicas(flags, spec)?;
    scalars(flags, spec)?;
    if flags.bool("force") {
        let forced = spec.int("TaskTemplate.ForceUpdate");
        spec.at_mut("TaskTemplate").set("ForceUpdate", forced + 1);
    }
    change_map(flags, "label", spec.at_mut("Labels"));
    container(inv, spec.at_mut("TaskTemplate.ContainerSpec"))?;
    let task = spec.at_mut("TaskTemplate");
    placement(flags, task)?;
    generic_resources(flags, task)?;
    networks(inv, spec)?;
    ports(flags, spec)
}

fn replicas(flags: &Flags, spec: &mut Value) -> Outcome {
    let replicated = !spec.at("Mode.Replicated").is_null();
    let job = !spec.at("Mode.ReplicatedJob").is_null();
    if let Some(most) = flags.int("max-concurrent") {
        if !job {
            return Err(Exit::failure(
                "max-concurrent can only be used with replicated-job mode",
            ));
        }
        spec.at_mut("Mode.ReplicatedJob").set("MaxConcurrent", most);
    }
    if let Some(count) = flags.int("replicas") {
        if replicated {
            spec.at_mut("Mode.Replicated").set("Replicas", count);
        } else if job {
            spec.at_mut("Mode.ReplicatedJob")
                .set("TotalCompletions", count);
        } else {
            return Err(Exit::failure(
                "replicas can only be used with replicated or replicated-job mode",
            ));
        }
    }
    Ok(())
}

/// Adds and removes entries of a map, `FLAG-add` before `FLAG-rm`.
fn change_map(flags: &Flags, flag: &str, map: &mut Value) {
    let (add, remove) = (
        flags.list(&format!("{flag}-add")),
        flags.list(&format!("{flag}-rm")),
    );
    for (key, value) in pairs::map(add) {
        map.set(&key, value);
    }
    for key in remove {
        map.remove(key);
    }
}

/// Adds and removes elements of a list. Elements with one key replace each
/// other; what stays keeps its place.
fn change_list(
    list: &mut Value,
    removed: impl Fn(&Value) -> bool,
    added: Vec<Value>,
    key: impl Fn(&Value) -> String,
) {
    let mut items: Vec<Value> = list
        .elements()
        .iter()
        .filter(|item| !removed(item))
        .cloned()
        .collect();
    for item in added {
        match items.iter_mut().find(|old| key(old) == key(&item)) {
            Some(old) => *old = item,
            None => items.push(item),
        }
    }
    *list = if items.is_empty() {
        Value::Null
    } else {
        Value::List(items)
    };
}

/// [`change_list`] of plain strings, for `FLAG-add` and `FLAG-rm`.
fn change_strings(flags: &Flags, flag: &str, list: &mut Value, sorted: bool) {
    let (add, remove) = (format!("{flag}-add"), format!("{flag}-rm"));
    if !any(flags, &[&add, &remove]) {
        return;
    }
    let added = flags
        .list(&add)
        .iter()
        .map(|s| Value::from(s.as_str()))
        .collect();
    change_list(
        list,
        |item| flags.list(&remove).iter().any(|r| r == item.str()),
        added,
        |v| v.str().to_owned(),
    );
    if sorted && let Value::List(items) = list {
        items.sort_by(|a, b| a.str().cmp(b.str()));
    }
}

fn container(inv: &Invocation, container: &mut Value) -> Outcome {
    let flags = &inv.flags;
    if let Some(image) = flags.get("image") {
        container.set("Image", image);
    }
    for (flag, field) in [("args", "Args"), ("entrypoint", "Command")] {
        if let Some(line) = flags.get(flag) {
            container.set(field, convert::service::command_line(line)?);
        }
    }
    if any(flags, &["container-label-add", "container-label-rm"]) {
        change_map(flags, "container-label", container.at_mut("Labels"));
    }
    if any(flags, &["sysctl-add", "sysctl-rm"]) {
        change_map(flags, "sysctl", container.at_mut("Sysctls"));
    }
    if any(flags, &["env-add", "env-rm"]) {
        let name = |v: &Value| v.str().split('=').next().unwrap_or("").to_owned();
        let added = pairs::environment(&[], flags.list("env-add"))?
            .into_iter()
            .map(Value::from)
            .collect();
        let gone = flags.list("env-rm");
        change_list(
            container.at_mut("Env"),
            |item| gone.contains(&name(item)),
            added,
            name,
        );
    }
    change_strings(flags, "group", container.at_mut("Groups"), true);
    lists(inv, container)?;
    if any(
        flags,
        &[
            "dns-add",
            "dns-rm",
            "dns-option-add",
            "dns-option-rm",
            "dns-search-add",
            "dns-search-rm",
        ],
    ) {
        for (flag, field) in [
            ("dns", "Nameservers"),
            ("dns-search", "Search"),
            ("dns-option", "Options"),
        ] {
            change_strings(
                flags,
                flag,
                container.at_mut("DNSConfig").at_mut(field),
                true,
            );
        }
    }
    capabilities(flags, container);
    health(flags, container)
}

/// Mounts, limits, hosts, secrets and configs of a container.
fn lists(inv: &Invocation, container: &mut Value) -> Outcome {
    let flags = &inv.flags;
    let documents = |name: &str, read: fn(&str) -> Result<serde_json::Value, String>| {
        flags
            .list(name)
            .iter()
            .map(|word| read(word).map(Value::from))
            .collect::<Result<Vec<_>, _>>()
    };
    if any(flags, &["mount-add", "mount-rm"]) {
        let gone = flags.list("mount-rm");
        let target = |v: &Value| v.text("Target").to_owned();
        let added = documents("mount-add", convert::mount::mount)?;
        let mounts = container.at_mut("Mounts");
        change_list(mounts, |item| gone.contains(&target(item)), added, target);
        if let Value::List(items) = mounts {
            items.sort_by_key(|m| (m.text("Source").to_owned(), target(m)));
        }
    }
    if any(flags, &["ulimit-add", "ulimit-rm"]) {
        let gone = flags.list("ulimit-rm");
        let name = |v: &Value| v.text("Name").to_owned();
        let added = documents("ulimit-add", resources::ulimit)?;
        change_list(
            container.at_mut("Ulimits"),
            |item| gone.contains(&name(item)),
            added,
            name,
        );
    }
    if any(flags, &["host-add", "host-rm"]) {
        let added = flags
            .list("host-add")
            .iter()
            .map(|h| swarm_host(h).map(Value::from))
            .collect::<Result<_, _>>()?;
        let gone = |item: &Value| {
            let (address, names) = item.str().split_once(' ').unwrap_or(("", item.str()));
            flags
                .list("host-rm")
                .iter()
                .any(|word| match word.split_once([':', '=']) {
                    Some((name, ip)) => names == name && address == ip,
                    None => names == word,
                })
        };
        change_list(container.at_mut("Hosts"), gone, added, |v| {
            v.str().to_owned()
        });
    }
    for (kind, field, title) in [
        ("secret", "Secrets", "SecretName"),
        ("config", "Configs", "ConfigName"),
    ] {
        let (add, remove) = (format!("{kind}-add"), format!("{kind}-rm"));
        if any(flags, &[&add, &remove]) {
            let added = file_references(inv, kind, flags.list(&add))?;
            let gone = flags.list(&remove);
            let name = |v: &Value| v.text(title).to_owned();
            change_list(
                container.at_mut(field),
                |item| gone.contains(&name(item)),
                added,
                name,
            );
        }
    }
    Ok(())
}

/// A capability that was given and is now dropped, or the other way about, is
/// first only taken off its list.
fn capabilities(flags: &Flags, container: &mut Value) {
    for (flag, field, other) in [
        ("cap-add", "CapabilityAdd", "CapabilityDrop"),
        ("cap-drop", "CapabilityDrop", "CapabilityAdd"),
    ] {
        for word in flags.list(flag) {
            let capability = convert::service::capability(word);
            let is = |item: &Value| item.str() == capability;
            if container.list(other).iter().any(is) {
                change_list(container.at_mut(other), is, Vec::new(), |v| {
                    v.str().to_owned()
                });
            } else if !container.list(field).iter().any(is) {
                let added = vec![Value::from(capability.as_str())];
                change_list(
                    container.at_mut(field),
                    |_| false,
                    added,
                    |v| v.str().to_owned(),
                );
                if let Value::List(items) = container.at_mut(field) {
                    items.sort_by(|a, b| a.str().cmp(b.str()));
                }
            }
        }
    }
}

fn health(flags: &Flags, container: &mut Value) -> Outcome {
    let numbers = [
        ("Interval", flags.duration("health-interval")),
        ("Timeout", flags.duration("health-timeout")),
        ("Retries", flags.int("health-retries")),
        ("StartPeriod", flags.duration("health-start-period")),
        ("StartInterval", flags.duration("health-start-interval")),
    ];
    let given = flags.changed("health-cmd") || numbers.iter().any(|(_, n)| n.is_some());
    if flags.bool("no-healthcheck") {
        if given {
            return Err(Exit::failure(
                "--no-healthcheck conflicts with --health-* options",
            ));
        }
        let mut none = Value::Null;
        none.set("Test", vec!["NONE".to_owned()]);
        container.set("Healthcheck", none);
        return Ok(());
    }
    if !given {
        return Ok(());
    }
    let health = container.at_mut("Healthcheck");
    if health.strings("Test").first() == Some(&"NONE") {
        health.remove("Test");
    }
    match flags.get("health-cmd") {
        Some("") => health.remove("Test"),
        Some(command) => health.set("Test", vec!["CMD-SHELL".to_owned(), command.to_owned()]),
        None => {}
    }
    for (field, number) in numbers {
        if let Some(number) = number {
            health.set(field, number);
        }
    }
    Ok(())
}

fn placement(flags: &Flags, task: &mut Value) -> Outcome {
    if any(flags, &["constraint-add", "constraint-rm"]) {
        change_strings(
            flags,
            "constraint",
            task.at_mut("Placement").at_mut("Constraints"),
            true,
        );
    }
    if any(flags, &["placement-pref-add", "placement-pref-rm"]) {
        let read = |name: &str| {
            let words = flags.list(name).iter();
            words
                .map(|w| convert::service::preference(w).map(Value::from))
                .collect::<Result<Vec<_>, _>>()
        };
        let (added, gone) = (read("placement-pref-add")?, read("placement-pref-rm")?);
        let list = task.at_mut("Placement").at_mut("Preferences");
        change_list(list, |item| gone.contains(item), added, Value::to_json);
    }
    Ok(())
}

fn generic_resources(flags: &Flags, task: &mut Value) -> Outcome {
    if !any(flags, &["generic-resource-add", "generic-resource-rm"]) {
        return Ok(());
    }
    let kind = |v: &Value| v.text("DiscreteResourceSpec.Kind").to_owned();
    let added = flags
        .list("generic-resource-add")
        .iter()
        .map(|w| convert::service::generic_resource(w).map(Value::from))
        .collect::<Result<Vec<_>, _>>()?;
    let list = task
        .at_mut("Resources.Reservations")
        .at_mut("GenericResources");
    for gone in flags.list("generic-resource-rm") {
        if !list.elements().iter().any(|item| kind(item) == *gone) {
            return Err(Exit::failure(format!(
                "could not find generic-resource `{gone}` to remove it"
            )));
        }
    }
    let gone = flags.list("generic-resource-rm");
    change_list(list, |item| gone.contains(&kind(item)), added, kind);
    Ok(())
}

fn networks(inv: &Invocation, spec: &mut Value) -> Outcome {
    let flags = &inv.flags;
    if !any(flags, &["network-add", "network-rm"]) {
        return Ok(());
    }
    let mut gone = Vec::new();
    for name in flags.list("network-rm") {
        gone.push(network_id(inv, name)?);
    }
    // Where older daemons kept them.
    let before = match spec.list("TaskTemplate.Networks") {
        [] => spec.list("Networks").to_vec(),
        networks => networks.to_vec(),
    };
    let mut all: Vec<Value> = before
        .into_iter()
        .filter(|n| !gone.iter().any(|g| g == n.text("Target")))
        .collect();
    for word in flags.list("network-add") {
        let added = network(inv, word)?;
        if all.iter().any(|n| n.text("Target") == added.text("Target")) {
            let name = convert::networks::attachment(word)?.target;
            return Err(Exit::failure(format!(
                "service is already attached to network {name}"
            )));
        }
        all.push(added);
    }
    all.sort_by(|a, b| a.text("Target").cmp(b.text("Target")));
    spec.remove("Networks");
    spec.at_mut("TaskTemplate")
        .set("Networks", Value::List(all));
    Ok(())
}

fn ports(flags: &Flags, spec: &mut Value) -> Outcome {
    if !any(flags, &["publish-add", "publish-rm"]) {
        return Ok(());
    }
    let mut gone = Vec::new();
    for word in flags.list("publish-rm") {
        let (number, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let number: i64 = number
            .parse()
            .map_err(|_| Exit::failure(format!("invalid port to remove: {word}")))?;
        gone.push((number, protocol.to_owned()));
    }
    let mut added = Vec::new();
    for word in flags.list("publish-add") {
        added.extend(
            convert::service::publish(word)?
                .into_iter()
                .map(Value::from),
        );
    }
    let key = |p: &Value| {
        let mode = match p.text("PublishMode") {
            "" => "ingress",
            mode => mode,
        };
        format!(
            "{}:{}/{}/{mode}",
            p.int("PublishedPort"),
            p.int("TargetPort"),
            p.text("Protocol")
        )
    };
    let removed = |p: &Value| {
        gone.iter()
            .any(|(n, proto)| p.int("TargetPort") == *n && p.text("Protocol") == proto)
    };
    let list = spec.at_mut("EndpointSpec").at_mut("Ports");
    change_list(list, removed, added, key);
    if let Value::List(items) = list {
        items.sort_by_key(key);
    }
    Ok(())
}
