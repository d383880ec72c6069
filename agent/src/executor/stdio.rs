//! Streams between a client and a container: attach, logs, terminal size.

use super::Executor;
use super::container::{Container, WAITING_CLIENTS_MAX, WaitingClient};
use crate::backend::{
    AttachOptions, Attached, Chunk, LogLine, LogQuery, LogStream, StdStream, TerminalSize, Writer,
};
use crate::error::{Error, Result};
use crate::logs::{self, Entry, Select};
use crate::shim::{self, Attachment, Source, Stdin};
use skep_control::model::{ContainerCreate, Labels, WallTime};
use smol::io::AsyncWrite;
use smol::stream::{self, StreamExt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Log lines read ahead of a slow client.
const LINES_AHEAD: usize = 64;

impl Executor {
    /// The container's stdio from now on, or from its next start on.
    pub(crate) async fn attach(&self, wanted: &str, options: AttachOptions) -> Result<Attached> {
        let container = self.find(wanted)?;
        let tty = container.life().record.create.config.tty;
        let open_stdin = container.life().record.create.config.open_stdin;
        let options = AttachOptions {
            stdin: options.stdin && open_stdin,
            // A terminal has one output.
            stdout: options.stdout || (tty && options.stderr),
            stderr: options.stderr && !tty,
        };
        let shim = {
            let mut life = container.life();
            if life.state.status == super::record::Status::Paused {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    container.id
                )));
            }
            match life.shim.clone() {
                Some(shim) => shim,
                None => return self.attach_at_start(&container, &mut life.waiting, options),
            }
        };
        let stream = shim.attach(wanted_streams(options)).await?;
        self.tell(&container, "attach", &[]);
        Ok(attached(stream))
    }

    /// The client's streams lead nowhere until the container starts.
    fn attach_at_start(
        &self,
        container: &Arc<Container>,
        waiting: &mut Vec<WaitingClient>,
        options: AttachOptions,
    ) -> Result<Attached> {
        waiting.retain(|client| !client.to.is_closed());
        if waiting.len() >= WAITING_CLIENTS_MAX {
            return Err(Error::conflict(format!(
                "container {}: {WAITING_CLIENTS_MAX} clients wait for its start already",
                container.id
            )));
        }
        let (to, from) = smol::channel::bounded(1);
        waiting.push(WaitingClient { options, to });
        let (input_to, input_from) = smol::channel::bounded::<Writer>(1);
        let input = options
            .stdin
            .then(|| -> Writer { Box::pin(LateWriter::new(input_from)) });
        let executor = self.clone();
        let container = container.clone();
        let output = stream::once_future(async move {
            // The sender is dropped when the start fails or the container goes.
            match from.recv().await {
                Ok(Ok(mut there)) => {
                    if let Some(writer) = there.input.take() {
                        let _ = input_to.try_send(writer);
                    }
                    executor.tell(&container, "attach", &[]);
                    there.output
                }
                _ => Box::pin(stream::empty()),
            }
        })
        .flatten();
        Ok(Attached {
            input,
            output: Box::pin(output),
        })
    }

    /// What the container wrote, and with `follow` what it goes on to write.
    pub(crate) async fn logs(&self, wanted: &str, query: LogQuery) -> Result<LogStream> {
        let container = self.find(wanted)?;
        let (create, runs) = {
            let life = container.life();
            (life.record.create.clone(), life.state.is_running())
        };
        if create.host.log_config.kind == "none" {
            return Err(Error::not_implemented(
                "configured logging driver does not support reading",
            ));
        }
        let details = details(&create);
        let select = Select {
            stdout: query.stdout,
            stderr: query.stderr,
            tail: query.tail.map(|lines| lines as u64),
            since: query.since.map(|at| at.0),
            until: query.until.map(|at| at.0),
        };
        let line = move |entry: Entry| line(entry, &details);
        let folder = container.folder.clone();
        if query.follow && runs {
            let lines = logs::follow(folder, select).map(move |entry| entry.map(&line));
            return Ok(Box::pin(lines));
        }
        let reader = smol::unblock(move || logs::read(&folder, &select)).await?;
        // The reader blocks on the disk: it reads ahead on a thread of its own.
        let lines = blocking_iterator(reader).map(move |entry| Ok(line(entry)));
        Ok(Box::pin(lines))
    }

    pub(crate) async fn resize(&self, wanted: &str, size: TerminalSize) -> Result<()> {
        let container = self.find(wanted)?;
        let shim = container.life().shim.clone();
        let shim = shim.ok_or_else(|| {
            Error::conflict(format!(
                "cannot resize a stopped container: {}",
                container.id
            ))
        })?;
        shim.resize(size.rows, size.columns).await
    }
}

fn blocking_iterator<T: Send + 'static>(
    items: impl Iterator<Item = T> + Send + 'static,
) -> impl stream::Stream<Item = T> + Send {
    let (to, from) = smol::channel::bounded(LINES_AHEAD);
    smol::unblock(move || {
        for item in items {
            if to.send_blocking(item).is_err() {
                return;
            }
        }
    })
    .detach();
    from
}

