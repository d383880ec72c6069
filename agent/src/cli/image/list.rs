//! `images`.

use crate::cli::exit::Outcome;
use crate::cli::filters::Filters;
use crate::cli::format::{Listing, Row, short_id};
use crate::cli::http::Query;
use crate::cli::json::Value;
use crate::cli::reference::split_tag;
use crate::cli::time::Moment;
use crate::cli::{Invocation, exit, units};

use super::shown;

pub(super) const FLAGS: &str = "\
a all bool Show intermediate images too
. digests bool Show digests
f filter filter Show only these (dangling=true, label=…, reference=…, before=…, since=…)
. format string Print by a template, table TEMPLATE, or json
. no-trunc bool Do not shorten
q quiet bool Only ids";

pub(in crate::cli) const LISTING: Listing = Listing {
    row_type: "formatter.imageContext",
    columns: "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\\t{{.Size}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let mut filters = Filters::parse(flags.list("filter"))?;
    if let Some(name) = inv.operands.first() {
        filters.add("reference", name);
    }
    let query = Query::new()
        .flag("all", flags.bool("all"))
        .filters(&filters);
    let images = inv.client.get(&query.on("/images/json"))?;
    let digests = flags.bool("digests");
    let mut format = LISTING.choose(flags.str("format"), flags.bool("quiet"));
    if digests && matches!(flags.str("format"), "" | "table") && !flags.bool("quiet") {
        format = format.replace("{{.Tag}}\\t", "{{.Tag}}\\t{{.Digest}}\\t");
    }
    let wants_digest = digests || format.contains("{{.Digest}}");
    let truncate = !flags.bool("no-trunc");
    let rows: Vec<Value> = images
        .elements()
        .iter()
        .flat_map(|image| rows(image, truncate, digests, wants_digest))
        .collect();
    if rows.is_empty()
        && let Some(name) = inv.operands.first()
        && super::super::command::all().any(|c| c.names[0] == format!("image {name}"))
    {
        let program = &inv.program;
        exit::warn(&format!(
            "No images found matching {name:?}: did you mean \"{program} image {name}\"?"
        ));
    }
    LISTING.print(&format, &rows)
}

/// The rows of an image: one a name.
pub(in crate::cli) fn rows(
    image: &Value,
    truncate: bool,
    digests: bool,
    wants_digest: bool,
) -> Vec<Value> {
    let named = |path: &str| -> Vec<String> {
        image
            .strings(path)
            .into_iter()
            .filter(|n| !n.starts_with("<none>"))
            .map(shown)
            .collect()
    };
    let (tags, repo_digests) = (named("RepoTags"), named("RepoDigests"));
    if tags.is_empty() && repo_digests.is_empty() {
        return vec![row(image, truncate, "<none>", "<none>", "<none>")];
    }
    let digests_of = |repo: &str| -> Vec<&str> {
        repo_digests
            .iter()
            .filter_map(|d| d.split_once('@'))
            .filter(|(r, _)| *r == repo)
            .map(|(_, d)| d)
            .collect()
    };
    let mut rows = Vec::new();
    let mut repos: Vec<&str> = Vec::new();
    for name in &tags {
        let (repo, tag) = split_tag(name);
        repos.push(repo);
        let found = if wants_digest {
            digests_of(repo)
        } else {
            Vec::new()
        };
        if found.is_empty() {
            rows.push(row(
                image,
                truncate,
                repo,
                tag.unwrap_or("<none>"),
                "<none>",
            ));
        }
        rows.extend(
            found
                .into_iter()
                .map(|d| row(image, truncate, repo, tag.unwrap_or("<none>"), d)),
        );
    }
    for (repo, digest) in repo_digests.iter().filter_map(|d| d.split_once('@')) {
        if !repos.contains(&repo) {
            if !digests {
                repos.push(repo);
            }
            rows.push(row(
                image,
                truncate,
                repo,
                "<none>",
                if digests { digest } else { "" },
            ));
        }
    }
    rows
}

fn row(image: &Value, truncate: bool, repo: &str, tag: &str, digest: &str) -> Value {
    let id = image.text("Id");
    let created = Moment {
        seconds: image.int("Created"),
        nanoseconds: 0,
    };
    let counted = |path: &str, text: String| {
        if image.at(path).is_null() || image.int(path) == -1 {
            "N/A".to_owned()
        } else {
            text
        }
    };
    Row::new()
        .with(
            "ID",
            if truncate {
                short_id(id)
            } else {
                id.to_owned()
            },
        )
        .with("Repository", repo)
        .with("Tag", tag)
        .with("Digest", digest)
        .with(
            "CreatedSince",
            format!("{} ago", units::human_duration(created.age_seconds())),
        )
        .with("CreatedAt", created.local_go_text())
        .with("Size", units::short_size(image.float("Size")))
        .with("VirtualSize", units::human_size(image.float("Size")))
        .with(
            "Containers",
            counted("Containers", image.int("Containers").to_string()),
        )
        .with(
            "SharedSize",
            counted("SharedSize", units::human_size(image.float("SharedSize"))),
        )
        .with(
            "UniqueSize",
            counted(
                "SharedSize",
                units::human_size(image.float("Size") - image.float("SharedSize")),
            ),
        )
        .done()
}
