//! Progress as the daemon streams it while it loads, imports or pulls: lines
//! where nobody watches, bars where somebody does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::exit::{self, Exit, Outcome};
use super::json::Value;

/// A line longer than this is no progress.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Shows a stream of progress to its end; what the daemon says went wrong is
/// the failure. Quiet shows nothing but that.
pub(super) fn show(from: impl Read, quiet: bool) -> Outcome {
    each(from, quiet, exit::print)
}

/// [`show`] on standard error.
pub(super) fn show_aside(from: impl Read, quiet: bool) -> Outcome {
    each(from, quiet, |text| {
        exit::warn_part(text);
        Ok(())
    })
}

fn each(from: impl Read, quiet: bool, print: impl Fn(&str) -> Outcome) -> Outcome {
    let mut bars = (!quiet && rustix::termios::isatty(std::io::stdout())).then(Bars::default);
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        if from
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message = Value::parse(&line)
            .map_err(|e| Exit::failure(format!("invalid progress from daemon: {e}")))?;
        let error = match message.text("errorDetail.message") {
            "" => message.text("error"),
            detail => detail,
        };
        if !error.is_empty() {
            return Err(Exit::failure(error));
        }
        if quiet {
            continue;
        }
        match &mut bars {
            Some(bars) => bars.update(&message)?,
            None => print(&plain(&message))?,
        }
    }
}

/// The line of a message where there is no terminal: nothing for a bar.
fn plain(message: &Value) -> String {
    let stream = message.text("stream");
    if !stream.is_empty() {
        return stream.to_owned();
    }
    let status = message.text("status");
    if status.is_empty() || message.int("progressDetail.current") > 0 {
        return String::new();
    }
    match message.text("id") {
        "" => format!("{status}\n"),
        id => format!("{id}: {status}\n"),
    }
}

/// A bar an id.
#[derive(Default)]
struct Bars {
    screen: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn update(&mut self, message: &Value) -> Outcome {
        let id = message.text("id");
        if id.is_empty() {
            let text = plain(message);
            self.screen.suspend(|| exit::print(&text))?;
            return Ok(());
        }
        let bar = self.bars.entry(id.to_owned()).or_insert_with(|| {
            let bar = self.screen.add(ProgressBar::new(0));
            bar.set_prefix(id.to_owned());
            bar
        });
        let total = message.int("progressDetail.total");
        let current = u64::try_from(message.int("progressDetail.current")).unwrap_or(0);
        let template = if total > 0 {
            "{prefix}: {msg} [{bar:50}] {bytes}/{total_bytes}"
        } else if current > 0 {
            "{prefix}: {msg} {bytes}"
        } else {
            "{prefix}: {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(u64::try_from(total).unwrap_or(0));
        bar.set_position(current);
        bar.set_message(message.text("status").to_owned());
        Ok(())
    }
}

impl Drop for Bars {
    /// Bars stay on the screen as they last were.
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_terminal() {
        let line = |json: &str| plain(&Value::parse(json.as_bytes()).unwrap());
        assert_eq!(
            line(r#"{"stream":"Loaded image: x\n"}"#),
            "Loaded image: x\n"
        );
        assert_eq!(line(r#"{"status":"Pulling","id":"a"}"#), "a: Pulling\n");
        assert_eq!(
            line(r#"{"status":"Loading","id":"a","progressDetail":{"current":1,"total":2}}"#),
            ""
        );
        assert_eq!(line(r#"{"aux":{"ID":"x"}}"#), "");
    }

    #[test]
    fn the_daemons_error_is_the_failure() {
        let stream = b"{\"status\":\"x\"}\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\n";
        assert_eq!(show(&stream[..], true).unwrap_err().message, "no space");
    }
}
