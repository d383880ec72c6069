//! `GET /containers/{id}/json`, to Docker's field and omission.

use crate::api::call::Call;
use crate::api::reply::{self, Reply, null_empty, omit_empty};
use crate::backend::{Backend, Container, ContainerStatus, Health, MountPoint};
use crate::error::Result;
use serde_json::{Map, Value, json};
use skep_control::model::{Config, EndpointSettings, HostConfig};

pub(super) async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let size = call.query.flag("size");
    let container = call.node.container(call.param("id"), size).await?;
    Ok(reply::json(&container_json(&container)))
}

fn container_json(c: &Container) -> Value {
    let mut value = json!({
        "Id": c.id,
        "Created": c.created,
        "Path": c.path,
        "Args": c.args,
        "State": state_json(c),
        "Image": c.image_id,
        "ResolvConfPath": c.files.resolv_conf,
        "HostnamePath": c.files.hostname,
        "HostsPath": c.files.hosts,
        "LogPath": c.files.log,
        "Name": format!("/{}", c.name),
        "RestartCount": c.restart_count,
        "Driver": "overlay2",
        "Platform": c.platform.split('/').next().filter(|os| !os.is_empty()).unwrap_or("linux"),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if c.exec_ids.is_empty() { Value::Null } else { json!(c.exec_ids) },
        "HostConfig": host_json(&c.create.host),
        "GraphDriver": {"Data": c.files.overlay, "Name": "overlay2"},
        "Mounts": c.mounts.iter().map(mount_json).collect::<Vec<_>>(),
        "Config": config_json(&c.create.config),
        "NetworkSettings": network_json(c),
    });
    if let (Some(size), Some(members)) = (c.size, value.as_object_mut()) {
        members.insert("SizeRw".into(), size.writable.into());
        members.insert("SizeRootFs".into(), size.root.into());
    }
    value
}

fn state_json(c: &Container) -> Value {
    let state = &c.state;
    let mut value = json!({
        "Status": state.status.as_str(),
        "Running": state.status.is_running() || state.status == ContainerStatus::Restarting,
        "Paused": state.status == ContainerStatus::Paused,
        "Restarting": state.status == ContainerStatus::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == ContainerStatus::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    });
    if let (Some(health), Some(members)) = (&state.health, value.as_object_mut()) {
        members.insert("Health".into(), health_json(health));
    }
    value
}

fn health_json(health: &Health) -> Value {
    let log: Vec<Value> = health
        .log
        .iter()
        .map(|probe| {
            json!({
                "Start": probe.start,
                "End": probe.end,
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            })
        })
        .collect();
    json!({
        "Status": health.status.as_str(),
        "FailingStreak": health.failing_streak,
        "Log": log,
    })
}

/// A value of the model as JSON; the model's types cannot fail to be that.
fn value_of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn config_json(config: &Config) -> Value {
    let mut value = omit_empty(
        value_of(config),
        &[
            "ExposedPorts",
            "Healthcheck",
            "NetworkDisabled",
            "StopSignal",
            "StopTimeout",
            "Shell",
        ],
    );
    if let Some(health) = value.get_mut("Healthcheck") {
        let names = [
            "Test",
            "Interval",
            "Timeout",
            "StartPeriod",
            "StartInterval",
            "Retries",
        ];
        *health = omit_empty(health.take(), &names);
    }
    null_empty(value, &["Env", "Cmd", "Entrypoint", "Volumes", "OnBuild"])
}

fn host_json(host: &HostConfig) -> Value {
    let mut value = omit_empty(
        value_of(host),
        &[
            "Annotations",
            "StorageOpt",
            "Tmpfs",
            "Sysctls",
            "Mounts",
            "Init",
        ],
    );
    if let Some(Value::Array(mounts)) = value.get_mut("Mounts") {
        for mount in mounts {
            *mount = crate::api::shape::without_empty(mount.take());
        }
    }
    let mut value = null_empty(
        value,
        &[
            "Binds",
            "VolumesFrom",
            "CapAdd",
            "CapDrop",
            "ExtraHosts",
            "GroupAdd",
            "Links",
            "SecurityOpt",
            "DeviceCgroupRules",
            "DeviceRequests",
            "BlkioDeviceReadBps",
            "BlkioDeviceWriteBps",
            "BlkioDeviceReadIOps",
            "BlkioDeviceWriteIOps",
            "Ulimits",
        ],
    );
    if let Some(members) = value.as_object_mut() {
        for windows in [
            "CpuCount",
            "CpuPercent",
            "IOMaximumIOps",
            "IOMaximumBandwidth",
        ] {
            members.insert(windows.into(), 0.into());
        }
    }
    value
}

