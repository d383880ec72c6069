//! `exec`.

use hyper::Method;
use serde_json::json;

use super::attach::{Attached, Streams, Watch, check_terminal, first_size, resize_path, watch};
use super::path;
use crate::cli::Invocation;
use crate::cli::convert::pairs;
use crate::cli::exit::{Exit, Outcome};
use crate::cli::http::{Upload, escape};
use crate::cli::signals::Signals;
use crate::cli::terminal;

pub(super) const FLAGS: &str = "\
d detach bool Run in the background
. detach-keys string Keys that detach instead of ctrl-p,ctrl-q
e env env Set a variable
. env-file list Read variables from a file
i interactive bool Attach standard input
. privileged bool Give all privileges
t tty bool Give a terminal
u user string User, and group after a colon, by name or number
w workdir string Folder to run in";

pub(super) fn run(inv: &Invocation) -> Outcome {
    let signals = Signals::take_all()?;
    let (flags, client) = (&inv.flags, &inv.client);
    let (tty, detach) = (flags.bool("tty"), flags.bool("detach"));
    let stdin = flags.bool("interactive") && !detach;
    terminal::detach_keys(flags.str("detach-keys"))?;
    let mut body = json!({
        "User": flags.str("user"),
        "Privileged": flags.bool("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStdout": !detach,
        "AttachStderr": !detach,
        "Detach": detach,
        "DetachKeys": flags.str("detach-keys"),
        "Env": pairs::environment(flags.list("env-file"), flags.list("env"))?,
        "WorkingDir": flags.str("workdir"),
        "Cmd": &inv.operands[1..],
    });
    let name = &inv.operands[0];
    client.get(&path(name, "/json"))?;
    if !detach {
        check_terminal(stdin, tty)?;
    }
    let mut start = json!({ "Detach": detach, "Tty": tty });
    if tty && let Some((rows, columns)) = terminal::size() {
        body["ConsoleSize"] = json!([rows, columns]);
        start["ConsoleSize"] = json!([rows, columns]);
    }
    let created = client.post(&path(name, "/exec"), Some(body))?;
    let id = created.text("Id").to_owned();
    if id.is_empty() {
        return Err(Exit::failure("exec ID empty"));
    }
    let start_path = format!("/exec/{}/start", escape(&id));
    if detach {
        client.request(Method::POST, &start_path, Upload::Json(start.to_string()))?;
        return Ok(());
    }
    let streams = Streams {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        detach_keys: flags.str("detach-keys").to_owned(),
    };
    let attached = Attached::begin(client.hijack(&start_path, Some(start))?, &streams)?;
    let resize = (tty && terminal::stdin_is_terminal()).then(|| resize_path("exec", &id));
    if let Some(resize) = &resize {
        first_size(client, resize);
    }
    watch(
        signals,
        client.host(),
        Watch {
            proxy_to: None,
            resize,
        },
    );
    if attached.finish()? == super::attach::Ended::Detached {
        return Err(Exit::failure("read escape sequence"));
    }
    let ended = client.get(&format!("/exec/{}/json", escape(&id)))?;
    match ended.int("ExitCode") {
        0 => Ok(()),
        code => Err(Exit::quiet(code.to_le_bytes()[0])),
    }
}
