//! The table at the end.

use std::time::Duration;

/// Figures in the order they were taken.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
}

/// Whether a budget holds, when it is a figure of one run.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// In the figure's own unit.
    AtMost(f64),
    /// Times the peer's figure.
    TimesPeer(f64),
    /// No budget: for comparison.
    None,
}

impl Report {
    /// Adds a figure in `unit`, with the peer's if there is one.
    pub(crate) fn row(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        peer: Option<f64>,
        budget: Budget,
    ) {
        let ratio = peer.filter(|peer| *peer > 0.0).map(|peer| ours / peer);
        let limit = match budget {
            Budget::AtMost(most) => Some(most),
            Budget::TimesPeer(times) => peer.map(|peer| peer * times),
            Budget::None => None,
        };
        let row = [
            what.to_owned(),
            format!("{ours:.2} {unit}"),
            peer.map_or_else(String::new, |peer| format!("{peer:.2} {unit}")),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
            limit.map_or_else(String::new, |limit| format!("{limit:.2} {unit}")),
            match limit {
                Some(limit) if ours <= limit => "holds".to_owned(),
                Some(limit) if limit > 0.0 => format!("over by {:.2} x", ours / limit),
                Some(_) => "over".to_owned(),
                None => String::new(),
            },
        ];
        eprintln!("{}", row.join(" | "));
        self.rows.push(row);
    }

    /// The same for times, in milliseconds.
    pub(crate) fn time(
        &mut self,
        what: &str,
        ours: Duration,
        peer: Option<Duration>,
        budget: Budget,
    ) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.row(what, "ms", ms(ours), peer.map(ms), budget);
    }

    /// Prints all of it.
    pub(crate) fn print(&self) {
        let head = ["what", "skep", "peer", "ratio", "budget", ""].map(str::to_owned);
        let mut widths = [0; 6];
        for row in self.rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for row in [&head].into_iter().chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            println!("{}", cells.join("  ").trim_end());
        }
    }
}

/// The middle of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
