//! Lines of progress: on a terminal each replaces what it said before,
//! elsewhere they follow one another.

use super::super::exit::{self, Outcome};
use super::super::terminal;

/// Terminals narrower than this show no bars.
const BAR_COLUMNS_MIN: u16 = 110;

/// Where progress is shown: lines that replace each other on a terminal, one
/// after another elsewhere.
pub(super) struct Screen {
    quiet: bool,
    terminal: bool,
    bars: bool,
    lines: Vec<(String, String)>,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = terminal::stdout_is_terminal();
        let wide = terminal::size().is_none_or(|(_, columns)| columns > BAR_COLUMNS_MIN);
        Self {
            quiet,
            terminal,
            bars: wide,
            lines: Vec::new(),
        }
    }

    /// Shows a line under an id.
    pub(super) fn show(&mut self, id: &str, text: &str) -> Outcome {
        if self.quiet {
            return Ok(());
        }
        if !self.terminal {
            return exit::print(&if id.is_empty() {
                format!("{text}\n")
            } else {
                format!("{id}: {text}\n")
            });
        }
        if id.is_empty() {
            self.lines.clear();
            return exit::print(&format!("{text}\n"));
        }
        let at = match self.lines.iter().position(|(known, _)| known == id) {
            Some(at) if self.lines[at].1 == text => return Ok(()),
            Some(at) => {
                text.clone_into(&mut self.lines[at].1);
                at
            }
            None => {
                self.lines.push((id.to_owned(), text.to_owned()));
                exit::print("\n")?;
                self.lines.len() - 1
            }
        };
        let up = self.lines.len() - at;
        exit::print(&format!("\x1b[{up}A\x1b[2K\r{id}: {text}\r\x1b[{up}B"))
    }

    /// Shows a line with how far it is; only where a bar can be seen move.
    pub(super) fn bar(&mut self, id: &str, text: &str, current: i64, total: i64) -> Outcome {
        if !self.terminal {
            return Ok(());
        }
        let filled = usize::try_from(current * 50 / total.max(1))
            .unwrap_or(0)
            .min(50);
        let bar = format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled));
        self.show(
            id,
            &format!("{text} {}", if self.bars { bar.as_str() } else { "" }),
        )
    }
}
