//! The agent's half: starting shims and talking to them.
//!
//! Owns no state: every call opens a connection, so that a shim adopted by a
//! new agent is driven exactly as one launched by this one. What a shim knew
//! and took with it is on disk ([`ExitRecord`]).

use super::record::ExitRecord;
use super::wire::{
    Answer, Attach, CHUNK_BYTES_MAX, Chunk, ExecSpec, Failure, LAUNCH_BYTES_MAX, Launch, PROTOCOL,
    REQUEST_BYTES_MAX, Request, Source, Started, TAG_STDERR, WAITING_MAX,
};
use crate::error::{Error, Result};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use smol::Async;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How long a container may take to start: a cold card reads a large binary.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(120);

/// A live shim and its container.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    id: String,
    run_dir: PathBuf,
    task_dir: PathBuf,
    started: Started,
}

/// A client's streams. Dropping both sides detaches.
pub(crate) struct Attachment {
    /// There when it was asked for.
    pub(crate) stdin: Option<Stdin>,
    pub(crate) output: Output,
}

/// A started exec. Its streams are empty when it is detached.
pub(crate) struct Exec {
    pub(crate) id: String,
    /// As the host numbers it.
    pub(crate) pid: i32,
    pub(crate) streams: Attachment,
}

/// Makes and starts a container in a new shim. Also gives the streams of the
/// clients that waited for it, in the order of `launch.waiting`.
///
/// # Errors
/// The container did not start; nothing of it is left but `task_dir`.
pub(crate) async fn launch(launch: Launch) -> Result<(Shim, Vec<Attachment>), Failure> {
    smol::unblock(move || {
        let (started, connections) = spawn(&launch)?;
        let mut attached = Vec::new();
        for (connection, attach) in connections.into_iter().zip(&launch.waiting) {
            let connection = Async::new(connection).map_err(|e| Failure::from(Error::from(e)))?;
            attached.push(Attachment::new(Arc::new(connection), *attach));
        }
        let shim = Shim {
            id: launch.id,
            run_dir: launch.run_dir,
            task_dir: launch.task_dir,
            started,
        };
        Ok((shim, attached))
    })
    .await
}

/// Finds the shim of container `id` again, after the agent's own restart.
///
/// # Errors
/// `NotFound` when no shim answers: the container ended ([`ExitRecord::read`])
/// or was taken by a reboot.
pub(crate) async fn connect(id: &str, run_dir: &Path, task_dir: &Path) -> Result<Shim> {
    let mut shim = Shim {
        id: id.to_owned(),
        run_dir: run_dir.to_owned(),
        task_dir: task_dir.to_owned(),
        started: Started::default(),
    };
    match shim.ask(&Request::State).await? {
        Answer::State(started) => shim.started = started,
        other => return Err(unexpected(&other)),
    }
    Ok(shim)
}

impl Shim {
    /// The container's first process, as the host numbers it.
    pub(crate) fn pid(&self) -> i32 {
        self.started.pid
    }

    /// Wall nanoseconds since 1970.
    pub(crate) fn started(&self) -> i64 {
        self.started.started
    }

