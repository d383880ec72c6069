//! The `/images` and `/distribution` routes: Docker's shapes around the image
//! store. What is asked of a registry elsewhere is answered from the store or
//! refused at once: nothing here ever waits for a network.

mod list;
mod pipe;
mod shape;
mod transfer;

use super::call::Call;
use super::reply::{self, Reply, empty};
use super::router::Router;
use super::time;
use crate::backend::{Backend, Event, EventKind};
use crate::error::{Error, Kind, Result};
use hyper::StatusCode;
use serde_json::{Value, json};
use skep_control::model::Labels;
use skep_images::{Platform, Pruned, Removed, Store};

pub(super) use list::disk_usage;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/images/json", list::list);
    router.get("/images/get", transfer::save_several);
    router.get("/images/search", search);
    router.post("/images/create", transfer::create);
    router.post("/images/load", transfer::load);
    router.post("/images/prune", prune);
    router.get("/images/{name...}/json", inspect);
    router.get("/images/{name...}/history", history);
    router.get("/images/{name...}/get", transfer::save_one);
    router.post("/images/{name...}/tag", tag);
    router.post("/images/{name...}/push", push);
    router.delete("/images/{name...}", remove);
    router.get("/distribution/{name...}/json", distribution);
}

/// Asks the store on a thread that may block.
async fn ask<B, T, F>(node: &B, question: F) -> Result<T>
where
    B: Backend,
    T: Send + 'static,
    F: FnOnce(&Store) -> skep_images::Result<T> + Send + 'static,
{
    let store = node.images().clone();
    Ok(smol::unblock(move || question(&store)).await?)
}

/// Makes known what happened to an image.
fn publish<B: Backend>(node: &B, action: &str, id: &str, name: &str) {
    let mut attributes = Labels::new();
    if !name.is_empty() {
        attributes.insert("name".into(), name.into());
    }
    publish_with(node, action, id, attributes);
}

fn publish_with<B: Backend>(node: &B, action: &str, id: &str, attributes: Labels) {
    node.publish(Event {
        kind: EventKind::Image,
        action: action.into(),
        id: id.into(),
        attributes,
        swarm: false,
        time: time::now(),
    });
}

/// The `platform` parameter: JSON since 1.48, `os/arch/variant` in pull and
/// import.
fn platform<B>(call: &Call<B>) -> Result<Option<Platform>> {
    let text = match call.query.all("platform").as_slice() {
        [] | [""] => return Ok(None),
        [one] => *one,
        _ => {
            return Err(Error::invalid(
                "multiple platforms parameters not supported",
            ));
        }
    };
    if text.starts_with('{') {
        let platform: Platform = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
        return Ok(Some(platform.normalised()));
    }
    Ok(Some(text.parse()?))
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let (name, platform) = (call.param("name").to_owned(), platform(&call)?);
    let (image, layers) = ask(&call.node, move |store| {
        let image = store.resolve(&name, platform.as_ref())?;
        let layers = store.layer_folders(&image);
        Ok((image, layers))
    })
    .await?;
    Ok(reply::json(&shape::inspect(&image, &layers, call.version)))
}

async fn history<B: Backend>(call: Call<B>) -> Result<Reply> {
    let (name, platform) = (call.param("name").to_owned(), platform(&call)?);
    let steps = ask(&call.node, move |store| {
        store.history(&name, platform.as_ref())
    })
    .await?;
    let steps: Vec<Value> = steps.iter().map(shape::history_step).collect();
    Ok(reply::json(&steps))
}

async fn distribution<B: Backend>(call: Call<B>) -> Result<Reply> {
    let name = call.param("name").to_owned();
    let told = ask(&call.node, move |store| store.distribution(&name)).await?;
    Ok(reply::json(&json!({
        "Descriptor": told.descriptor,
        "Platforms": told.platforms,
    })))
}

async fn tag<B: Backend>(call: Call<B>) -> Result<Reply> {
    let source = call.param("name").to_owned();
    let name = shape::joined(call.query.text("repo"), call.query.text("tag"));
    let (id, familiar) = ask(&call.node, move |store| {
        store.tag(&source, &name)?;
        let familiar = name.parse::<skep_images::Reference>()?.tagged().familiar();
        Ok((store.resolve(&name, None)?.id, familiar))
    })
    .await?;
    publish(&call.node, "tag", &id.to_string(), &familiar);
    Ok(empty(StatusCode::CREATED))
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    let name = call.param("name").to_owned();
    let force = call.query.flag("force");
    let uses = call.node.image_uses().await;
    let (id, removed) = ask(&call.node, move |store| {
        let id = store.resolve(&name, None)?.id;
        Ok((id, store.remove(&name, force, &uses)?))
    })
    .await?;
    publish_removed(&call.node, &id.to_string(), &removed);
    let removed: Vec<Value> = removed.iter().map(shape::removed).collect();
    Ok(reply::json(&removed))
}

fn publish_removed<B: Backend>(node: &B, id: &str, removed: &[Removed]) {
    for one in removed {
        match one {
            Removed::Untagged(_) => publish(node, "untag", id, id),
            Removed::Deleted(deleted) if deleted == id => publish(node, "delete", id, id),
            Removed::Deleted(_) => {}
        }
    }
}

async fn prune<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(&["dangling", "label", "label!", "until"])?;
    let dangling = filters.flag("dangling")?.unwrap_or(true);
    let until = match filters.values("until") {
        [] => None,
        [one] => Some(time::until(one, time::now())?),
        _ => return Err(Error::invalid("more than one until filter specified")),
    };
    let uses = call.node.image_uses().await;
    let Pruned { removed, reclaimed } = ask(&call.node, move |store| {
        store.prune(!dangling, &uses, &|image| {
            let labels = &image.config.config.labels;
            let young = until.is_some_and(|until| shape::created(image) > until);
            young || !filters.labels("label", labels) || !filters.no_labels("label!", labels)
        })
    })
    .await?;
    let reclaimed_text = ("reclaimed".to_owned(), reclaimed.to_string());
    publish_with(&call.node, "prune", "", Labels::from([reclaimed_text]));
    let removed: Vec<Value> = removed.iter().map(shape::removed).collect();
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(reply::json(
        &json!({"ImagesDeleted": removed, "SpaceReclaimed": reclaimed}),
    ))
}

async fn search<B: Backend>(_call: Call<B>) -> Result<Reply> {
    Err(Error::not_implemented(
        "searching a registry is not supported: this node has the images that \"images\" lists",
    ))
}

async fn push<B: Backend>(call: Call<B>) -> Result<Reply> {
    // Unknown images are told as such, as Docker does.
    let name = call.param("name").to_owned();
    ask(&call.node, move |store| store.resolve(&name, None)).await?;
    Err(Error {
        kind: Kind::NotImplemented,
        message: "pushing to a registry is not supported: \"save\" the image and \"load\" it where it is needed".into(),
    })
}
