//! The node's spine: wires the organs together and runs the one loop that
//! calls the engine. It knows every organ and decides nothing itself.

mod flags;
mod logger;

pub(crate) use flags::Flags;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the agent; `args` begins with the word `agent`.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(125)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    logger::install(flags.log_level);
    log::info!(
        "agent {} starts, data in {}",
        env!("CARGO_PKG_VERSION"),
        flags.data_dir.display()
    );
    ExitCode::SUCCESS
}
