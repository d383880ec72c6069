//! Questions to the user before something is lost.

use std::io::BufRead;

use super::exit::{self, Exit, Outcome};

/// Asks, unless told not to; a refusal ends the command without failure.
pub(super) fn confirm(force: bool, warning: &str) -> Outcome {
    if force {
        return Ok(());
    }
    exit::print(&format!("{warning} [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Exit::quiet(0)),
    }
}
