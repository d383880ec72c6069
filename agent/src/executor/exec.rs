//! Further commands in running containers: prepared, started, asked about.

use super::Executor;
use super::stdio;
use crate::backend::{Attached, Exec, ExecConfig, ExecStart, TerminalSize};
use crate::error::{Error, Result};
use crate::shim::{Attach, ExecSpec, Shim};
use skep_control::model::ContainerId;
use smol::channel::{Receiver, Sender, bounded};
use smol::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// Sessions remembered: health probes and scripts make many, and their exit
/// codes are asked for soon or never. Some 300 bytes each.
const SESSIONS_MAX: usize = 1024;

/// Exit code of a command that the runtime could not start.
const NOT_STARTED: i64 = 126;

#[derive(Default)]
pub(super) struct Execs {
    sessions: BTreeMap<String, Session>,
    /// Grows with every session: the oldest are forgotten first.
    count: u64,
}

struct Session {
    exec: Exec,
    age: u64,
    /// Which start has it; none may have two.
    started: bool,
}

impl Execs {
    fn get(&mut self, id: &str) -> Result<&mut Session> {
        self.sessions
            .get_mut(id)
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    fn insert(&mut self, exec: Exec) {
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self
                .sessions
                .iter()
                .filter(|(_, session)| !session.exec.running)
                .min_by_key(|(_, session)| session.age)
                .map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                self.sessions.remove(&oldest);
            }
        }
        self.count += 1;
        let session = Session {
            age: self.count,
            started: false,
            exec,
        };
        self.sessions.insert(session.exec.id.clone(), session);
    }
}

impl Executor {
    fn execs(&self) -> std::sync::MutexGuard<'_, Execs> {
        self.0.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares a command.
    pub(crate) async fn exec_create(&self, wanted: &str, config: ExecConfig) -> Result<String> {
        let container = self.find(wanted)?;
        container.life().state.check_exec(container.id.as_str())?;
        if config.command.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let id = super::random_id()?;
        let line = config.command.join(" ");
        self.execs().insert(Exec {
            id: id.clone(),
            container: container.id.clone(),
            config,
            ..Exec::default()
        });
        let more = [("execID", id.clone())];
        self.tell(&container, &format!("exec_create: {line}"), &more);
        Ok(id)
    }

    /// Starts a prepared command.
    pub(crate) async fn exec_start(&self, exec: &str, start: ExecStart) -> Result<Attached> {
        let prepared = {
            let mut execs = self.execs();
            let session = execs.get(exec)?;
            if session.started {
                let how = if session.exec.running {
                    "is already running"
                } else {
                    "has already run"
                };
                return Err(Error::conflict(format!("Error: Exec command {exec} {how}")));
            }
            session.started = true;
            session.exec.clone()
        };
        let begun = self.begin(&prepared, start).await;
        if begun.is_err() {
            let mut execs = self.execs();
            let session = execs.get(exec)?;
            // What failed for the container's sake may be tried again.
            if session.exec.exit_code.is_none() {
                session.started = false;
            }
        }
        begun
    }

    async fn begin(&self, prepared: &Exec, start: ExecStart) -> Result<Attached> {
        let container = self.find(prepared.container.as_str())?;
        container.life().state.check_exec(container.id.as_str())?;
        let shim = container.life().shim.clone();
        let shim = shim
            .ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
        let started = match shim.exec(describe(prepared, start)).await {
            Ok(started) => started,
            Err(failure) => {
                let code = match failure.exit_code {
                    0 => NOT_STARTED,
                    code => i64::from(code),
                };
                self.end(&prepared.id, code);
                return Err(failure.into());
            }
        };
        {
            let mut execs = self.execs();
            let session = execs.get(&prepared.id)?;
            session.exec.running = true;
            session.exec.pid = u32::try_from(started.pid).unwrap_or(0);
        }
        let line = prepared.config.command.join(" ");
        let more = [("execID", prepared.id.clone())];
        self.tell(&container, &format!("exec_start: {line}"), &more);
        let (known, ended) = bounded(1);
        self.watch_exec(shim, prepared.id.clone(), container.id.clone(), known);
        Ok(match start.detach {
            true => Attached::nothing(),
            false => until_known(stdio::attached(started.streams), ended),
        })
    }

