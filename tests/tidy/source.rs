//! The repository's files as text, and Rust text without what is not code.
//!
//! Owns: finding files, blanking comments and literals, cutting test modules.
//! Invariant: blanking keeps every line break, so line numbers stay true.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
pub(crate) struct Source {
    /// Path from the repository's root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The text with comments, strings and character literals blanked.
    pub(crate) fn code(&self) -> String {
        blank(&self.text)
    }

    /// `code` without the modules marked `#[cfg(test)]`.
    pub(crate) fn product_code(&self) -> String {
        without_tests(&self.code())
    }
}

/// The repository's root: the parent of the tests crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .expect("the tests crate lies in the repository")
}

/// Every text file of the repository, sorted by path; built things left out.
pub(crate) fn files() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be read") {
            let path = entry.expect("a folder entry can be read").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_symlink() || name == ".git" || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let relative = path.strip_prefix(&root).expect("walked from the root");
                found.push(Source {
                    path: relative.to_string_lossy().into_owned(),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the walk found the repository");
    found
}

/// Every Rust file under one of `folders`.
pub(crate) fn rust(folders: &[&str]) -> Vec<Source> {
    files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .filter(|file| folders.iter().any(|folder| file.path.starts_with(folder)))
        .collect()
}

/// The line, counted from 1, on which byte `offset` of `text` lies.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Every place where `word` stands as a whole word in `code`.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let whole = !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word);
        whole.then_some(at)
    })
}

/// The offset just behind the brace that closes the one at `open`.
pub(crate) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::new();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let tail = &rest[at..];
        // `mod tests;` ends at its semicolon, `mod tests {` at its brace.
        let end = match (tail.find('{'), tail.find(';')) {
            (Some(brace), Some(semicolon)) if semicolon < brace => semicolon + 1,
            (Some(brace), _) => closing(tail, brace),
            (None, Some(semicolon)) => semicolon + 1,
            (None, None) => tail.len(),
        };
        kept.extend(tail[..end].chars().filter(|c| *c == '\n'));
        rest = &tail[end..];
    }
    kept.push_str(rest);
    kept
}

/// Replaces comments and literals by blanks, keeping line breaks.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            let blanked = bytes[at..end].iter();
            out.extend(blanked.map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(out).expect("whole literals are blanked, the rest is untouched")
}

/// Where the comment or literal that starts at `at` ends; `at` when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + find(rest, b"\n").unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + comment_length(rest);
    }
    if rest[0] == b'"' {
        return at + string_length(rest);
    }
    let raw = !in_word && (rest[0] == b'r' || rest.starts_with(b"br"));
    if let (true, Some(length)) = (raw, raw_string_length(rest)) {
        return at + length;
    }
    if rest[0] == b'\'' {
        return at + char_length(rest);
    }
    at
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn comment_length(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let start = if rest[0] == b'b' { 2 } else { 1 };
    let hashes = rest[start..].iter().take_while(|b| **b == b'#').count();
    if rest.get(start + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let body = start + hashes + 1;
    let length = find(&rest[body..], &end).map_or(rest.len(), |at| body + at + end.len());
    Some(length)
}

/// Length of a character literal; 0 for a lifetime.
fn char_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|b| *b == b'\'');
        return close.map_or(0, |at| at + 4);
    }
    let text = String::from_utf8_lossy(&rest[..rest.len().min(8)]);
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

#[test]
fn blanking_keeps_code_and_lines() {
    let source = "let a = \"{\"; // }\nlet b = 'x'; /* { \n */ fn f<'a>() { r#\"}\"# }\n";
    let code = blank(source);
    assert_eq!(code.matches('\n').count(), 3);
    assert_eq!(code.matches('{').count(), 1);
    assert_eq!(code.matches('}').count(), 1);
    assert!(code.contains("fn f<'a>()"));
}

#[test]
fn test_modules_are_cut() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n";
    let cut = without_tests(code);
    assert!(cut.contains("fn a") && cut.contains("fn c") && !cut.contains("fn b"));
    assert_eq!(cut.matches('\n').count(), code.matches('\n').count());
}
