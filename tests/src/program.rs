//! Running a program to its end, with a time limit and all it said.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A client command that takes longer hangs. Seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

impl Ran {
    /// Standard output without the space around it, of a program that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.code == 0, "should succeed: {self}");
        self.out.trim()
    }

    /// Standard error without the space around it, of a program that failed.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn fails(&self) -> &str {
        assert!(self.code != 0, "should fail: {self}");
        self.err.trim()
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == code, "should exit with {code}: {self}");
        self
    }

    /// Asserts that it failed and that its message holds `words`.
    ///
    /// # Panics
    /// When it succeeded, or says something else.
    #[track_caller]
    pub fn refuses(&self, words: &str) {
        let said = self.fails();
        assert!(said.contains(words), "should say '{words}': {self}");
    }

    /// Lines of standard output that are not empty.
    pub fn lines(&self) -> Vec<&str> {
        self.out
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect()
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            code,
            out,
            err,
            took,
        } = self;
        write!(
            f,
            "`{line}` exited with {code} after {took:?}\nstdout: {out}\nstderr: {err}"
        )
    }
}

/// Runs `command` to its end, a minute at most.
///
/// # Panics
/// When it cannot be started, or does not end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_for(PATIENCE, command)
}

/// Runs `command` to its end, `patience` at most.
///
/// # Panics
/// When it cannot be started, or does not end.
#[track_caller]
pub fn run_for(patience: Duration, command: &mut Command) -> Ran {
    finish(patience, command, None)
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or does not end within a minute.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    finish(PATIENCE, command, Some(input.to_vec()))
}

#[track_caller]
fn finish(patience: Duration, command: &mut Command, input: Option<Vec<u8>>) -> Ran {
    let line = describe(command);
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own: a hung program's children hold its pipes open.
    command.process_group(0);
    let start = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("`{line}` does not start: {error}"));
    if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        // One that reads nothing closes the pipe; that is its own business.
        std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    let out = child.stdout.take().map(collect);
    let err = child.stderr.take().map(collect);
    let code = wait(&mut child, start + patience);
    let took = start.elapsed();
    if code.is_none() {
        end_group(&child);
        drop(child.wait());
    }
    let ran = Ran {
        line,
        code: code.unwrap_or(-1),
        out: text(out),
        err: text(err),
        took,
    };
    assert!(code.is_some(), "does not end: {ran}");
    ran
}

fn wait(child: &mut Child, deadline: Instant) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(
                status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    None
}

fn end_group(child: &Child) {
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

fn text(collected: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = collected
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        line.push(' ');
        line.push_str(&word.to_string_lossy());
    }
    line
}
