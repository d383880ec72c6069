//! `GET /containers/json`: `docker ps`.

use super::inspect::{endpoint_json, mount_json};
use crate::api::call::Call;
use crate::api::filters::Filters;
use crate::api::reply::{self, Reply};
use crate::api::time;
use crate::backend::{Backend, Container, ContainerStatus, HealthStatus};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use skep_control::model::WallTime;
use std::collections::{BTreeMap, BTreeSet};

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: &[&str] = &[
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
const HEALTHS: &[&str] = &["starting", "healthy", "unhealthy", "none"];
/// The label that marks a container as a service's task.
const TASK_LABEL: &str = "com.docker.swarm.task";

pub(super) async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    let limit = call.query.number("limit")?.unwrap_or(0);
    let wanted = Wanted::new(&call.node, filters, call.query.flag("all") || limit > 0).await?;
    let mut containers = call.node.containers(call.query.flag("size")).await;
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    containers.retain(|container| wanted.is(container));
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        containers.truncate(limit);
    }
    Ok(reply::json(&summaries(&call.node, &containers).await))
}

/// What `system df` lists of the containers.
pub(in crate::api) async fn usage_list<B: Backend>(node: &B) -> Vec<Value> {
    let mut containers = node.containers(true).await;
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    summaries(node, &containers).await
}

async fn summaries<B: Backend>(node: &B, containers: &[Container]) -> Vec<Value> {
    let names: BTreeSet<String> = containers
        .iter()
        .map(|c| c.create.config.image.clone())
        .collect();
    let ids = image_ids(node, names).await;
    let now = time::now();
    containers
        .iter()
        .map(|container| {
            let name = &container.create.config.image;
            let still = ids.get(name).is_some_and(|id| *id == container.image_id);
            summary(
                container,
                if still { name } else { &container.image_id },
                now,
            )
        })
        .collect()
}

/// What each image name means now.
async fn image_ids<B: Backend>(node: &B, names: BTreeSet<String>) -> BTreeMap<String, String> {
    let store = node.images().clone();
    let resolve = move || {
        let found = |name: String| Some((store.resolve(&name, None).ok()?.id.to_string(), name));
        names
            .into_iter()
            .filter_map(found)
            .map(|(id, name)| (name, id))
            .collect()
    };
    smol::unblock(resolve).await
}

/// The filters, with everything in them that must be looked up.
struct Wanted {
    filters: Filters,
    all: bool,
    created_after: Option<WallTime>,
    created_before: Option<WallTime>,
    ancestors: BTreeMap<String, String>,
    is_task: Option<bool>,
    exit_codes: Vec<i64>,
}

impl Wanted {
    async fn new<B: Backend>(node: &B, filters: Filters, all: bool) -> Result<Self> {
        let check = |key: &str, known: &[&str]| match filters
            .values(key)
            .iter()
            .find(|value| !known.contains(&value.as_str()))
        {
            Some(value) => Err(Error::invalid(format!("invalid filter '{key}={value}'"))),
            None => Ok(()),
        };
        check("status", STATUSES)?;
        check("health", HEALTHS)?;
        let exit_codes = filters
            .values("exited")
            .iter()
            .map(|code| code.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Filters::bad_value("exited", filters.values("exited")))?;
        let mut bounds = [None, None];
        for (bound, key) in bounds.iter_mut().zip(["since", "before"]) {
            for name in filters.values(key) {
                *bound = Some(node.container(name, false).await?.created);
            }
        }
        let ancestors = image_ids(node, filters.values("ancestor").iter().cloned().collect()).await;
        Ok(Self {
            all: all || filters.contains("status"),
            is_task: filters.flag("is-task")?,
            created_after: bounds[0],
            created_before: bounds[1],
            ancestors,
            exit_codes,
            filters,
        })
    }

