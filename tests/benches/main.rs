//! The budgets of the design, measured: each figure beside its budget and,
//! where there is one, beside the peer's in the same run.
//!
//! `tests/bench [GROUP...]` runs it. Nothing here asserts a time: two shared
//! cores are no place for that. Whoever reads decides by the ratios.

mod api;
mod cluster;
mod flash;
mod memory;
mod plan;
mod report;
mod service;
mod sizes;
mod start;

use report::Report;

/// A group of figures that share their preparation.
type Group = (&'static str, fn(&mut Report));

const GROUPS: [Group; 7] = [
    ("sizes", sizes::measure),
    ("start", start::measure),
    ("service", service::measure),
    ("memory", memory::measure),
    ("flash", flash::measure),
    ("plan", plan::measure),
    ("cluster", cluster::measure),
];

fn main() {
    // cargo passes `--bench` along.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let known = |name: &String| GROUPS.iter().any(|(group, _)| group == name);
    if let Some(unknown) = asked.iter().find(|name| !known(name)) {
        let names = GROUPS.map(|(name, _)| name).join(" ");
        eprintln!("tests/bench: unknown group '{unknown}': use one of {names}");
        std::process::exit(2);
    }
    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if asked.is_empty() || asked.iter().any(|one| one == name) {
            eprintln!("== {name}");
            measure(&mut report);
        }
    }
    report.print();
}
