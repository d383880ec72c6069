//! The `/volumes` routes: named volumes of this node.

use super::call::Call;
use super::reply::{self, Reply, created, no_content};
use super::router::Router;
use crate::backend::{Backend, Volume, VolumeCreate};
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use skep_control::model::Labels;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/volumes", list);
    router.post("/volumes/create", create);
    router.post("/volumes/prune", prune);
    router.get("/volumes/{name}", inspect);
    router.delete("/volumes/{name}", remove);
}

async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let mut volumes = call.node.volumes(false).await;
    volumes.retain(|volume| {
        filters.exact("driver", &volume.driver)
            && filters.labels("label", &volume.labels)
            && filters.pattern("name", &volume.name)
            && dangling.is_none_or(|dangling| dangling == (volume.users == 0))
    });
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let volumes: Vec<Value> = volumes.iter().map(volume_json).collect();
    Ok(reply::json(&json!({"Volumes": volumes, "Warnings": null})))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    name: String,
    driver: String,
    driver_opts: Labels,
    labels: Labels,
    cluster_volume_spec: Option<Value>,
}

async fn create<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: CreateBody = call.optional_json().await?;
    if body.cluster_volume_spec.is_some() {
        return Err(Error::not_implemented(
            "cluster volumes (CSI) are not supported: use a local volume",
        ));
    }
    let volume = VolumeCreate {
        name: body.name,
        driver: body.driver,
        labels: body.labels,
        options: body.driver_opts,
    };
    Ok(created(&volume_json(
        &call.node.volume_create(volume).await?,
    )))
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    Ok(reply::json(&volume_json(
        &call.node.volume(call.param("name")).await?,
    )))
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    call.node
        .volume_remove(call.param("name"), call.query.flag("force"))
        .await?;
    Ok(no_content())
}

/// Unused anonymous volumes; named ones too with `all`, and before 1.42.
async fn prune<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(&["all", "label", "label!"])?;
    let all = filters.flag("all")?.unwrap_or(call.version < 42);
    let (mut removed, mut reclaimed) = (Vec::new(), 0);
    for volume in call.node.volumes(true).await {
        let wanted = volume.users == 0
            && (all || volume.anonymous)
            && filters.labels("label", &volume.labels)
            && filters.no_labels("label!", &volume.labels);
        if !wanted {
            continue;
        }
        match call.node.volume_remove(&volume.name, false).await {
            Ok(()) => {
                reclaimed += volume.size.unwrap_or(0);
                removed.push(volume.name);
            }
            // Used or removed meanwhile: not ours to report.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(reply::json(
        &json!({"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}),
    ))
}

/// What `system df` lists of the volumes.
pub(super) async fn usage_list<B: Backend>(node: &B) -> Vec<Value> {
    let mut volumes = node.volumes(true).await;
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    volumes.iter().map(volume_json).collect()
}

fn volume_json(volume: &Volume) -> Value {
    let options = (!volume.options.is_empty()).then_some(&volume.options);
    let labels = (!volume.labels.is_empty()).then_some(&volume.labels);
    let mut value = json!({
        "CreatedAt": volume.created,
        "Driver": volume.driver,
        "Labels": labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": options,
        "Scope": "local",
    });
    if let (Some(size), Some(members)) = (volume.size, value.as_object_mut()) {
        members.insert(
            "UsageData".into(),
            json!({"RefCount": volume.users, "Size": size}),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_has_dockers_fields() {
        let mut volume = Volume {
            name: "data".into(),
            driver: "local".into(),
            mountpoint: "/v/data/_data".into(),
            users: 1,
            ..Volume::default()
        };
        assert_eq!(
            volume_json(&volume),
            json!({
                "CreatedAt": "0001-01-01T00:00:00Z", "Driver": "local", "Labels": null,
                "Mountpoint": "/v/data/_data", "Name": "data", "Options": null, "Scope": "local",
            })
        );
        volume.size = Some(5);
        assert_eq!(
            volume_json(&volume)["UsageData"],
            json!({"RefCount": 1, "Size": 5})
        );
    }
}
