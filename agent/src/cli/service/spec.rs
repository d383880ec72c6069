//! What `create` and `update` share: scalar flags put into a specification,
//! names resolved by the daemon, the image's digest.

use super::super::Invocation;
use super::super::convert::service::{FileReference, credential_spec, file_reference};
use super::super::exit::{Exit, Outcome};
use super::super::filters::Filters;
use super::super::flags::Flags;
use super::super::http::{Query, escape};
use super::super::json::Value;
use super::super::reference::{familiar, with_default_tag};
use super::super::units::SECOND;

/// Whether any of the flags was given.
pub(super) fn any(flags: &Flags, names: &[&str]) -> bool {
    names.iter().any(|name| flags.changed(name))
}

/// Strings, switches and numbers that have one field each.
pub(super) fn scalars(flags: &Flags, spec: &mut Value) -> Outcome {
    let task = spec.at_mut("TaskTemplate");
    let container = task.at_mut("ContainerSpec");
    for (flag, field) in [
        ("workdir", "Dir"),
        ("user", "User"),
        ("hostname", "Hostname"),
        ("isolation", "Isolation"),
        ("stop-signal", "StopSignal"),
    ] {
        if let Some(text) = flags.get(flag) {
            container.set(field, text);
        }
    }
    for (flag, field) in [("init", "Init"), ("tty", "TTY"), ("read-only", "ReadOnly")] {
        if flags.changed(flag) {
            container.set(field, flags.bool(flag));
        }
    }
    if let Some(grace) = flags.duration("stop-grace-period") {
        container.set("StopGracePeriod", grace);
    }
    if let Some(score) = flags.int("oom-score-adj") {
        container.set("OomScoreAdj", score);
    }
    if let Some(text) = flags.get("credential-spec") {
        container
            .at_mut("Privileges")
            .set("CredentialSpec", Value::from(credential_spec(text)?));
    }
    limits(flags, task);
    restart(flags, task);
    if let Some(name) = flags.get("log-driver") {
        log_driver(flags, task, name);
    }
    if let Some(most) = flags.int("replicas-max-per-node") {
        task.at_mut("Placement").set("MaxReplicas", most);
    }
    pace(flags, spec, "update", "UpdateConfig");
    pace(flags, spec, "rollback", "RollbackConfig");
    if let Some(mode) = flags.get("endpoint-mode") {
        spec.at_mut("EndpointSpec").set("Mode", mode.to_lowercase());
    }
    Ok(())
}

fn limits(flags: &Flags, task: &mut Value) {
    for (flag, part, field, value) in [
        (
            "limit-cpu",
            "Limits",
            "NanoCPUs",
            flags.nano_cpus("limit-cpu"),
        ),
        (
            "limit-memory",
            "Limits",
            "MemoryBytes",
            flags.bytes("limit-memory"),
        ),
        ("limit-pids", "Limits", "Pids", flags.int("limit-pids")),
        (
            "reserve-cpu",
            "Reservations",
            "NanoCPUs",
            flags.nano_cpus("reserve-cpu"),
        ),
        (
            "reserve-memory",
            "Reservations",
            "MemoryBytes",
            flags.bytes("reserve-memory"),
        ),
    ] {
        if let Some(value) = value.filter(|_| flags.changed(flag)) {
            task.at_mut("Resources").at_mut(part).set(field, value);
        }
    }
}

fn restart(flags: &Flags, task: &mut Value) {
    if !any(
        flags,
        &[
            "restart-condition",
            "restart-delay",
            "restart-max-attempts",
            "restart-window",
        ],
    ) {
        return;
    }
    if task.at("RestartPolicy").is_null() {
        let policy = task.at_mut("RestartPolicy");
        policy.set("Condition", "any");
        policy.set("Delay", 5 * SECOND);
        policy.set("MaxAttempts", 0);
    }
    let policy = task.at_mut("RestartPolicy");
    if let Some(condition) = flags.get("restart-condition") {
        policy.set("Condition", condition);
    }
    for (field, value) in [
        ("Delay", flags.duration("restart-delay")),
        ("MaxAttempts", flags.int("restart-max-attempts")),
        ("Window", flags.duration("restart-window")),
    ] {
        if let Some(value) = value {
            policy.set(field, value);
        }
    }
}

fn log_driver(flags: &Flags, task: &mut Value, name: &str) {
    if name.is_empty() {
        return;
    }
    let mut driver = Value::Null;
    driver.set("Name", name);
    let mut options = Value::Map(Vec::new());
    for (key, value) in super::super::convert::pairs::map(flags.list("log-opt")) {
        options.set(&key, value);
    }
    driver.set("Options", options);
    task.set("LogDriver", driver);
}

