//! Whole images in and out: load, save, import, and the pull that a node
//! without a registry can answer.

use super::{ask, pipe, platform, publish, shape};
use crate::api::call::Call;
use crate::api::reply::{self, Reply};
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use skep_images::{Image, ImportOptions, LoadProgress, Loaded, Platform, Reference};
use smol::channel::{Receiver, bounded};
use smol::stream::StreamExt;
use std::io::Read;
use std::time::{Duration, Instant};

/// Lines waiting for a slow client; the load waits with them.
const LINES_MAX: usize = 16;
/// Between two lines about one layer.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Characters of the bar in a progress line, as Docker draws it.
const BAR_WIDTH: u64 = 50;

pub(super) async fn load<B: Backend>(call: Call<B>) -> Result<Reply> {
    let quiet = call.query.flag("quiet");
    let node = call.node.clone();
    let store = node.images().clone();
    let body = pipe::BodyReader(call.into_reader());
    // As dockerd: a load that fails is a line too, and docker-py counts on it.
    Ok(stream(move |say| {
        let mut progress = Progress::default();
        let loaded = store.load(body, &mut |at| {
            if let (false, Some(line)) = (quiet, progress.line(&at)) {
                say(line);
            }
        })?;
        for one in loaded {
            let id = one.id.to_string();
            publish(&node, "load", &id, one.name.as_deref().unwrap_or(&id));
            loaded_lines(&one).into_iter().for_each(&mut *say);
        }
        Ok(())
    }))
}

/// What Docker says of an image that was loaded.
fn loaded_lines(one: &Loaded) -> Vec<Value> {
    let Some(name) = &one.name else {
        return vec![json!({"stream": format!("Loaded image ID: {}\n", one.id)})];
    };
    let renamed = one.replaced.map(|old| {
        json!({"stream": format!(
            "The image {name} already exists, renaming the old one with ID {old} to empty string\n"
        )})
    });
    let loaded = json!({"stream": format!("Loaded image: {name}\n")});
    renamed.into_iter().chain([loaded]).collect()
}

/// Which progress is worth a line.
#[derive(Default)]
struct Progress {
    last: Option<(skep_images::Digest, Instant)>,
}

impl Progress {
    fn line(&mut self, at: &LoadProgress) -> Option<Value> {
        let is_new = self.last.is_none_or(|(layer, when)| {
            layer != at.layer || when.elapsed() >= PROGRESS_PAUSE || at.current >= at.total
        });
        if !is_new {
            return None;
        }
        self.last = Some((at.layer, Instant::now()));
        let total = at.total.max(1);
        let current = at.current.min(total);
        let done = (current.saturating_mul(BAR_WIDTH) / total) as usize;
        let left = (BAR_WIDTH as usize).saturating_sub(done);
        let head = if left > 0 { ">" } else { "" };
        let bar = format!(
            "{}{head}{}",
            "=".repeat(done),
            " ".repeat(left.saturating_sub(1))
        );
        Some(json!({
            "status": "Loading layer",
            "progressDetail": {"current": at.current, "total": at.total},
            "progress": format!("[{bar}] {:>8}/{}", size(at.current), size(at.total)),
            "id": at.layer.short(),
        }))
    }
}

/// Docker's decimal sizes with four digits.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            let digits = format!("{value:.3}");
            let four: String = digits.chars().take(5).collect();
            let short = four.trim_end_matches('0').trim_end_matches('.');
            let whole = if four.contains('.') {
                short
            } else {
                four.as_str()
            };
            return format!("{whole}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1}TB")
}

/// Runs `work` on a thread that may block; what it says are the lines of the
/// answer, and so is its failure.
fn stream<F>(work: F) -> Reply
where
    F: FnOnce(&mut dyn FnMut(Value)) -> Result<()> + Send + 'static,
{
    reply::ndjson(said(work))
}

/// The same, but a failure before the first line is the answer's status.
async fn lines<F>(work: F) -> Result<Reply>
where
    F: FnOnce(&mut dyn FnMut(Value)) -> Result<()> + Send + 'static,
{
    let mut rest = Box::pin(said(work));
    let first = match rest.next().await {
        None => Vec::new(),
        Some(first) => vec![Ok(first?)],
    };
    Ok(reply::ndjson(smol::stream::iter(first).chain(rest)))
}

fn said<F>(work: F) -> Receiver<Result<Value>>
where
    F: FnOnce(&mut dyn FnMut(Value)) -> Result<()> + Send + 'static,
{
    let (sender, receiver): (_, Receiver<Result<Value>>) = bounded(LINES_MAX);
    smol::unblock(move || {
        // A client that goes away ends its body too, and so the work.
        let result = work(&mut |line| drop(sender.send_blocking(Ok(line))));
        if let Err(error) = result {
            drop(sender.send_blocking(Err(error)));
        }
    })
    .detach();
    receiver
}

pub(super) async fn save_one<B: Backend>(call: Call<B>) -> Result<Reply> {
    let names = vec![call.param("name").to_owned()];
    save(call, names).await
}

pub(super) async fn save_several<B: Backend>(call: Call<B>) -> Result<Reply> {
    let names: Vec<String> = call
        .query
        .all("names")
        .into_iter()
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(Error::invalid(
            "names parameter is required: which images to save",
        ));
    }
    save(call, names).await
}

