//! Docker's JSON for images. Pure.

use crate::api::reply::omit_empty;
use crate::api::time::parse_timestamp;
use serde_json::{Map, Value, json};
use skep_control::model::WallTime;
use skep_images::{ContainerDefaults, Image, LayerStep, Removed, Summary};
use std::path::PathBuf;

/// Since then only what an image can say is in its `Config`.
const PLAIN_CONFIG_SINCE: u16 = 50;
/// Since then the descriptor is told.
const DESCRIPTOR_SINCE: u16 = 48;
/// Until then the size was told twice.
const VIRTUAL_SIZE_BEFORE: u16 = 44;
/// Until then the container that built the image was described too.
const CONTAINER_CONFIG_BEFORE: u16 = 45;
/// Until then an image without a name had one of brackets.
const NONE_NAMES_BEFORE: u16 = 43;

/// When an image says it was made; never, if it does not say.
pub(super) fn created(image: &Image) -> WallTime {
    time(image.config.created.as_deref())
}

fn time(text: Option<&str>) -> WallTime {
    text.and_then(parse_timestamp).unwrap_or(WallTime::NEVER)
}

/// `repo` and `tag` parameters as one name; a tag may also be a digest.
pub(super) fn joined(repo: &str, tag: &str) -> String {
    match tag {
        "" => repo.to_owned(),
        tag if tag.contains(':') => format!("{repo}@{tag}"),
        tag => format!("{repo}:{tag}"),
    }
}

/// One element of `GET /images/json`. `None`: not computed, Docker's -1.
pub(super) fn summary(
    summary: &Summary,
    tags: &[String],
    shared: bool,
    containers: Option<usize>,
    version: u16,
) -> Value {
    let image = &summary.image;
    let labels = &image.config.config.labels;
    // The client shows a digest without a tag of its repository as a line of
    // its own.
    let is_shown = |digest: &&String| {
        let repository = digest.split('@').next().unwrap_or_default();
        tags.iter().any(|tag| {
            tag.rsplit_once(':')
                .is_some_and(|(name, _)| name == repository)
        })
    };
    let digests: Vec<&String> = image.repo_digests.iter().filter(is_shown).collect();
    let (mut tags, mut digests) = (json!(tags), json!(digests));
    if version < NONE_NAMES_BEFORE && image.repo_tags.is_empty() {
        tags = json!(["<none>:<none>"]);
        digests = json!(["<none>@<none>"]);
    }
    let mut value = json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": created(image).seconds(),
        "Size": image.size,
        "SharedSize": if shared { json!(summary.shared_size) } else { json!(-1) },
        "Labels": (!labels.is_empty()).then_some(labels),
        "Containers": containers.map_or(json!(-1), |count| json!(count)),
    });
    if let Value::Object(members) = &mut value {
        if version < VIRTUAL_SIZE_BEFORE {
            members.insert("VirtualSize".into(), json!(image.size));
        }
        if version >= DESCRIPTOR_SINCE {
            members.insert("Descriptor".into(), json!(image.target));
        }
    }
    value
}

/// `GET /images/{name}/json`. `layers` are folders, bottom first.
pub(super) fn inspect(image: &Image, layers: &[PathBuf], version: u16) -> Value {
    let config = &image.config;
    let (upper, lower) = match layers.split_last() {
        Some((upper, lower)) => (upper.display().to_string(), lower),
        None => (String::new(), layers),
    };
    let lower: Vec<String> = lower
        .iter()
        .rev()
        .map(|dir| dir.display().to_string())
        .collect();
    let mut data = Map::new();
    if !lower.is_empty() {
        data.insert("LowerDir".into(), json!(lower.join(":")));
    }
    data.insert("UpperDir".into(), json!(upper));
    let tagged_at = WallTime(image.tagged_at.saturating_mul(1_000_000_000));
    let mut value = json!({
        "Id": image.id,
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Parent": "",
        "Comment": comment(image),
        "Created": config.created.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": config.docker_version,
        "Author": config.author,
        "Config": container_defaults(&config.config, version),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": image.size,
        "GraphDriver": {"Data": data, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": tagged_at},
    });
    if let Value::Object(members) = &mut value {
        if version < VIRTUAL_SIZE_BEFORE {
            members.insert("VirtualSize".into(), json!(image.size));
        }
        if version < CONTAINER_CONFIG_BEFORE {
            let nothing = container_defaults(&ContainerDefaults::default(), version);
            members.insert("Container".into(), json!(""));
            members.insert("ContainerConfig".into(), nothing);
        }
        if version >= DESCRIPTOR_SINCE {
            members.insert("Descriptor".into(), json!(image.target));
        }
    }
    omit_empty(value, &["Variant", "OsVersion"])
}

/// The config's own comment, else its newest step's.
fn comment(image: &Image) -> &str {
    match image.config.comment.as_str() {
        "" => image
            .config
            .history
            .last()
            .map_or("", |step| step.comment.as_str()),
        comment => comment,
    }
}

fn container_defaults(config: &ContainerDefaults, version: u16) -> Value {
    let own = json!(config);
    if version >= PLAIN_CONFIG_SINCE {
        return own;
    }
    let mut all = json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "",
        "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

/// One element of `GET /images/{name}/history`.
pub(super) fn history_step(step: &LayerStep) -> Value {
    let id = step
        .id
        .map_or_else(|| "<missing>".to_owned(), |id| id.to_string());
    json!({
        "Id": id,
        "Created": time(step.created.as_deref()).seconds(),
        "CreatedBy": step.created_by,
        "Tags": (!step.tags.is_empty()).then_some(&step.tags),
        "Size": step.size,
        "Comment": step.comment,
    })
}

pub(super) fn removed(removed: &Removed) -> Value {
    match removed {
        Removed::Untagged(name) => json!({"Untagged": name}),
        Removed::Deleted(id) => json!({"Deleted": id}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_the_client_split_them() {
        assert_eq!(joined("a/b", "1"), "a/b:1");
        assert_eq!(joined("a/b", ""), "a/b");
        assert_eq!(joined("a", "sha256:00"), "a@sha256:00");
    }

    #[test]
    fn old_clients_see_every_config_field() {
        let config = ContainerDefaults {
            cmd: Some(vec!["sh".into()]),
            ..ContainerDefaults::default()
        };
        let old = container_defaults(&config, 41);
        assert_eq!(
            (&old["Cmd"], &old["Tty"], &old["Env"]),
            (&json!(["sh"]), &json!(false), &json!(null))
        );
        assert_eq!(container_defaults(&config, 51), json!({"Cmd": ["sh"]}));
    }
}