    fn is(&self, c: &Container) -> bool {
        let filters = &self.filters;
        let labels = &c.create.config.labels;
        let bounded = self.created_after.is_some() || self.created_before.is_some();
        (self.all || bounded || is_listed(c.state.status))
            && self.created_after.is_none_or(|time| c.created > time)
            && self.created_before.is_none_or(|time| c.created < time)
            && filters.exact("status", c.state.status.as_str())
            && filters.exact("health", health(c))
            && filters.prefix("id", c.id.as_str())
            && (filters.pattern("name", &c.name)
                || filters.pattern("name", &format!("/{}", c.name)))
            && filters.labels("label", labels)
            && self
                .is_task
                .is_none_or(|is| is == labels.contains_key(TASK_LABEL))
            && (self.exit_codes.is_empty()
                || self.exit_codes.contains(&c.state.exit_code)
                    && c.state.status == ContainerStatus::Exited)
            && filters.any("ancestor", |name| self.is_ancestor(c, name))
            && filters.any("network", |network| {
                c.network.endpoints.iter().any(|(name, endpoint)| {
                    name == network
                        || !endpoint.network_id.is_empty()
                            && endpoint.network_id.starts_with(network)
                })
            })
            && filters.any("volume", |volume| {
                c.mounts
                    .iter()
                    .any(|m| m.name == volume || m.destination == volume || m.source == volume)
            })
            && filters.any("publish", |port| {
                c.network.ports.iter().any(|(inner, bindings)| {
                    bindings
                        .iter()
                        .any(|binding| covers(port, &binding.host_port, inner))
                })
            })
            && filters.any("expose", |port| {
                c.create
                    .config
                    .exposed_ports
                    .keys()
                    .any(|inner| covers(port, inner.split('/').next().unwrap_or(""), inner))
            })
    }

    fn is_ancestor(&self, c: &Container, name: &str) -> bool {
        c.create.config.image == name || self.ancestors.get(name) == Some(&c.image_id)
    }
}

fn is_listed(status: ContainerStatus) -> bool {
    status.is_running() || status == ContainerStatus::Restarting
}

fn health(c: &Container) -> &'static str {
    c.state
        .health
        .as_ref()
        .map_or("none", |health| health.status.as_str())
}

/// Whether `80`, `80/tcp` or `80-90/udp` means this port; `inner` has its
/// protocol.
fn covers(wanted: &str, number: &str, inner: &str) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last), Ok(number)) = (
        first.parse::<u16>(),
        last.parse::<u16>(),
        number.parse::<u16>(),
    ) else {
        return false;
    };
    (first..=last).contains(&number) && inner.ends_with(&format!("/{protocol}"))
}

fn summary(c: &Container, image: &str, now: WallTime) -> Value {
    let endpoints: Map<String, Value> = c
        .network
        .endpoints
        .iter()
        .map(|(name, e)| (name.clone(), endpoint_json(e)))
        .collect();
    let mut value = json!({
        "Id": c.id,
        "Names": [format!("/{}", c.name)],
        "Image": image,
        "ImageID": c.image_id,
        "Command": command(c),
        "Created": c.created.seconds(),
        "Ports": ports(c),
        "Labels": c.create.config.labels,
        "State": c.state.status.as_str(),
        "Status": status(c, now),
        "HostConfig": {"NetworkMode": c.create.host.network_mode},
        "NetworkSettings": {"Networks": endpoints},
        "Mounts": c.mounts.iter().map(mount_json).collect::<Vec<_>>(),
    });
    if let (Some(size), Some(members)) = (c.size, value.as_object_mut()) {
        if size.writable != 0 {
            members.insert("SizeRw".into(), size.writable.into());
        }
        members.insert("SizeRootFs".into(), size.root.into());
    }
    value
}

fn command(c: &Container) -> String {
    let mut words = c.path.clone();
    for arg in &c.args {
        words.push(' ');
        if arg.contains(' ') {
            words.push_str(&format!("'{arg}'"));
        } else {
            words.push_str(arg);
        }
    }
    words
}

fn ports(c: &Container) -> Vec<Value> {
    let mut ports = Vec::new();
    for (port, bindings) in &c.network.ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = number.parse().unwrap_or(0);
        if bindings.is_empty() {
            ports.push(json!({"PrivatePort": number, "Type": protocol}));
        }
        for binding in bindings {
            ports.push(json!({
                "IP": binding.host_ip,
                "PrivatePort": number,
                "PublicPort": binding.host_port.parse::<u16>().unwrap_or(0),
                "Type": protocol,
            }));
        }
    }
    ports
}

