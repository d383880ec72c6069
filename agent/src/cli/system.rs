//! `version`: the client's and the server's.

use super::Invocation;
use super::command::{Arity, Command};
use super::exit::{self, Outcome};
use super::json::Value;

pub(super) const COMMANDS: &[Command] = &[Command {
    names: &["version"],
    operands: "[OPTIONS]",
    about: "Show the client's and the server's version",
    arity: Arity::Exactly(0),
    flags: &[],
    flags_end_at_operand: false,
    run: version,
}];

/// `skep --version`.
pub(super) fn short_version(program: &str) -> Outcome {
    exit::print_line(&format!("{program} version {}", env!("CARGO_PKG_VERSION")))
}

fn version(inv: &Invocation) -> Outcome {
    exit::print(&format!(
        "Client:\n Version:           {}\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    let server = inv.client.get("/version")?;
    exit::print(&server_text(&server))
}

fn server_text(server: &Value) -> String {
    let mut text = format!("\nServer: {}\n", server.text("Platform.Name"));
    for component in server.list("Components") {
        text += &format!(
            " {}:\n  Version:          {}\n",
            component.text("Name"),
            component.text("Version")
        );
        for (key, value) in component.sorted("Details") {
            text += &format!("  {:<18}{}\n", format!("{key}:"), value.str());
        }
    }
    text
}
