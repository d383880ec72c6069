//! The node: `version`, `info`, `events`, disk use, cleaning up, and the
//! proxy that `ssh://` hosts run.

mod df;
mod info;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;

use hyper::Method;

use super::command::{Arity, Command};
use super::exit::{self, Exit, Outcome};
use super::filters::Filters;
use super::format::document_template;
use super::http::{Query, Upload};
use super::json::Value;
use super::template::{Scope, Template};
use super::time::Moment;
use super::{Invocation, ask, container, image, inspect, network, streams, table, units, volume};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["version"],
        "[OPTIONS]",
        "Show the client's and the server's version",
        Arity::Exactly(0),
        &[inspect::FLAGS],
        version,
    ),
    Command::new(
        &["system info", "info"],
        "[OPTIONS]",
        "Show what the node is and has",
        Arity::Exactly(0),
        &[inspect::FLAGS],
        info::run,
    ),
    Command::new(
        &["system events", "events"],
        "[OPTIONS]",
        "Show what happens, as it happens",
        Arity::Exactly(0),
        &["\
f filter filter Show only these (type=…, event=…, container=…, …)
. format string Print by a template, or json
. since string Begin at a time or so long ago
. until string End at a time"],
        events,
    ),
    Command::new(
        &["system df"],
        "[OPTIONS]",
        "Show how much disk is used",
        Arity::Exactly(0),
        &[
            ". format string Print by a template, table TEMPLATE, or json\nv verbose bool Show each thing",
        ],
        df::run,
    ),
    Command::new(
        &["system prune"],
        "[OPTIONS]",
        "Remove what is unused",
        Arity::Exactly(0),
        &["\
a all bool All unused images, not only those without a name
. filter filter Remove only these (label=…, until=…)
f force bool Do not ask
. volumes bool Unused anonymous volumes too"],
        prune,
    ),
    Command::new(
        &["system dial-stdio"],
        "",
        "Pass standard input and output on to the node's API",
        Arity::Exactly(0),
        &[],
        dial_stdio,
    ),
    inspect::COMMAND,
];

/// `skep --version`.
pub(super) fn short_version(program: &str) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    exit::print_line(&match program {
        // Scripts read this line.
        "docker" => format!("Docker version {version}, build skep"),
        _ => format!("{program} version {version}"),
    })
}

/// Go's name of the processor this client was built for.
const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    b"x86" => "386",
    _ => std::env::consts::ARCH,
};

/// What `version` prints without a format; the engine's part first.
const VERSION: &str = "\
Client:
 Version:\t{{.Client.Version}}
 API version:\t{{.Client.ApiVersion}}{{if ne .Client.ApiVersion .Client.DefaultAPIVersion}} (downgraded from {{.Client.DefaultAPIVersion}}){{end}}
 OS/Arch:\t{{.Client.Os}}/{{.Client.Arch}}
 Context:\t{{.Client.Context}}
{{- with .Server}}

