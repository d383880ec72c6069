//! A container's or an exec's streams joined to the user's: `attach`,
//! `start -a`, and what `run` and `exec` build on.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::Method;

use super::path;
use crate::cli::Invocation;
use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::host::Host;
use crate::cli::http::{Client, Query, Response, Upload, escape};
use crate::cli::json::Value;
use crate::cli::signals::{self, Signals};
use crate::cli::streams;
use crate::cli::terminal::{self, Escapable, Raw};

pub(super) const FLAGS: &str = "\
. detach-keys string Keys that detach instead of ctrl-p,ctrl-q
. no-stdin bool Do not attach standard input
. sig-proxy bool Pass signals on (the default)";

pub(super) const START_FLAGS: &str = "\
a attach bool Show what it writes, and pass signals on
. detach-keys string Keys that detach instead of ctrl-p,ctrl-q
i interactive bool Attach standard input";

/// Which streams, and how.
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
    pub(super) detach_keys: String,
}

impl Streams {
    /// The query of the attach call.
    fn query(&self) -> Query {
        Query::new()
            .with("stream", "1")
            .flag("stdin", self.stdin)
            .flag("stdout", self.stdout)
            .flag("stderr", self.stderr)
            .some("detachKeys", &self.detach_keys)
    }
}

/// How an attachment ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The other side closed.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Streams being copied.
pub(super) struct Attached {
    output: Option<JoinHandle<io::Result<()>>>,
    input: Option<JoinHandle<()>>,
    detached: Arc<AtomicBool>,
    stream: UnixStream,
    raw: Option<Raw>,
}

impl Attached {
    /// Begins to copy between the user's streams and a connection taken over.
    pub(super) fn begin(
        (stream, early): (UnixStream, Vec<u8>),
        streams: &Streams,
    ) -> Outcome<Self> {
        let keys = terminal::detach_keys(&streams.detach_keys)?;
        let raw = if streams.stdin && streams.tty {
            Raw::enter()?
        } else {
            None
        };
        let detached = Arc::new(AtomicBool::new(false));
        let input = if streams.stdin {
            let to = stream.try_clone()?;
            let (tty, detached) = (streams.tty, Arc::clone(&detached));
            Some(std::thread::spawn(move || {
                send_input(to, tty.then_some(keys), &detached)
            }))
        } else {
            None
        };
        let output = if streams.stdout || streams.stderr {
            let from = stream.try_clone()?;
            let (out, err, tty) = (streams.stdout, streams.stderr, streams.tty);
            Some(std::thread::spawn(move || {
                copy_output(early, from, out, err, tty)
            }))
        } else {
            None
        };
        Ok(Self {
            output,
            input,
            detached,
            stream,
            raw,
        })
    }

    /// Waits for the streams to end and puts the terminal back.
    pub(super) fn finish(mut self) -> Outcome<Ended> {
        let copied = match (self.output.take(), self.input.take()) {
            (Some(output), _) => output
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("output copy gave up"))),
            (None, Some(input)) => {
                let _ = input.join();
                Ok(())
            }
            (None, None) => Ok(()),
        };
        drop(self.raw.take());
        if self.detached.load(Ordering::SeqCst) {
            return Ok(Ended::Detached);
        }
        match copied {
            Ok(()) => Ok(Ended::Closed),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Exit::quiet(1)),
            Err(e) => Err(Exit::failure(e.to_string())),
        }
    }

    /// Gives up, whatever is still under way.
    pub(super) fn abandon(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(output) = self.output {
            let _ = output.join();
        }
    }
}