/// `Up 5 minutes (healthy)`, `Exited (0) 2 seconds ago`.
fn status(c: &Container, now: WallTime) -> String {
    let state = &c.state;
    let since = |time: WallTime| time::human_duration(now.0.saturating_sub(time.0));
    match state.status {
        ContainerStatus::Running => {
            let health = match state.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(state.started_at))
        }
        ContainerStatus::Paused => format!("Up {} (Paused)", since(state.started_at)),
        ContainerStatus::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                state.exit_code,
                since(state.finished_at)
            )
        }
        ContainerStatus::Removing => "Removal In Progress".into(),
        ContainerStatus::Dead => "Dead".into(),
        ContainerStatus::Created => "Created".into(),
        ContainerStatus::Exited if state.finished_at.is_never() => String::new(),
        ContainerStatus::Exited => {
            format!(
                "Exited ({}) {} ago",
                state.exit_code,
                since(state.finished_at)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Health;
    use skep_control::model::{EndpointSettings, PortBinding, SECOND};

    fn container() -> Container {
        let mut c = Container {
            id: "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2".into(),
            name: "web".into(),
            created: WallTime(1_700_000_000 * SECOND),
            image_id: "sha256:aa".into(),
            path: "sh".into(),
            args: vec!["-c".into(), "sleep 1".into()],
            ..Container::default()
        };
        c.state.status = ContainerStatus::Running;
        c.state.started_at = WallTime(1_700_000_001 * SECOND);
        c.create.config.image = "busybox".into();
        c.create.host.network_mode = "bridge".into();
        c.network
            .endpoints
            .insert("bridge".into(), EndpointSettings::default());
        c.network.ports.insert(
            "80/tcp".into(),
            vec![PortBinding {
                host_ip: "0.0.0.0".into(),
                host_port: "8080".into(),
            }],
        );
        c.network.ports.insert("53/udp".into(), vec![]);
        c
    }

    #[test]
    fn a_line_of_ps() {
        let now = WallTime(1_700_000_301 * SECOND);
        let value = summary(&container(), "busybox", now);
        assert_eq!(value["Names"], json!(["/web"]));
        assert_eq!(value["Command"], "sh -c 'sleep 1'");
        assert_eq!(value["Status"], "Up 5 minutes");
        assert_eq!(value["Created"], 1_700_000_000);
        assert_eq!(
            value["Ports"],
            json!([
                {"PrivatePort": 53, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
            ])
        );
        assert!(value.get("SizeRw").is_none());
    }

    #[test]
    fn status_in_dockers_words() {
        let now = WallTime(1_700_000_010 * SECOND);
        let mut c = container();
        c.state.health = Some(Health {
            status: HealthStatus::Starting,
            ..Health::default()
        });
        assert_eq!(status(&c, now), "Up 9 seconds (health: starting)");
        c.state.status = ContainerStatus::Paused;
        assert_eq!(status(&c, now), "Up 9 seconds (Paused)");
        c.state.status = ContainerStatus::Exited;
        assert_eq!(status(&c, now), "");
        c.state.finished_at = WallTime(1_700_000_008 * SECOND);
        c.state.exit_code = 137;
        assert_eq!(status(&c, now), "Exited (137) 2 seconds ago");
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| Wanted {
            filters: Filters::parse(raw, FILTERS).unwrap(),
            all: true,
            created_after: None,
            created_before: None,
            ancestors: BTreeMap::from([("bb".into(), "sha256:aa".into())]),
            is_task: None,
            exit_codes: vec![],
        };
        let c = container();
        for yes in [
            r#"{"name":["^/web$"]}"#,
            r#"{"name":["we"]}"#,
            r#"{"id":["4fa6"]}"#,
            r#"{"ancestor":["bb"]}"#,
            r#"{"publish":["8000-9000"]}"#,
            r#"{"status":["running"]}"#,
            r#"{"network":["bridge"]}"#,
            r#"{"health":["none"]}"#,
        ] {
            assert!(wanted(yes).is(&c), "{yes}");
        }
        for no in [
            r#"{"name":["^we$"]}"#,
            r#"{"ancestor":["x"]}"#,
            r#"{"publish":["8080/udp"]}"#,
            r#"{"label":["a"]}"#,
            r#"{"status":["exited"]}"#,
            r#"{"network":["x"]}"#,
        ] {
            assert!(!wanted(no).is(&c), "{no}");
        }
    }
}
