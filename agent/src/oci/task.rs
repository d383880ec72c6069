//! A service's task becomes a create call, as dockerd's executor makes it.

use skep_control::model::{
    Argv, Config, ContainerCreate, Empty, EndpointSettings, HostConfig, Labels, LogConfig,
    NetworkingConfig, PortBinding, PortConfig, SECOND, ServiceSpec,
};
use std::collections::BTreeMap;

/// Nanoseconds between SIGTERM and SIGKILL unless the spec says otherwise.
const STOP_GRACE_DEFAULT: i64 = 10 * SECOND;

/// Who the task is: for its name and its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) service_id: &'a str,
    pub(crate) service_name: &'a str,
    pub(crate) task_id: &'a str,
    /// 0: a global service's task (named by its node), as in Swarm.
    pub(crate) slot: u64,
    pub(crate) node_id: &'a str,
}

impl Identity<'_> {
    /// `SERVICE.SLOT.TASK`, or `SERVICE.NODE.TASK` for a global service.
    pub(crate) fn container_name(&self) -> String {
        if self.slot == 0 {
            format!("{}.{}.{}", self.service_name, self.node_id, self.task_id)
        } else {
            format!("{}.{}.{}", self.service_name, self.slot, self.task_id)
        }
    }

    /// What Swarm puts on every container of its own, over the user's.
    fn labels(&self, user: &Labels) -> Labels {
        let mut labels = user.clone();
        for (key, value) in [
            ("com.docker.swarm.task", String::new()),
            ("com.docker.swarm.task.id", self.task_id.to_owned()),
            ("com.docker.swarm.task.name", self.container_name()),
            ("com.docker.swarm.node.id", self.node_id.to_owned()),
            ("com.docker.swarm.service.id", self.service_id.to_owned()),
            (
                "com.docker.swarm.service.name",
                self.service_name.to_owned(),
            ),
        ] {
            labels.insert(key.to_owned(), value);
        }
        labels
    }
}

/// The create call for a task of `spec`. Networks are named by the targets in
/// the spec; their addresses are the caller's to fill in. Secrets and configs
/// are files that the executor adds.
pub(crate) fn container_create(spec: &ServiceSpec, task: Identity<'_>) -> ContainerCreate {
    let container = &spec.task_template.container_spec;
    let config = Config {
        hostname: container.hostname.clone(),
        user: container.user.clone(),
        env: container.env.clone(),
        tty: container.tty,
        open_stdin: container.open_stdin,
        image: container.image.clone(),
        entrypoint: argv(&container.command),
        cmd: argv(&container.args),
        working_dir: container.dir.clone(),
        labels: task.labels(&container.labels),
        healthcheck: container.healthcheck.clone(),
        stop_signal: container.stop_signal.clone(),
        stop_timeout: Some(container.stop_grace_period.unwrap_or(STOP_GRACE_DEFAULT) / SECOND),
        exposed_ports: exposed(spec),
        ..Config::default()
    };
    ContainerCreate {
        config,
        host: host(spec),
        networking: networking(spec),
    }
}

fn argv(words: &[String]) -> Option<Argv> {
    (!words.is_empty()).then(|| Argv(words.to_vec()))
}

fn ports(spec: &ServiceSpec) -> impl Iterator<Item = &PortConfig> {
    let endpoint = spec.endpoint_spec.iter();
    endpoint.flat_map(|endpoint| &endpoint.ports)
}

/// `80/tcp`: what a port is called inside of its container.
fn inner(port: &PortConfig) -> String {
    let protocol = match port.protocol.as_str() {
        "" => "tcp",
        protocol => protocol,
    };
    format!("{}/{protocol}", port.target_port)
}

fn exposed(spec: &ServiceSpec) -> BTreeMap<String, Empty> {
    let all = ports(spec);
    all.map(|port| (inner(port), Empty::default())).collect()
}

/// Ports of mode `host` are published with the container, as those of `run`.
fn bindings(spec: &ServiceSpec) -> BTreeMap<String, Vec<PortBinding>> {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports(spec).filter(|port| port.publish_mode == "host") {
        let host_port = match port.published_port {
            // Any that is free.
            0 => String::new(),
            number => number.to_string(),
        };
        let binding = PortBinding {
            host_port,
            ..PortBinding::default()
        };
        bindings.entry(inner(port)).or_default().push(binding);
    }
    bindings
}

fn host(spec: &ServiceSpec) -> HostConfig {
    let template = &spec.task_template;
    let container = &template.container_spec;
    let mut host = HostConfig {
        mounts: container.mounts.clone(),
        readonly_rootfs: container.read_only,
        init: container.init,
        sysctls: container.sysctls.clone(),
        cap_add: container.capability_add.clone(),
        cap_drop: container.capability_drop.clone(),
        ulimits: container.ulimits.clone(),
        oom_score_adj: container.oom_score_adj,
        group_add: container.groups.clone(),
        isolation: container.isolation.clone(),
        extra_hosts: extra_hosts(&container.hosts),
        port_bindings: bindings(spec),
        ..HostConfig::default()
    };
    if let Some(dns) = &container.dns_config {
        host.dns.clone_from(&dns.nameservers);
        host.dns_search.clone_from(&dns.search);
        host.dns_options.clone_from(&dns.options);
    }
    if let Some(driver) = &template.log_driver {
        host.log_config = LogConfig {
            kind: driver.name.clone(),
            config: driver.options.clone(),
        };
    }
    if let Some(resources) = &template.resources {
        if let Some(limits) = &resources.limits {
            host.memory = limits.memory_bytes;
            host.nano_cpus = limits.nano_cpus;
            host.pids_limit = (limits.pids > 0).then_some(limits.pids);
        }
        if let Some(reservations) = &resources.reservations {
            host.memory_reservation = reservations.memory_bytes;
        }
        // Swarm's swap is beside the memory, the container's includes it.
        match resources.swap_bytes {
            Some(-1) => host.memory_swap = -1,
            Some(swap) => host.memory_swap = host.memory.saturating_add(swap),
            None => {}
        }
        host.memory_swappiness = resources.memory_swappiness;
    }
    if let Some(privileges) = &container.privileges {
        host.security_opt = security(privileges);
    }
    host
}

