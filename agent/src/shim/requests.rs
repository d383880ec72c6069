//! What clients ask of a shim: one request a connection, answered at once or
//! when what it waits for has happened.

use super::cgroup;
use super::client_side::Role;
use super::kernel::{self, Fork};
use super::maker::{self, Joining};
use super::monitor::{BUFFER_BYTES, CONTAINER, Monitor, Process, Starting};
use super::session::Session;
use super::verdict::{self, Pending};
use super::wire::{Answer, ExecSpec, Failure, PROTOCOL, Request};

impl Monitor {
    pub(super) fn request(&mut self, id: u64, packet: &[u8]) {
        let request = match packet.split_first() {
            Some((&PROTOCOL, rest)) => postcard::from_bytes(rest).map_err(|e| e.to_string()),
            Some((version, _)) => Err(format!(
                "this shim speaks version {PROTOCOL} and was asked in version {version}"
            )),
            None => Err("empty".to_owned()),
        };
        let answer = match request {
            Ok(request) => self.answer(id, request),
            Err(e) => Some(failed(format!("shim {}: request: {e}", self.id))),
        };
        if let (Some(answer), Some(client)) = (answer, self.clients.iter_mut().find(|c| c.id == id))
        {
            client.answer(&answer);
        }
    }

    /// `None` when the answer comes later.
    fn answer(&mut self, id: u64, request: Request) -> Option<Answer> {
        let client = self.clients.iter_mut().find(|c| c.id == id)?;
        match request {
            Request::State => return Some(Answer::State(self.started.clone())),
            Request::Wait => client.role = Role::Waiting,
            Request::Signal { signal, all } => return Some(self.signal(signal, all)),
            Request::Resize {
                exec,
                height,
                width,
            } => {
                let name = exec.unwrap_or_default();
                let process = self.processes.iter().find(|p| p.exec_id == name);
                let Some(process) = process else {
                    return Some(failed(format!("No such exec instance: {name}")));
                };
                process.session.resize(height, width);
                return Some(Answer::Done);
            }
            Request::Attach(attach) => {
                client.role = Role::Streaming(CONTAINER, attach);
                return Some(Answer::Done);
            }
            Request::Exec(spec) => return self.exec(id, spec).err().map(failed),
            Request::ExecWait { exec } => {
                if let Some((_, code)) = self.finished.iter().rev().find(|(id, _)| *id == exec) {
                    return Some(Answer::ExecExited(*code));
                }
                let known = |p: &Process| p.exec_id == exec;
                if !self.processes.iter().any(known)
                    && !self.starting.iter().any(|s| known(&s.process))
                {
                    return Some(failed(format!("No such exec instance: {exec}")));
                }
                client.role = Role::WaitingForExec(exec);
            }
        }
        None
    }

    fn signal(&self, signal: i32, all: bool) -> Answer {
        let pids = if all {
            cgroup::pids(&self.cgroup).unwrap_or_default()
        } else {
            vec![self.started.pid]
        };
        for pid in pids {
            if let Err(e) = kernel::kill(pid, signal) {
                return failed(format!("signal {signal} to {}: {e}", self.id));
            }
        }
        // A frozen process dies when it thaws.
        if signal == libc::SIGKILL && cgroup::is_frozen(&self.cgroup) {
            let _ = cgroup::freeze(&self.cgroup, false);
        }
        Answer::Done
    }

    fn exec(&mut self, client: u64, spec: ExecSpec) -> Result<(), String> {
        if cgroup::is_frozen(&self.cgroup) {
            return Err(format!(
                "Container {} is paused, unpause the container before exec",
                self.id
            ));
        }
        self.numbers += 1;
        let number = self.numbers;
        let joining = Joining {
            id: &self.id,
            bundle: &self.bundle,
            init: self.started.pid,
            spec: &spec,
            number,
        };
        let start = || -> std::io::Result<(Session, Pending)> {
            let (session, ends) = Session::open(spec.tty, spec.attach.stdin, &joining.console())?;
            let (pending, verdict) = verdict::pipe()?;
            if let Fork::Child = kernel::fork()? {
                maker::join(&joining, ends, &verdict);
            }
            rustix::io::ioctl_fionbio(&pending.pipe, true)?;
            Ok((session, pending))
        };
        let (session, pending) = start().map_err(|e| format!("exec {}: {e}", spec.id))?;
        self.starting.push(Starting {
            process: Process {
                number,
                exec_id: spec.id.clone(),
                pid: 0,
                session,
            },
            client,
            spec,
            pending,
        });
        Ok(())
    }

    /// An exec's start is decided, or not yet.
    pub(super) fn judge(&mut self, number: u64) {
        let Some(at) = self
            .starting
            .iter()
            .position(|s| s.process.number == number)
        else {
            return;
        };
        let Some(starting) = self.starting.get_mut(at) else {
            return;
        };
        let Some(verdict) = starting.pending.read() else {
            return;
        };
        let mut starting = self.starting.swap_remove(at);
        let verdict = verdict.and_then(|started| {
            let taken = starting.process.session.take_terminal();
            taken.map(|()| started).map_err(|e| Failure {
                exit_code: 128,
                message: format!("exec {}: terminal: {e}", starting.spec.id),
            })
        });
        let client = self.clients.iter_mut().find(|c| c.id == starting.client);
        match verdict {
            Ok(started) => {
                let spec = &starting.spec;
                starting.process.session.give_terminal(started.pid);
                starting.process.session.resize(spec.height, spec.width);
                starting.process.pid = started.pid;
                if let Some(client) = client {
                    client.answer(&Answer::Started(started.clone()));
                    client.role = Role::Streaming(number, spec.attach);
                }
                self.processes.push(starting.process);
                // It may have ended before it was known.
                let early = self.strangers.iter().find(|(pid, _)| *pid == started.pid);
                if let Some((_, code)) = early.copied() {
                    self.exec_ended(number, code, &mut vec![0; BUFFER_BYTES]);
                }
            }
            Err(failure) => {
                self.finished
                    .push_back((starting.spec.id, failure.exit_code));
                if let Some(client) = client {
                    client.answer(&Answer::Failed(failure));
                }
            }
        }
    }
}

fn failed(message: String) -> Answer {
    Answer::Failed(Failure {
        exit_code: 128,
        message,
    })
}
