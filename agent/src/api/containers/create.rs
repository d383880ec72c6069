//! `POST /containers/create`: Docker's body, checked and with every default
//! that depends on neither the image nor the container's id.

use super::validate;
use crate::api::call::{Call, from_value};
use crate::api::reply::{self, Reply};
use crate::backend::{Backend, NodeFacts};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use skep_control::model::{Config, ContainerCreate, HostConfig, NetworkingConfig};

/// Bytes of /dev/shm, as Docker gives.
const SHM_BYTES_DEFAULT: i64 = 64 << 20;
/// Below this version the client removes the container itself.
const AUTO_REMOVE_SINCE: u16 = 25;

pub(super) async fn create<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let name = call.query.text("name").trim_start_matches('/').to_owned();
    if !name.is_empty() {
        checked_name(&name)?;
    }
    let platform = Some(call.query.text("platform").to_owned()).filter(|p| !p.is_empty());
    let body: Value = call.json().await?;
    let mut create = parse(body)?;
    if call.version < AUTO_REMOVE_SINCE {
        create.host.auto_remove = false;
    }
    let facts = call.node.facts().await;
    let mut warnings = complete(&mut create, &facts)?;
    if platform.is_none() {
        warnings.extend(foreign(&call.node, &create.config.image).await);
    }
    let id = call.node.container_create(&name, create, platform).await?;
    Ok(reply::created(&json!({"Id": id, "Warnings": warnings})))
}

/// Docker's warning when the image is for another kind of machine. An unknown
/// image is the creation's to refuse.
async fn foreign<B: Backend>(node: &B, image: &str) -> Option<String> {
    let (store, image) = (node.images().clone(), image.to_owned());
    let host = skep_images::Platform::host();
    let found = smol::unblock(move || store.resolve(&image, None)).await;
    let other = found.ok().map(|image| image.platform);
    let other = other.filter(|other| host.rank(other).is_none())?;
    Some(format!(
        "The requested image's platform ({other}) does not match the detected host platform \
             ({host}) and no specific platform was requested"
    ))
}

/// Docker's body has the image's kind of settings at the top, the others in
/// two members of their own.
fn parse(mut body: Value) -> Result<ContainerCreate> {
    let mut take = |name: &str| body.get_mut(name).map(Value::take).filter(|v| !v.is_null());
    let host: HostConfig = take("HostConfig").map_or(Ok(HostConfig::default()), |value| {
        within("HostConfig", value)
    })?;
    let networking: NetworkingConfig = take("NetworkingConfig")
        .map_or(Ok(NetworkingConfig::default()), |value| {
            within("NetworkingConfig", value)
        })?;
    let mac_address = take("MacAddress");
    let config: Config = from_value(body)?;
    let mut networking = networking;
    if let Some(Value::String(address)) = mac_address.filter(|address| address != "") {
        own_address(&host, &mut networking, address);
    }
    Ok(ContainerCreate {
        config,
        host,
        networking,
    })
}

/// Before 1.44 the address was the container's, not its endpoint's.
fn own_address(host: &HostConfig, networking: &mut NetworkingConfig, address: String) {
    let mode = host.network_mode.as_str();
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return;
    }
    let network = if mode.is_empty() { "default" } else { mode };
    let endpoint = networking
        .endpoints_config
        .entry(network.to_owned())
        .or_default();
    if endpoint.mac_address.is_empty() {
        endpoint.mac_address = address;
    }
}

fn within<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T> {
    from_value(value).map_err(|e| {
        Error::invalid(
            e.message
                .replacen("invalid JSON: ", &format!("invalid JSON: {name}."), 1),
        )
    })
}

/// Checks and fills in; returns the warnings.
fn complete(create: &mut ContainerCreate, facts: &NodeFacts) -> Result<Vec<String>> {
    let ContainerCreate {
        config,
        host,
        networking,
    } = create;
    if config.image.is_empty() {
        return Err(Error::invalid("no image specified: Image is empty"));
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
        if let Some(endpoint) = networking.endpoints_config.remove("default") {
            networking
                .endpoints_config
                .insert("bridge".into(), endpoint);
        }
    }
    check_process(config)?;
    let mut warnings = validate::host(config, host)?;
    warnings.extend(validate::checked_resources(host, facts)?);
    defaults(host, facts);
    normalize_ports(config, host)?;
    Ok(warnings)
}

