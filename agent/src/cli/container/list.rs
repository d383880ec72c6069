//! `ps`: containers as rows.

use crate::cli::exit::{Exit, Outcome};
use crate::cli::filters::Filters;
use crate::cli::format::{Listing, Row, ellipsis, short_id};
use crate::cli::http::Query;
use crate::cli::json::Value;
use crate::cli::time::Moment;
use crate::cli::{Invocation, exit, units};

pub(super) const FLAGS: &str = "\
a all bool Show stopped containers too
f filter filter Show only these (status=…, name=…, label=…, ancestor=…, …)
. format string Print by a template, table TEMPLATE, or json
n last int Show the last N created, in any state
l latest bool Show the last created, in any state
. no-trunc bool Do not shorten
q quiet bool Only ids
s size bool Show sizes";

pub(in crate::cli) const LISTING: Listing = Listing {
    row_type: "formatter.ContainerContext",
    columns: "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let (given, quiet) = (flags.str("format"), flags.bool("quiet"));
    if !given.is_empty() && quiet {
        exit::warn("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let size = flags.bool("size") || !quiet && !flags.changed("size") && given.contains(".Size");
    let mut format = LISTING.choose(if quiet { "" } else { given }, quiet);
    if size && !quiet && matches!(given, "" | "table") {
        format += "\\t{{.Size}}";
    }
    let limit = match flags.int("last") {
        Some(n) => n,
        None if flags.bool("latest") => 1,
        None => -1,
    };
    let mut query = Query::new()
        .flag("all", flags.bool("all"))
        .flag("size", size);
    if limit > 0 {
        query = query.with("limit", limit.to_string());
    }
    let query = query.filters(&Filters::parse(flags.list("filter"))?);
    let containers = inv.client.get(&query.on("/containers/json"))?;
    let truncate = !flags.bool("no-trunc");
    let rows: Vec<Value> = containers
        .elements()
        .iter()
        .map(|c| row(c, truncate))
        .collect();
    // A template is tried before any row: what it names must be there.
    LISTING
        .text(&format, &[row(&Value::Null, true)])
        .map_err(|e| {
            Exit::failure(e.message.replacen(
                "template parsing error",
                "failed to execute template",
                1,
            ))
        })?;
    LISTING.print(&format, &rows)
}

/// A container as the listing shows it.
pub(in crate::cli) fn row(c: &Value, truncate: bool) -> Value {
    let id = c.text("Id");
    let created = Moment {
        seconds: c.int("Created"),
        nanoseconds: 0,
    };
    let command = if truncate {
        ellipsis(c.text("Command"), 20)
    } else {
        c.text("Command").to_owned()
    };
    let local = c
        .list("Mounts")
        .iter()
        .filter(|m| m.text("Driver") == "local")
        .count();
    let networks: Vec<&str> = c
        .entries("NetworkSettings.Networks")
        .iter()
        .map(|(k, _)| k.as_str())
        .collect();
    let mut size = units::short_size(c.float("SizeRw"));
    if c.int("SizeRootFs") > 0 {
        size += &format!(" (virtual {})", units::short_size(c.float("SizeRootFs")));
    }
    Row::new()
        .with(
            "ID",
            if truncate {
                short_id(id)
            } else {
                id.to_owned()
            },
        )
        .with("Names", names(c, truncate))
        .with("Image", image(c, truncate))
        .with(
            "Command",
            format!(
                "\"{}\"",
                command.escape_debug().to_string().replace("\\'", "'")
            ),
        )
        .with("CreatedAt", created.local_go_text())
        .with(
            "RunningFor",
            format!("{} ago", units::human_duration(created.age_seconds())),
        )
        .with("Ports", display_ports(c.list("Ports")))
        .with("State", c.text("State"))
        .with("Status", c.text("Status"))
        .with("Size", size)
        .with("Mounts", mounts(c, truncate))
        .with("LocalVolumes", local.to_string())
        .with("Networks", networks.join(","))
        .with("Platform", Value::Null)
        .labels(c.at("Labels"))
        .done()
}

fn mounts(c: &Value, truncate: bool) -> String {
    let shown = |m: &Value| {
        let name = match m.text("Name") {
            "" => m.text("Source"),
            name => name,
        };
        if truncate {
            ellipsis(name, 15)
        } else {
            name.to_owned()
        }
    };
    c.list("Mounts")
        .iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join(",")
}

fn names(c: &Value, truncate: bool) -> String {
    let names = c
        .list("Names")
        .iter()
        .map(|n| n.str().trim_start_matches('/'));
    if truncate {
        // A legacy link's name holds the linking container's; it is no name.
        return names
            .into_iter()
            .find(|n| !n.contains('/'))
            .unwrap_or("")
            .to_owned();
    }
    names.collect::<Vec<_>>().join(",")
}

/// The image's name; an id is shortened and a digest left out.
fn image(c: &Value, truncate: bool) -> String {
    let name = c.text("Image");
    if name.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return name.to_owned();
    }
    if short_id(c.text("ImageID")) == short_id(name) {
        return short_id(name);
    }
    crate::cli::reference::without_digest(name)
}

/// Ports as the PORTS column has them: runs of them joined.
pub(in crate::cli) fn display_ports(ports: &[Value]) -> String {
    let mut ports: Vec<(i64, &str, i64, &str)> = ports
        .iter()
        .map(|p| {
            (
                p.int("PrivatePort"),
                p.text("IP"),
                p.int("PublicPort"),
                p.text("Type"),
            )
        })
        .collect();
    ports.sort_unstable();
    let (mut done, mut moved) = (Vec::new(), Vec::new());
    // Runs of neighbours by address and protocol, in order of appearance.
    let mut runs: Vec<(&str, &str, i64, i64)> = Vec::new();
    for (private, ip, public, protocol) in ports {
        if !ip.is_empty() && public != private {
            moved.push(format!(
                "{}->{private}/{protocol}",
                join_host_port(ip, &public.to_string())
            ));
            continue;
        }
        match runs
            .iter_mut()
            .find(|(i, p, ..)| *i == ip && *p == protocol)
        {
            None => runs.push((ip, protocol, private, private)),
            Some((.., last)) if private == *last + 1 => *last = private,
            Some(run) => {
                done.push(port_run(*run));
                *run = (ip, protocol, private, private);
            }
        }
    }
    done.extend(runs.into_iter().map(port_run));
    done.extend(moved);
    done.join(", ")
}

fn port_run((ip, protocol, first, last): (&str, &str, i64, i64)) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if ip.is_empty() {
        format!("{range}/{protocol}")
    } else {
        format!("{}->{range}/{protocol}", join_host_port(ip, &range))
    }
}

