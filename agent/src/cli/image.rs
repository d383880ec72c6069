//! Images: `image …` and the short forms.

mod list;

pub(super) use list::{LISTING, rows};

use std::fs::File;
use std::io;

use hyper::Method;

use super::command::{Arity, Command};
use super::container::write_to;
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::format::{Listing, Row, ellipsis, short_id};
use super::http::{Query, Upload, escape};
use super::reference::{familiar, split_tag, with_default_tag};
use super::time::Moment;
use super::{Invocation, ask, inspect, progress, units};

const PLATFORM: &str = ". platform list Only these platforms (os[/arch[/variant]])";

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["image ls", "image list", "images"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        Arity::AtMost(1),
        &[list::FLAGS],
        list::run,
    ),
    Command::new(
        &["image load", "load"],
        "[OPTIONS]",
        "Load images from an archive",
        Arity::Exactly(0),
        &[
            "i input string Read this file, not standard input\nq quiet bool Show no progress",
            PLATFORM,
        ],
        load,
    ),
    Command::new(
        &["image save", "save"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Write images as an archive",
        Arity::AtLeast(1),
        &[
            "o output string Write to this file, not to standard output",
            PLATFORM,
        ],
        save,
    ),
    Command::new(
        &["image import", "import"],
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Make an image of a root file system's archive",
        Arity::AtLeast(1),
        &[
            "c change list Apply a Dockerfile instruction\nm message string Comment of the image\n. platform string Platform of the image",
        ],
        import,
    ),
    Command::new(
        &["image pull", "pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Fetch an image from a registry",
        Arity::Exactly(1),
        &[
            "a all-tags bool Fetch every tag\nq quiet bool Print the name only\n. platform string Platform to fetch\n. disable-content-trust bool Accepted, without effect",
        ],
        pull,
    ),
    Command::new(
        &["image tag", "tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Give an image another name",
        Arity::Exactly(2),
        &[],
        tag,
    ),
    Command::new(
        &["image rm", "image remove", "rmi"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove images",
        Arity::AtLeast(1),
        &[
            "f force bool Remove though other names or stopped containers use it\n. no-prune bool Keep untagged parents",
            PLATFORM,
        ],
        remove,
    ),
    Command::new(
        &["image inspect"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Show all there is to know of images",
        Arity::AtLeast(1),
        &[
            inspect::FLAGS,
            ". platform string Only this platform's image",
        ],
        |inv| inspect::of_type(inv, "image"),
    ),
    Command::new(
        &["image history", "history"],
        "[OPTIONS] IMAGE",
        "Show how an image was made",
        Arity::Exactly(1),
        &["\
. format string Print by a template, table TEMPLATE, or json
H human bool Sizes and dates for people (the default)
. no-trunc bool Do not shorten
q quiet bool Only ids
. platform string Only this platform's image"],
        history,
    ),
    Command::new(
        &["image prune"],
        "[OPTIONS]",
        "Remove unused images",
        Arity::Exactly(0),
        &[
            "a all bool Images with names too\n. filter filter Remove only these (until=…, label=…)\nf force bool Do not ask",
        ],
        prune,
    ),
];

/// An image's name in a path: its slashes are the path's.
fn segment(name: &str) -> String {
    escape(name)
        .replace("%2F", "/")
        .replace("%3A", ":")
        .replace("%40", "@")
}

/// Platforms as the API takes them.
fn platforms(inv: &Invocation, query: Query, key: &str) -> Query {
    inv.flags
        .list("platform")
        .iter()
        .flat_map(|list| list.split(','))
        .fold(query, |query, platform| {
            query.with(key, platform_json(platform))
        })
}

fn platform_json(platform: &str) -> String {
    let mut parts = platform.splitn(3, '/');
    let os = parts.next().unwrap_or("");
    let mut json = serde_json::json!({ "os": os, "architecture": parts.next().unwrap_or("") });
    if let Some(variant) = parts.next() {
        json["variant"] = variant.into();
    }
    json.to_string()
}

fn load(inv: &Invocation) -> Outcome {
    let input = inv.flags.str("input");
    let tar: Box<dyn io::Read + Send> = if input.is_empty() {
        if rustix::termios::isatty(io::stdin()) {
            return Err(Exit::failure(
                "requested load from stdin, but stdin is empty",
            ));
        }
        Box::new(io::stdin())
    } else {
        Box::new(open(input)?)
    };
    let watched = rustix::termios::isatty(io::stdout());
    let quiet = inv.flags.bool("quiet") || !watched;
    let query = platforms(
        inv,
        Query::new().with("quiet", if quiet { "1" } else { "0" }),
        "platform",
    );
    let response = inv
        .client
        .request(Method::POST, &query.on("/images/load"), Upload::Tar(tar))?;
    progress::show(response, false)
}

/// Opens a file to read, refusing in Go's words.
pub(super) fn open(path: &str) -> Outcome<File> {
    File::open(path).map_err(|e| Exit::failure(format!("open {path}: {}", error_text(&e))))
}

/// An operating system error without Rust's number behind it, in lower case.
pub(super) fn error_text(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or("");
    text.to_lowercase()
}

fn save(inv: &Invocation) -> Outcome {
    let output = inv.flags.str("output");
    if output.is_empty() && rustix::termios::isatty(io::stdout()) {
        return Err(Exit::failure(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let query = inv
        .operands
        .iter()
        .fold(Query::new(), |query, name| query.with("names", name));
    let query = platforms(inv, query, "platform");
    let mut response =
        inv.client
            .request(Method::GET, &query.on("/images/get"), Upload::Nothing)?;
    write_to(&mut response, output)
}

fn import(inv: &Invocation) -> Outcome {
    let source = inv.operands[0].as_str();
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let body = match source {
        "-" => Upload::Tar(Box::new(io::stdin())),
        _ if is_url => Upload::Nothing,
        path => Upload::Tar(Box::new(open(path)?)),
    };
    let flags = &inv.flags;
    let query = Query::new()
        .with("fromSrc", if is_url { source } else { "-" })
        .some("repo", inv.operands.get(1).map_or("", String::as_str))
        .some("message", flags.str("message"))
        .some("platform", flags.str("platform"));
    let query = flags
        .list("change")
        .iter()
        .fold(query, |query, change| query.with("changes", change));
    let response = inv
        .client
        .request(Method::POST, &query.on("/images/create"), body)?;
    progress::show(response, false)
}

fn pull(inv: &Invocation) -> Outcome {
    let name = &inv.operands[0];
    if inv.flags.bool("all-tags") && split_tag(name).1.is_some() {
        return Err(Exit::failure("tag can't be used with --all-tags/-a"));
    }
    let has_tag = name.contains('@') || split_tag(name).1.is_some();
    let quiet = inv.flags.bool("quiet");
    let full = if inv.flags.bool("all-tags") {
        name.clone()
    } else {
        with_default_tag(name)
    };
    if !quiet && !has_tag && !inv.flags.bool("all-tags") {
        exit::print_line("Using default tag: latest")?;
    }
    progress::show(ask_for(inv, &full)?, quiet)?;
    exit::print_line(&canonical(&full))
}

/// Fetches an image for another command: what is shown is no output of it.
pub(super) fn pull_quietly(inv: &Invocation, name: &str, quiet: bool) -> Outcome {
    progress::show_aside(ask_for(inv, name)?, quiet)
}

/// Asks the daemon to fetch an image.
fn ask_for(inv: &Invocation, name: &str) -> Outcome<super::http::Response> {
    let (repo, tag) = match name.split_once('@') {
        Some((repo, digest)) => (split_tag(repo).0, digest),
        None => (split_tag(name).0, split_tag(name).1.unwrap_or("")),
    };
    let query = Query::new()
        .with("fromImage", canonical(repo))
        .some("tag", tag)
        .some("platform", inv.flags.str("platform"));
    let response =
        inv.client
            .request(Method::POST, &query.on("/images/create"), Upload::Nothing)?;
    Ok(response)
}

/// The name with the registry and folder that Docker leaves out.
fn canonical(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

fn tag(inv: &Invocation) -> Outcome {
    let (repo, tag) = split_tag(&inv.operands[1]);
    let url = Query::new()
        .with("repo", repo)
        .some("tag", tag.unwrap_or("latest"))
        .on(&format!("/images/{}/tag", segment(&inv.operands[0])));
    inv.client.post(&url, None)?;
    Ok(())
}

fn remove(inv: &Invocation) -> Outcome {
    let force = inv.flags.bool("force");
    let query = Query::new()
        .flag("force", force)
        .flag("noprune", inv.flags.bool("no-prune"));
    let query = platforms(inv, query, "platforms").on("");
    let (mut failures, mut fatal) = (Vec::new(), false);
    for name in &inv.operands {
        match inv
            .client
            .delete(&format!("/images/{}{query}", segment(name)))
        {
            Ok(answer) => {
                for item in answer.elements() {
                    let line = match item.text("Deleted") {
                        "" => format!("Untagged: {}", item.text("Untagged")),
                        deleted => format!("Deleted: {deleted}"),
                    };
                    exit::print_line(&line)?;
                }
            }
            Err(fault) => {
                fatal |= !fault.is_not_found();
                failures.push(fault.to_string());
            }
        }
    }
    if force && !fatal {
        failures.drain(..).for_each(|line| exit::warn(&line));
    }
    Exit::all(failures)
}

const HISTORY: Listing = Listing {
    row_type: "image.historyContext",
    columns: "{{.ID}}\\t{{.CreatedSince}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

/// 2000-01-01: what is older has no date.
const EPOCH_SECONDS: i64 = 946_684_800;

fn history(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let (human, truncate) = (flags.bool_or("human", true), !flags.bool("no-trunc"));
    let layers = inv
        .client
        .get(&format!("/images/{}/history", segment(&inv.operands[0])))?;
    let rows: Vec<_> = layers
        .elements()
        .iter()
        .map(|layer| {
            let created = Moment {
                seconds: layer.int("Created"),
                nanoseconds: 0,
            };
            let at = created.local_rfc3339();
            let since = match () {
                () if !human => at.clone(),
                () if created.seconds <= EPOCH_SECONDS => "N/A".to_owned(),
                () => format!("{} ago", units::human_duration(created.age_seconds())),
            };
            let by = layer.text("CreatedBy").replace('\t', " ");
            let size = layer.int("Size");
            Row::new()
                .with(
                    "ID",
                    if truncate {
                        short_id(layer.text("Id"))
                    } else {
                        layer.text("Id").to_owned()
                    },
                )
                .with("CreatedSince", since)
                .with("CreatedAt", at)
                .with("CreatedBy", if truncate { ellipsis(&by, 45) } else { by })
                .with(
                    "Size",
                    if human {
                        units::short_size(size as f64)
                    } else {
                        size.to_string()
                    },
                )
                .with("Comment", layer.text("Comment"))
                .done()
        })
        .collect();
    let mut format = HISTORY.choose(flags.str("format"), flags.bool("quiet"));
    if !human && matches!(flags.str("format"), "" | "table") {
        format = format.replace("CreatedSince", "CreatedAt");
    }
    HISTORY.print(&format, &rows)
}

fn prune(inv: &Invocation) -> Outcome {
    let all = inv.flags.bool("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?"
    } else {
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"
    };
    ask::confirm(inv.flags.bool("force"), warning)?;
    let (text, bytes) = prune_unused(inv, all, Filters::parse(inv.flags.list("filter"))?)?;
    if !text.is_empty() {
        exit::print_line(&text)?;
    }
    exit::print_line(&format!(
        "Total reclaimed space: {}",
        units::human_size(bytes)
    ))
}

/// Removes unused images; what went, and how many bytes it had.
pub(super) fn prune_unused(
    inv: &Invocation,
    all: bool,
    mut filters: Filters,
) -> Outcome<(String, f64)> {
    filters.add("dangling", if all { "false" } else { "true" });
    let answer = inv
        .client
        .post(&Query::new().filters(&filters).on("/images/prune"), None)?;
    let mut text = String::new();
    for item in answer.list("ImagesDeleted") {
        text += &match item.text("Untagged") {
            "" => format!("deleted: {}\n", item.text("Deleted")),
            untagged => format!("untagged: {untagged}\n"),
        };
    }
    if !text.is_empty() {
        text.insert_str(0, "Deleted Images:\n");
    }
    Ok((text, answer.float("SpaceReclaimed")))
}

/// The name as lists show it.
pub(super) fn shown(name: &str) -> String {
    familiar(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_for_the_registry() {
        assert_eq!(canonical("redis"), "docker.io/library/redis");
        assert_eq!(canonical("a/b:1"), "docker.io/a/b:1");
        assert_eq!(canonical("localhost:5000/a"), "localhost:5000/a");
        assert_eq!(canonical("reg.example/a/b"), "reg.example/a/b");
    }

    #[test]
    fn platforms_are_documents() {
        assert_eq!(
            platform_json("linux/arm64/v8"),
            r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#
        );
    }
}