    /// What was asked for and is not to be had on this machine.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.started.warnings
    }

    /// Sends a signal to the first process, or to all of the container's.
    pub(crate) async fn signal(&self, signal: i32, all: bool) -> Result<()> {
        self.done(&Request::Signal { signal, all }).await
    }

    /// Sets the size of the container's terminal.
    pub(crate) async fn resize(&self, height: u16, width: u16) -> Result<()> {
        self.done(&Request::Resize {
            exec: None,
            height,
            width,
        })
        .await
    }

    /// Sets the size of an exec's terminal.
    pub(crate) async fn resize_exec(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        self.done(&Request::Resize {
            exec: Some(exec.to_owned()),
            height,
            width,
        })
        .await
    }

    /// Joins the container's stdio: what it writes from now on.
    pub(crate) async fn attach(&self, attach: Attach) -> Result<Attachment> {
        let connection = self.send(&Request::Attach(attach)).await?;
        match receive(&connection).await? {
            Answer::Done => Ok(Attachment::new(connection, attach)),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a command in the container.
    ///
    /// # Errors
    /// With Docker's exit codes: 127 no such file, 126 not executable.
    pub(crate) async fn exec(&self, spec: ExecSpec) -> Result<Exec, Failure> {
        let (id, attach) = (spec.id.clone(), spec.attach);
        let asked = async {
            let connection = self.send(&Request::Exec(spec)).await?;
            let answer = receive(&connection).await?;
            Ok::<_, Error>((connection, answer))
        };
        match asked.await {
            Ok((connection, Answer::Started(started))) => Ok(Exec {
                id,
                pid: started.pid,
                streams: Attachment::new(connection, attach),
            }),
            Ok((_, Answer::Failed(failure))) => Err(failure),
            Ok((_, other)) => Err(Failure::from(unexpected(&other))),
            Err(e) => Err(Failure::from(e)),
        }
    }

    /// An exec's exit code, once it has one. 137 when the container took it along.
    pub(crate) async fn wait_exec(&self, exec: &str) -> Result<i32> {
        let request = Request::ExecWait {
            exec: exec.to_owned(),
        };
        match self.ask(&request).await {
            Ok(Answer::ExecExited(code)) => Ok(code),
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(other) => Err(unexpected(&other)),
            Err(_) => Ok(137),
        }
    }

    /// The container's end. `None` when the shim was killed and left no
    /// record: what it watched over is then to be swept ([`super::cgroup`]).
    pub(crate) async fn wait(&self) -> Option<ExitRecord> {
        if let Ok(Answer::Exited(record)) = self.ask(&Request::Wait).await {
            return Some(record);
        }
        let task_dir = self.task_dir.clone();
        smol::unblock(move || ExitRecord::read(&task_dir)).await
    }

    async fn done(&self, request: &Request) -> Result<()> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer> {
        let connection = self.send(request).await?;
        receive(&connection).await
    }

    async fn send(&self, request: &Request) -> Result<Arc<Async<OwnedFd>>> {
        let mut packet = vec![PROTOCOL];
        packet.extend(postcard::to_allocvec(request).map_err(|e| Error::internal(e.to_string()))?);
        if packet.len() > REQUEST_BYTES_MAX {
            return Err(Error::invalid(format!(
                "container {}: the request has {} bytes, more than {REQUEST_BYTES_MAX}",
                self.id,
                packet.len()
            )));
        }
        let connection = dial(&self.run_dir, &self.id)
            .map_err(|_| Error::not_found(format!("container {} is not running", self.id)))?;
        let connection = Async::new(connection)?;
        connection
            .write_with(|fd| Ok(net::send(fd, &packet, SendFlags::NOSIGNAL)?))
            .await?;
        Ok(Arc::new(connection))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            exit_code: 128,
            message: error.message,
        }
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::internal(format!("the shim's answer makes no sense here: {answer:?}"))
}

impl Attachment {
    fn new(connection: Arc<Async<OwnedFd>>, attach: Attach) -> Self {
        let stdin = Stdin {
            connection: Arc::clone(&connection),
        };
        Self {
            // Dropping it at once is the end of an input nobody asked for.
            stdin: attach.stdin.then_some(stdin),
            output: Output { connection },
        }
    }
}

/// The writing end of a process's stdin. Dropped, it is closed: the process
/// sees the end of its input (a container's only if it has `StdinOnce`).
pub(crate) struct Stdin {
    connection: Arc<Async<OwnedFd>>,
}

impl Stdin {
    /// Returns once the shim has it; waits while the process does not read.
    pub(crate) async fn write_all(&mut self, data: &[u8]) -> Result<()> {
        for piece in data.chunks(CHUNK_BYTES_MAX) {
            self.connection
                .write_with(|fd| Ok(net::send(fd, piece, SendFlags::NOSIGNAL)?))
                .await?;
        }
        Ok(())
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let _ = net::shutdown(self.connection.get_ref(), net::Shutdown::Write);
    }
}

/// What a process writes, in order, until all its writers are gone.
pub(crate) struct Output {
    connection: Arc<Async<OwnedFd>>,
}

impl Output {
    /// `None` at the end. A reader who is ten seconds late is cut off.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX + 1];
        let length = self
            .connection
            .read_with(|fd| Ok(net::recv(fd, &mut buffer[..], RecvFlags::empty())?.0))
            .await
            .ok()?;
        let (tag, data) = buffer.get(..length)?.split_first()?;
        Some(Chunk {
            source: if *tag == TAG_STDERR {
                Source::Stderr
            } else {
                Source::Stdout
            },
            data: data.to_vec(),
        })
    }

    /// The same as a stream.
    pub(crate) fn into_stream(self) -> impl smol::stream::Stream<Item = Chunk> + Send {
        smol::stream::unfold(self, async |mut output| {
            let chunk = output.next().await?;
            Some((chunk, output))
        })
    }
}

