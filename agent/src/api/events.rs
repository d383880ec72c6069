//! `GET /events`: what happened and what happens, a JSON value a line.

use super::call::Call;
use super::filters::Filters;
use super::reply::{self, Reply};
use super::router::Router;
use super::time;
use crate::backend::{Backend, Event, EventKind};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use skep_control::model::{SECOND, WallTime};
use smol::future::FutureExt as _;
use smol::stream::StreamExt;
use std::time::Duration;

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/events", events);
}

async fn events<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    let (since, until) = (call.query.time("since")?, call.query.time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.text("since"),
            call.query.text("until")
        )));
    }
    let events = call.node.events(since);
    let past: Vec<Event> = events
        .past
        .into_iter()
        .filter(|event| until.is_none_or(|until| event.time <= until))
        .collect();
    let live = until_time(events.live, until);
    let all = smol::stream::iter(past).chain(live);
    let wanted = all.filter(move |event| is_wanted(&filters, event));
    Ok(reply::ndjson(wanted.map(|event| Ok(event_json(&event)))))
}

/// The stream up to a moment, that may be past already.
fn until_time(
    live: smol::stream::Boxed<Event>,
    until: Option<WallTime>,
) -> smol::stream::Boxed<Event> {
    let Some(until) = until else { return live };
    let left = u64::try_from(until.0.saturating_sub(time::now().0)).unwrap_or(0);
    let timer = smol::Timer::after(Duration::from_nanos(left));
    Box::pin(smol::stream::unfold(
        (live, timer),
        |(mut live, mut timer)| async {
            let end = async {
                (&mut timer).await;
                None
            };
            let event = end.or(live.next()).await?;
            Some((event, (live, timer)))
        },
    ))
}

fn is_wanted(filters: &Filters, event: &Event) -> bool {
    let kind = event.kind.as_str();
    let name = event.attributes.get("name").map_or("", String::as_str);
    // A filter named like a kind wants that kind, and this object of it.
    let of = |key: &str, test: &dyn Fn(&str) -> bool| {
        !filters.contains(key) || kind == key && filters.any(key, test)
    };
    let object = |wanted: &str| event.id.starts_with(wanted) || name == wanted;
    let image = |wanted: &str| {
        let own = event.attributes.get("image").map_or(name, String::as_str);
        let bare = |reference: &str| without_tag(reference).to_owned();
        event.id == wanted || own == wanted || bare(own) == wanted || bare(&event.id) == wanted
    };
    let network = |wanted: &str| object(wanted);
    // A container's and an image's events both have an image.
    let of_image = !filters.contains("image")
        || matches!(event.kind, EventKind::Image | EventKind::Container)
            && filters.any("image", image);
    let action = event.action.split(':').next().unwrap_or("");
    filters.any("event", |wanted| wanted == event.action || wanted == action)
        && filters.exact("type", kind)
        && filters.exact("scope", scope(event))
        && filters.labels("label", &event.attributes)
        && of_image
        && of("network", &network)
        && [
            "config",
            "container",
            "daemon",
            "node",
            "plugin",
            "secret",
            "service",
            "volume",
        ]
        .iter()
        .all(|key| of(key, &object))
}

fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

fn scope(event: &Event) -> &'static str {
    if event.swarm { "swarm" } else { "local" }
}

fn event_json(event: &Event) -> Value {
    let mut value = json!({
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": scope(event),
        "time": event.time.0.div_euclid(SECOND),
        "timeNano": event.time.0,
    });
    // The old form, for the kinds that were there then.
    if let Some(members) = value.as_object_mut() {
        if matches!(event.kind, EventKind::Container | EventKind::Image) {
            members.insert("status".into(), event.action.as_str().into());
            members.insert("id".into(), event.id.as_str().into());
        }
        if let (EventKind::Container, Some(image)) = (event.kind, event.attributes.get("image")) {
            members.insert("from".into(), image.as_str().into());
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let pairs = [
            ("name", "web"),
            ("image", "busybox:latest"),
            ("tier", "front"),
        ];
        Event {
            kind: EventKind::Container,
            action: "exec_start: sh".into(),
            id: "abc".into(),
            attributes: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            swarm: false,
            time: WallTime(1_700_000_000_000_000_001),
        }
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| is_wanted(&Filters::parse(raw, FILTERS).unwrap(), &event());
        for yes in [
            "",
            r#"{"type":["container"]}"#,
            r#"{"event":["exec_start"]}"#,
            r#"{"container":["web"]}"#,
            r#"{"container":["ab"]}"#,
            r#"{"image":["busybox"]}"#,
            r#"{"label":["tier=front"]}"#,
            r#"{"scope":["local"]}"#,
        ] {
            assert!(wanted(yes), "{yes}");
        }
        for no in [
            r#"{"type":["image"]}"#,
            r#"{"event":["start"]}"#,
            r#"{"container":["we"]}"#,
            r#"{"network":["web"]}"#,
            r#"{"label":["tier=back"]}"#,
            r#"{"scope":["swarm"]}"#,
        ] {
            assert!(!wanted(no), "{no}");
        }
    }

    #[test]
    fn both_forms_in_one() {
        assert_eq!(
            event_json(&event()),
            json!({
                "Type": "container", "Action": "exec_start: sh", "status": "exec_start: sh",
                "Actor": {"ID": "abc", "Attributes":
                    {"name": "web", "image": "busybox:latest", "tier": "front"}},
                "id": "abc", "from": "busybox:latest", "scope": "local",
                "time": 1_700_000_000, "timeNano": 1_700_000_000_000_000_001_i64,
            })
        );
    }

    #[test]
    fn a_moment_in_the_past_ends_the_stream() {
        let live: smol::stream::Boxed<Event> = Box::pin(smol::stream::pending());
        let mut live = until_time(live, Some(WallTime(1)));
        assert_eq!(smol::block_on(live.next()), None);
    }
}
