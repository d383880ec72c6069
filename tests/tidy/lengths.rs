//! How long functions and files may be.
//!
//! A function of more than 70 lines, or a file of more than 600 outside its
//! tests, is two ideas. What was longer when the rule came is in
//! `ratchet.txt`, whose numbers may only fall: the test fails both when one is
//! exceeded and when one could be lowered, so that gained ground is kept.
//! Tests themselves are stories and tables, and have no limit.
//! `SKEP_TIDY=write` writes the file anew; a reviewer sees what grew.

use crate::layering::report;
use crate::source::{self, Source};
use std::collections::BTreeMap;
use std::fs;

/// Lines from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file, its test modules not counted.
const FILE_LINES_MAX: usize = 600;
const RATCHET: &str = "tests/tidy/ratchet.txt";

#[test]
fn functions_and_files_stay_short() {
    let measured = measure();
    let path = source::root().join(RATCHET);
    if std::env::var("SKEP_TIDY").as_deref() == Ok("write") {
        let lines: String = measured
            .iter()
            .map(|(key, n)| format!("{n} {key}\n"))
            .collect();
        fs::write(&path, lines).expect("the ratchet can be written");
        return;
    }
    let allowed: BTreeMap<String, usize> = fs::read_to_string(&path)
        .expect("the ratchet can be read")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(n, key)| (key.to_owned(), n.parse().expect("a line is: number, key")))
        .collect();
    let mut wrong = Vec::new();
    for (key, lines) in &measured {
        match allowed.get(key) {
            None => wrong.push(format!("{key}: {lines} lines: split it by idea")),
            Some(max) if lines > max => {
                wrong.push(format!(
                    "{key}: {lines} lines, and {max} was too long already"
                ));
            }
            Some(max) if lines < max => {
                wrong.push(format!(
                    "{key}: now {lines} lines: lower {RATCHET} from {max}"
                ));
            }
            Some(_) => {}
        }
    }
    for key in allowed.keys().filter(|key| !measured.contains_key(*key)) {
        wrong.push(format!("{key}: short now: remove it from {RATCHET}"));
    }
    report("functions of 70 lines, files of 600", &wrong);
}

/// Everything over its limit, by a key that survives edits elsewhere.
fn measure() -> BTreeMap<String, usize> {
    let mut over = BTreeMap::new();
    for file in source::rust(&["agent/", "control/", "images/", "tests/"]) {
        // A crate's own tests in a folder of theirs.
        if file.path.contains("/src/tests/") || file.path.ends_with("/tests.rs") {
            continue;
        }
        let code = file.product_code();
        let lines = product_lines(&file, &code);
        if lines > FILE_LINES_MAX {
            over.insert(format!("file {}", file.path), lines);
        }
        for (name, lines) in functions(&code) {
            if lines > FUNCTION_LINES_MAX {
                let longest = over
                    .entry(format!("function {} {name}", file.path))
                    .or_default();
                *longest = lines.max(*longest);
            }
        }
    }
    over
}

/// Lines that are not in a test module; comments count, they are read as well.
fn product_lines(file: &Source, product: &str) -> usize {
    let code = file.code();
    let in_tests = code
        .lines()
        .zip(product.lines())
        .filter(|(all, kept)| !all.trim().is_empty() && kept.trim().is_empty());
    file.text.lines().count() - in_tests.count()
}

/// Name and length in lines of every function with a body.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in source::words(code, "fn") {
        let tail = &code[at..];
        let name: String = tail[2..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // A test tells a story, and a story has its length.
        if code[..at].trim_end().ends_with("#[test]") {
            continue;
        }
        // A pointer type, `fn(..)`, has no name; a trait's method no body.
        let (Some(brace), false) = (body(tail), name.is_empty()) else {
            continue;
        };
        let lines = source::line_of(tail, source::closing(tail, brace)) - 1;
        found.push((name, lines + 1));
    }
    found
}

/// Where the brace of a function's body is; none when it ends at a semicolon.
fn body(tail: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in tail.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_measured() {
    let code = "fn a() {\n  b();\n}\ntrait T { fn c(&self, a: &[u8]) -> [u8; 2];\n fn d(&self) { x() } }\n";
    let expected = [("a".to_owned(), 3), ("d".to_owned(), 1)];
    assert_eq!(functions(code), expected);
}