fn security(privileges: &skep_control::model::Privileges) -> Vec<String> {
    let mut options = Vec::new();
    if privileges.no_new_privileges {
        options.push("no-new-privileges=true".to_owned());
    }
    if let Some(seccomp) = &privileges.seccomp {
        match seccomp.mode.as_str() {
            "unconfined" => options.push("seccomp=unconfined".to_owned()),
            "custom" => options.push(format!("seccomp={}", unbase64(&seccomp.profile))),
            _ => {}
        }
    }
    options
}

/// JSON carries a profile's bytes in base 64; what is not is taken as it is.
fn unbase64(text: &str) -> String {
    let digit = |c: u8| {
        let at = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        Some(u32::from(at))
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let Some(value) = digit(c) else {
            return text.to_owned();
        };
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// `ip name alias` (the form of /etc/hosts) becomes `name:ip` for each name.
fn extra_hosts(hosts: &[String]) -> Vec<String> {
    let mut list = Vec::new();
    for line in hosts {
        let mut words = line.split_whitespace();
        if let Some(address) = words.next() {
            list.extend(words.map(|name| format!("{name}:{address}")));
        }
    }
    list
}

fn networking(spec: &ServiceSpec) -> NetworkingConfig {
    let template = &spec.task_template;
    let networks = if template.networks.is_empty() {
        &spec.networks
    } else {
        &template.networks
    };
    let endpoint = |network: &skep_control::model::NetworkAttachmentConfig| EndpointSettings {
        aliases: network.aliases.clone(),
        driver_opts: network.driver_opts.clone(),
        ..EndpointSettings::default()
    };
    NetworkingConfig {
        endpoints_config: networks
            .iter()
            .map(|network| (network.target.clone(), endpoint(network)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{
        Limits, NetworkAttachmentConfig, Privileges, ResourceRequirements, SeccompOpts,
    };

    const TASK: Identity<'_> = Identity {
        service_id: "s1",
        service_name: "web",
        task_id: "t1",
        slot: 2,
        node_id: "n1",
    };

    #[test]
    fn names_and_labels_are_swarms() {
        assert_eq!(TASK.container_name(), "web.2.t1");
        assert_eq!(Identity { slot: 0, ..TASK }.container_name(), "web.n1.t1");
        let create = container_create(&ServiceSpec::default(), TASK);
        assert_eq!(
            create.config.labels["com.docker.swarm.task.name"],
            "web.2.t1"
        );
        assert_eq!(create.config.labels["com.docker.swarm.task"], "");
        assert_eq!(create.config.labels.len(), 6);
        assert_eq!(create.config.stop_timeout, Some(10));
    }

    #[test]
    fn a_spec_is_carried_over() {
        let mut spec = ServiceSpec::default();
        let container = &mut spec.task_template.container_spec;
        container.image = "nginx".to_owned();
        container.command = vec!["/entry".to_owned()];
        container.args = vec!["-v".to_owned()];
        container.hosts = vec!["10.0.0.1 db cache".to_owned()];
        container.privileges = Some(Privileges {
            no_new_privileges: true,
            seccomp: Some(SeccompOpts {
                mode: "custom".to_owned(),
                profile: "e30=".to_owned(),
            }),
            ..Privileges::default()
        });
        spec.task_template.resources = Some(ResourceRequirements {
            limits: Some(Limits {
                memory_bytes: 64,
                nano_cpus: 5,
                pids: 7,
            }),
            swap_bytes: Some(36),
            ..ResourceRequirements::default()
        });
        spec.task_template.networks.push(NetworkAttachmentConfig {
            target: "net1".to_owned(),
            aliases: vec!["www".to_owned()],
            ..NetworkAttachmentConfig::default()
        });
        let port = |target_port, published_port, mode: &str| PortConfig {
            target_port,
            published_port,
            publish_mode: mode.to_owned(),
            ..PortConfig::default()
        };
        let endpoint = spec.endpoint_spec.get_or_insert_default();
        endpoint.ports = vec![
            port(80, 8080, "ingress"),
            port(81, 8081, "host"),
            port(82, 0, "host"),
        ];
        let create = container_create(&spec, TASK);
        assert_eq!(create.config.entrypoint.unwrap().0, ["/entry"]);
        assert_eq!(create.config.cmd.unwrap().0, ["-v"]);
        assert_eq!(create.host.extra_hosts, ["db:10.0.0.1", "cache:10.0.0.1"]);
        assert_eq!(
            create.host.security_opt,
            ["no-new-privileges=true", "seccomp={}"]
        );
        assert_eq!((create.host.memory, create.host.memory_swap), (64, 100));
        assert_eq!(create.host.pids_limit, Some(7));
        assert_eq!(create.networking.endpoints_config["net1"].aliases, ["www"]);
        assert!(create.config.exposed_ports.contains_key("80/tcp"));
        let bound = &create.host.port_bindings;
        assert!(!bound.contains_key("80/tcp"), "the node's matter, not its");
        assert_eq!(bound["81/tcp"][0].host_port, "8081");
        assert_eq!(bound["82/tcp"][0].host_port, "", "any that is free");
    }
}
