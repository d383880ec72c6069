//! Who may import whom.
//!
//! Owns: the tables below. A module that is not in its table is an error: a
//! new one is placed on purpose, with its reason.

use crate::source::{self, Source};
use std::collections::BTreeSet;

/// One row: a module, what it may import of its own crate, and why.
type Row = (&'static str, &'static [&'static str], &'static str);

/// The agent: leaves, then organs, then the spine.
const AGENT: &[Row] = &[
    (
        "error",
        &[],
        "it is the vocabulary of refusal, which all share",
    ),
    (
        "disk",
        &["error"],
        "it is how a small record becomes durable, whatever it says",
    ),
    (
        "backend",
        &["error"],
        "it is the words between api and node, and no side's code",
    ),
    (
        "logs",
        &["error", "disk"],
        "it is a file format, written by shims and read by the agent",
    ),
    (
        "oci",
        &["error"],
        "it is pure: a container's wish in, a runtime spec out",
    ),
    (
        "shim",
        &["error", "disk", "logs", "oci"],
        "it runs alone in its process, the only one to call libcontainer",
    ),
    (
        "network",
        &["error", "disk"],
        "it is kernel state of the network, and nothing of containers' life",
    ),
    ("volumes", &["error", "disk"], "it is folders with names"),
    (
        "metrics",
        &["error"],
        "it is names and a page: the figures are brought to it",
    ),
    (
        "storage",
        &["error", "disk"],
        "it is bytes on disk that survive a power cut",
    ),
    (
        "identity",
        &["error", "disk"],
        "it is keys and certificates, and no connection",
    ),
    (
        "transport",
        &["error", "identity"],
        "it is connections between proven nodes; what they say is the engine's",
    ),
    (
        "executor",
        &[
            "error", "disk", "backend", "shim", "network", "volumes", "oci", "logs", "storage",
        ],
        "it joins image, root, network and shim into a container's life",
    ),
    (
        "api",
        &["error", "backend"],
        "it is Docker's JSON; the node is a trait to it",
    ),
    (
        "cli",
        &["error"],
        "it is a client like any other: it knows the API and nothing else",
    ),
    (
        "daemon",
        SPINE,
        "it is the spine: the one loop, and the wiring",
    ),
    ("main", ROLES, "it picks the role"),
];
const SPINE: &[&str] = &[
    "error",
    "disk",
    "backend",
    "logs",
    "metrics",
    "oci",
    "shim",
    "network",
    "volumes",
    "storage",
    "executor",
    "api",
    "identity",
    "transport",
];
const ROLES: &[&str] = &["error", "cli", "daemon", "shim"];

/// Control: `model` is every module's vocabulary, `engine` the only one that
/// knows them all; organs meet in it and nowhere else.
const CONTROL: &[Row] = &[
    ("model", &[], "it is the vocabulary"),
    ("refusal", &[], "it is how anything is refused"),
    ("random", &["model"], "it is the one source of chance"),
    ("journal", &[], "it is bytes in, bytes out: no meaning"),
    (
        "seal",
        &["random"],
        "it is bytes in, sealed bytes out, and no place for a key",
    ),
    (
        "disk",
        &["journal", "random", "seal"],
        "it is one write at a time of a log",
    ),
    (
        "constraint",
        &["model"],
        "it reads a placement rule, for who checks and who applies it",
    ),
    ("wire", &["model"], "it is what nodes say to each other"),
    (
        "reach",
        &["model"],
        "it is who is there, for who decides and who reads",
    ),
    (
        "state",
        &["model", "refusal"],
        "it is the tables and how results are applied, no reasoning",
    ),
    (
        "events",
        &["model", "state"],
        "it tells what changes mean to a reader",
    ),
    (
        "consensus",
        &["model", "journal", "state", "disk", "random"],
        "it orders changes, and does not read them; chance is for its tests' storms",
    ),
    (
        "gossip",
        &["model", "wire", "random"],
        "it is what nodes see of each other: works without tables and managers",
    ),
    (
        "request",
        &[
            "model",
            "refusal",
            "random",
            "constraint",
            "wire",
            "reach",
            "state",
        ],
        "it holds a user's wish against the tables",
    ),
    (
        "plan",
        &["model", "random", "constraint", "state"],
        "it is pure: view and observed in, changes out",
    ),
    (
        "assign",
        &["model", "wire", "state"],
        "it is the assignment of one node, and what all must know",
    ),
    (
        "tell",
        &["model"],
        "it counts what nodes have been told, whatever it is",
    ),
    (
        "report",
        &["model", "wire"],
        "it counts what the leader has been told",
    ),
    (
        "worker",
        &["model", "random", "wire"],
        "it is the node's half: works without managers, so without tables",
    ),
    (
        "routes",
        &["model", "wire"],
        "it makes names and backends of what is seen",
    ),
    (
        "view",
        &["model", "refusal", "wire", "reach", "state", "routes"],
        "it is what readers see, and decides nothing",
    ),
    ("engine", ORGANS, "it is the spine"),
];
const ORGANS: &[&str] = &[
    "model",
    "refusal",
    "random",
    "journal",
    "seal",
    "disk",
    "constraint",
    "wire",
    "reach",
    "state",
    "events",
    "consensus",
    "gossip",
    "request",
    "plan",
    "assign",
    "tell",
    "report",
    "worker",
    "routes",
    "view",
];

#[test]
fn agent_modules_import_only_their_row() {
    check("agent/src/", AGENT);
}

#[test]
fn control_modules_import_only_their_row() {
    check("control/src/", CONTROL);
}

/// `images` and `control` are leaves: usable, and testable, without the rest.
#[test]
fn control_and_images_import_no_sibling() {
    let mut wrong = Vec::new();
    for (folder, banned) in [
        (
            "control/",
            ["skep_images", "skep_tests", "skep-images", "skep-tests"],
        ),
        (
            "images/",
            ["skep_control", "skep_tests", "skep-control", "skep-tests"],
        ),
    ] {
        let own = source::files();
        let own = own.iter().filter(|file| file.path.starts_with(folder));
        for file in own {
            let code = if file.path.ends_with(".rs") {
                file.code()
            } else if file.path.ends_with("Cargo.toml") {
                file.text.clone()
            } else {
                continue;
            };
            for name in banned {
                wrong.extend(places(file, &code, name));
            }
        }
    }
    report("control and images import no sibling crate", &wrong);
}

/// It clones the process it is called in, and deadlocks in a threaded one:
/// only the single-threaded shim may touch it.
#[test]
fn libcontainer_is_called_in_the_shim_only() {
    let mut wrong = Vec::new();
    for file in source::rust(&["agent/", "control/", "images/", "tests/"]) {
        if file.path.starts_with("agent/src/shim") {
            continue;
        }
        let code = file.code();
        for name in ["libcontainer", "libcgroups"] {
            wrong.extend(places(&file, &code, name));
        }
    }
    report("only agent/src/shim may name libcontainer", &wrong);
}

/// What would let a decision depend on anything but its arguments.
#[test]
fn control_names_no_clock_file_socket_thread_or_chance() {
    const BANNED: &[(&str, &str)] = &[
        ("HashMap", "iteration order is random: use BTreeMap"),
        ("HashSet", "iteration order is random: use BTreeSet"),
        ("Instant", "time is an argument of step()"),
        ("SystemTime", "wall time is an input"),
        ("Utc::now", "wall time is an input"),
        ("Local::now", "wall time is an input"),
        ("std::fs", "files belong to the agent"),
        ("std::io", "reading and writing belong to the agent"),
        ("std::process", "processes belong to the agent"),
        ("std::thread", "step() is synchronous"),
        ("Mutex", "one owner needs no lock"),
        ("RwLock", "one owner needs no lock"),
        ("mpsc", "step() is synchronous"),
        ("std::env", "configuration is an argument"),
        ("TcpStream", "sockets belong to the agent"),
        ("UdpSocket", "sockets belong to the agent"),
        ("async", "step() is synchronous"),
        ("rustix", "the kernel belongs to the agent"),
        ("libc", "the kernel belongs to the agent"),
        ("thread_rng", "chance comes from the seeded generator"),
        ("println", "use log, which the agent writes"),
        ("eprintln", "use log, which the agent writes"),
    ];
    let mut wrong = Vec::new();
    for file in source::rust(&["control/src/"]) {
        let code = file.product_code();
        for (name, reason) in BANNED {
            let found = places(&file, &code, name);
            wrong.extend(found.into_iter().map(|place| format!("{place}: {reason}")));
        }
    }
    report("control decides; it does nothing", &wrong);
}

/// A name that says "some code" hides what a thing is.
#[test]
fn names_say_what_a_thing_is() {
    const ENDINGS: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils"];
    const FILES: &[&str] = &["util", "utils", "helper", "helpers", "misc", "common"];
    let mut wrong = Vec::new();
    for file in source::rust(&["agent/", "control/", "images/", "tests/"]) {
        let stem = file.path.rsplit('/').next().unwrap_or_default();
        let folder = file.path.rsplit('/').nth(1).unwrap_or_default();
        if FILES.contains(&stem.trim_end_matches(".rs")) || FILES.contains(&folder) {
            wrong.push(format!("{}: name the file for what it owns", file.path));
        }
        let code = file.code();
        for keyword in ["struct", "enum", "trait"] {
            for at in source::words(&code, keyword) {
                let name = identifier(code[at + keyword.len()..].trim_start());
                if ENDINGS.iter().any(|ending| name.ends_with(ending)) && !ENDINGS.contains(&name) {
                    let line = source::line_of(&code, at);
                    wrong.push(format!(
                        "{}:{line}: {name}: name it for what it is",
                        file.path
                    ));
                }
            }
        }
    }
    report("no Manager, Helper or Util", &wrong);
}

fn check(folder: &str, table: &[Row]) {
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = table.iter().map(|row| row.0).collect();
    for file in source::rust(&[folder]) {
        let inside = &file.path[folder.len()..];
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some(row) = table.iter().find(|row| row.0 == module) else {
            wrong.push(format!(
                "{}: module '{module}' has no row in the layering table",
                file.path
            ));
            continue;
        };
        for (imported, at) in imports(&file, inside, &known) {
            if imported != module && !row.1.contains(&imported.as_str()) {
                let line = source::line_of(&file.text, at);
                wrong.push(format!(
                    "{}:{line}: {module} imports {imported}, but {}; it may import {:?}",
                    file.path, row.2, row.1
                ));
            }
        }
    }
    report(&format!("layers of {folder}"), &wrong);
}

/// The modules of its own crate that a file names, and where.
fn imports(file: &Source, inside: &str, known: &BTreeSet<&str>) -> Vec<(String, usize)> {
    let code = file.code();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let inside_word = code[..at].chars().next_back();
        if inside_word.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let tail = &code[at + "crate::".len()..];
        for name in first_names(tail) {
            found.push((name, at));
        }
    }
    // `super` chains that leave the module: as many as the file lies deep.
    let depth = inside.trim_end_matches("/mod.rs").split('/').count();
    let chain = "super::".repeat(depth);
    for (at, _) in code.match_indices(&chain) {
        for name in first_names(&code[at + chain.len()..]) {
            found.push((name, at));
        }
    }
    found.retain(|(name, _)| known.contains(name.as_str()));
    found
}

/// `a::b` gives a; `{a::b, c}` gives a and c.
fn first_names(tail: &str) -> Vec<String> {
    if !tail.starts_with('{') {
        return vec![identifier(tail).to_owned()];
    }
    let body = &tail[1..source::closing(tail, 0).saturating_sub(1).max(1)];
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in body.char_indices().chain([(body.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(identifier(body[start..at].trim_start()).to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

fn places(file: &Source, code: &str, name: &str) -> Vec<String> {
    source::words(code, name)
        .map(|at| format!("{}:{}: {name}", file.path, source::line_of(code, at)))
        .collect()
}

/// Fails with one line a breach.
pub(crate) fn report(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn first_names_are_found_in_groups() {
    assert_eq!(first_names("a::b;"), ["a"]);
    assert_eq!(first_names("{a::{b, c}, d, e::f}; x"), ["a", "d", "e"]);
}
