//! Image names, as far as a client reads them.

/// The part before the digest, with the names Docker leaves out left out.
pub(super) fn without_digest(name: &str) -> String {
    let plain = match name.split_once('@') {
        // `repo@sha256:…` had no tag; nothing is put in its place.
        Some((plain, _)) => plain,
        None => name,
    };
    familiar(plain)
}

/// Without `docker.io/` and `library/`.
pub(super) fn familiar(name: &str) -> String {
    let short = name
        .strip_prefix("docker.io/")
        .map(|n| n.strip_prefix("library/").unwrap_or(n));
    short.unwrap_or(name).to_owned()
}

/// A name and its tag; none when it has a digest or nothing behind the name.
pub(super) fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, Some(tag)),
        _ => (name, None),
    }
}

/// The name with `:latest` when it has neither tag nor digest.
pub(super) fn with_default_tag(name: &str) -> String {
    if name.contains('@') || split_tag(name).1.is_some() {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_and_completed() {
        assert_eq!(
            without_digest("docker.io/library/redis:7@sha256:00"),
            "redis:7"
        );
        assert_eq!(without_digest("reg:5000/a/b@sha256:00"), "reg:5000/a/b");
        assert_eq!(with_default_tag("reg:5000/a"), "reg:5000/a:latest");
        assert_eq!(with_default_tag("a:1"), "a:1");
        assert_eq!(split_tag("reg:5000/a:1"), ("reg:5000/a", Some("1")));
    }
}
