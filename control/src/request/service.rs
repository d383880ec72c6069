//! Creating, changing and removing services.

use super::*;
use crate::state::not_found;

/// Ports that the cluster chooses from when a published port is left open.
const DYNAMIC_PORTS: std::ops::RangeInclusive<u32> = 30000..=32767;

/// Networks of the node itself that a service may name.
const PREDEFINED: [&str; 3] = ["host", "bridge", "none"];

pub(super) fn create(context: &mut Context<'_>, mut spec: ServiceSpec) -> Outcome {
    if spec.name.is_empty() {
        spec.name = names::made_up(context.random);
    }
    let spec = prepare(context.state, spec)?;
    if context.state.service_named(&spec.name).is_some() {
        return Err(Refusal::conflict(format!(
            "name conflicts with an existing object: service {} already exists",
            spec.name
        )));
    }
    let id = ServiceId::from(context.random.id());
    let ports = publish(context.state, &id, &spec, &[])?;
    let service = Service {
        id: id.clone(),
        ports,
        spec,
        ..Service::default()
    };
    let changes = context.state.revised(service);
    Ok(Accepted {
        changes,
        answer: Answer::Service {
            id,
            warnings: Vec::new(),
        },
    })
}

pub(super) fn update(
    context: &mut Context<'_>,
    argument: &str,
    version: u64,
    spec: ServiceSpec,
    rollback: bool,
) -> Outcome {
    let current = context.state.find_service(argument)?;
    check_version(version, current.meta.version)?;
    let mut service = current.clone();
    let previous = service.spec.clone();
    if rollback {
        let Some(before) = service.previous_spec.take() else {
            let message = format!("service {} does not have a previous spec", current.id);
            return Err(Refusal::invalid(message));
        };
        service.spec = before;
        service.update_status = Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            started_at: context.wall,
            completed_at: WallTime::NEVER,
            message: "manually requested rollback".into(),
            born: 0,
        });
    } else {
        let spec = prepare(context.state, spec)?;
        if spec.name != previous.name {
            let message = "renaming services is not supported";
            return Err(Refusal::not_implemented(message));
        }
        if kind(&spec.mode) != kind(&previous.mode) {
            let message = "service mode change is not allowed";
            return Err(Refusal::not_implemented(message));
        }
        service.spec = spec;
        service.update_status = None;
    }
    service.previous_spec = Some(previous);
    service.ports = publish(context.state, &service.id, &service.spec, &current.ports)?;
    let id = service.id.clone();
    let changes = context.state.revised(service);
    Ok(Accepted {
        changes,
        answer: Answer::Service {
            id,
            warnings: Vec::new(),
        },
    })
}

pub(super) fn remove(context: &mut Context<'_>, argument: &str) -> Outcome {
    let service = context.state.find_service(argument)?;
    Ok(Accepted {
        changes: vec![Change::RemoveService(service.id.clone())],
        answer: Answer::Done,
    })
}

/// Checks a spec and resolves what it names.
fn prepare(state: &State, mut spec: ServiceSpec) -> Result<ServiceSpec, Refusal> {
    if kind(&spec.mode) == "replicated" {
        // The count is stored, as dockerd does: Docker's client takes a
        // replicated service without one for a mode that it does not know.
        let mode = &mut spec.mode.replicated;
        let replicated = mode.get_or_insert(ReplicatedService { replicas: None });
        replicated.replicas.get_or_insert(1);
    }
    if spec.task_template.networks.is_empty() {
        spec.task_template.networks = std::mem::take(&mut spec.networks);
    }
    check::service(&spec)?;
    for attachment in &mut spec.task_template.networks {
        if PREDEFINED.contains(&attachment.target.as_str()) {
            continue;
        }
        let Ok(network) = state.find_network(&attachment.target) else {
            return Err(not_found("network", &attachment.target));
        };
        if network.spec.ingress {
            let message = "ingress network cannot be used with services directly";
            return Err(Refusal::invalid(message));
        }
        attachment.target = network.id.0.clone();
    }
    Ok(spec)
}