/// `[::]:80` for what has colons itself.
pub(super) fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        display_ports(Value::parse(json.as_bytes()).unwrap().elements())
    }

    #[test]
    fn ports_are_joined_in_runs() {
        assert_eq!(
            shown(r#"[{"PrivatePort":80,"Type":"tcp"},{"PrivatePort":81,"Type":"tcp"}]"#),
            "80-81/tcp"
        );
        assert_eq!(
            shown(
                r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]"#
            ),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            shown(
                r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":80,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":81,"PublicPort":81,"Type":"tcp"},{"PrivatePort":9,"Type":"udp"}]"#
            ),
            "9/udp, 0.0.0.0:80-81->80-81/tcp"
        );
    }

    #[test]
    fn a_row_is_shortened_unless_told_otherwise() {
        let c = Value::parse(br#"{"Id":"0123456789abcdef","Names":["/other/link","/me"],"Image":"repo/i:1@sha256:00","ImageID":"sha256:ff","Command":"sh -c 'a very long command'","Created":0,"Labels":{"a":"b"}}"#).unwrap();
        let short = row(&c, true);
        assert_eq!(short.text("ID"), "0123456789ab");
        assert_eq!(short.text("Names"), "me");
        assert_eq!(short.text("Image"), "repo/i:1");
        assert_eq!(short.text("Command"), "\"sh -c 'a very long …\"");
        let long = row(&c, false);
        assert_eq!(long.text("Names"), "other/link,me");
        assert_eq!(long.text("Command"), "\"sh -c 'a very long command'\"");
    }
}
