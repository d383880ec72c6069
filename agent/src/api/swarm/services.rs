//! `/services`: what shall run, and how far it is.

use super::logs::{self, Source};
use super::spec::{canonical, port_json, spec_json, with_defaults};
use super::{add_meta, read};
use crate::api::call::Call;
use crate::api::filters::Filters;
use crate::api::reply::{self, Reply, empty};
use crate::api::router::Router;
use crate::backend::Backend;
use crate::error::{Error, Result};
use hyper::StatusCode;
use serde_json::{Value, json};
use skep_control::engine::{Answer, Request};
use skep_control::model::{Service, ServiceSpec, UpdateStatus};
use skep_control::view::ServiceCounts;

const FILTERS: &[&str] = &["id", "label", "mode", "name", "runtime"];

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/services", list);
    router.post("/services/create", create);
    router.get("/services/{id}", inspect);
    router.delete("/services/{id}", remove);
    router.post("/services/{id}/update", update);
    router.get("/services/{id}/logs", service_logs);
}

async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    let with_status = call.query.flag("status");
    let services: Vec<(Service, Option<ServiceCounts>)> = read(&call.node, move |view| {
        let wanted = view
            .state()
            .services()
            .filter(|service| is_wanted(&filters, service));
        Ok(wanted
            .map(|s| (s.clone(), with_status.then(|| view.counts(s))))
            .collect())
    })
    .await?;
    let services: Vec<Value> = services
        .iter()
        .map(|(service, counts)| {
            let mut value = service_json(service);
            if let (Some(counts), Some(members)) = (counts, value.as_object_mut()) {
                members.insert("ServiceStatus".into(), counts_json(*counts));
            }
            value
        })
        .collect();
    Ok(reply::json(&services))
}

async fn create<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let spec: ServiceSpec = call.json().await?;
    match call
        .node
        .request(Request::ServiceCreate(Box::new(canonical(spec))))
        .await?
    {
        Answer::Service { id, warnings } => {
            let value = json!({"ID": id, "Warnings": warnings});
            Ok(reply::created(&reply::omit_empty(value, &["Warnings"])))
        }
        other => Err(Error::internal(format!(
            "service create was answered with {other:?}"
        ))),
    }
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let id = call.param("id").to_owned();
    let mut service = read(&call.node, move |view| {
        view.state().find_service(&id).cloned()
    })
    .await?;
    if call.query.flag("insertDefaults") {
        service.spec = with_defaults(service.spec);
        service.previous_spec = service.previous_spec.map(with_defaults);
    }
    Ok(reply::json(&service_json(&service)))
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    let service = call.param("id").to_owned();
    call.node
        .request(Request::ServiceRemove { service })
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn update<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let version = call.query.version()?;
    let rollback = match call.query.text("rollback") {
        "" | "none" => false,
        "previous" => true,
        other => {
            return Err(Error::invalid(format!(
                "unrecognized rollback option {other}"
            )));
        }
    };
    let spec: ServiceSpec = call.json().await?;
    let service = call.param("id").to_owned();
    let request = Request::ServiceUpdate {
        service,
        version,
        spec: Box::new(canonical(spec)),
        rollback,
    };
    let warnings = match call.node.request(request).await? {
        Answer::Service { warnings, .. } => warnings,
        _ => Vec::new(),
    };
    let warnings = (!warnings.is_empty()).then_some(warnings);
    Ok(reply::json(&json!({"Warnings": warnings})))
}

async fn service_logs<B: Backend>(call: Call<B>) -> Result<Reply> {
    let id = call.param("id").to_owned();
    let (service, tasks) = read(&call.node, move |view| {
        let service = view.state().find_service(&id)?.clone();
        let tasks = view.tasks_of(&service.id);
        Ok((service, tasks))
    })
    .await?;
    let sources: Vec<Source> = tasks.iter().filter_map(Source::of).collect();
    let tty = service.spec.task_template.container_spec.tty;
    logs::reply(call, sources, Some(service.id), tty)
}

