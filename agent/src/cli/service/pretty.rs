//! `service inspect`, plain and for people.

use super::super::exit::{self, Exit, Outcome};
use super::super::http::{Answer, Fault};
use super::super::json::Value;
use super::super::template::Scope;
use super::super::time::Moment;
use super::super::{Invocation, inspect, units};
use super::path;

pub(super) fn run(inv: &Invocation) -> Outcome {
    if !inv.flags.bool("pretty") {
        return inspect::each(inv, &inv.operands, |name| {
            find(inv, name, |url| inv.client.get_text(url))
                .map(|text| (text, Scope::typed_document()))
        });
    }
    if inv.flags.changed("format") {
        return Err(Exit::failure(
            "--format is incompatible with human friendly format",
        ));
    }
    // All or nothing, as a name that is none may stand among them.
    let mut page = String::new();
    for name in &inv.operands {
        let service = find(inv, name, |url| inv.client.get(url))?;
        let networks: Vec<String> = service
            .list("Spec.TaskTemplate.Networks")
            .iter()
            .filter_map(|n| {
                inv.client
                    .get(&format!("/networks/{}", n.text("Target")))
                    .ok()
            })
            .map(|network| network.text("Name").to_owned())
            .collect();
        page += &text(&service, &networks);
    }
    exit::print(&page)
}

/// A service with the daemon's defaults filled in.
fn find<T>(_inv: &Invocation, name: &str, get: impl Fn(&str) -> Answer<T>) -> Answer<T> {
    get(&path(name, "?insertDefaults=true")).map_err(|fault| match fault.is_not_found() {
        true => Fault {
            status: None,
            message: format!("Error: no such service: {name}"),
        },
        false => fault,
    })
}

fn ago(moment: &str) -> String {
    let seconds = Moment::parse(moment).map_or(0, Moment::age_seconds);
    format!("{} ago", units::human_duration(seconds))
}

/// The page being written.
struct Page(String);

impl Page {
    fn line(&mut self, label: &str, value: impl std::fmt::Display) {
        self.0 += &format!("{label}{value}\n");
    }

    /// Left out when there is nothing to say.
    fn some(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.line(label, value);
        }
    }

    fn title(&mut self, title: &str) {
        self.0 += title;
        self.0.push('\n');
    }
}

fn text(service: &Value, networks: &[String]) -> String {
    let spec = service.at("Spec");
    let mut page = Page("\n".to_owned());
    page.line("ID:\t\t", service.text("ID"));
    page.line("Name:\t\t", spec.text("Name"));
    let labels = spec.sorted("Labels");
    if !labels.is_empty() {
        page.title("Labels:");
        for (key, value) in labels {
            let value = value.str();
            page.title(&if value.is_empty() {
                format!(" {key}")
            } else {
                format!(" {key}={value}")
            });
        }
    }
    mode(&mut page, spec.at("Mode"));
    update_status(&mut page, service.at("UpdateStatus"));
    placement(&mut page, spec.at("TaskTemplate.Placement"));
    pace(
        &mut page,
        spec.at("UpdateConfig"),
        "UpdateConfig:",
        "Update order:      ",
    );
    pace(
        &mut page,
        spec.at("RollbackConfig"),
        "RollbackConfig:",
        "Rollback order:    ",
    );
    container(&mut page, spec.at("TaskTemplate.ContainerSpec"));
    log_driver(&mut page, spec.at("TaskTemplate.LogDriver"));
    resources(&mut page, spec.at("TaskTemplate.Resources"));
    if !networks.is_empty() {
        page.title(&format!("Networks: {} ", networks.join(" ")));
    }
    let mode = match spec.text("EndpointSpec.Mode") {
        "" => service.text("Endpoint.Spec.Mode"),
        mode => mode,
    };
    page.line("Endpoint Mode:\t", mode);
    ports(&mut page, service.list("Endpoint.Ports"));
    health(&mut page, spec.at("TaskTemplate.ContainerSpec.Healthcheck"));
    // A row of a listing ends with a line of its own.
    page.0.push('\n');
    page.0
}

fn mode(page: &mut Page, mode: &Value) {
    if !mode.at("Global").is_null() {
        page.title("Service Mode:\tGlobal");
    } else if !mode.at("Replicated").is_null() {
        page.title("Service Mode:\tReplicated");
        if !mode.at("Replicated.Replicas").is_null() {
            page.line(" Replicas:\t", mode.int("Replicated.Replicas"));
        }
    } else {
        page.title("Service Mode:");
    }
}

fn update_status(page: &mut Page, status: &Value) {
    if status.text("State").is_empty() {
        return;
    }
    page.title("UpdateStatus:");
    page.line(" State:\t\t", status.text("State"));
    if !status.text("StartedAt").is_empty() {
        page.line(" Started:\t", ago(status.text("StartedAt")));
    }
    if status.text("State") == "completed" && !status.text("CompletedAt").is_empty() {
        page.line(" Completed:\t", ago(status.text("CompletedAt")));
    }
    page.line(" Message:\t", status.text("Message"));
}

fn placement(page: &mut Page, placement: &Value) {
    page.title("Placement:");
    let constraints = placement.strings("Constraints");
    if !constraints.is_empty() {
        page.line(" Constraints:\t", format!("[{}]", constraints.join(" ")));
    }
    let preferences: Vec<String> = placement
        .list("Preferences")
        .iter()
        .map(|p| format!("spread={}", p.text("Spread.SpreadDescriptor")))
        .collect();
    if !preferences.is_empty() {
        page.line(" Preferences:   ", format!("[{}]", preferences.join(" ")));
    }
    if placement.int("MaxReplicas") > 0 {
        page.line(" Max Replicas Per Node:   ", placement.int("MaxReplicas"));
    }
}