fn line(entry: Entry, details: &Labels) -> LogLine {
    let mut bytes = entry.data;
    if !entry.partial {
        bytes.push(b'\n');
    }
    LogLine {
        stream: match entry.stderr {
            true => StdStream::Stderr,
            false => StdStream::Stdout,
        },
        time: WallTime(entry.time),
        bytes,
        details: details.clone(),
    }
}

/// What log options `labels` and `env` choose of a container.
fn details(create: &ContainerCreate) -> Labels {
    let chosen = |key: &str| -> Vec<&str> {
        let list = create.host.log_config.config.get(key);
        list.map_or(Vec::new(), |list| list.split(',').collect())
    };
    let mut details = Labels::new();
    for key in chosen("labels") {
        if let Some(value) = create.config.labels.get(key) {
            details.insert(key.to_owned(), value.clone());
        }
    }
    let env = chosen("env");
    for (key, value) in create
        .config
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
    {
        if env.contains(&key) {
            details.insert(key.to_owned(), value.to_owned());
        }
    }
    details
}

pub(super) fn wanted(options: AttachOptions) -> shim::Attach {
    wanted_streams(options)
}

fn wanted_streams(options: AttachOptions) -> shim::Attach {
    shim::Attach {
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    }
}

/// The shim's streams in the API's words.
pub(super) fn attached(stream: Attachment) -> Attached {
    let input = stream
        .stdin
        .map(|stdin| -> Writer { Box::pin(StdinWriter::new(stdin)) });
    let output = stream.output.into_stream().map(|chunk| {
        Ok(Chunk {
            stream: match chunk.source {
                Source::Stdout => StdStream::Stdout,
                Source::Stderr => StdStream::Stderr,
            },
            bytes: chunk.data,
        })
    });
    Attached {
        input,
        output: Box::pin(output),
    }
}

type Write = Pin<Box<dyn Future<Output = (Stdin, Result<usize>)> + Send>>;

/// A process's stdin as a writer. One write at a time is under way.
struct StdinWriter {
    idle: Option<Stdin>,
    busy: Option<Write>,
}

impl StdinWriter {
    fn new(stdin: Stdin) -> Self {
        Self {
            idle: Some(stdin),
            busy: None,
        }
    }

    /// Waits for the write under way, and takes the stdin back.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(busy) = &mut self.busy else {
            return Poll::Ready(Ok(0));
        };
        let (stdin, result) = ready!(busy.as_mut().poll(context));
        self.busy = None;
        self.idle = Some(stdin);
        Poll::Ready(result.map_err(io::Error::other))
    }
}

impl AsyncWrite for StdinWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.busy.is_none() {
            let Some(mut stdin) = this.idle.take() else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let bytes = bytes.to_vec();
            this.busy = Some(Box::pin(async move {
                let result = stdin.write_all(&bytes).await.map(|()| bytes.len());
                (stdin, result)
            }));
        }
        this.poll_idle(context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_idle(context).map_ok(drop)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(this.poll_idle(context));
        // Dropped, it is closed: the process sees its end.
        this.idle = None;
        Poll::Ready(result.map(drop))
    }
}

/// Stdin of a process that is still to come.
struct LateWriter {
    coming: Pin<Box<smol::channel::Receiver<Writer>>>,
    there: Option<Writer>,
}

impl LateWriter {
    fn new(coming: smol::channel::Receiver<Writer>) -> Self {
        Self {
            coming: Box::pin(coming),
            there: None,
        }
    }

    fn poll_there(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut Writer>> {
        if self.there.is_none() {
            self.there = ready!(stream::Stream::poll_next(self.coming.as_mut(), context));
        }
        Poll::Ready(
            self.there
                .as_mut()
                .ok_or_else(|| io::ErrorKind::BrokenPipe.into()),
        )
    }
}

impl AsyncWrite for LateWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let writer = ready!(self.get_mut().poll_there(context))?;
        writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().there {
            Some(writer) => writer.as_mut().poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.get_mut().poll_there(context)) {
            Ok(writer) => writer.as_mut().poll_close(context),
            // It never started: there is nothing to close.
            Err(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Config, HostConfig, LogConfig};

    #[test]
    fn details_are_what_the_options_choose() {
        let create = ContainerCreate {
            config: Config {
                labels: Labels::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
                env: vec!["X=y".into(), "Z=w".into()],
                ..Config::default()
            },
            host: HostConfig {
                log_config: LogConfig {
                    kind: String::new(),
                    config: Labels::from([
                        ("labels".into(), "a,c".into()),
                        ("env".into(), "Z".into()),
                    ]),
                },
                ..HostConfig::default()
            },
            ..ContainerCreate::default()
        };
        let expected = Labels::from([("a".into(), "1".into()), ("Z".into(), "w".into())]);
        assert_eq!(details(&create), expected);
    }

    #[test]
    fn a_whole_line_has_its_line_feed() {
        let entry = |partial| Entry {
            time: 1,
            stderr: true,
            partial,
            data: b"x".to_vec(),
        };
        assert_eq!(line(entry(false), &Labels::new()).bytes, b"x\n");
        assert_eq!(line(entry(true), &Labels::new()).bytes, b"x");
    }
}