pub(super) fn mount_json(mount: &MountPoint) -> Value {
    omit_empty(
        json!({
            "Type": mount.kind,
            "Name": mount.name,
            "Source": mount.source,
            "Destination": mount.destination,
            "Driver": mount.driver,
            "Mode": mount.mode,
            "RW": mount.writable,
            "Propagation": mount.propagation,
        }),
        &["Name", "Driver"],
    )
}

/// One network of a container.
pub(super) fn endpoint_json(endpoint: &EndpointSettings) -> Value {
    let mut value = null_empty(
        value_of(endpoint),
        &["Links", "Aliases", "DriverOpts", "DNSNames"],
    );
    if let Some(wish) = value.get_mut("IPAMConfig").filter(|wish| wish.is_object()) {
        *wish = omit_empty(wish.take(), &["IPv4Address", "IPv6Address", "LinkLocalIPs"]);
    }
    value
}

fn network_json(c: &Container) -> Value {
    let state = &c.network;
    let endpoints: Map<String, Value> = state
        .endpoints
        .iter()
        .map(|(name, e)| (name.clone(), endpoint_json(e)))
        .collect();
    let ports: Map<String, Value> = state
        .ports
        .iter()
        .map(|(port, bindings)| {
            let bindings = if bindings.is_empty() {
                Value::Null
            } else {
                value_of(bindings)
            };
            (port.clone(), bindings)
        })
        .collect();
    // The old single-network fields describe the default bridge alone.
    let default = EndpointSettings::default();
    let bridge = state.endpoints.get("bridge").unwrap_or(&default);
    json!({
        "Bridge": "",
        "SandboxID": state.sandbox_id,
        "SandboxKey": state.sandbox_key,
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": bridge.endpoint_id,
        "Gateway": bridge.gateway,
        "GlobalIPv6Address": bridge.global_ipv6_address,
        "GlobalIPv6PrefixLen": bridge.global_ipv6_prefix_len,
        "IPAddress": bridge.ip_address,
        "IPPrefixLen": bridge.ip_prefix_len,
        "IPv6Gateway": bridge.ipv6_gateway,
        "MacAddress": bridge.mac_address,
        "Networks": endpoints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Argv, Mount, PortBinding, SECOND, WallTime};

    fn container() -> Container {
        let mut c = Container {
            id: "ab".repeat(32).as_str().into(),
            name: "web".into(),
            created: WallTime(1_700_000_000 * SECOND),
            image_id: "sha256:aa".into(),
            path: "sh".into(),
            ..Container::default()
        };
        c.create.config.cmd = Some(Argv(vec!["sh".into()]));
        c.create.config.image = "busybox".into();
        c.create.host.console_size = vec![0, 0];
        c.create.host.mounts.push(Mount {
            kind: "tmpfs".into(),
            target: "/t".into(),
            ..Mount::default()
        });
        c.network.ports.insert("80/tcp".into(), vec![]);
        c.network.ports.insert(
            "81/tcp".into(),
            vec![PortBinding {
                host_ip: "0.0.0.0".into(),
                host_port: "81".into(),
            }],
        );
        c.network.endpoints.insert(
            "bridge".into(),
            EndpointSettings {
                ip_address: "172.17.0.2".into(),
                ..EndpointSettings::default()
            },
        );
        c
    }

    #[test]
    fn what_docker_leaves_out_or_makes_null() {
        let value = container_json(&container());
        let config = &value["Config"];
        for gone in [
            "ExposedPorts",
            "Healthcheck",
            "NetworkDisabled",
            "StopSignal",
            "Shell",
        ] {
            assert!(config.get(gone).is_none(), "{gone}");
        }
        for null in ["Env", "Volumes", "Entrypoint", "OnBuild"] {
            assert_eq!(config[null], Value::Null, "{null}");
        }
        assert_eq!(config["Labels"], json!({}));
        assert_eq!(config["Cmd"], json!(["sh"]));
        let host = &value["HostConfig"];
        assert_eq!(host["Binds"], Value::Null);
        assert_eq!(host["PortBindings"], json!({}));
        assert_eq!(host["Mounts"], json!([{"Type": "tmpfs", "Target": "/t"}]));
        assert!(host.get("Tmpfs").is_none());
        assert_eq!(value["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
        assert!(value["State"].get("Health").is_none());
        assert_eq!(value["Created"], "2023-11-14T22:13:20.000000000Z");
        assert!(value.get("SizeRw").is_none());
    }

    #[test]
    fn networks_in_both_forms() {
        let value = container_json(&container());
        let settings = &value["NetworkSettings"];
        assert_eq!(settings["IPAddress"], "172.17.0.2");
        assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
        assert_eq!(settings["Networks"]["bridge"]["IPAMConfig"], Value::Null);
        assert_eq!(
            settings["Ports"],
            json!({"80/tcp": null, "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "81"}]})
        );
    }
}
