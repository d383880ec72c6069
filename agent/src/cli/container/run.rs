//! `run`, `create` and `update`.

use std::fs::File;
use std::io::Write;

use serde_json::{Value, json};

use super::attach::{self, Ended, Streams, Watch};
use super::{config, path};
use crate::cli::Invocation;
use crate::cli::convert::resources;
use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::http::{Fault, Query};
use crate::cli::image;
use crate::cli::reference::{familiar, with_default_tag};
use crate::cli::signals::Signals;
use crate::cli::terminal;

pub(super) const RUN_FLAGS: &str = "\
# Running
d detach bool Run in the background and print the container's id
. detach-keys string Keys that detach instead of ctrl-p,ctrl-q
. sig-proxy bool Pass signals on (the default)";

pub(super) const UPDATE_FLAGS: &str = "\
m memory bytes Memory
. memory-reservation bytes Memory it should stay under
. memory-swap bytes Memory and swap together, -1 for no limit
. kernel-memory bytes Accepted, without effect
. cpus decimal CPUs
c cpu-shares int CPU weight against others
. cpu-period int Period of the CPU quota, microseconds
. cpu-quota int CPU time a period, microseconds
. cpu-rt-period int Period of the real-time quota, microseconds
. cpu-rt-runtime int Real-time CPU time a period, microseconds
. cpuset-cpus string CPUs it may run on
. cpuset-mems string Memory nodes it may use
. pids-limit int Processes, -1 for no limit
. blkio-weight uint Disk weight (10 to 1000, 0 for none)
. restart string When to start it again";

/// A failure of `run` with Docker's code for it, and the way to help.
fn run_failure(inv: &Invocation, message: &str) -> Exit {
    let code = match message {
        m if m.contains("executable file not found")
            || m.contains("no such file or directory")
            || m.contains("system cannot find the file specified") =>
        {
            127
        }
        m if m.contains("permission denied") || m.contains("is a directory") => 126,
        _ => 125,
    };
    with_help(inv, code, message)
}

fn with_help(inv: &Invocation, code: u8, message: &str) -> Exit {
    let (program, command) = (&inv.program, inv.path.rsplit(' ').next().unwrap_or("run"));
    Exit::with_code(
        code,
        format!("{program}: {message}\n\nRun '{program} {command} --help' for more information"),
    )
}

fn check_pull(inv: &Invocation) -> Outcome {
    match inv.flags.str("pull") {
        "" | "always" | "missing" | "never" => Ok(()),
        other => Err(with_help(
            inv,
            125,
            &format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            ),
        )),
    }
}

fn document(inv: &Invocation) -> Outcome<Value> {
    check_pull(inv)?;
    config::document(&inv.flags, &inv.operands[0], &inv.operands[1..])
        .map_err(|message| with_help(inv, 125, &message))
}

/// A file for the container's id, which goes if no id comes.
struct IdFile {
    path: String,
    file: Option<File>,
}

