//! `GET /events`: what happened and what happens, a JSON value a line: of this
//! node, and of the swarm that it is in.

use super::call::{Call, Origin};
use super::filters::Filters;
use super::pass_on;
use super::query::escape;
use super::reply::{self, Reply};
use super::router::Router;
use super::time;
use crate::backend::{Backend, Event, EventKind, SwarmState};
use crate::error::{Error, Result};
use hyper::body::Bytes;
use serde_json::{Value, json};
use skep_control::model::{SECOND, WallTime};
use smol::future::FutureExt as _;
use smol::stream::StreamExt;
use std::time::Duration;

/// A watcher whose leader is gone looks for the next one so often.
const LEADER_PAUSE: Duration = Duration::from_secs(1);
/// Longest line that is taken from another node; an event has some kilobytes.
const LINE_BYTES_MAX: usize = 1 << 20;

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
    let raw = call.query.text("filters").to_owned();
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
    let wants_swarm = filters.any("scope", |wanted| wanted == "swarm");
    // Another node asks what this one's own client cannot: the swarm's only.
    let only_swarm = call.origin == Origin::Peer;
    let own = all
        .filter(move |event| (event.swarm || !only_swarm) && is_wanted(&filters, event))
        .map(|event| Ok(reply::line(&event_json(&event))));
    let swarm = call.node.facts().await.swarm;
    let is_worker = swarm.state == SwarmState::Active && !swarm.manager;
    if only_swarm || !is_worker || !wants_swarm {
        return Ok(reply::flowing(reply::JSON, own));
    }
    // Managers see the swarm's events themselves, a worker asks one.
    let watch = Watch {
        node: call.node,
        filters: swarm_filters(&raw),
        since,
        until,
        lines: None,
        part: Vec::new(),
    };
    let theirs = smol::stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((Ok(line), watch))
    });
    Ok(reply::flowing(reply::JSON, smol::stream::race(own, theirs)))
}

/// A client's filters, for the swarm's events only.
fn swarm_filters(raw: &str) -> String {
    let mut filters = serde_json::from_str(raw).unwrap_or_else(|_| json!({}));
    if let Some(members) = filters.as_object_mut() {
        members.insert("scope".into(), json!({"swarm": true}));
    }
    filters.to_string()
}

/// The swarm's events as a worker gets them: from the leader, and from the
/// next one when that is gone.
struct Watch<B> {
    node: B,
    filters: String,
    /// Nothing before is wanted, or was not told yet.
    since: Option<WallTime>,
    until: Option<WallTime>,
    lines: Option<smol::stream::Boxed<Result<Bytes>>>,
    /// The begin of a line whose end is not here yet.
    part: Vec<u8>,
}

impl<B: Backend> Watch<B> {
    /// The next line; `None` at the end of the time that is asked for.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.part.iter().position(|byte| *byte == b'\n') {
                let rest = self.part.split_off(at + 1);
                let line = std::mem::replace(&mut self.part, rest);
                self.remember(&line);
                return Some(line);
            }
            let Some(lines) = &mut self.lines else {
                self.open().await?;
                continue;
            };
            match lines.next().await {
                Some(Ok(bytes)) if self.part.len() + bytes.len() <= LINE_BYTES_MAX => {
                    self.part.extend_from_slice(&bytes);
                }
                _ => {
                    self.lines = None;
                    self.part.clear();
                    pause(self.until).await?;
                }
            }
        }
    }

    /// Asks again from after the last event that came.
    fn remember(&mut self, line: &[u8]) {
        let told = serde_json::from_slice::<Value>(line).unwrap_or_default();
        let time = told.get("timeNano").and_then(Value::as_i64);
        self.since = time.map_or(self.since, |time| Some(WallTime(time + 1)));
    }

    async fn open(&mut self) -> Option<()> {
        let time = |name: &str, at: Option<WallTime>| match at {
            Some(at) => format!(
                "&{name}={}.{:09}",
                at.0.div_euclid(SECOND),
                at.0.rem_euclid(SECOND)
            ),
            None => String::new(),
        };
        let since = self.since.get_or_insert_with(time::now);
        let uri = format!(
            "/events?filters={}{}{}",
            escape(&self.filters),
            time("since", Some(*since)),
            time("until", self.until)
        );
        match pass_on::fetch(&self.node, &uri).await {
            // It leads itself now, or left the swarm: its own log tells.
            Ok(None) => return None,
            Ok(Some(answered)) => self.lines = answered.into_stream().await.ok(),
            Err(error) => log::debug!("events of the swarm: {error}"),
        }
        if self.lines.is_none() {
            pause(self.until).await?;
        }
        Some(())
    }
}

/// Before the next try, if there is time for one.
async fn pause(until: Option<WallTime>) -> Option<()> {
    if until.is_some_and(|until| until <= time::now()) {
        return None;
    }
    smol::Timer::after(LEADER_PAUSE).await;
    Some(())
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
