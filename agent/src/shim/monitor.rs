//! The shim's one loop: the container's output to its log and its clients,
//! clients' input to it, the deaths of children, requests on the socket.
//!
//! Backpressure: the log takes everything at once. A client that does not read
//! what it attached to makes the shim stop reading that process, and thereby
//! the process stop, as under dockerd; but only for [`STALL`]: then the client
//! is cut off. A container nobody is attached to never waits.
//!
//! A full or broken disk does not stop a container either: its output is then
//! lost, and the exit record says so.

use super::client_side::{Client, Role};
use super::kernel;
use super::maker::Bundle;
use super::record::ExitRecord;
use super::session::Session;
use super::verdict::Pending;
use super::wire::{
    Answer, Attach, CHUNK_BYTES_MAX, ExecSpec, Launch, Source, Started, TAG_STDERR, TAG_STDOUT,
};
use super::{cgroup, rootfs};
use crate::logs;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a client may leave its output unread.
const STALL: Duration = Duration::from_secs(10);

/// Connections at once: an agent holds one to wait and a few for streams.
const CLIENTS_MAX: usize = 64;

/// Exit codes of execs kept for who asks late.
const FINISHED_MAX: usize = 64;

/// Children reaped before it was known whose they were.
const STRANGERS_MAX: usize = 32;

/// Chunks read after the container's end: twice what its two pipes can hold.
const DRAIN_CHUNKS_MAX: usize = 64;

/// Bytes of the loop's buffer: a chunk and its tag. It stays for the shim's
/// life; what is larger (a request) gets memory of its own for a moment.
pub(super) const BUFFER_BYTES: usize = CHUNK_BYTES_MAX + 1;

/// The container's own number; execs count from 1.
pub(super) const CONTAINER: u64 = 0;

/// Wall nanoseconds since 1970.
pub(super) fn wall() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// Whether a shim for this container answers.
pub(super) fn alive(run_dir: &Path, id: &str) -> bool {
    super::client::dial(run_dir, id).is_ok()
}

/// The control socket, bound and listening.
pub(super) fn bind(run_dir: &Path, id: &str) -> std::io::Result<OwnedFd> {
    let name = format!("{id}.sock");
    // Relative: the whole path may be longer than an address can be.
    std::env::set_current_dir(run_dir)?;
    let _ = std::fs::remove_file(&name);
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    net::bind(&socket, &net::SocketAddrUnix::new(name.as_str())?)?;
    rustix::fs::chmod(&name, rustix::fs::Mode::from_raw_mode(0o600))?;
    net::listen(&socket, 32)?;
    std::env::set_current_dir("/")?;
    Ok(socket)
}

/// A process whose stdio this shim holds.
pub(super) struct Process {
    pub(super) number: u64,
    /// Empty for the container itself.
    pub(super) exec_id: String,
    pub(super) pid: i32,
    pub(super) session: Session,
}

/// An exec that is being started.
pub(super) struct Starting {
    pub(super) process: Process,
    pub(super) client: u64,
    pub(super) spec: ExecSpec,
    pub(super) pending: Pending,
}

/// Who is ready.
enum Token {
    Children,
    Listener,
    Output(u64, Source),
    Stdin(u64),
    Verdict(u64),
    Client(u64),
}

/// Everything a shim knows.
pub(super) struct Monitor {
    pub(super) id: String,
    pub(super) bundle: Bundle,
    pub(super) task_dir: PathBuf,
    pub(super) socket_path: PathBuf,
    pub(super) cgroup: PathBuf,
    pub(super) started: Started,
    pub(super) stdin_once: bool,
    /// Nobody else dies with the first process: they have to be killed.
    pub(super) shared_pids: bool,
    pub(super) listener: OwnedFd,
    pub(super) children: OwnedFd,
    pub(super) log: Option<logs::Writer>,
    pub(super) processes: Vec<Process>,
    pub(super) starting: Vec<Starting>,
    pub(super) clients: Vec<Client>,
    pub(super) finished: VecDeque<(String, i32)>,
    pub(super) strangers: VecDeque<(i32, i32)>,
    pub(super) numbers: u64,
    pub(super) trouble: String,
}