impl IdFile {
    fn open(path: &str) -> Result<Self, String> {
        if path.is_empty() {
            return Ok(Self {
                path: String::new(),
                file: None,
            });
        }
        let file = File::create_new(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("container ID file found, make sure the other container isn't running or delete {path}")
            }
            _ => format!("failed to create the container ID file: open {path}: {}", image::error_text(&e)),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
        })
    }

    fn write(mut self, id: &str) -> Result<(), String> {
        match self.file.take() {
            None => Ok(()),
            Some(mut file) => file
                .write_all(id.as_bytes())
                .map_err(|e| format!("failed to write the container ID ({id}) to file: {e}")),
        }
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the container, fetching the image where that is wanted.
fn create(inv: &Invocation, document: &Value) -> Result<String, String> {
    let flags = &inv.flags;
    let image = &inv.operands[0];
    let id_file = IdFile::open(flags.str("cidfile"))?;
    let fetch = || {
        image::pull_quietly(inv, &with_default_tag(image), flags.bool("quiet"))
            .map_err(|exit| exit.message)
    };
    if flags.str("pull") == "always" {
        fetch()?;
    }
    let query = Query::new()
        .some("name", flags.str("name"))
        .some("platform", flags.str("platform"));
    let url = query.on("/containers/create");
    let ask = || inv.client.post(&url, Some(document.clone()));
    let created = match ask() {
        Err(fault) if is_missing_image(&fault) && matches!(flags.str("pull"), "" | "missing") => {
            if !flags.bool("quiet") {
                exit::warn(&format!(
                    "Unable to find image '{}' locally",
                    familiar(&with_default_tag(image))
                ));
            }
            fetch()?;
            ask()
        }
        other => other,
    };
    let created = created.map_err(|fault| fault.to_string())?;
    for warning in created.strings("Warnings") {
        exit::warn(&format!("WARNING: {warning}"));
    }
    let id = created.text("Id").to_owned();
    id_file.write(&id)?;
    Ok(id)
}

/// Other things may be missing too: a network, a container to share with.
fn is_missing_image(fault: &Fault) -> bool {
    fault.is_not_found() && fault.message.to_lowercase().contains("image")
}

pub(super) fn run_create(inv: &Invocation) -> Outcome {
    let document = document(inv)?;
    exit::print_line(&create(inv, &document)?)
}

/// The streams to attach; none of a container that runs in the background,
/// whose document then says so.
fn streams(inv: &Invocation, document: &mut Value) -> Outcome<Streams> {
    let flags = &inv.flags;
    let detach_keys = flags.str("detach-keys").to_owned();
    let tty = flags.bool("tty");
    if flags.bool("detach") {
        if !flags.list("attach").is_empty() {
            return Err(Exit::failure(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        for field in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
            document[field] = false.into();
        }
    } else {
        attach::check_terminal(document["AttachStdin"] == true, tty)?;
        terminal::detach_keys(&detach_keys)?;
    }
    Ok(Streams {
        stdin: document["AttachStdin"] == true,
        stdout: document["AttachStdout"] == true,
        stderr: document["AttachStderr"] == true,
        tty,
        detach_keys,
    })
}

pub(super) fn run(inv: &Invocation) -> Outcome {
    let (flags, client) = (&inv.flags, &inv.client);
    let mut document = document(inv)?;
    let tty = flags.bool("tty");
    let streams = streams(inv, &mut document)?;
    let attaches = streams.stdin || streams.stdout || streams.stderr;
    let signals = if attaches {
        Some(Signals::take_all()?)
    } else {
        None
    };
    let id = create(inv, &document).map_err(|message| run_failure(inv, &message))?;
    if !attaches {
        exit::print_line(&id)?;
        client
            .post(&path(&id, "/start"), None)
            .map_err(|f| run_failure(inv, &f.to_string()))?;
        return Ok(());
    }
    let resize =
        (tty && terminal::stdout_is_terminal()).then(|| attach::resize_path("containers", &id));
    if let Some(signals) = signals {
        let proxy_to = flags.bool_or("sig-proxy", true).then(|| id.clone());
        attach::watch(
            signals,
            client.host(),
            Watch {
                proxy_to,
                resize: resize.clone(),
            },
        );
    }
    let attached = attach::attach(client, &id, &streams)?;
    let removed = flags.bool("rm");
    let waiting = attach::wait(client, &id, if removed { "removed" } else { "next-exit" })?;
    if let Err(fault) = client.post(&path(&id, "/start"), None) {
        attached.abandon();
        if removed {
            // Until the container that did not start is gone.
            let _ = waiting.json();
        }
        return Err(run_failure(inv, &fault.to_string()));
    }
    if let Some(resize) = &resize {
        attach::first_size(client, resize);
    }
    match attached.finish()? {
        Ended::Detached => Ok(()),
        Ended::Closed => attach::exit_with(waiting),
    }
}

pub(super) fn run_update(inv: &Invocation) -> Outcome {
    let given = super::super::flags::table(&[UPDATE_FLAGS])
        .iter()
        .any(|flag| inv.flags.changed(flag.long));
    if !given {
        return Err(Exit::failure(
            "you must provide one or more flags when using this command",
        ));
    }
    let mut body = json!({});
    for (name, value) in config::limits(&inv.flags) {
        body[name] = value;
    }
    body["RestartPolicy"] = resources::restart_policy(inv.flags.str("restart"))?;
    let (mut failures, mut warnings) = (Vec::new(), Vec::new());
    for name in &inv.operands {
        match inv.client.post(&path(name, "/update"), Some(body.clone())) {
            Ok(answer) => {
                exit::print_line(name)?;
                warnings.extend(answer.strings("Warnings").into_iter().map(str::to_owned));
            }
            Err(fault) => failures.push(fault.to_string()),
        }
    }
    if !warnings.is_empty() {
        exit::print_line(&warnings.join("\n"))?;
    }
    Exit::all(failures)
}
