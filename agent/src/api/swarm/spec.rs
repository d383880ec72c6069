//! A service's spec as Docker shows it, and Docker's defaults for it.

use super::value_of;
use crate::api::shape::without_empty;
use serde_json::{Value, json};
use skep_control::model::{
    DnsConfig, EndpointSpec, Limits, Placement, PortConfig, ReplicatedService,
    ResourceRequirements, Resources, RestartCondition, RestartPolicy, SECOND, ServiceMode,
    ServiceSpec, TaskSpec, UpdateConfig,
};

/// Nanoseconds between a stop signal and the kill.
const STOP_GRACE_DEFAULT: i64 = 10 * SECOND;
const RESTART_DELAY_DEFAULT: i64 = 5 * SECOND;
const MONITOR_DEFAULT: i64 = 5 * SECOND;

/// One form for specs that mean the same: clients send back what they read,
/// and a change of nothing must restart nothing.
pub(super) fn canonical(mut spec: ServiceSpec) -> ServiceSpec {
    let task = &mut spec.task_template;
    let container = &mut task.container_spec;
    if container.isolation == "default" {
        container.isolation.clear();
    }
    if task.runtime == "container" {
        task.runtime.clear();
    }
    if let Some(resources) = &mut task.resources {
        resources
            .limits
            .take_if(|limits| *limits == Limits::default());
        resources
            .reservations
            .take_if(|reserved| *reserved == Resources::default());
    }
    task.resources
        .take_if(|resources| *resources == ResourceRequirements::default());
    task.placement
        .take_if(|placement| *placement == Placement::default());
    container
        .dns_config
        .take_if(|dns| *dns == DnsConfig::default());
    for config in [&mut spec.update_config, &mut spec.rollback_config]
        .into_iter()
        .flatten()
    {
        if config.order == "stop-first" {
            config.order.clear();
        }
        if config.failure_action == "pause" {
            config.failure_action.clear();
        }
    }
    spec
}

/// What Docker leaves out is left out; labels it always has.
pub(super) fn spec_json(spec: &ServiceSpec) -> Value {
    let mut value = without_empty(value_of(spec));
    if let Some(members) = value.as_object_mut() {
        members.insert("Labels".into(), json!(spec.labels));
        let mut task = task_json(&spec.task_template);
        if let Some(task) = task.as_object_mut() {
            task.entry("Runtime").or_insert_with(|| "container".into());
        }
        members.insert("TaskTemplate".into(), task);
        for name in ["UpdateConfig", "RollbackConfig"] {
            if let Some(config) = members.get_mut(name).and_then(Value::as_object_mut) {
                config.entry("Order").or_insert_with(|| "stop-first".into());
                config
                    .entry("FailureAction")
                    .or_insert_with(|| "pause".into());
            }
        }
    }
    value
}

pub(super) fn task_json(task: &TaskSpec) -> Value {
    let mut value = without_empty(value_of(task));
    if let Some(members) = value
        .get_mut("ContainerSpec")
        .and_then(Value::as_object_mut)
    {
        members
            .entry("Isolation")
            .or_insert_with(|| "default".into());
    }
    if let Some(members) = value.as_object_mut() {
        let empty = || json!({"Limits": {}, "Reservations": {}});
        let resources = members.entry("Resources").or_insert_with(empty);
        if let Some(resources) = resources.as_object_mut() {
            resources.entry("Limits").or_insert_with(|| json!({}));
            resources.entry("Reservations").or_insert_with(|| json!({}));
        }
        members.entry("Placement").or_insert_with(|| json!({}));
        members
            .entry("Runtime")
            .or_insert_with(|| "container".into());
    }
    value
}

/// A published port with what is not said filled in.
pub(super) fn port_json(port: &PortConfig) -> Value {
    let mut port = port.clone();
    let fill = |field: &mut String, value: &str| {
        if field.is_empty() {
            *field = value.to_owned();
        }
    };
    fill(&mut port.protocol, "tcp");
    fill(&mut port.publish_mode, "ingress");
    without_empty(value_of(&port))
}

