//! What a container reads and writes: attach, logs, resize.

use crate::api::call::Call;
use crate::api::hijack::{Session, hijack, parse_detach_keys};
use crate::api::query::Query;
use crate::api::reply::{Reply, empty};
use crate::api::router::Router;
use crate::api::stream::{LogStyle, log_reply};
use crate::backend::{
    AttachOptions, Attached, Backend, Chunk, ContainerStatus, LogQuery, TerminalSize,
};
use crate::error::{Error, Result};
use hyper::StatusCode;
use smol::stream::StreamExt;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.post("/containers/{id}/attach", attach);
    router.get("/containers/{id}/logs", logs);
    router.post("/containers/{id}/resize", resize);
}

async fn attach<B: Backend>(call: Call<B>) -> Result<Reply> {
    let container = call.node.container(call.param("id"), false).await?;
    match container.state.status {
        ContainerStatus::Paused => {
            return Err(Error::conflict(format!(
                "container {} is paused, unpause the container before attach",
                call.param("id")
            )));
        }
        ContainerStatus::Restarting => {
            return Err(Error::conflict(format!(
                "container {} is restarting, wait until the container is running",
                call.param("id")
            )));
        }
        _ => {}
    }
    let query = &call.query;
    let config = &container.create.config;
    let options = AttachOptions {
        stdin: query.flag("stdin") && config.open_stdin,
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let session = Session {
        tty: config.tty,
        raw: config.tty,
        close_stdin: config.stdin_once,
        detach_keys: parse_detach_keys(query.text("detachKeys"))?,
    };
    let (replay, stream) = (query.flag("logs"), query.flag("stream"));
    let node = call.node.clone();
    let id = container.id.clone();
    // Registered before the answer: what is started next is not missed.
    let live = match stream {
        true => node.attach(id.as_str(), options).await?,
        false => Attached::nothing(),
    };
    Ok(hijack(call, session, move || async move {
        if !replay {
            return Ok(live);
        }
        let query = LogQuery {
            stdout: options.stdout,
            stderr: options.stderr,
            ..LogQuery::default()
        };
        let past = node.logs(id.as_str(), query).await?;
        let past = past.map(|line| {
            line.map(|l| Chunk {
                stream: l.stream,
                bytes: l.bytes,
            })
        });
        Ok(Attached {
            input: live.input,
            output: Box::pin(past.chain(live.output)),
        })
    }))
}

async fn logs<B: Backend>(call: Call<B>) -> Result<Reply> {
    let (query, style) = log_query(&call.query)?;
    let container = call.node.container(call.param("id"), false).await?;
    if container.create.host.log_config.kind == "none" {
        return Err(Error::not_implemented(
            "configured logging driver does not support reading",
        ));
    }
    let style = LogStyle {
        tty: container.create.config.tty,
        ..style
    };
    let lines = call.node.logs(container.id.as_str(), query).await?;
    Ok(log_reply(lines, style, call.version))
}

/// The parameters that all logs have.
pub(in crate::api) fn log_query(query: &Query) -> Result<(LogQuery, LogStyle)> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let tail = match query.text("tail") {
        "" | "all" => None,
        // What is no number is everything, as Docker has it.
        text => text.parse().ok(),
    };
    let log = LogQuery {
        stdout,
        stderr,
        since: query.time("since")?,
        until: query.time("until")?,
        tail,
        follow: query.flag("follow"),
    };
    let style = LogStyle {
        tty: false,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    Ok((log, style))
}

async fn resize<B: Backend>(call: Call<B>) -> Result<Reply> {
    let size = terminal_size(&call.query)?;
    call.node.resize(call.param("id"), size).await?;
    Ok(empty(StatusCode::OK))
}

pub(in crate::api) fn terminal_size(query: &Query) -> Result<TerminalSize> {
    Ok(TerminalSize {
        rows: query.required_number("h")?,
        columns: query.required_number("w")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_parameters() {
        let query = Query::parse(Some(
            "stdout=1&tail=5&since=1700000000.5&follow=true&details=1",
        ));
        let (log, style) = log_query(&query).unwrap();
        assert!(log.stdout && !log.stderr && log.follow && style.details && !style.timestamps);
        assert_eq!(log.tail, Some(5));
        assert_eq!(log.since.map(|t| t.0), Some(1_700_000_000_500_000_000));
        let error = log_query(&Query::parse(Some("tail=5"))).unwrap_err();
        assert_eq!(
            error.message,
            "Bad parameters: you must choose at least one stream"
        );
    }
}
