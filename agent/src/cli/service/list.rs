//! `service ls`.

use super::super::Invocation;
use super::super::container::natural_key;
use super::super::exit::Outcome;
use super::super::filters::Filters;
use super::super::format::{Listing, Row, short_id};
use super::super::http::Query;
use super::super::json::Value;
use super::super::reference::without_digest;

pub(super) const FLAGS: &str = "\
f filter filter Show only these (id=…, name=…, label=…, mode=…)
. format string Print by a template, table TEMPLATE, or json
q quiet bool Only ids";

const LISTING: Listing = Listing {
    row_type: "service.serviceContext",
    columns: "{{.ID}}\\t{{.Name}}\\t{{.Mode}}\\t{{.Replicas}}\\t{{.Image}}\\t{{.Ports}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Mode", "MODE"),
        ("Replicas", "REPLICAS"),
        ("Image", "IMAGE"),
        ("Ports", "PORTS"),
    ],
};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let query = Query::new()
        .with("status", "true")
        .filters(&Filters::parse(flags.list("filter"))?);
    let services = inv.client.get(&query.on("/services"))?;
    let mut rows: Vec<Value> = services.elements().iter().map(row).collect();
    rows.sort_by_cached_key(|row| natural_key(row.text("Name")));
    LISTING.print(
        &LISTING.choose(flags.str("format"), flags.bool("quiet")),
        &rows,
    )
}

fn row(service: &Value) -> Value {
    Row::new()
        .with("ID", short_id(service.text("ID")))
        .with("Name", service.text("Spec.Name"))
        .with("Mode", mode(service))
        .with("Replicas", replicas(service))
        .with(
            "Image",
            without_digest(service.text("Spec.TaskTemplate.ContainerSpec.Image")),
        )
        .with("Ports", ports(service.list("Endpoint.Ports")))
        .done()
}

fn mode(service: &Value) -> &'static str {
    let is = |name: &str| !service.at("Spec.Mode").at(name).is_null();
    match () {
        () if is("Global") => "global",
        () if is("Replicated") => "replicated",
        () if is("ReplicatedJob") => "replicated job",
        () if is("GlobalJob") => "global job",
        () => "",
    }
}

fn replicas(service: &Value) -> String {
    let status = service.at("ServiceStatus");
    let (running, desired) = (status.int("RunningTasks"), status.int("DesiredTasks"));
    let completed = status.int("CompletedTasks");
    match mode(service) {
        "replicated job" => {
            let total = service.int("Spec.Mode.ReplicatedJob.TotalCompletions");
            format!("{running}/{desired} ({completed}/{total} completed)")
        }
        "global job" => format!(
            "{running}/{desired} ({completed}/{} completed)",
            desired + completed
        ),
        "replicated" if service.int("Spec.TaskTemplate.Placement.MaxReplicas") > 0 => {
            let most = service.int("Spec.TaskTemplate.Placement.MaxReplicas");
            format!("{running}/{desired} (max {most} per node)")
        }
        _ => format!("{running}/{desired}"),
    }
}

/// Ports of the routing mesh, runs of neighbours as ranges.
fn ports(ports: &[Value]) -> String {
    let mut ports: Vec<(&str, i64, i64)> = ports
        .iter()
        .filter(|p| p.text("PublishMode") == "ingress")
        .map(|p| {
            (
                p.text("Protocol"),
                p.int("PublishedPort"),
                p.int("TargetPort"),
            )
        })
        .collect();
    ports.sort_unstable();
    // Protocol, first and last published, first and last target.
    let mut runs: Vec<(&str, i64, i64, i64, i64)> = Vec::new();
    for (protocol, published, target) in ports {
        match runs.last_mut() {
            Some((p, _, last, first_target, last_target))
                if *p == protocol
                    && published - *last <= 1
                    && target - *last_target <= 1
                    && !(first_target != last_target && target <= *last_target) =>
            {
                *last = published;
                *last_target = target;
            }
            _ => runs.push((protocol, published, published, target, target)),
        }
    }
    let range = |first: i64, last: i64| {
        if last > first {
            format!("{first}-{last}")
        } else {
            first.to_string()
        }
    };
    let shown: Vec<String> = runs
        .into_iter()
        .filter(|(_, published, ..)| *published > 0)
        .map(|(protocol, a, b, c, d)| format!("*:{}->{}/{protocol}", range(a, b), range(c, d)))
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_replicas() {
        let v = Value::parse(br#"[{"Protocol":"tcp","PublishedPort":80,"TargetPort":8080,"PublishMode":"ingress"},{"Protocol":"tcp","PublishedPort":81,"TargetPort":8081,"PublishMode":"ingress"},{"Protocol":"udp","PublishedPort":53,"TargetPort":53,"PublishMode":"ingress"},{"Protocol":"tcp","PublishedPort":9,"TargetPort":9,"PublishMode":"host"}]"#).unwrap();
        assert_eq!(ports(v.elements()), "*:80-81->8080-8081/tcp, *:53->53/udp");
        let s = Value::parse(br#"{"Spec":{"Mode":{"Replicated":{}},"TaskTemplate":{"Placement":{"MaxReplicas":2}}},"ServiceStatus":{"RunningTasks":1,"DesiredTasks":3}}"#).unwrap();
        assert_eq!(replicas(&s), "1/3 (max 2 per node)");
    }
}