/// The spec with every default that Docker names (`insertDefaults`).
pub(super) fn with_defaults(mut spec: ServiceSpec) -> ServiceSpec {
    let task = &mut spec.task_template;
    let container = &mut task.container_spec;
    container
        .stop_grace_period
        .get_or_insert(STOP_GRACE_DEFAULT);
    container.dns_config.get_or_insert_default();
    let resources = task
        .resources
        .get_or_insert_with(ResourceRequirements::default);
    resources.limits.get_or_insert_with(Limits::default);
    resources
        .reservations
        .get_or_insert_with(Resources::default);
    let restart = task
        .restart_policy
        .get_or_insert_with(RestartPolicy::default);
    restart.condition.get_or_insert(RestartCondition::Any);
    restart.delay.get_or_insert(RESTART_DELAY_DEFAULT);
    restart.max_attempts.get_or_insert(0);
    task.placement.get_or_insert_with(Placement::default);
    let is_job = spec.mode.replicated_job.is_some() || spec.mode.global_job.is_some();
    if !is_job {
        update_defaults(&mut spec.update_config);
        update_defaults(&mut spec.rollback_config);
    }
    if spec.mode == ServiceMode::default() {
        spec.mode.replicated = Some(ReplicatedService::default());
    }
    if let Some(replicated) = &mut spec.mode.replicated {
        replicated.replicas.get_or_insert(1);
    }
    let endpoint = spec.endpoint_spec.get_or_insert_with(EndpointSpec::default);
    if endpoint.mode.is_empty() {
        endpoint.mode = "vip".into();
    }
    spec
}

fn update_defaults(config: &mut Option<UpdateConfig>) {
    let config = config.get_or_insert_with(|| UpdateConfig {
        parallelism: 1,
        ..UpdateConfig::default()
    });
    if config.failure_action.is_empty() {
        config.failure_action = "pause".into();
    }
    if config.monitor == 0 {
        config.monitor = MONITOR_DEFAULT;
    }
    if config.order.is_empty() {
        config.order = "stop-first".into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ServiceSpec {
        let mut spec = ServiceSpec {
            name: "web".into(),
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "busybox".into();
        spec.mode.replicated = Some(ReplicatedService { replicas: Some(2) });
        spec
    }

    #[test]
    fn what_docker_leaves_out() {
        assert_eq!(
            spec_json(&spec()),
            json!({
                "Name": "web",
                "Labels": {},
                "TaskTemplate": {
                    "ContainerSpec": {"Image": "busybox", "Isolation": "default"},
                    "Resources": {"Limits": {}, "Reservations": {}},
                    "Placement": {},
                    "ForceUpdate": 0,
                    "Runtime": "container",
                },
                "Mode": {"Replicated": {"Replicas": 2}},
            })
        );
    }

    #[test]
    fn what_is_read_and_sent_back_is_the_same() {
        for spec in [spec(), with_defaults(spec())] {
            let kept = canonical(spec);
            let read: ServiceSpec = serde_json::from_value(spec_json(&kept)).unwrap();
            assert_eq!(canonical(read), kept);
        }
    }

    #[test]
    fn no_replicas_is_said() {
        let mut none = spec();
        none.mode.replicated = Some(ReplicatedService { replicas: Some(0) });
        assert_eq!(
            spec_json(&none)["Mode"],
            json!({"Replicated": {"Replicas": 0}})
        );
    }

    #[test]
    fn defaults_are_dockers() {
        let value = spec_json(&with_defaults(spec()));
        let task = &value["TaskTemplate"];
        assert_eq!(task["ContainerSpec"]["StopGracePeriod"], 10_000_000_000_i64);
        assert_eq!(
            task["RestartPolicy"],
            json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0})
        );
        assert_eq!(
            value["UpdateConfig"],
            json!({
                "Parallelism": 1, "Delay": 0, "FailureAction": "pause", "Monitor": 5_000_000_000_i64,
                "MaxFailureRatio": 0.0, "Order": "stop-first",
            })
        );
        assert_eq!(value["EndpointSpec"], json!({"Mode": "vip"}));
    }
}
