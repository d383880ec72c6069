//! The node itself: ping, version, info, disk use, and what is refused.

use super::call::Call;
use super::reply::{self, Body, Reply};
use super::router::Router;
use super::{API_VERSION, API_VERSION_MIN, containers, time};
use crate::backend::{Backend, ContainerStatus, Controllers, NodeFacts, SwarmState};
use crate::error::{Error, Result};
use hyper::Method;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use serde_json::{Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/_ping", ping);
    router.add(Method::HEAD, "/_ping", |call| async {
        let mut reply = ping(call).await?;
        *reply.body_mut() = Body::Whole(None);
        Ok(reply)
    });
    router.get("/version", version);
    router.get("/info", info);
    router.get("/system/df", disk_usage);
    router.post("/auth", auth);
    // `docker system prune` asks for it and fails when it is refused.
    router.post("/build/prune", |_| async {
        Ok(reply::json(
            &json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }),
        ))
    });
    for path in ["/build", "/session", "/grpc", "/commit"] {
        router.post(path, |_| async {
            Err(Error::not_implemented(
                "skep does not build images: build them elsewhere and bring them with `docker load`",
            ))
        });
    }
    router.get("/plugins", |_| async { Ok(reply::json(&json!([]))) });
    router.get("/plugins/{name...}/json", |call: Call<B>| async move {
        Err(Error::not_found(format!(
            "plugin \"{}\" not found",
            call.param("name")
        )))
    });
}

async fn ping<B: Backend>(call: Call<B>) -> Result<Reply> {
    let swarm = call.node.facts().await.swarm;
    let role = match (swarm.state, swarm.manager) {
        (SwarmState::Active, true) => "active/manager",
        (SwarmState::Active, false) => "active/worker",
        (state, _) => state.as_str(),
    };
    let mut reply = reply::text("OK");
    let headers = reply.headers_mut();
    headers.insert("Swarm", HeaderValue::from_static(role));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(reply)
}

/// Go's word for this machine.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

async fn version<B: Backend>(call: Call<B>) -> Result<Reply> {
    let facts = call.node.facts().await;
    let engine = json!({
        "ApiVersion": API_VERSION,
        "Arch": go_arch(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": facts.kernel_version,
        "MinAPIVersion": API_VERSION_MIN,
        "Os": "linux",
    });
    Ok(reply::json(&json!({
        "Platform": {"Name": "skep"},
        "Components": [{"Name": "Engine", "Version": VERSION, "Details": engine}],
        "Version": VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION_MIN,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": go_arch(),
        "KernelVersion": facts.kernel_version,
        "BuildTime": "",
    })))
}

async fn info<B: Backend>(call: Call<B>) -> Result<Reply> {
    let facts = call.node.facts().await;
    let mut counts = Counts::default();
    for container in call.node.containers(false).await {
        counts.all += 1;
        match container.state.status {
            ContainerStatus::Running | ContainerStatus::Restarting => counts.running += 1,
            ContainerStatus::Paused => counts.paused += 1,
            _ => counts.stopped += 1,
        }
    }
    counts.images = call.node.images().count();
    let mut value = info_json(&facts, &counts);
    merge(&mut value, machine_json(&facts));
    merge(
        &mut value,
        json!({"Swarm": swarm_json(&call.node, &facts).await}),
    );
    Ok(reply::json(&value))
}

#[derive(Default)]
struct Counts {
    all: usize,
    running: usize,
    paused: usize,
    stopped: usize,
    images: usize,
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// What is the same on every node, and the counts.
fn info_json(facts: &NodeFacts, counts: &Counts) -> Value {
    json!({
        "ID": facts.id,
        "Containers": counts.all,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": counts.images,
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", facts.backing_filesystem],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null", "overlay"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "Debug": log::max_level() >= log::LevelFilter::Debug,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(-1, |fds| fds.count() as i64),
        "NGoroutines": std::fs::read_dir("/proc/self/task").map_or(-1, |tasks| tasks.count() as i64),
        "NEventsListener": 0,
        "SystemTime": time::now(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {"docker.io": {
                "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true
            }},
            "Mirrors": null,
        },
        "GenericResources": null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "ExperimentalBuild": false,
        "ServerVersion": VERSION,
        "Runtimes": {"runc": {"path": "skep shim"}},
        "DefaultRuntime": "runc",
        // Containers always outlive the agent.
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "skep",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": security_options(facts),
        "CDISpecDirs": null,
    })
}

fn security_options(facts: &NodeFacts) -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if facts.cgroup_version >= 2 {
        options.push("name=cgroupns");
    }
    options
}

fn machine_json(facts: &NodeFacts) -> Value {
    let has = facts.controllers;
    let labels: Vec<String> = facts
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let mut warnings = facts.warnings.clone();
    warnings.extend(
        missing(has, facts.cgroup_version)
            .into_iter()
            .map(str::to_owned),
    );
    if !facts.ipv4_forwarding {
        warnings.push("WARNING: IPv4 forwarding is disabled".into());
    }
    json!({
        "MemoryLimit": has.memory,
        "SwapLimit": has.swap,
        "CpuCfsPeriod": has.cpu_quota,
        "CpuCfsQuota": has.cpu_quota,
        "CPUShares": has.cpu_shares,
        "CPUSet": has.cpuset,
        "PidsLimit": has.pids,
        "OomKillDisable": has.oom_kill_disable,
        "IPv4Forwarding": facts.ipv4_forwarding,
        "CgroupVersion": facts.cgroup_version.to_string(),
        "KernelVersion": facts.kernel_version,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": facts.machine,
        "NCPU": facts.cpus,
        "MemTotal": facts.memory,
        "DockerRootDir": facts.data_dir,
        "Name": facts.hostname,
        "Labels": labels,
        "Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
    })
}

/// Docker's warnings for what this kernel cannot limit.
fn missing(has: Controllers, cgroup_version: u8) -> Vec<&'static str> {
    let all = [
        (has.memory, "WARNING: No memory limit support"),
        (has.swap, "WARNING: No swap limit support"),
        (has.cpu_quota, "WARNING: No cpu cfs quota support"),
        (has.cpu_shares, "WARNING: No cpu shares support"),
        (has.cpuset, "WARNING: No cpuset support"),
        (has.pids, "WARNING: No pids limit support"),
        // Only cgroup v1 ever had it.
        (
            has.oom_kill_disable || cgroup_version >= 2,
            "WARNING: No oom kill disable support",
        ),
    ];
    all.into_iter()
        .filter(|(there, _)| !there)
        .map(|(_, text)| text)
        .collect()
}