fn pace(page: &mut Page, config: &Value, title: &str, order: &str) {
    if config.is_null() {
        return;
    }
    page.title(title);
    page.line(" Parallelism:\t", config.int("Parallelism"));
    if config.int("Delay") > 0 {
        page.line(" Delay:\t\t", units::duration(config.int("Delay")));
    }
    page.line(" On failure:\t", config.text("FailureAction"));
    if config.int("Monitor") > 0 {
        page.line(
            " Monitoring Period: ",
            units::duration(config.int("Monitor")),
        );
    }
    page.line(
        " Max failure ratio: ",
        units::significant(config.float("MaxFailureRatio"), 9),
    );
    page.line(&format!(" {order}"), config.text("Order"));
}

fn container(page: &mut Page, container: &Value) {
    page.title("ContainerSpec:");
    page.line(" Image:\t\t", container.text("Image"));
    for (label, field) in [(" Args:\t\t", "Args"), (" Env:\t\t", "Env")] {
        let words = container.strings(field);
        if !words.is_empty() {
            page.line(label, words.join(" ") + " ");
        }
    }
    page.some(" Dir:\t\t", container.text("Dir"));
    if !container.at("Init").is_null() {
        page.line(" Init:\t\t", container.bool("Init"));
    }
    page.some(" User: ", container.text("User"));
    let (add, drop) = (
        container.strings("CapabilityAdd"),
        container.strings("CapabilityDrop"),
    );
    if !add.is_empty() || !drop.is_empty() {
        page.title("Capabilities:");
        page.some(" Add: ", &add.join(", "));
        page.some(" Drop: ", &drop.join(", "));
    }
    let sysctls = container.sorted("Sysctls");
    if !sysctls.is_empty() {
        page.title("SysCtls:");
        for (key, value) in sysctls {
            page.line(&format!(" {key}: "), value.str());
        }
    }
    let limits = container.list("Ulimits");
    if !limits.is_empty() {
        page.title("Ulimits:");
        for limit in limits {
            let bounds = format!("{}:{}", limit.int("Soft"), limit.int("Hard"));
            page.line(&format!(" {}: ", limit.text("Name")), bounds);
        }
    }
    mounts(page, container);
}

fn mounts(page: &mut Page, container: &Value) {
    let mounts = container.list("Mounts");
    if !mounts.is_empty() {
        page.title("Mounts:");
        for mount in mounts {
            page.line(" Target:\t", mount.text("Target"));
            page.line("  Source:\t", mount.text("Source"));
            page.line("  ReadOnly:\t", mount.bool("ReadOnly"));
            page.line("  Type:\t\t", mount.text("Type"));
        }
    }
    for (title, field, name) in [
        ("Configs:", "Configs", "ConfigName"),
        ("Secrets:", "Secrets", "SecretName"),
    ] {
        let files = container.list(field);
        if !files.is_empty() {
            page.title(title);
            for file in files {
                page.line(" Target:\t", file.text("File.Name"));
                page.line("  Source:\t", file.text(name));
            }
        }
    }
}

fn log_driver(page: &mut Page, driver: &Value) {
    if driver.is_null() {
        return;
    }
    page.title("Log Driver:");
    page.some(" Name:\t\t", driver.text("Name"));
    let options = driver.sorted("Options");
    if !options.is_empty() {
        page.title(" LogOpts:");
        for (key, value) in options {
            page.line(&format!("  {key}:       "), value.str());
        }
    }
    page.title("");
}

fn resources(page: &mut Page, resources: &Value) {
    if resources.is_null() {
        return;
    }
    let part = |page: &mut Page, title: &str, part: &Value| {
        let (cpus, memory) = (part.float("NanoCPUs") / 1e9, part.float("MemoryBytes"));
        if cpus <= 0.0 && memory <= 0.0 {
            return;
        }
        page.title(title);
        if cpus > 0.0 {
            page.line("  CPU:\t\t", cpus);
        }
        if memory > 0.0 {
            page.line("  Memory:\t", units::binary_size(memory));
        }
    };
    page.title("Resources:");
    part(page, " Reservations:", resources.at("Reservations"));
    part(page, " Limits:", resources.at("Limits"));
    if resources.int("Limits.Pids") > 0 {
        page.line("  PIDs:\t\t", resources.int("Limits.Pids"));
    }
}

fn ports(page: &mut Page, ports: &[Value]) {
    if ports.is_empty() {
        return;
    }
    page.title("Ports:");
    for port in ports {
        page.line(" PublishedPort = ", port.int("PublishedPort"));
        page.line("  Protocol = ", port.text("Protocol"));
        page.line("  TargetPort = ", port.int("TargetPort"));
        page.line("  PublishMode = ", port.text("PublishMode"));
    }
    // Docker's page has a blank after the last port.
    page.0.pop();
    page.0 += " \n";
}

fn health(page: &mut Page, health: &Value) {
    if health.is_null() {
        return;
    }
    let duration = |field: &str| units::duration(health.int(field));
    page.title(" Healthcheck:");
    page.line("  Interval = ", duration("Interval"));
    page.line("  Retries = ", health.int("Retries"));
    page.line("  StartPeriod =\t", duration("StartPeriod"));
    page.line("  Timeout =\t", duration("Timeout"));
    let tests = health.strings("Test");
    if !tests.is_empty() {
        page.title("  Tests:");
        tests.iter().for_each(|test| page.line("\t Test = ", test));
    }
}