async fn save<B: Backend>(call: Call<B>, names: Vec<String>) -> Result<Reply> {
    let platform = platform(&call)?;
    // An absent one is refused now: once the tar flows there is no status.
    let (asked, wanted) = (names.clone(), platform.clone());
    let images = ask(&call.node, move |store| {
        let known = |name: &String| store.resolve(name, wanted.as_ref());
        asked
            .iter()
            .map(known)
            .collect::<skep_images::Result<Vec<Image>>>()
    })
    .await?;
    for (image, name) in images.iter().zip(&names) {
        publish(&call.node, "save", &image.id.to_string(), name);
    }
    let store = call.node.images().clone();
    Ok(reply::tar(pipe::written(move |to| {
        Ok(store.save(&names, platform.as_ref(), to)?)
    })))
}

pub(super) async fn create<B: Backend>(call: Call<B>) -> Result<Reply> {
    let platform = platform(&call)?;
    match (call.query.text("fromImage"), call.query.text("fromSrc")) {
        ("", "") => Err(Error::invalid("one of fromImage and fromSrc is needed")),
        ("", "-") => import(call, platform).await,
        ("", _) => Err(Error::not_implemented(
            "import from an address is not supported: fetch the file and import it from \"-\"",
        )),
        (image, _) => {
            let name = shape::joined(image, call.query.text("tag"));
            pull(&call, name, platform).await
        }
    }
}

async fn import<B: Backend>(call: Call<B>, platform: Option<Platform>) -> Result<Reply> {
    let text = |name: &str| Some(call.query.text(name).to_owned()).filter(|text| !text.is_empty());
    let options = ImportOptions {
        name: text("repo").map(|repo| shape::joined(&repo, call.query.text("tag"))),
        changes: call
            .query
            .all("changes")
            .into_iter()
            .map(str::to_owned)
            .collect(),
        message: text("message"),
        platform,
    };
    let node = call.node.clone();
    let store = node.images().clone();
    let mut body = pipe::BodyReader(call.into_reader());
    lines(move |say| {
        let id = store
            .import(&mut body as &mut dyn Read, &options)?
            .to_string();
        let name = options.name.and_then(|name| name.parse::<Reference>().ok());
        let name = name.map_or_else(|| id.clone(), |name| name.tagged().familiar());
        publish(&node, "import", &id, &name);
        say(json!({"status": id}));
        Ok(())
    })
    .await
}

/// What is here is up to date: there is nobody to ask for a newer one.
async fn pull<B: Backend>(
    call: &Call<B>,
    name: String,
    platform: Option<Platform>,
) -> Result<Reply> {
    let reference = name.parse::<Reference>()?.tagged();
    let familiar = reference.familiar();
    let found = call.node.images().clone();
    let (asked, wanted) = (name, platform);
    let image = smol::unblock(move || found.resolve(&asked, wanted.as_ref())).await;
    let image = image.map_err(|e| match e.kind {
        skep_images::Kind::NotFound if e.message.starts_with("No such image") => {
            Error::not_found(format!(
                "pull access denied for {}, repository does not exist or may require 'docker \
                 login': it is not on this node, and no registry is asked: bring it with \"load\"",
                reference.familiar_repository()
            ))
        }
        _ => e.into(),
    })?;
    publish(
        &call.node,
        "pull",
        &familiar,
        &reference.familiar_repository(),
    );
    let tag = reference.tag.clone().unwrap_or_default();
    let path = match reference.domain.as_str() {
        skep_images::DEFAULT_DOMAIN => reference.path.clone(),
        _ => reference.repository(),
    };
    let lines = [
        json!({"status": format!("Pulling from {path}"), "id": tag}),
        json!({"status": format!("Digest: {}", image.target.digest)}),
        json!({"status": format!("Status: Image is up to date for {familiar}")}),
    ];
    Ok(reply::ndjson(smol::stream::iter(lines.map(Ok))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_images::Digest;

    #[test]
    fn sizes_and_bars_are_dockers() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(512), "512B");
        assert_eq!(size(4_530_000), "4.53MB");
        assert_eq!(size(123_456_789), "123.4MB");
        let mut progress = Progress::default();
        let at = |current| LoadProgress {
            layer: Digest::of(b"x"),
            current,
            total: 100,
        };
        let half = progress.line(&at(50)).unwrap();
        let text = half["progress"].as_str().unwrap();
        assert!(
            text.starts_with("[=========================>                        ]"),
            "{text}"
        );
        assert!(progress.line(&at(51)).is_none());
        let whole = progress.line(&at(100)).unwrap();
        assert!(
            whole["progress"]
                .as_str()
                .unwrap()
                .contains(&"=".repeat(50))
        );
    }

    #[test]
    fn what_a_load_says() {
        let (id, old) = (Digest::of(b"a"), Digest::of(b"b"));
        let named = Loaded {
            name: Some("a:1".into()),
            id,
            replaced: Some(old),
        };
        let lines = loaded_lines(&named);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], json!({"stream": "Loaded image: a:1\n"}));
        let unnamed = Loaded {
            name: None,
            id,
            replaced: None,
        };
        assert_eq!(
            loaded_lines(&unnamed),
            [json!({"stream": format!("Loaded image ID: {id}\n")})]
        );
    }

    #[test]
    fn an_early_failure_is_a_status_and_a_late_one_a_line() {
        let early = smol::block_on(lines(|_| Err(Error::invalid("no"))));
        assert_eq!(early.err().unwrap().message, "no");
        let late = smol::block_on(lines(|say| {
            say(json!({"a": 1}));
            Err(Error::invalid("no"))
        }));
        assert!(late.is_ok());
    }
}