/// The ports of a service with every published port decided; `before` are
/// those it has, which it keeps where it can.
fn publish(
    state: &State,
    id: &ServiceId,
    spec: &ServiceSpec,
    before: &[PortConfig],
) -> Result<Vec<PortConfig>, Refusal> {
    let Some(endpoint) = &spec.endpoint_spec else {
        return Ok(Vec::new());
    };
    let mut taken = BTreeSet::new();
    for other in state.services().filter(|other| other.id != *id) {
        for port in &other.ports {
            taken.insert((port.published_port, port.protocol().to_owned()));
            check_conflict(&endpoint.ports, port, other)?;
        }
    }
    for port in &endpoint.ports {
        taken.insert((port.published_port, port.protocol().to_owned()));
    }
    let mut ports = Vec::new();
    for port in &endpoint.ports {
        let mut port = port.clone();
        if port.protocol.is_empty() {
            port.protocol = "tcp".into();
        }
        if port.publish_mode.is_empty() {
            port.publish_mode = "ingress".into();
        }
        if port.published_port == 0 && port.is_ingress() {
            port.published_port = choose(&port, before, &taken)?;
            taken.insert((port.published_port, port.protocol.clone()));
        }
        ports.push(port);
    }
    Ok(ports)
}

fn check_conflict(wanted: &[PortConfig], taken: &PortConfig, by: &Service) -> Result<(), Refusal> {
    let number = taken.published_port;
    let same = wanted.iter().find(|port| {
        number != 0 && port.published_port == number && port.protocol() == taken.protocol()
    });
    let Some(port) = same else { return Ok(()) };
    let name = &by.spec.name;
    let how = match (port.is_ingress(), taken.is_ingress()) {
        (_, true) => "as an ingress port",
        (true, false) => "as a host-published port",
        // Each node has the port once: that is for the scheduler.
        (false, false) => return Ok(()),
    };
    Err(Refusal::invalid(format!(
        "port '{number}' is already in use by service '{name}' ({}) {how}",
        by.id
    )))
}

fn choose(
    port: &PortConfig,
    before: &[PortConfig],
    taken: &BTreeSet<(u32, String)>,
) -> Result<u32, Refusal> {
    let is_free = |number: u32| !taken.contains(&(number, port.protocol.clone()));
    let kept = before
        .iter()
        .find(|old| {
            old.target_port == port.target_port
                && old.protocol() == port.protocol()
                && DYNAMIC_PORTS.contains(&old.published_port)
        })
        .map(|old| old.published_port);
    kept.into_iter()
        .chain(DYNAMIC_PORTS)
        .find(|number| is_free(*number))
        .ok_or_else(|| {
            let message = "no published port is free between 30000 and 32767";
            Refusal::invalid(message)
        })
}

fn kind(mode: &ServiceMode) -> &'static str {
    match mode {
        mode if mode.global.is_some() => "global",
        mode if mode.replicated_job.is_some() => "replicated-job",
        mode if mode.global_job.is_some() => "global-job",
        _ => "replicated",
    }
}

/// A spec with what Docker assumes filled in: `insertDefaults=true`.
pub fn insert_defaults(spec: &ServiceSpec) -> ServiceSpec {
    let mut spec = spec.clone();
    let container = &mut spec.task_template.container_spec;
    container.stop_grace_period.get_or_insert(10 * SECOND);
    container.dns_config.get_or_insert_default();
    spec.task_template.resources.get_or_insert_default();
    let policy = spec.task_template.restart_policy.get_or_insert_default();
    policy.condition.get_or_insert(RestartCondition::Any);
    policy.delay.get_or_insert(5 * SECOND);
    policy.max_attempts.get_or_insert(0);
    spec.task_template.placement.get_or_insert_default();
    let default = UpdateConfig {
        parallelism: 1,
        ..UpdateConfig::default()
    };
    for config in [&mut spec.update_config, &mut spec.rollback_config] {
        let config = config.get_or_insert_with(|| default.clone());
        for (field, word) in [
            (&mut config.failure_action, "pause"),
            (&mut config.order, "stop-first"),
        ] {
            if field.is_empty() {
                *field = word.into();
            }
        }
        if config.monitor == 0 {
            config.monitor = 5 * SECOND;
        }
    }
    let endpoint = spec.endpoint_spec.get_or_insert_default();
    if endpoint.mode.is_empty() {
        endpoint.mode = "vip".into();
    }
    spec
}
