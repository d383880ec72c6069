//! The tree itself: what lies where, and that the README's map is true.

use crate::layering::report;
use crate::source;
use std::collections::BTreeSet;
use std::fs;

/// What may lie at the top: the product, and what tools insist on.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agent",
    "clippy.toml",
    "control",
    "cross",
    "deny.toml",
    "images",
    "target",
    "tests",
];

#[test]
fn nothing_new_at_the_top() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(source::root()).expect("the root can be read") {
        let name = entry.expect("an entry can be read").file_name();
        let name = name.to_string_lossy().into_owned();
        if !TOP_LEVEL.contains(&name.as_str()) {
            wrong.push(format!(
                "{name}: give it a place in agent, control, images, cross or tests"
            ));
        }
    }
    report("the top level is closed", &wrong);
}

/// A reader meets the header first: what the file owns and what it does not know.
#[test]
fn every_file_opens_with_its_purpose() {
    let mut wrong = Vec::new();
    for file in source::rust(&["agent/", "control/", "images/", "tests/"]) {
        let first = file.text.lines().find(|line| !line.starts_with("#!["));
        let header = first.unwrap_or_default();
        if !header.starts_with("//! ") || header.len() < "//! A word.".len() {
            wrong.push(format!("{}: begin with //! and what it owns", file.path));
        }
    }
    report("module headers", &wrong);
}

#[test]
fn shell_is_ascii_and_strict() {
    let mut wrong = Vec::new();
    for file in source::files() {
        let Some(first) = file.text.lines().next() else {
            continue;
        };
        if !first.starts_with("#!") || !first.ends_with("sh") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if !line.is_ascii() {
                wrong.push(format!("{}:{}: not ASCII", file.path, number + 1));
            }
        }
        let strict = if first.ends_with("bash") {
            "set -euo pipefail"
        } else {
            "set -eu"
        };
        if !file.text.contains(strict) {
            wrong.push(format!("{}: lacks {strict}", file.path));
        }
    }
    report("shell scripts", &wrong);
}

/// The repository stands alone: nothing in it points at a machine it was made on.
#[test]
fn no_machine_paths() {
    // Put together here, so that this file does not find itself.
    let banned = [
        ["/ro", "ot/wt"],
        ["/ro", "ot/target"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
    ];
    let banned = banned.map(|halves| halves.concat());
    let mut wrong = Vec::new();
    for file in source::files() {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = banned.iter().find(|path| line.contains(path.as_str())) {
                wrong.push(format!("{}:{}: {path}", file.path, number + 1));
            }
        }
    }
    report("machine paths", &wrong);
}

/// Each row of the README's map names something that is there, and whatever
/// a reader could open at that depth has a row.
#[test]
fn the_readme_map_is_the_tree() {
    let root = source::root();
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md can be read");
    let map = readme
        .split("\n## Map\n")
        .nth(1)
        .expect("README.md has a section Map");
    let map = map.split("\n## ").next().unwrap_or_default();
    let mapped: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(path, _)| path.trim_end_matches('/').to_owned())
        .collect();
    let mut wrong = Vec::new();
    for path in &mapped {
        if !root.join(path).exists() {
            wrong.push(format!("{path}: in the map, but not in the tree"));
        }
    }
    for folder in [
        "agent/src",
        "control/src",
        "images/src",
        "tests",
        "tests/src",
        "cross",
    ] {
        for entry in fs::read_dir(root.join(folder)).expect("a mapped folder can be read") {
            let name = entry.expect("an entry can be read").file_name();
            let name = name.to_string_lossy().into_owned();
            if ["lib.rs", "main.rs", "Cargo.toml", "src"].contains(&name.as_str()) {
                continue;
            }
            let path = format!("{folder}/{name}");
            if !mapped.contains(&path) {
                wrong.push(format!("{path}: in the tree, but not in README.md's map"));
            }
        }
    }
    report("README.md's map against the tree", &wrong);
}