/// Copies standard input until it ends or the user detaches. The end of input
/// closes one direction only: output goes on.
fn send_input(mut to: UnixStream, keys: Option<Vec<u8>>, detached: &AtomicBool) {
    let stdin = io::stdin();
    match keys {
        Some(keys) => {
            let mut input = Escapable::new(stdin.lock(), keys);
            let _ = streams::copy(&mut input, &mut to);
            if input.escaped {
                detached.store(true, Ordering::SeqCst);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
        None => {
            let _ = streams::copy(&mut stdin.lock(), &mut to);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn copy_output(
    early: Vec<u8>,
    from: UnixStream,
    out: bool,
    err: bool,
    tty: bool,
) -> io::Result<()> {
    use std::io::Read;
    let mut from = io::Cursor::new(early).chain(from);
    if tty {
        return streams::copy(&mut from, &mut io::stdout());
    }
    let sink = |wanted: bool, to: Box<dyn Write>| if wanted { to } else { Box::new(io::sink()) };
    let (mut to_out, mut to_err) = (
        sink(out, Box::new(io::stdout())),
        sink(err, Box::new(io::stderr())),
    );
    streams::demultiplex(&mut from, &mut to_out, &mut to_err)
}

/// Attaches to a container; copying begins at once.
pub(super) fn attach(client: &Client, id: &str, streams: &Streams) -> Outcome<Attached> {
    let connection = client.hijack(&path(id, &streams.query().on("/attach")), None)?;
    Attached::begin(connection, streams)
}

/// Asks to be told when a container exits; the answer is held back until it does.
pub(super) fn wait(client: &Client, id: &str, condition: &str) -> Outcome<Response> {
    let query = Query::new().some("condition", condition);
    Ok(client.request(Method::POST, &path(id, &query.on("/wait")), Upload::Nothing)?)
}

/// The exit of a container that was waited for, as this process's own.
pub(super) fn exit_with(waiting: Response) -> Outcome {
    let answer = waiting.json()?;
    let message = answer.text("Error.Message");
    if !message.is_empty() {
        exit::warn(&format!("Error waiting for container: {message}"));
        return Err(Exit::quiet(125));
    }
    match answer.int("StatusCode") {
        0 => Ok(()),
        code => Err(Exit::quiet(code.to_le_bytes()[0])),
    }
}

/// What signals do while streams are attached.
#[derive(Clone)]
pub(super) struct Watch {
    /// The container that signals are passed on to; none keeps their effect.
    pub(super) proxy_to: Option<String>,
    /// Where the terminal's size is told, `/containers/…` or `/exec/…`.
    pub(super) resize: Option<String>,
}

/// Handles signals in a thread of its own, to the end of the process.
pub(super) fn watch(mut signals: Signals, host: &Host, watch: Watch) {
    let host = host.clone();
    std::thread::spawn(move || {
        let client = Client::new(host);
        while let Ok(signal) = signals.next() {
            if signal == libc::SIGWINCH {
                if let Some(resize) = &watch.resize {
                    tell_size(&client, resize);
                }
            } else if let Some(id) = &watch.proxy_to {
                let query = Query::new().with("signal", signals::name(signal));
                let _ = client.post(&path(id, &query.on("/kill")), None);
            } else if matches!(
                signal,
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM
            ) {
                terminal::restore();
                std::process::exit(128 + signal);
            }
        }
    });
}

fn tell_size(client: &Client, resize: &str) -> bool {
    tell_size_and(client, resize, 0)
}

/// Tells a size so much larger than it is: a change makes programs draw anew.
fn tell_size_and(client: &Client, resize: &str, more: u16) -> bool {
    let Some((rows, columns)) = terminal::size() else {
        return true;
    };
    let (rows, columns) = (rows.saturating_add(more), columns.saturating_add(more));
    let query = Query::new()
        .with("h", rows.to_string())
        .with("w", columns.to_string());
    client
        .post(&query.on(&format!("{resize}/resize")), None)
        .is_ok()
}

/// A container that is just starting may not have its terminal yet.
const RESIZE_ATTEMPTS: u32 = 10;
const RESIZE_WAIT: Duration = Duration::from_millis(10);

/// Tells the terminal's size once there is a terminal to tell.
pub(super) fn first_size(client: &Client, resize: &str) {
    for attempt in 0..RESIZE_ATTEMPTS {
        if tell_size(client, resize) {
            return;
        }
        std::thread::sleep(RESIZE_WAIT * (attempt + 1));
    }
}

/// The resource that a container's terminal size is told to.
pub(super) fn resize_path(kind: &str, id: &str) -> String {
    format!("/{kind}/{}", escape(id))
}

/// A terminal is promised to the container only when there is one.
pub(super) fn check_terminal(stdin: bool, tty: bool) -> Outcome {
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Exit::failure("the input device is not a TTY"));
    }
    Ok(())
}

fn inspect_running(inv: &Invocation, name: &str) -> Outcome<Value> {
    let container = inv.client.get(&path(name, "/json"))?;
    for (state, message) in [
        (
            "State.Paused",
            "You cannot attach to a paused container, unpause it first",
        ),
        (
            "State.Restarting",
            "You cannot attach to a restarting container, wait until it is running",
        ),
    ] {
        if container.bool(state) {
            return Err(Exit::failure(message));
        }
    }
    if !container.bool("State.Running") {
        return Err(Exit::failure(
            "You cannot attach to a stopped container, start it first",
        ));
    }
    Ok(container)
}

pub(super) fn run_attach(inv: &Invocation) -> Outcome {
    let signals = Signals::take_all()?;
    let (flags, client) = (&inv.flags, &inv.client);
    terminal::detach_keys(flags.str("detach-keys"))?;
    let container = inspect_running(inv, &inv.operands[0])?;
    let id = container.text("Id").to_owned();
    let tty = container.bool("Config.Tty");
    let no_stdin = flags.bool("no-stdin");
    check_terminal(!no_stdin, tty)?;
    let waiting = wait(client, &id, "")?;
    let streams = Streams {
        stdin: !no_stdin && container.bool("Config.OpenStdin"),
        stdout: true,
        stderr: true,
        tty,
        detach_keys: flags.str("detach-keys").to_owned(),
    };
    let attached = attach(client, &id, &streams)?;
    let resize = (tty && terminal::stdout_is_terminal()).then(|| resize_path("containers", &id));
    if let Some(resize) = &resize {
        tell_size_and(client, resize, 1);
        first_size(client, resize);
    }
    let proxy_to = (flags.bool_or("sig-proxy", true) && !tty).then(|| id.clone());
    watch(signals, client.host(), Watch { proxy_to, resize });
    match attached.finish()? {
        Ended::Detached => Err(Exit::failure("read escape sequence")),
        Ended::Closed => exit_with(waiting),
    }
}

pub(super) fn run_start(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    if flags.bool("attach") || flags.bool("interactive") {
        if inv.operands.len() > 1 {
            return Err(Exit::failure(
                "you cannot start and attach multiple containers at once",
            ));
        }
        return start_attached(inv, &inv.operands[0]);
    }
    let mut failed = Vec::new();
    for name in &inv.operands {
        match inv.client.post(&path(name, "/start"), None) {
            Ok(_) => exit::print_line(name)?,
            Err(fault) => {
                exit::warn(&fault.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Exit::failure(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

fn start_attached(inv: &Invocation, name: &str) -> Outcome {
    let signals = Signals::take_all()?;
    let (flags, client) = (&inv.flags, &inv.client);
    terminal::detach_keys(flags.str("detach-keys"))?;
    let container = client.get(&path(name, "/json"))?;
    let id = container.text("Id").to_owned();
    let tty = container.bool("Config.Tty");
    let streams = Streams {
        stdin: flags.bool("interactive") && container.bool("Config.OpenStdin"),
        stdout: true,
        stderr: true,
        tty,
        detach_keys: flags.str("detach-keys").to_owned(),
    };
    let resize = (tty && terminal::stdout_is_terminal()).then(|| resize_path("containers", &id));
    watch(
        signals,
        client.host(),
        Watch {
            proxy_to: (!tty).then(|| id.clone()),
            resize: resize.clone(),
        },
    );
    let attached = attach(client, &id, &streams)?;
    let removed = container.bool("HostConfig.AutoRemove");
    let waiting = wait(client, &id, if removed { "removed" } else { "next-exit" })?;
    if let Err(fault) = client.post(&path(&id, "/start"), None) {
        attached.abandon();
        return Err(fault.into());
    }
    if let Some(resize) = &resize {
        first_size(client, resize);
    }
    match attached.finish()? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_with(waiting),
    }
}
