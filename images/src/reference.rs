//! Image names by Docker's grammar: `[domain/]path[:tag][@digest]`, and the
//! two spellings of each: canonical (`docker.io/library/redis:7`), by which
//! the store keeps tags, and familiar (`redis:7`), which people see. Pure.

use crate::{
    digest::Digest,
    error::{Error, Result},
};
use std::{fmt, str::FromStr};

/// The registry a name without one means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Where one-word names of the default registry live.
const OFFICIAL_PREFIX: &str = "library/";
/// The tag a name without one means.
pub const DEFAULT_TAG: &str = "latest";
/// Docker's limit on domain and path together, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Docker's limit on a tag, in bytes.
const TAG_BYTES_MAX: usize = 128;

/// A well-formed, normalised image name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, …
    pub domain: String,
    /// `library/redis`, `team/app`, …
    pub path: String,
    /// What follows the colon, if said.
    pub tag: Option<String>,
    /// What follows the `@`, if said.
    pub digest: Option<Digest>,
}

impl Reference {
    /// With the default tag where neither tag nor digest was said.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The canonical name without tag and digest.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it.
    #[must_use]
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short.into(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as people write it.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.familiar_repository() + &self.tail()
    }

    /// `:tag` and `@digest`, as far as there.
    fn tail(&self) -> String {
        let mut tail = String::new();
        if let Some(tag) = &self.tag {
            tail += &format!(":{tag}");
        }
        if let Some(digest) = &self.digest {
            tail += &format!("@{digest}");
        }
        tail
    }
}

/// Canonical: `docker.io/library/redis:7`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.tail())
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Errors are Docker's, word for word.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(Error::invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, rest) = split_domain(text);
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let spoken = match &domain {
                Some(domain) => format!("{domain}/{path}"),
                None => path.trim_start_matches(OFFICIAL_PREFIX).into(),
            };
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({spoken}) must be lowercase"
            )));
        }
        let domain = domain.unwrap_or_else(|| DEFAULT_DOMAIN.into());
        if !is_domain(&domain) || !is_path(path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(malformed());
        }
        if domain.len() + 1 + path.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "repository name must not be more than {NAME_BYTES_MAX} characters"
            )));
        }
        let digest = match digest {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| malformed())?),
        };
        Ok(Self {
            domain,
            path: path.into(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

fn malformed() -> Error {
    Error::invalid("invalid reference format")
}

/// Domain (unless none was said) and remainder, `library/` put in where
/// Docker does. A first component is a domain only if it could be no
/// user name: it has a dot, a colon, an upper-case letter or is localhost.
fn split_domain(text: &str) -> (Option<String>, String) {
    let looks_like_host = |first: &str| {
        first == "localhost"
            || first.contains(['.', ':'])
            || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => {
            // Docker's old name for its own registry.
            let domain = if first == "index.docker.io" {
                DEFAULT_DOMAIN
            } else {
                first
            };
            (Some(domain.to_owned()), rest)
        }
        _ => (None, text),
    };
    let official = domain
        .as_deref()
        .is_none_or(|domain| domain == DEFAULT_DOMAIN);
    if official && !rest.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{rest}"));
    }
    (domain, rest.into())
}

/// `host[:port]`, labels of letters, digits and inner dashes, or `[v6]`.
fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let hex = |b: u8| b.is_ascii_hexdigit() || b == b':';
        return !address.is_empty()
            && address.bytes().all(hex)
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match domain.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Components of lower-case letters and digits, joined inside by one dot,
/// one or two underscores, or any number of dashes.
fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !word(first) || !word(last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        for (text, canonical, familiar) in [
            ("redis", "docker.io/library/redis", "redis"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("docker.io/redis", "docker.io/library/redis", "redis"),
            ("index.docker.io/redis", "docker.io/library/redis", "redis"),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            (
                "host:5000/a/b_c__d-e--f.g:T_1",
                "host:5000/a/b_c__d-e--f.g:T_1",
                "host:5000/a/b_c__d-e--f.g:T_1",
            ),
            ("[fd00::1]:5000/a", "[fd00::1]:5000/a", "[fd00::1]:5000/a"),
            ("library/redis", "docker.io/library/redis", "redis"),
            ("Host/app", "Host/app", "Host/app"),
        ] {
            let parsed: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(parsed.to_string(), canonical);
            assert_eq!(parsed.familiar(), familiar);
        }
        let digest = Digest::of(b"");
        let both: Reference = format!("a:1@{digest}").parse().unwrap();
        assert_eq!(both.familiar(), format!("a:1@{digest}"));
        assert_eq!(
            "a".parse::<Reference>().unwrap().tagged().familiar(),
            "a:latest"
        );
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        let hex = "a".repeat(64);
        for (text, error) in [
            ("", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:-1", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("../../etc", "invalid reference format"),
            (
                "Redis",
                "invalid reference format: repository name (Redis) must be lowercase",
            ),
            (
                "team/App:1",
                "invalid reference format: repository name (team/App) must be lowercase",
            ),
            (
                "h.io/App",
                "invalid reference format: repository name (h.io/App) must be lowercase",
            ),
            (
                &hex,
                &format!(
                    "invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
            (
                &format!("a/{}", "b".repeat(300)),
                "repository name must not be more than 255 characters",
            ),
        ] {
            let refused = text.parse::<Reference>().expect_err(text);
            assert_eq!(refused.message, error, "{text}");
        }
    }
}
