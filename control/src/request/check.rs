//! What makes a spec wrong, in Docker's words. Looks at the spec alone.

use super::Refusal;
use crate::constraint::Constraint;
use crate::model::*;
use std::collections::BTreeSet;

/// Smallest memory limit or reservation, in bytes (Docker's 4 MiB).
const MEMORY_BYTES_MIN: i64 = 4 << 20;
/// Smallest CPU limit or reservation, in billionths of a CPU (Docker's 0.001).
const NANO_CPUS_MIN: i64 = 1_000_000;
/// Longest name of a service, network or node.
const NAME_LEN_MAX: usize = 63;
/// Most replicas of one service: the size that planning is measured at. A slip
/// of the finger is not to fill the log.
const REPLICAS_MAX: u64 = 100_000;
/// Shortest interval of a health check: Docker's 1 ms.
const HEALTH_NANOS_MIN: i64 = 1_000_000;

pub(super) fn name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("meta: name must be provided"));
    }
    if !is_dns_name(name) {
        let message = "name must be valid as a DNS name component";
        return Err(Refusal::invalid(message));
    }
    if name.len() > NAME_LEN_MAX {
        let message = format!("name must be {NAME_LEN_MAX} characters or fewer");
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

/// `[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*`
fn is_dns_name(name: &str) -> bool {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends_well(name.chars().next())
        && ends_well(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

pub(super) fn service(spec: &ServiceSpec) -> Result<(), Refusal> {
    name(&spec.name)?;
    resources(&spec.task_template)?;
    restart(&spec.task_template)?;
    placement(&spec.task_template)?;
    update(spec.update_config.as_ref())?;
    update(spec.rollback_config.as_ref())?;
    container(&spec.task_template.container_spec)?;
    endpoint(spec.endpoint_spec.as_ref())?;
    mode(&spec.mode)
}

fn mode(mode: &ServiceMode) -> Result<(), Refusal> {
    let set = [
        mode.replicated.is_some(),
        mode.global.is_some(),
        mode.replicated_job.is_some(),
        mode.global_job.is_some(),
    ];
    if set.iter().filter(|is_set| **is_set).count() > 1 {
        return Err(Refusal::invalid("must specify only one service mode"));
    }
    if mode.replicas() > REPLICAS_MAX {
        let message = format!("Number of replicas must be at most {REPLICAS_MAX}");
        return Err(Refusal::invalid(message));
    }
    if mode.replicated_job.is_some() || mode.global_job.is_some() {
        let message = "jobs are not supported: use --mode replicated or global";
        return Err(Refusal::not_implemented(message));
    }
    Ok(())
}

fn resources(task: &TaskSpec) -> Result<(), Refusal> {
    let Some(resources) = &task.resources else {
        return Ok(());
    };
    let limits = resources.limits.as_ref();
    let reserved = resources.reservations.as_ref();
    let pairs = [
        limits.map(|of| (of.nano_cpus, of.memory_bytes)),
        reserved.map(|of| (of.nano_cpus, of.memory_bytes)),
    ];
    for (nano_cpus, memory) in pairs.into_iter().flatten() {
        if nano_cpus != 0 && nano_cpus < NANO_CPUS_MIN {
            let cpus = nano_cpus as f64 / 1e9;
            let message = format!("invalid cpu value {cpus}: Must be at least 0.001");
            return Err(Refusal::invalid(message));
        }
        if memory != 0 && memory < MEMORY_BYTES_MIN {
            let message = format!("invalid memory value {memory}: Must be at least 4MiB");
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}

fn restart(task: &TaskSpec) -> Result<(), Refusal> {
    let Some(policy) = &task.restart_policy else {
        return Ok(());
    };
    not_negative("restart-delay", policy.delay)?;
    not_negative("restart-window", policy.window)
}

fn placement(task: &TaskSpec) -> Result<(), Refusal> {
    let Some(placement) = &task.placement else {
        return Ok(());
    };
    for constraint in &placement.constraints {
        Constraint::parse(constraint).map_err(Refusal::invalid)?;
    }
    Ok(())
}

fn update(config: Option<&UpdateConfig>) -> Result<(), Refusal> {
    let Some(config) = config else { return Ok(()) };
    not_negative("update-delay", Some(config.delay))?;
    not_negative("update-monitor", Some(config.monitor))?;
    if !(0..=1_000_000).contains(&config.max_failure_ratio) {
        let message = "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1";
        return Err(Refusal::invalid(message));
    }
    let actions = ["", "pause", "continue", "rollback"];
    if !actions.contains(&config.failure_action.as_str()) {
        let action = &config.failure_action;
        let message = format!("unrecognized update failure action {action}");
        return Err(Refusal::invalid(message));
    }
    if !["", "stop-first", "start-first"].contains(&config.order.as_str()) {
        let message = format!("unrecognized update order {}", config.order);
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

fn not_negative(what: &str, nanos: Option<i64>) -> Result<(), Refusal> {
    if nanos.unwrap_or(0) < 0 {
        let message = format!("TaskSpec: {what} cannot be negative");
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

fn container(spec: &ContainerSpec) -> Result<(), Refusal> {
    if spec.image.is_empty() {
        let message = "ContainerSpec: image reference must be provided";
        return Err(Refusal::invalid(message));
    }
    if spec
        .image
        .chars()
        .any(|c| c.is_whitespace() || c.is_control())
    {
        let message = format!(
            "ContainerSpec: {:?} is not a valid repository/tag",
            spec.image
        );
        return Err(Refusal::invalid(message));
    }
    let mut targets = BTreeSet::new();
    for mount in &spec.mounts {
        if !targets.insert(mount.target.trim_end_matches('/')) {
            let message = format!("ContainerSpec: duplicate mount point: {}", mount.target);
            return Err(Refusal::invalid(message));
        }
    }
    if let Some(health) = &spec.healthcheck {
        let fields = [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ];
        for (field, nanos) in fields {
            if nanos != 0 && nanos < HEALTH_NANOS_MIN {
                let message =
                    format!("ContainerSpec: {field} in HealthConfig cannot be less than 1ms");
                return Err(Refusal::invalid(message));
            }
        }
    }
    Ok(())
}

fn endpoint(spec: Option<&EndpointSpec>) -> Result<(), Refusal> {
    let Some(spec) = spec else { return Ok(()) };
    if !["", "vip", "dnsrr"].contains(&spec.mode.as_str()) {
        let message = format!(
            "invalid endpoint mode {:?}: must be vip or dnsrr",
            spec.mode
        );
        return Err(Refusal::invalid(message));
    }
    let mut published = BTreeSet::new();
    for port in &spec.ports {
        if spec.mode == "dnsrr" && port.is_ingress() {
            let message =
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode";
            return Err(Refusal::invalid(message));
        }
        if port.target_port == 0 || port.target_port > 65535 || port.published_port > 65535 {
            let message = format!(
                "invalid port {}:{}: ports are between 1 and 65535",
                port.published_port, port.target_port
            );
            return Err(Refusal::invalid(message));
        }
        if !["", "tcp", "udp", "sctp"].contains(&port.protocol.as_str()) {
            let message = format!(
                "invalid protocol '{}' specified for port {}",
                port.protocol, port.target_port
            );
            return Err(Refusal::invalid(message));
        }
        let is_new = published.insert((port.published_port, port.protocol()));
        if port.published_port != 0 && !is_new {
            let message = "EndpointSpec: duplicate published ports provided";
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ServiceSpec {
        let mut spec = ServiceSpec {
            name: "web".into(),
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "web:1".into();
        spec
    }

    fn wrong(change: impl FnOnce(&mut ServiceSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        service(&spec).unwrap_err().message
    }

    #[test]
    fn a_plain_spec_is_right() {
        assert_eq!(service(&spec()), Ok(()));
    }

    #[test]
    fn refusals_are_dockers() {
        let long = "n".repeat(64);
        assert_eq!(
            wrong(|s| s.name = "a.b".into()),
            "name must be valid as a DNS name component"
        );
        assert_eq!(
            wrong(|s| s.name = long),
            "name must be 63 characters or fewer"
        );
        assert_eq!(
            wrong(|s| s.task_template.container_spec.image.clear()),
            "ContainerSpec: image reference must be provided"
        );
        let limits = |nano_cpus, memory_bytes| {
            Some(ResourceRequirements {
                limits: Some(Limits {
                    nano_cpus,
                    memory_bytes,
                    pids: 0,
                }),
                ..ResourceRequirements::default()
            })
        };
        assert_eq!(
            wrong(|s| s.task_template.resources = limits(0, 1024)),
            "invalid memory value 1024: Must be at least 4MiB"
        );
        assert_eq!(
            wrong(|s| s.task_template.resources = limits(100_000, 0)),
            "invalid cpu value 0.0001: Must be at least 0.001"
        );
        assert_eq!(
            wrong(|s| s.mode.replicated = Some(ReplicatedService {
                replicas: Some(u64::MAX)
            })),
            "Number of replicas must be at most 100000"
        );
        assert_eq!(
            wrong(|s| s.update_config = Some(UpdateConfig {
                delay: -1,
                ..UpdateConfig::default()
            })),
            "TaskSpec: update-delay cannot be negative"
        );
    }
}
