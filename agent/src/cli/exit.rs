//! How a command ends: the exit code and the words on standard error.
//! Docker's codes: 125 when the client or daemon failed a `run`, 126 and 127
//! when the command could not be executed or found, the container's own code
//! otherwise, 1 for other failures.

use std::process::ExitCode;

/// A command that did not succeed.
#[derive(Debug)]
pub(super) struct Exit {
    /// The process's exit code.
    pub(super) code: u8,
    /// For standard error; empty prints nothing.
    pub(super) message: String,
}

pub(super) type Outcome<T = ()> = Result<T, Exit>;

impl Exit {
    /// An ordinary failure: code 1.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }

    pub(super) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Ends with `code` and without words, as when a container's code is passed on.
    pub(super) fn quiet(code: u8) -> Self {
        Self::with_code(code, "")
    }

    /// The failures of several operands as one: a line each, code 1.
    pub(super) fn all(failures: Vec<String>) -> Outcome {
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Self::failure(failures.join("\n")))
        }
    }
}

impl From<std::io::Error> for Exit {
    fn from(e: std::io::Error) -> Self {
        Self::failure(e.to_string())
    }
}

impl From<String> for Exit {
    fn from(message: String) -> Self {
        Self::failure(message)
    }
}

/// Prints what went wrong, if anything, and gives the process's code.
pub(super) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, message }) => {
            if !message.is_empty() {
                // Nobody is left to tell when standard error is gone.
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    format!("{message}\n").as_bytes(),
                );
            }
            ExitCode::from(code)
        }
    }
}

/// Writes text to standard output; a closed pipe ends the process quietly, as
/// it does for any filter.
pub(super) fn print(text: &str) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Exit::quiet(1)),
        Err(e) => Err(e.into()),
    }
}

/// [`print`] with a newline.
pub(super) fn print_line(text: &str) -> Outcome {
    print(&format!("{text}\n"))
}

/// Writes text to standard error as it is.
pub(super) fn warn_part(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// Writes a line to standard error. What cannot be written there has no
/// other place to go.
pub(super) fn warn(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}