impl Monitor {
    pub(super) fn new(
        launch: &Launch,
        started: &Started,
        session: Session,
        listener: OwnedFd,
        children: OwnedFd,
    ) -> Self {
        let host = &launch.inputs.create.host;
        let mut trouble = String::new();
        let log = match logs::Writer::open(&launch.task_dir, &launch.log) {
            Ok(log) => log,
            Err(e) => {
                trouble = format!("log: {e}");
                None
            }
        };
        Self {
            id: launch.id.clone(),
            bundle: Bundle::of(launch),
            task_dir: launch.task_dir.clone(),
            socket_path: launch.run_dir.join(format!("{}.sock", launch.id)),
            cgroup: launch.inputs.cgroup_path.clone(),
            started: started.clone(),
            stdin_once: launch.inputs.create.config.stdin_once,
            shared_pids: !host.pid_mode.is_empty() && host.pid_mode != "private",
            listener,
            children,
            log,
            processes: vec![Process {
                number: CONTAINER,
                exec_id: String::new(),
                pid: started.pid,
                session,
            }],
            starting: Vec::new(),
            clients: Vec::new(),
            finished: VecDeque::new(),
            strangers: VecDeque::new(),
            numbers: CONTAINER,
            trouble,
        }
    }

    /// Clients whose connections came with the launch are attached from the
    /// container's first byte.
    pub(super) fn attach_waiting(&mut self, waiting: &[Attach], connections: Vec<OwnedFd>) {
        for (attach, fd) in waiting.iter().zip(connections) {
            self.numbers += 1;
            let mut client = Client::new(self.numbers, fd);
            client.role = Role::Streaming(CONTAINER, *attach);
            self.clients.push(client);
        }
    }