fn defaults(host: &mut HostConfig, facts: &NodeFacts) {
    let fill = |field: &mut String, value: &str| {
        if field.is_empty() {
            *field = value.to_owned();
        }
    };
    fill(&mut host.log_config.kind, "json-file");
    fill(&mut host.restart_policy.name, "no");
    fill(&mut host.ipc_mode, "private");
    fill(&mut host.runtime, "runc");
    let cgroup_namespace = if facts.cgroup_version >= 2 && !host.privileged {
        "private"
    } else {
        "host"
    };
    fill(&mut host.cgroupns_mode, cgroup_namespace);
    if host.shm_size == 0 {
        host.shm_size = SHM_BYTES_DEFAULT;
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    if host.console_size.len() != 2 {
        host.console_size = vec![0, 0];
    }
}

/// `80` is `80/tcp`, in both places.
fn normalize_ports(config: &mut Config, host: &mut HostConfig) -> Result<()> {
    let exposed = std::mem::take(&mut config.exposed_ports);
    for (port, empty) in exposed {
        config.exposed_ports.insert(validate::port(&port)?, empty);
    }
    let bindings = std::mem::take(&mut host.port_bindings);
    for (port, binding) in bindings {
        let port = validate::port(&port)?;
        config.exposed_ports.entry(port.clone()).or_default();
        host.port_bindings.insert(port, binding);
    }
    Ok(())
}

/// Docker's rule for names.
pub(super) fn checked_name(name: &str) -> Result<()> {
    let rest_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let ok = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(rest_ok);
    if ok {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// What a process is told: its folder, environment and health check.
fn check_process(config: &Config) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(bad) = config
        .env
        .iter()
        .find(|env| env.is_empty() || env.starts_with('='))
    {
        return Err(Error::invalid(format!(
            "invalid environment variable: {bad}"
        )));
    }
    if let Some(health) = &config.healthcheck {
        for (name, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if value != 0 && value < 1_000_000 {
                return Err(Error::invalid(format!(
                    "{name} in Healthcheck cannot be less than 1ms"
                )));
            }
        }
        if health.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
        }
    }
    if config.stop_timeout.is_some_and(|seconds| seconds < -1) {
        return Err(Error::invalid(
            "invalid stop timeout: use a number of seconds, or -1",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            cpus: 2,
            memory: 4 << 30,
            cgroup_version: 1,
            ..NodeFacts::default()
        }
    }

    #[test]
    fn the_body_of_the_docker_client() {
        let body = json!({
            "Image": "busybox", "Cmd": ["sh"], "Tty": true, "ExposedPorts": {"80": {}},
            "HostConfig": {"PortBindings": {"53/udp": [{"HostPort": "5353"}]}, "Memory": 16777216},
            "NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["a"]}}}
        });
        let mut create = parse(body).unwrap();
        let mut all = facts();
        all.controllers.memory = true;
        all.controllers.swap = true;
        assert_eq!(complete(&mut create, &all).unwrap(), Vec::<String>::new());
        assert_eq!(create.host.network_mode, "bridge");
        assert_eq!(create.networking.endpoints_config["bridge"].aliases, ["a"]);
        assert_eq!(
            create.config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(create.host.memory_swap, 2 * create.host.memory);
        assert_eq!(create.host.restart_policy.name, "no");
        assert_eq!(create.host.shm_size, SHM_BYTES_DEFAULT);
    }

    #[test]
    fn errors_name_the_member() {
        let body = json!({"Image": "x", "HostConfig": {"Memory": "much"}});
        assert_eq!(
            parse(body).unwrap_err().message,
            "invalid JSON: HostConfig.Memory: invalid type: string \"much\", expected i64"
        );
    }

    #[test]
    fn names() {
        assert!(checked_name("web_1.a-b").is_ok());
        for bad in ["a", "-ab", "a b", "a/b", "_ab"] {
            let message = checked_name(bad).unwrap_err().message;
            assert!(message.starts_with("Invalid container name ("), "{message}");
        }
    }

    #[test]
    fn refusals_in_dockers_words() {
        let refusal = |body: Value| {
            complete(&mut parse(body).unwrap(), &facts())
                .unwrap_err()
                .message
        };
        assert_eq!(
            refusal(json!({"Image": "x", "WorkingDir": "a"})),
            "the working directory 'a' is invalid, it needs to be an absolute path"
        );
        assert_eq!(
            refusal(json!({"Image": "x", "HostConfig":
                {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}})),
            "can't create 'AutoRemove' container with restart policy"
        );
    }
}