async fn swarm_json<B: Backend>(node: &B, facts: &NodeFacts) -> Value {
    let swarm = &facts.swarm;
    let managers: Vec<Value> = swarm
        .managers
        .iter()
        .map(|(id, addr)| json!({"NodeID": id, "Addr": addr}))
        .collect();
    let mut value = json!({
        "NodeID": swarm.node_id,
        "NodeAddr": swarm.node_addr,
        "LocalNodeState": swarm.state.as_str(),
        "ControlAvailable": swarm.manager,
        "Error": swarm.error,
        "RemoteManagers": if managers.is_empty() { Value::Null } else { Value::Array(managers) },
    });
    if let Some((cluster, nodes, managers)) = super::swarm::summary(node).await {
        merge(
            &mut value,
            json!({"Cluster": cluster, "Nodes": nodes, "Managers": managers}),
        );
    }
    value
}

/// Parts that `type=` names; all without one.
async fn disk_usage<B: Backend>(call: Call<B>) -> Result<Reply> {
    let types = call.query.all("type");
    if let Some(bad) = types
        .iter()
        .find(|t| !["container", "image", "volume", "build-cache"].contains(t))
    {
        return Err(Error::invalid(format!("unknown object type: {bad}")));
    }
    let wanted = |name: &str| types.is_empty() || types.contains(&name);
    let mut value = json!({});
    if wanted("image") {
        merge(&mut value, super::images::disk_usage(&call.node).await?);
    }
    if wanted("container") {
        merge(
            &mut value,
            json!({"Containers": containers::usage_list(&call.node).await}),
        );
    }
    if wanted("volume") {
        merge(
            &mut value,
            json!({"Volumes": super::volumes::usage_list(&call.node).await}),
        );
    }
    if wanted("build-cache") {
        merge(&mut value, json!({"BuildCache": []}));
    }
    Ok(reply::json(&value))
}

async fn auth<B: Backend>(_call: Call<B>) -> Result<Reply> {
    Err(Error::not_implemented(
        "login is not supported: skep needs no registry; bring images with `docker load`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_memory_controller_is_named() {
        let mut facts = NodeFacts {
            ipv4_forwarding: true,
            cgroup_version: 2,
            ..Default::default()
        };
        facts.controllers = Controllers {
            swap: true,
            cpu_shares: true,
            cpu_quota: true,
            cpuset: true,
            pids: true,
            ..Controllers::default()
        };
        let value = machine_json(&facts);
        assert_eq!(
            value["Warnings"],
            json!(["WARNING: No memory limit support"])
        );
        assert_eq!(value["MemoryLimit"], false);
        facts.controllers.memory = true;
        assert_eq!(machine_json(&facts)["Warnings"], Value::Null);
    }
}