    /// Waits for a command's end in the background. Dropping `known` tells it.
    fn watch_exec(&self, shim: Shim, exec: String, of: ContainerId, known: Sender<()>) {
        let executor = self.clone();
        smol::spawn(async move {
            let code = match shim.wait_exec(&exec).await {
                Ok(code) => i64::from(code),
                Err(error) => {
                    log::warn!("exec {exec}: {error}");
                    NOT_STARTED
                }
            };
            executor.end(&exec, code);
            drop(known);
            if let Ok(container) = executor.find(of.as_str()) {
                let more = [("execID", exec), ("exitCode", code.to_string())];
                executor.tell(&container, "exec_die", &more);
            }
        })
        .detach();
    }

    fn end(&self, exec: &str, code: i64) {
        if let Ok(session) = self.execs().get(exec) {
            session.exec.running = false;
            session.exec.exit_code = Some(code);
        }
    }

    pub(crate) async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        let of = {
            let mut execs = self.execs();
            let session = execs.get(exec)?;
            if !session.exec.running {
                return Err(Error::conflict(format!("exec {exec} is not running")));
            }
            session.exec.container.clone()
        };
        let shim = self.find(of.as_str())?.life().shim.clone();
        let shim = shim.ok_or_else(|| Error::conflict(format!("container {of} is not running")))?;
        shim.resize_exec(exec, size.rows, size.columns).await
    }

    pub(crate) fn exec(&self, exec: &str) -> Result<Exec> {
        Ok(self.execs().get(exec)?.exec.clone())
    }

    /// Commands that run in a container now.
    pub(super) fn execs_of(&self, container: &ContainerId) -> Vec<String> {
        let execs = self.execs();
        let sessions = execs.sessions.values();
        sessions
            .filter(|session| session.exec.running && session.exec.container == *container)
            .map(|session| session.exec.id.clone())
            .collect()
    }

    /// Forgets the sessions of a container that is gone.
    pub(super) fn forget_execs(&self, container: &ContainerId) {
        self.execs()
            .sessions
            .retain(|_, session| session.exec.container != *container);
    }
}

fn describe(exec: &Exec, start: ExecStart) -> ExecSpec {
    let config = &exec.config;
    let size = start.size.or(config.size).unwrap_or_default();
    let wants = |stream: bool| stream && !start.detach;
    ExecSpec {
        id: exec.id.clone(),
        args: config.command.clone(),
        env: config.env.clone(),
        user: config.user.clone(),
        working_dir: config.working_dir.clone(),
        tty: config.tty,
        privileged: config.privileged,
        attach: Attach {
            stdin: wants(config.stdin),
            stdout: wants(config.stdout || (config.tty && config.stderr)),
            stderr: wants(config.stderr && !config.tty),
        },
        height: size.rows,
        width: size.columns,
    }
}

/// The output ends only when the exit code can be asked for.
fn until_known(attached: Attached, ended: Receiver<()>) -> Attached {
    let last = stream::once_future(async move {
        // Nothing is ever sent: the channel closes at the end.
        let _ = ended.recv().await;
        stream::empty()
    })
    .flatten();
    Attached {
        input: attached.input,
        output: Box::pin(attached.output.chain(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_bounded_and_running_ones_stay() {
        let mut execs = Execs::default();
        for number in 0..SESSIONS_MAX + 10 {
            execs.insert(Exec {
                id: format!("{number:08}"),
                running: number == 0,
                ..Exec::default()
            });
        }
        assert_eq!(execs.sessions.len(), SESSIONS_MAX);
        assert!(execs.get("00000000").is_ok());
        let told = execs.get("00000001").err().expect("forgotten").message;
        assert_eq!(told, "No such exec instance: 00000001");
    }
}