Server:{{if .Platform.Name}} {{.Platform.Name}}{{end}}
{{- range .Components}}
 {{.Name}}:
{{- if eq .Name \"Engine\"}}
  Version:\t{{.Version}}
  API version:\t{{.Details.ApiVersion}} (minimum version {{.Details.MinAPIVersion}})
{{- if .Details.GoVersion}}
  Go version:\t{{.Details.GoVersion}}{{end}}
  Git commit:\t{{.Details.GitCommit}}
  Built:\t{{.Details.BuildTime}}
  OS/Arch:\t{{.Details.Os}}/{{.Details.Arch}}
  Experimental:\t{{.Details.Experimental}}
{{- else}}
  Version:\t{{.Version}}
{{- range $key, $value := .Details}}
  {{$key}}:\t{{$value}}
{{- end}}
{{- end}}
{{- end}}
{{- end}}
";

fn version(inv: &Invocation) -> Outcome {
    let template = match inv.flags.str("format") {
        "" => Template::parse(VERSION).map_err(Exit::failure)?,
        format => document_template(format)?,
    };
    let default = super::http::newest_version();
    let server = inv
        .client
        .api_version()
        .and_then(|version| Ok((version, inv.client.get("/version")?)));
    let mut document = Value::Null;
    let client = document.at_mut("Client");
    client.set("Version", env!("CARGO_PKG_VERSION"));
    client.set(
        "ApiVersion",
        match &server {
            Ok(((major, minor), _)) => format!("{major}.{minor}"),
            Err(_) => default.clone(),
        },
    );
    client.set("DefaultAPIVersion", default);
    client.set("Os", "linux");
    client.set("Arch", ARCHITECTURE);
    client.set("Context", "default");
    let failed = match server {
        Ok((_, server)) => {
            document.set("Server", with_engine(server));
            None
        }
        Err(fault) => {
            document.set("Server", Value::Null);
            Some(fault)
        }
    };
    let text = template
        .execute(&document, Scope::document())
        .map_err(|e| Exit::failure(format!("template parsing error: {e}")))?;
    exit::print(&table::align(
        &(text.trim_end_matches('\n').to_owned() + "\n"),
        20,
        1,
    ))?;
    failed.map_or(Ok(()), |fault| Err(fault.into()))
}

/// The server's answer with what the text shows of the engine, whatever the
/// server left out.
fn with_engine(mut server: Value) -> Value {
    let mut components: Vec<Value> = server.list("Components").to_vec();
    if !components.iter().any(|c| c.text("Name") == "Engine") {
        let mut engine = Value::Null;
        engine.set("Name", "Engine");
        engine.set("Version", server.text("Version"));
        components.push(engine);
    }
    for engine in components.iter_mut().filter(|c| c.text("Name") == "Engine") {
        for key in [
            "ApiVersion",
            "MinAPIVersion",
            "GoVersion",
            "GitCommit",
            "BuildTime",
            "Os",
            "Arch",
            "Experimental",
        ] {
            if engine.at("Details").get(key).is_none() {
                engine.at_mut("Details").set(key, server.text(key));
            }
        }
        if let Some(built) = Moment::parse(engine.text("Details.BuildTime")) {
            engine.at_mut("Details").set("BuildTime", built.ansi_c());
        }
    }
    server.set("Components", Value::List(components));
    if server.at("Platform").is_null() {
        server.at_mut("Platform").set("Name", "");
    }
    server
}

/// An event line longer than this is none.
const EVENT_BYTES_MAX: u64 = 1024 * 1024;

fn events(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let template = match flags.str("format") {
        "" => None,
        format => {
            let source = if format == "json" {
                "{{json .}}"
            } else {
                format
            };
            let parsed = Template::parse(source);
            Some(parsed.map_err(|e| Exit::with_code(64, format!("Error parsing format: {e}")))?)
        }
    };
    let moment = |name: &str| match flags.str(name) {
        "" => String::new(),
        text => Moment::api_parameter(text),
    };
    let query = Query::new()
        .some("since", &moment("since"))
        .some("until", &moment("until"))
        .filters(&Filters::parse(flags.list("filter"))?);
    let response = inv
        .client
        .request(Method::GET, &query.on("/events"), Upload::Nothing)?;
    let mut lines = BufReader::new(response);
    loop {
        let mut line = Vec::new();
        if lines
            .by_ref()
            .take(EVENT_BYTES_MAX)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event = Value::parse(&line)
            .map_err(|e| Exit::failure(format!("invalid event from daemon: {e}")))?;
        let text = match &template {
            None => event_text(&event),
            Some(template) => template.execute(&event, Scope::document())?,
        };
        exit::print_line(&text)?;
    }
}

fn event_text(event: &Value) -> String {
    let nanoseconds = event.int("timeNano");
    let moment = match (nanoseconds, event.int("time")) {
        (0, 0) => None,
        (0, seconds) => Some(Moment {
            seconds,
            nanoseconds: 0,
        }),
        (n, _) => Some(Moment {
            seconds: n.div_euclid(units::SECOND),
            nanoseconds: u32::try_from(n.rem_euclid(units::SECOND)).unwrap_or(0),
        }),
    };
    let mut text = moment
        .map(|m| m.local_rfc3339_nanos() + " ")
        .unwrap_or_default();
    text += &format!(
        "{} {} {}",
        event.text("Type"),
        event.text("Action"),
        event.text("Actor.ID")
    );
    let attributes: Vec<String> = event
        .sorted("Actor.Attributes")
        .iter()
        .map(|(k, v)| format!("{k}={}", v.str()))
        .collect();
    if !attributes.is_empty() {
        text += &format!(" ({})", attributes.join(", "));
    }
    text
}

fn prune(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let (all, volumes) = (flags.bool("all"), flags.bool("volumes"));
    let filters = || Filters::parse(flags.list("filter"));
    if volumes && filters()?.has("until") {
        return Err(Exit::failure(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    ask::confirm(
        flags.bool("force"),
        &prune_warning(all, volumes, &filters()?),
    )?;
    let mut bytes = 0.0;
    let mut report = |(text, reclaimed): (String, f64)| {
        bytes += reclaimed;
        if text.is_empty() {
            Ok(())
        } else {
            exit::print_line(&text)
        }
    };
    report(container::prune_stopped(inv, &filters()?)?)?;
    report((network::prune_unused(inv, &filters()?)?, 0.0))?;
    if volumes {
        report(volume::prune_unused(inv, &filters()?)?)?;
    }
    report(image::prune_unused(inv, all, filters()?)?)?;
    exit::print_line(&format!(
        "Total reclaimed space: {}",
        units::human_size(bytes)
    ))
}

fn prune_warning(all: bool, volumes: bool, filters: &Filters) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if volumes {
        text += "  - all anonymous volumes not used by at least one container\n";
    }
    text += if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    };
    let mut named: Vec<String> = Vec::new();
    for key in ["label", "label!", "until"] {
        named.extend(
            filters
                .get(key)
                .iter()
                .map(|value| format!("{key}={value}")),
        );
    }
    named.sort_by_cached_key(|text| container::natural_key(text));
    if !named.is_empty() {
        text += "\n  Items to be pruned will be filtered with:\n";
        named
            .iter()
            .for_each(|filter| text += &format!("  - {filter}\n"));
    }
    text + "\nAre you sure you want to continue?"
}

/// Copies both ways until the node closes; the end of standard input is
/// passed on, so that half-closed requests still get their answer.
fn dial_stdio(inv: &Invocation) -> Outcome {
    let unreachable =
        |e: io::Error| Exit::failure(format!("failed to open the raw stream connection: {e}"));
    let stream = inv.client.host().connect().map_err(unreachable)?;
    let mut up = stream.try_clone()?;
    std::thread::spawn(move || {
        let _ = streams::copy(&mut io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let mut down = stream;
    streams::copy(&mut down, &mut io::stdout().lock())?;
    io::stdout().flush()?;
    Ok(())
}