/// The six settings of an update's or a rollback's pace.
fn pace(flags: &Flags, spec: &mut Value, prefix: &str, field: &str) {
    let flag = |name: &str| format!("{prefix}-{name}");
    let names = [
        "parallelism",
        "delay",
        "monitor",
        "failure-action",
        "max-failure-ratio",
        "order",
    ];
    if !names.iter().any(|name| flags.changed(&flag(name))) {
        return;
    }
    if spec.at(field).is_null() {
        let config = spec.at_mut(field);
        config.set("Parallelism", 1);
        config.set("Delay", 0);
        config.set("Monitor", 5 * SECOND);
        config.set("FailureAction", "pause");
        config.set("MaxFailureRatio", 0);
        config.set("Order", "stop-first");
    }
    let config = spec.at_mut(field);
    for (name, number) in [
        ("Parallelism", flags.int(&flag("parallelism"))),
        ("Delay", flags.duration(&flag("delay"))),
        ("Monitor", flags.duration(&flag("monitor"))),
    ] {
        if let Some(number) = number {
            config.set(name, number);
        }
    }
    if let Some(ratio) = flags.float(&flag("max-failure-ratio")) {
        config.set("MaxFailureRatio", Value::Float(ratio));
    }
    for (name, text) in [
        ("FailureAction", flags.get(&flag("failure-action"))),
        ("Order", flags.get(&flag("order"))),
    ] {
        if let Some(text) = text {
            config.set(name, text);
        }
    }
}

/// The id of a network of the swarm.
pub(super) fn network_id(inv: &Invocation, name: &str) -> Outcome<String> {
    let url = Query::new()
        .with("scope", "swarm")
        .on(&format!("/networks/{}", escape(name)));
    Ok(inv.client.get(&url)?.text("Id").to_owned())
}

/// References to secrets or configs with the ids of what they name.
pub(super) fn file_references(
    inv: &Invocation,
    kind: &str,
    words: &[String],
) -> Outcome<Vec<Value>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let references = words
        .iter()
        .map(|word| file_reference(word))
        .collect::<Result<Vec<FileReference>, _>>()?;
    let mut filters = Filters::default();
    for reference in &references {
        filters.add("name", reference.source.as_str());
    }
    let found = inv
        .client
        .get(&Query::new().filters(&filters).on(&format!("/{kind}s")))?;
    let (title, mut all) = (super::super::task::capitalised(kind), Vec::new());
    for reference in references {
        let target = reference.file["Name"].clone();
        let id = found
            .elements()
            .iter()
            .find(|f| f.text("Spec.Name") == reference.source)
            .map(|f| f.text("ID"));
        let id =
            id.ok_or_else(|| Exit::failure(format!("{kind} not found: {}", reference.source)))?;
        let clashes = |other: &Value| target.as_str() == Some(other.text("File.Name"));
        if all.iter().any(clashes) {
            return Err(Exit::failure(format!(
                "duplicate {kind} target for {} not allowed",
                reference.source
            )));
        }
        let mut value = Value::Null;
        value.set(&format!("{title}ID"), id);
        value.set(&format!("{title}Name"), reference.source);
        value.set("File", Value::from(reference.file));
        all.push(value);
    }
    Ok(all)
}

/// Gives the image a tag, and its digest when the daemon can name it; the
/// warning of Docker when it cannot.
pub(super) fn pin_image(inv: &Invocation, spec: &mut Value, look_up: bool) -> Option<String> {
    let container = spec.at_mut("TaskTemplate.ContainerSpec");
    let image = familiar(&with_default_tag(container.text("Image")));
    container.set("Image", image.as_str());
    if !look_up {
        return None;
    }
    let segment = escape(&image)
        .replace("%2F", "/")
        .replace("%3A", ":")
        .replace("%40", "@");
    let Ok(distribution) = inv.client.get(&format!("/distribution/{segment}/json")) else {
        return Some(format!(
            "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} independently,\npossibly leading to different nodes running different\nversions of the image.\n"
        ));
    };
    let digest = distribution.text("Descriptor.digest");
    if !digest.is_empty() && !image.contains('@') {
        container.set("Image", format!("{image}@{digest}"));
    }
    let platforms: Vec<Value> = distribution
        .list("Platforms")
        .iter()
        .map(|platform| {
            let architecture = platform.text("architecture");
            let mut value = Value::Null;
            // Nodes say armv7l where images say arm: no architecture fits both.
            if architecture.to_lowercase() != "arm" && !architecture.is_empty() {
                value.set("Architecture", architecture);
            }
            value.set("OS", platform.text("os"));
            value
        })
        .collect();
    if !platforms.is_empty() {
        spec.at_mut("TaskTemplate.Placement")
            .set("Platforms", Value::List(platforms));
    }
    None
}
