//! A further command in a running container.

use super::TerminalSize;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecConfig {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
    pub(crate) privileged: bool,
    pub(crate) command: Vec<String>,
    /// `K=V`, on top of the container's.
    pub(crate) env: Vec<String>,
    /// Empty: the container's.
    pub(crate) user: String,
    /// Empty: the container's.
    pub(crate) working_dir: String,
    pub(crate) detach_keys: String,
    pub(crate) size: Option<TerminalSize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecStart {
    pub(crate) detach: bool,
    pub(crate) size: Option<TerminalSize>,
}