    pub(super) fn run(mut self) -> ! {
        rootfs::forget_namespaces();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            for (token, ready) in self.wait() {
                match token {
                    Token::Children => {
                        if let Some(status) = self.reap(&mut buffer) {
                            self.finish(status, &mut buffer);
                        }
                    }
                    Token::Listener => self.accept(),
                    Token::Output(number, source) => {
                        self.pump(number, source, &mut buffer);
                    }
                    Token::Stdin(number) => {
                        if let Some(process) = self.process(number) {
                            process.session.flush_stdin();
                        }
                    }
                    Token::Verdict(number) => self.judge(number),
                    Token::Client(id) => self.serve(id, ready, &mut buffer),
                }
            }
            self.drop_stalled();
        }
    }

    pub(super) fn process(&mut self, number: u64) -> Option<&mut Process> {
        self.processes.iter_mut().find(|p| p.number == number)
    }

    fn wait(&self) -> Vec<(Token, PollFlags)> {
        let mut fds = vec![
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let mut tokens = vec![Token::Children, Token::Listener];
        for process in &self.processes {
            let number = process.number;
            let streams = || self.clients.iter().filter(|c| c.streams(number));
            if streams().all(|c| !c.blocked()) {
                for (source, fd) in process.session.outputs() {
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    tokens.push(Token::Output(number, source));
                }
            }
            if let Some(fd) = process.session.blocked_stdin() {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
                tokens.push(Token::Stdin(number));
            }
        }
        for starting in &self.starting {
            fds.push(PollFd::new(&starting.pending.pipe, PollFlags::IN));
            tokens.push(Token::Verdict(starting.process.number));
        }
        for client in &self.clients {
            let takes = self.processes.iter().any(|p| {
                client.streams(p.number) && client.sends_input() && p.session.takes_input()
            });
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, takes || client.is_asking());
            wanted.set(PollFlags::OUT, client.blocked());
            fds.push(PollFd::from_borrowed_fd(client.fd.as_fd(), wanted));
            tokens.push(Token::Client(client.id));
        }
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let blocked = self.clients.iter().any(Client::blocked);
        if rustix::event::poll(&mut fds, blocked.then_some(&second)).is_err() {
            return Vec::new();
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let all = tokens.into_iter().zip(ready);
        all.filter(|(_, ready)| !ready.is_empty()).collect()
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(fd) = net::accept_with(&self.listener, flags) {
            if self.clients.len() >= CLIENTS_MAX {
                return;
            }
            self.numbers += 1;
            self.clients.push(Client::new(self.numbers, fd));
        }
    }

    /// Moves one chunk from a process to the log and its clients.
    fn pump(&mut self, number: u64, source: Source, buffer: &mut [u8]) -> bool {
        let Some((tag, space)) = buffer.split_first_mut() else {
            return false;
        };
        let space = space.get_mut(..CHUNK_BYTES_MAX).unwrap_or_default();
        let Some(process) = self.process(number) else {
            return false;
        };
        let length = process.session.read(source, space);
        if length == 0 {
            return false;
        }
        *tag = if source == Source::Stderr {
            TAG_STDERR
        } else {
            TAG_STDOUT
        };
        if number == CONTAINER
            && let Some(log) = &mut self.log
        {
            let data = space.get(..length).unwrap_or_default();
            if let Err(e) = log.write(source == Source::Stderr, wall(), data) {
                self.trouble = format!("log: {e}");
            }
        }
        let packet = buffer.get(..=length).unwrap_or_default();
        for client in &mut self.clients {
            if client.wants(number, source) {
                client.send(packet);
            }
        }
        true
    }

    /// What a client says or that it is gone.
    fn serve(&mut self, id: u64, ready: PollFlags, buffer: &mut [u8]) {
        let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else {
            return;
        };
        if ready.contains(PollFlags::OUT) {
            client.flush();
        }
        if ready.contains(PollFlags::IN) && client.is_asking() {
            match client.receive_request() {
                None => {}
                Some(packet) if packet.is_empty() => client.die(),
                Some(packet) => self.request(id, &packet),
            }
        } else if ready.contains(PollFlags::IN) {
            match (client.receive(buffer), client.stream()) {
                (Some(0), Some((number, _))) => {
                    client.stop_input();
                    self.end_input(number);
                }
                (Some(length), Some((number, _))) => {
                    if let Some(process) = self.process(number) {
                        let data = buffer.get(..length).unwrap_or_default();
                        process.session.write_stdin(data);
                    }
                }
                _ => {}
            }
        } else if ready.intersects(PollFlags::HUP | PollFlags::ERR) {
            let stream = client.stream().filter(|_| client.sends_input());
            client.die();
            if let Some((number, _)) = stream {
                self.end_input(number);
            }
        }
        self.clients.retain(|c| !c.is_dead());
    }

    /// A client's input has ended: the process's does too for an exec, and
    /// for a container that reads one client's only.
    fn end_input(&mut self, number: u64) {
        let ends = number != CONTAINER || self.stdin_once;
        if let Some(process) = self.process(number)
            && ends
            && !process.session.has_terminal()
        {
            process.session.end_stdin();
        }
    }

    /// Reaps all children; the container's status when it is among them.
    fn reap(&mut self, buffer: &mut [u8]) -> Option<(i32, i32)> {
        use rustix::process::{WaitOptions, wait};
        let mut information = [0; 128];
        while rustix::io::read(&self.children, &mut information).is_ok() {}
        let mut ended = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let signal = status.terminating_signal().unwrap_or(0);
            let code = status.exit_status().unwrap_or(128 + signal);
            let number = self
                .processes
                .iter()
                .find(|p| p.pid == pid)
                .map(|p| p.number);
            match number {
                Some(CONTAINER) => ended = Some((code, signal)),
                Some(number) => self.exec_ended(number, code, buffer),
                None => {
                    self.strangers.push_back((pid, code));
                    if self.strangers.len() > STRANGERS_MAX {
                        self.strangers.pop_front();
                    }
                }
            }
        }
        ended
    }

    /// Reads what a process has left behind.
    fn drain(&mut self, number: u64, buffer: &mut [u8]) {
        for source in [Source::Stdout, Source::Stderr] {
            for _ in 0..DRAIN_CHUNKS_MAX {
                if !self.pump(number, source, buffer) {
                    break;
                }
            }
        }
    }

    pub(super) fn exec_ended(&mut self, number: u64, code: i32, buffer: &mut [u8]) {
        self.drain(number, buffer);
        let Some(at) = self.processes.iter().position(|p| p.number == number) else {
            return;
        };
        let process = self.processes.swap_remove(at);
        for client in &mut self.clients {
            if client.streams(number) {
                client.close();
            } else if client.role == Role::WaitingForExec(process.exec_id.clone()) {
                client.answer(&Answer::ExecExited(code));
                client.close();
            }
        }
        self.clients.retain(|c| !c.is_dead());
        self.finished.push_back((process.exec_id, code));
        if self.finished.len() > FINISHED_MAX {
            self.finished.pop_front();
        }
    }

    /// The container has ended: record, tell, tidy up, go.
    fn finish(&mut self, (code, signal): (i32, i32), buffer: &mut [u8]) -> ! {
        if self.shared_pids {
            let _ = cgroup::kill(&self.cgroup);
        }
        self.drain(CONTAINER, buffer);
        if let Some(log) = &mut self.log
            && let Err(e) = log.finish(wall())
        {
            self.trouble = format!("log: {e}");
        }
        let mut record = ExitRecord {
            code,
            signal,
            oom_killed: cgroup::oom_kills(&self.cgroup) > 0,
            error: std::mem::take(&mut self.trouble),
            started: self.started.started,
            finished: wall(),
            pid: self.started.pid,
        };
        // Where there is no socket there is a record; and whoever sees either
        // may use the container's names for the next run.
        self.release();
        if let Err(e) = record.write(&self.task_dir) {
            record.error = format!("{} exit record: {e}", record.error);
        }
        self.tidy();
        for client in &mut self.clients {
            match &client.role {
                Role::Waiting => client.answer(&Answer::Exited(record.clone())),
                Role::WaitingForExec(_) => client.answer(&Answer::ExecExited(137)),
                _ => {}
            }
            client.close();
        }
        self.linger();
        kernel::exit_now(0)
    }

    fn release(&self) {
        let _ = cgroup::sweep(&self.cgroup);
        rootfs::unmount(&self.bundle.root());
        rootfs::unmount(&self.bundle.init());
    }

    fn tidy(&self) {
        // Only an empty mount point may go: never delete through a mount.
        if std::fs::remove_dir(self.bundle.root()).is_ok() {
            let _ = std::fs::remove_dir_all(&self.bundle.0);
        }
        let _ = std::fs::remove_file(&self.socket_path);
    }

    /// Lets clients take the rest of the output.
    fn linger(&mut self) {
        let deadline = Instant::now() + STALL;
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        loop {
            self.clients.retain(|c| !c.is_dead());
            if self.clients.is_empty() || Instant::now() > deadline {
                return;
            }
            let mut fds: Vec<PollFd<'_>> = self
                .clients
                .iter()
                .map(|c| PollFd::from_borrowed_fd(c.fd.as_fd(), PollFlags::OUT))
                .collect();
            let _ = rustix::event::poll(&mut fds, Some(&second));
            for client in &mut self.clients {
                client.flush();
            }
        }
    }

    fn drop_stalled(&mut self) {
        for client in &mut self.clients {
            if client.blocked_for().is_some_and(|time| time > STALL) {
                client.die();
            }
        }
        self.clients.retain(|c| !c.is_dead());
    }
}
