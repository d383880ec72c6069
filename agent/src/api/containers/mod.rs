//! The `/containers` routes: life cycle here, the rest a file each.

mod archive;
mod create;
mod inspect;
mod list;
mod stats;
mod stdio;
mod top;
mod validate;

pub(super) use list::usage_list;
pub(super) use stdio::{log_query, terminal_size};
use validate::checked_resources;

use super::call::Call;
use super::pass_on::Place;
use super::reply::{self, Reply, no_content};
use super::router::Router;
use super::time;
use crate::backend::{
    Backend, Container, ContainerStatus, ContainerUpdate, RemoveOptions, WaitCondition,
};
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::json;
use skep_control::model::{HostConfig, HostRestartPolicy};
use smol::stream::StreamExt;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/containers/json", list::list);
    router.post("/containers/create", create::create);
    router.post("/containers/prune", prune);
    router.post("/containers/{id}/start", start);
    router.post("/containers/{id}/restart", restart);
    router.post("/containers/{id}/rename", rename);
    router.post("/containers/{id}/update", update);
    router.delete("/containers/{id}", remove);
    // Of a task: wherever it runs.
    router.at(Place::Container, |router| {
        router.get("/containers/{id}/json", inspect::inspect);
        router.post("/containers/{id}/stop", stop);
        router.post("/containers/{id}/kill", kill);
        router.post("/containers/{id}/pause", pause);
        router.post("/containers/{id}/unpause", unpause);
        router.post("/containers/{id}/wait", wait);
        router.get("/containers/{id}/changes", changes);
        router.get("/containers/{id}/export", export);
        stdio::routes(router);
        archive::routes(router);
        router.get("/containers/{id}/stats", stats::stats);
        router.get("/containers/{id}/top", top::top);
    });
}

async fn start<B: Backend>(call: Call<B>) -> Result<Reply> {
    call.node.container_start(call.param("id")).await?;
    Ok(no_content())
}

async fn stop<B: Backend>(call: Call<B>) -> Result<Reply> {
    let grace = call.query.number("t")?;
    call.node
        .container_stop(call.param("id"), call.query.text("signal"), grace)
        .await?;
    Ok(no_content())
}

async fn restart<B: Backend>(call: Call<B>) -> Result<Reply> {
    let grace = call.query.number("t")?;
    call.node
        .container_restart(call.param("id"), call.query.text("signal"), grace)
        .await?;
    Ok(no_content())
}

async fn kill<B: Backend>(call: Call<B>) -> Result<Reply> {
    let container = call.param("id");
    call.node
        .container_kill(container, call.query.text("signal"))
        .await
        .map_err(|e| e.within(format!("cannot kill container: {container}")))?;
    Ok(no_content())
}

async fn pause<B: Backend>(call: Call<B>) -> Result<Reply> {
    call.node.container_pause(call.param("id")).await?;
    Ok(no_content())
}

async fn unpause<B: Backend>(call: Call<B>) -> Result<Reply> {
    call.node.container_unpause(call.param("id")).await?;
    Ok(no_content())
}

async fn rename<B: Backend>(call: Call<B>) -> Result<Reply> {
    let name = call.query.text("name").trim_start_matches('/');
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    create::checked_name(name)?;
    call.node.container_rename(call.param("id"), name).await?;
    Ok(no_content())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateBody {
    restart_policy: Option<HostRestartPolicy>,
}

async fn update<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: serde_json::Value = call.json().await?;
    let policy: UpdateBody = super::call::from_value(body.clone())?;
    let resources: HostConfig = super::call::from_value(body)?;
    let policy = policy
        .restart_policy
        .filter(|policy| !policy.name.is_empty());
    if let Some(policy) = &policy {
        validate::restart_policy(policy)?;
    }
    let facts = call.node.facts().await;
    let mut resources = HostConfig {
        restart_policy: HostRestartPolicy::default(),
        ..resources
    };
    let warnings = checked_resources(&mut resources, &facts)?;
    let update = ContainerUpdate {
        resources,
        restart_policy: policy,
    };
    call.node.container_update(call.param("id"), update).await?;
    Ok(reply::json(&json!({"Warnings": warnings})))
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Error::not_implemented(
            "legacy links are not supported: use a network",
        ));
    }
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
    };
    call.node
        .container_remove(call.param("id"), options)
        .await?;
    Ok(no_content())
}

/// The head goes out at once: clients send `wait` before they start.
async fn wait<B: Backend>(call: Call<B>) -> Result<Reply> {
    let until = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: \"{other}\""))),
    };
    let waiter = call.node.container_wait(call.param("id"), until).await?;
    let body = smol::stream::once_future(async move {
        let result = match waiter.await {
            Ok(exit) => match exit.error {
                Some(message) => json!({"StatusCode": exit.code, "Error": {"Message": message}}),
                None => json!({"StatusCode": exit.code}),
            },
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": error.message}}),
        };
        Ok(reply::line(&result))
    });
    Ok(reply::flowing(reply::JSON, body))
}

async fn changes<B: Backend>(call: Call<B>) -> Result<Reply> {
    let changes = call.node.container_changes(call.param("id")).await?;
    if changes.is_empty() {
        return Ok(reply::json(&serde_json::Value::Null));
    }
    let changes: Vec<_> = changes
        .iter()
        .map(|c| json!({"Path": c.path, "Kind": c.kind as u8}))
        .collect();
    Ok(reply::json(&changes))
}

async fn export<B: Backend>(call: Call<B>) -> Result<Reply> {
    let tar = call.node.container_export(call.param("id")).await?;
    Ok(reply::flowing(
        "application/octet-stream",
        tar.map(|piece| piece),
    ))
}

/// Removes what does not run, and says what that gave back.
async fn prune<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(&["until", "label", "label!"])?;
    let until = match filters.values("until") {
        [] => None,
        [one] => Some(time::until(one, time::now())?),
        _ => return Err(Error::invalid("more than one until filter specified")),
    };
    let stopped = |c: &Container| {
        !c.state.status.is_running()
            && c.state.status != ContainerStatus::Restarting
            && until.is_none_or(|until| c.created <= until)
            && filters.labels("label", &c.create.config.labels)
            && filters.no_labels("label!", &c.create.config.labels)
    };
    let mut removed = Vec::new();
    let mut reclaimed = 0;
    for container in call.node.containers(true).await.into_iter().filter(stopped) {
        let options = RemoveOptions::default();
        match call
            .node
            .container_remove(container.id.as_str(), options)
            .await
        {
            Ok(()) => {
                reclaimed += container.size.map_or(0, |size| size.writable);
                removed.push(container.id);
            }
            // Started or removed meanwhile: not ours to report.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(reply::json(
        &json!({"ContainersDeleted": removed, "SpaceReclaimed": reclaimed}),
    ))
}
