//! The `/exec` routes, and making an exec in a container.

use super::call::Call;
use super::containers::terminal_size;
use super::hijack::{Session, hijack, parse_detach_keys};
use super::pass_on::Place;
use super::reply::{self, Reply, empty};
use super::router::Router;
use crate::backend::{Backend, Exec, ExecConfig, ExecStart, TerminalSize};
use crate::error::{Error, Result};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_control::model::Argv;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.at(Place::NewExec, |router| {
        router.post("/containers/{id}/exec", create);
    });
    router.at(Place::Exec, |router| {
        router.post("/exec/{id}/start", start);
        router.post("/exec/{id}/resize", resize);
        router.get("/exec/{id}/json", inspect);
    });
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    user: String,
    privileged: bool,
    tty: bool,
    console_size: Vec<u16>,
    attach_stdin: bool,
    attach_stderr: bool,
    attach_stdout: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Argv,
}

async fn create<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: CreateBody = call.json().await?;
    if body.cmd.0.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    parse_detach_keys(&body.detach_keys)?;
    let exec = ExecConfig {
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
        tty: body.tty,
        privileged: body.privileged,
        command: body.cmd.0,
        env: body.env,
        user: body.user,
        working_dir: body.working_dir,
        detach_keys: body.detach_keys,
        size: size(&body.console_size),
    };
    let id = call.node.exec_create(call.param("id"), exec).await?;
    Ok(reply::created(&json!({"Id": id})))
}

/// Rows and columns; anything else, and zero, is none.
fn size(console: &[u16]) -> Option<TerminalSize> {
    match *console {
        [rows, columns] if rows > 0 && columns > 0 => Some(TerminalSize { rows, columns }),
        _ => None,
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    detach: bool,
    tty: bool,
    console_size: Vec<u16>,
}

async fn start<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: StartBody = call.optional_json().await?;
    let exec = call.node.exec(call.param("id")).await?;
    if exec.running {
        return Err(Error::conflict(format!(
            "Error: Exec command {} is already running",
            exec.id
        )));
    }
    if exec.exit_code.is_some() {
        return Err(Error::conflict(format!(
            "Error: Exec command {} has already run",
            exec.id
        )));
    }
    if !body.console_size.is_empty() && !body.tty {
        return Err(Error::invalid(
            "console size is only supported when TTY is enabled",
        ));
    }
    let start = ExecStart {
        detach: body.detach,
        size: size(&body.console_size),
    };
    let node = call.node.clone();
    if body.detach {
        node.exec_start(&exec.id, start).await?;
        return Ok(empty(StatusCode::OK));
    }
    let session = Session {
        tty: exec.config.tty,
        raw: body.tty,
        close_stdin: true,
        detach_keys: parse_detach_keys(&exec.config.detach_keys)?,
    };
    Ok(hijack(call, session, move || async move {
        node.exec_start(&exec.id, start).await
    }))
}

async fn resize<B: Backend>(call: Call<B>) -> Result<Reply> {
    let size = terminal_size(&call.query)?;
    call.node.exec_resize(call.param("id"), size).await?;
    Ok(empty(StatusCode::OK))
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let exec = call.node.exec(call.param("id")).await?;
    Ok(reply::json(&exec_json(&exec)))
}

fn exec_json(exec: &Exec) -> Value {
    let config = &exec.config;
    let (entrypoint, arguments) = match config.command.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("", &[][..]),
    };
    let mut process = json!({
        "tty": config.tty,
        "entrypoint": entrypoint,
        "arguments": arguments,
        "privileged": config.privileged,
    });
    if let Some(members) = process.as_object_mut().filter(|_| !config.user.is_empty()) {
        members.insert("user".into(), config.user.as_str().into());
    }
    json!({
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.stdin,
        "OpenStderr": config.stderr,
        "OpenStdout": config.stdout,
        "CanRemove": false,
        "ContainerID": exec.container,
        "DetachKeys": config.detach_keys,
        "Pid": exec.pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_has_dockers_fields() {
        let mut exec = Exec {
            id: "e1".into(),
            container: "c1".into(),
            ..Exec::default()
        };
        exec.config.command = vec!["sh".into(), "-c".into(), "id".into()];
        exec.running = true;
        let value = exec_json(&exec);
        assert_eq!(value["ExitCode"], Value::Null);
        assert_eq!(
            value["ProcessConfig"],
            json!({"tty": false, "entrypoint": "sh", "arguments": ["-c", "id"], "privileged": false})
        );
        exec.exit_code = Some(127);
        assert_eq!(exec_json(&exec)["ExitCode"], 127);
    }

    #[test]
    fn sizes() {
        assert_eq!(
            size(&[24, 80]),
            Some(TerminalSize {
                rows: 24,
                columns: 80
            })
        );
        assert_eq!(size(&[0, 0]), None);
        assert_eq!(size(&[]), None);
    }
}
