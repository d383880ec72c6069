//! `key=value` words: labels, options, environment, and the files of them.

use std::collections::BTreeMap;

/// Words as a map; a word without `=` has an empty value.
pub(in crate::cli) fn map(words: &[String]) -> BTreeMap<String, String> {
    words
        .iter()
        .map(|word| {
            word.split_once('=')
                .map_or((word.clone(), String::new()), |(k, v)| {
                    (k.to_owned(), v.to_owned())
                })
        })
        .collect()
}

/// Variables from files and then from flags, in that order. A name without a
/// value takes the client's own, or is left out when it has none.
pub(in crate::cli) fn environment(
    files: &[String],
    words: &[String],
) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for path in files {
        all.extend(file(path, &|name| std::env::var(name).ok())?);
    }
    for word in words {
        all.push(variable(word, &|name| std::env::var(name).ok())?);
    }
    Ok(all)
}

/// Labels from files and then from flags.
pub(in crate::cli) fn labels(
    files: &[String],
    words: &[String],
) -> Result<BTreeMap<String, String>, String> {
    let mut all = Vec::new();
    for path in files {
        all.extend(file(path, &|_| None)?);
    }
    all.extend(words.iter().cloned());
    Ok(map(&all))
}

/// A variable has a name.
pub(in crate::cli) fn variable_name(word: &str) -> Result<(), String> {
    if word.is_empty() || word.starts_with('=') {
        return Err(format!("invalid environment variable: {word}"));
    }
    Ok(())
}

/// A label has a name without blanks before it.
pub(in crate::cli) fn label_name(word: &str) -> Result<(), String> {
    match word.split_once('=').map_or(word, |(name, _)| name) {
        "" => Err(format!("invalid label '{word}': empty name")),
        name if name.contains(char::is_whitespace) => Err(format!(
            "invalid label '{word}': label name contains whitespace"
        )),
        _ => Ok(()),
    }
}

/// `NAME=VALUE`, or a bare name with the client's value put in.
fn variable(word: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    variable_name(word)?;
    if word.contains('=') {
        return Ok(word.to_owned());
    }
    Ok(own(word).map_or_else(|| word.to_owned(), |value| format!("{word}={value}")))
}

/// A file larger than this is no list of variables.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

fn file(path: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    use std::io::Read;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| {
        let text = super::super::image::error_text(&e);
        match e.kind() {
            std::io::ErrorKind::IsADirectory => {
                format!("invalid env file ({path}): read {path}: {text}")
            }
            _ => format!("open {path}: {text}"),
        }
    })?;
    lines(path, &bytes, own)
}

/// The lines of a variables file: comments and empty lines apart.
fn lines(
    path: &str,
    bytes: &[u8],
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("env file {path} contains invalid utf8 bytes"))?;
    let mut all = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .map_or((line, None), |(n, v)| (n, Some(v)));
        if name.is_empty() {
            return Err(format!(
                "invalid env file ({path}): no variable name on line {:?}",
                line
            ));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!(
                "invalid env file ({path}): variable '{name}' contains whitespaces"
            ));
        }
        match (value, own(name)) {
            (Some(value), _) => all.push(format!("{name}={value}")),
            (None, Some(value)) => all.push(format!("{name}={value}")),
            (None, None) => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn words_become_maps() {
        let words = ["a=b=c".to_owned(), "d".to_owned()];
        assert_eq!(
            map(&words),
            BTreeMap::from([("a".into(), "b=c".into()), ("d".into(), String::new())])
        );
    }

    #[test]
    fn bare_names_take_the_clients_value() {
        assert_eq!(variable("HOME", &own), Ok("HOME=/root".into()));
        assert_eq!(variable("NOPE", &own), Ok("NOPE".into()));
        assert_eq!(
            variable("=x", &own),
            Err("invalid environment variable: =x".into())
        );
    }

    #[test]
    fn files_have_comments_and_bare_names() {
        let text = b"# no\n\nA=1 # kept\n  B=\nHOME\nNOPE\n";
        assert_eq!(
            lines("f", text, &own).unwrap(),
            ["A=1 # kept", "B=", "HOME=/root"]
        );
        assert_eq!(
            lines("f", b"A B=1", &own).unwrap_err(),
            "invalid env file (f): variable 'A B' contains whitespaces"
        );
    }
}