fn is_wanted(filters: &Filters, service: &Service) -> bool {
    let mode = &service.spec.mode;
    let mode = match (&mode.global, &mode.replicated_job, &mode.global_job) {
        (Some(_), _, _) => "global",
        (_, Some(_), _) => "replicated-job",
        (_, _, Some(_)) => "global-job",
        _ => "replicated",
    };
    filters.prefix("id", service.id.as_str())
        && filters.prefix("name", &service.spec.name)
        && filters.labels("label", &service.spec.labels)
        && filters.exact("mode", mode)
        && filters.exact("runtime", "container")
}

fn counts_json(counts: ServiceCounts) -> Value {
    json!({
        "RunningTasks": counts.running, "DesiredTasks": counts.desired, "CompletedTasks": 0,
    })
}

fn service_json(service: &Service) -> Value {
    let mut value = json!({
        "ID": service.id,
        "Spec": spec_json(&service.spec),
        "Endpoint": endpoint_json(service),
    });
    add_meta(&mut value, &service.meta);
    if let Some(members) = value.as_object_mut() {
        if let Some(previous) = &service.previous_spec {
            members.insert("PreviousSpec".into(), spec_json(previous));
        }
        if let Some(status) = &service.update_status {
            members.insert("UpdateStatus".into(), update_json(status));
        }
    }
    value
}

fn endpoint_json(service: &Service) -> Value {
    let spec = service.spec.endpoint_spec.clone().unwrap_or_default();
    let mut wanted = json!({"Mode": if spec.mode.is_empty() { "vip" } else { &spec.mode }});
    let ports = |ports: &[_]| -> Value { ports.iter().map(port_json).collect() };
    if let Some(members) = wanted.as_object_mut().filter(|_| !spec.ports.is_empty()) {
        members.insert("Ports".into(), ports(&spec.ports));
    }
    let mut value = json!({"Spec": wanted});
    if let Some(members) = value.as_object_mut().filter(|_| !service.ports.is_empty()) {
        members.insert("Ports".into(), ports(&service.ports));
    }
    value
}

fn update_json(status: &UpdateStatus) -> Value {
    let mut value = json!({
        "State": status.state.as_str(),
        "StartedAt": status.started_at,
        "Message": status.message,
    });
    if let Some(members) = value
        .as_object_mut()
        .filter(|_| !status.completed_at.is_never())
    {
        members.insert("CompletedAt".into(), json!(status.completed_at));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{EndpointSpec, PortConfig, UpdateState, WallTime};

    fn service() -> Service {
        let mut service = Service {
            id: "s1".into(),
            ..Service::default()
        };
        service.spec.name = "web".into();
        service.spec.labels.insert("tier".into(), "front".into());
        let port = PortConfig {
            target_port: 80,
            ..PortConfig::default()
        };
        service.spec.endpoint_spec = Some(EndpointSpec {
            mode: String::new(),
            ports: vec![port.clone()],
        });
        service.ports = vec![PortConfig {
            published_port: 30_000,
            ..port
        }];
        service
    }

    #[test]
    fn the_endpoint_shows_wish_and_result() {
        assert_eq!(
            service_json(&service())["Endpoint"],
            json!({
                "Spec": {"Mode": "vip", "Ports": [
                    {"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"}]},
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 30000,
                    "PublishMode": "ingress"}],
            })
        );
    }

    #[test]
    fn an_update_has_no_end_while_it_runs() {
        let mut status = UpdateStatus {
            state: UpdateState::Updating,
            started_at: WallTime(1),
            completed_at: WallTime::NEVER,
            message: "update in progress".into(),
            born: 0,
        };
        assert!(update_json(&status).get("CompletedAt").is_none());
        status.completed_at = WallTime(2);
        assert_eq!(
            update_json(&status)["CompletedAt"],
            "1970-01-01T00:00:00.000000002Z"
        );
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| is_wanted(&Filters::parse(raw, FILTERS).unwrap(), &service());
        assert!(wanted(
            r#"{"name":["we"],"label":["tier"],"mode":["replicated"],"id":["s"]}"#
        ));
        assert!(!wanted(r#"{"mode":["global"]}"#) && !wanted(r#"{"name":["eb"]}"#));
    }
}
