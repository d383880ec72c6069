//! The swarm's routes: cluster, nodes, services, tasks, and the lists of what
//! this build does not have yet.
//!
//! Reads copy from the engine's tables and make JSON outside of it; changes
//! are the engine's to judge.

mod cluster;
mod logs;
mod nodes;
mod services;
mod spec;
mod tasks;

use super::call::Call;
use super::pass_on::Place;
use super::reply::{self, Reply};
use super::router::Router;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use skep_control::engine::{Refusal, View};
use skep_control::model::Meta;

pub(super) use cluster::summary;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    cluster::routes(router);
    logs::routes(router);
    router.at(Place::Leader, |router| {
        nodes::routes(router);
        services::routes(router);
        tasks::routes(router);
        not_yet(router);
    });
}

/// What this build has no tables for.
fn not_yet<B: Backend>(router: &mut Router<B>) {
    router.get("/secrets", |call| {
        nothing(call, &["id", "label", "name", "names"])
    });
    router.get("/configs", |call| {
        nothing(call, &["id", "label", "name", "names"])
    });
    router.get("/secrets/{id}", |call| missing(call, "secret"));
    router.get("/configs/{id}", |call| missing(call, "config"));
    router.delete("/secrets/{id}", |call| missing(call, "secret"));
    router.delete("/configs/{id}", |call| missing(call, "config"));
    router.post("/secrets/{id}/update", |call| missing(call, "secret"));
    router.post("/configs/{id}/update", |call| missing(call, "config"));
    router.post("/secrets/create", |call| unsupported(call, "secrets"));
    router.post("/configs/create", |call| unsupported(call, "configs"));
}

/// Reads the tables of a swarm that this node manages.
async fn read<B, T, F>(node: &B, read: F) -> Result<T>
where
    B: Backend,
    T: Send + 'static,
    F: FnOnce(View<'_>) -> Result<T, Refusal> + Send + 'static,
{
    let result = node
        .view(|view| {
            view.managed()?;
            read(view)
        })
        .await;
    Ok(result?)
}

async fn managed<B: Backend>(node: &B) -> Result<()> {
    read(node, |_| Ok(())).await
}

async fn nothing<B: Backend>(call: Call<B>, filters: &'static [&'static str]) -> Result<Reply> {
    managed(&call.node).await?;
    call.filters(filters)?;
    Ok(reply::json(&json!([])))
}

async fn missing<B: Backend>(call: Call<B>, noun: &'static str) -> Result<Reply> {
    managed(&call.node).await?;
    Err(Error::not_found(format!(
        "{noun} {} not found",
        call.param("id")
    )))
}

async fn unsupported<B: Backend>(call: Call<B>, nouns: &'static str) -> Result<Reply> {
    managed(&call.node).await?;
    Err(Error::not_implemented(format!(
        "this version of skep does not keep {nouns} yet: mount a file or set an environment \
         variable instead"
    )))
}

/// `Version`, `CreatedAt`, `UpdatedAt` into an object.
fn add_meta(value: &mut Value, meta: &Meta) {
    if let Some(members) = value.as_object_mut() {
        members.insert("Version".into(), json!({"Index": meta.version.index}));
        members.insert("CreatedAt".into(), json!(meta.created_at));
        members.insert("UpdatedAt".into(), json!(meta.updated_at));
    }
}

/// A value of the model as JSON; the model's types cannot fail to be that.
fn value_of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