/// The control socket's path is longer than an address may be: it is named
/// relative to its folder.
pub(super) fn dial(run_dir: &Path, id: &str) -> rustix::io::Result<OwnedFd> {
    let folder = rustix::fs::open(
        run_dir,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let address =
        net::SocketAddrUnix::new(format!("/proc/self/fd/{}/{id}.sock", folder.as_raw_fd()))?;
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    net::connect(&socket, &address)?;
    Ok(socket)
}

async fn receive(connection: &Async<OwnedFd>) -> Result<Answer> {
    // The packet's length first: an answer may be as long in coming as its
    // container lives, and memory for the longest would wait with it.
    let look = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = connection
        .read_with(|fd| Ok(net::recv(fd, &mut [0; 1][..], look)?))
        .await?;
    if length == 0 {
        return Err(Error::not_found("the container ended meanwhile"));
    }
    let mut packet = vec![0; length.min(REQUEST_BYTES_MAX)];
    net::recv(connection, &mut packet[..], RecvFlags::empty()).map_err(std::io::Error::from)?;
    postcard::from_bytes(&packet).map_err(|e| Error::internal(format!("a shim's answer: {e}")))
}

/// Starts the shim process, hands it the launch, and reads how it went.
fn spawn(launch: &Launch) -> Result<(Started, Vec<OwnedFd>), Failure> {
    let fail = |e: std::io::Error| Failure {
        exit_code: 128,
        message: format!("container {}: cannot start its shim: {e}", launch.id),
    };
    let bytes = postcard::to_allocvec(launch).map_err(|e| fail(std::io::Error::other(e)))?;
    if bytes.len() > LAUNCH_BYTES_MAX {
        return Err(fail(std::io::Error::other(format!(
            "its description has {} bytes, more than {LAUNCH_BYTES_MAX}",
            bytes.len()
        ))));
    }
    let (mut clients, mut passed) = (Vec::new(), Vec::new());
    for _ in launch.waiting.iter().take(WAITING_MAX) {
        let (client, theirs) = net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| fail(e.into()))?;
        clients.push(client);
        passed.push(theirs);
    }
    let (mut ours, theirs) = UnixStream::pair().map_err(fail)?;
    ours.set_read_timeout(Some(LAUNCH_TIMEOUT)).map_err(fail)?;
    // The process that is spawned forks and ends: the shim is nobody's child,
    // and this agent has nothing to reap later.
    let mut child = Command::new("/proc/self/exe")
        .arg0("skep-shim")
        .args(["shim", &launch.id])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail)?;
    let written = send_first(&ours, &bytes, &passed)
        .and_then(|sent| ours.write_all(bytes.get(sent..).unwrap_or_default()))
        .and_then(|()| ours.shutdown(std::net::Shutdown::Write));
    // Ours closed, the shim's end alone decides when a client's stream ends.
    drop(passed);
    let _ = child.wait();
    written.map_err(fail)?;
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).map_err(fail)?;
    match postcard::from_bytes(&answer) {
        Ok(Answer::Started(started)) => Ok((started, clients)),
        Ok(Answer::Failed(failure)) => Err(failure),
        _ => Err(fail(std::io::Error::other("it ended without a word"))),
    }
}

/// Sends the beginning of `bytes`, and with it the descriptors.
fn send_first(to: &UnixStream, bytes: &[u8], passed: &[OwnedFd]) -> std::io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage};
    let borrowed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(WAITING_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(std::io::Error::other("too many clients wait for the start"));
    }
    let pieces = [std::io::IoSlice::new(bytes)];
    Ok(net::sendmsg(
        to,
        &pieces,
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}
