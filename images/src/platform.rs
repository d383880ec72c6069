//! Platforms by OCI's names, and which variants of an image a node can run,
//! best first. Pure but for `Platform::host`, which asks the kernel once.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// `os/architecture[/variant]`, normalised: `amd64`, `arm64`, `arm` + `v7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    #[serde(deserialize_with = "crate::config::null_as_default")]
    pub os: String,
    /// Go's name of the architecture.
    #[serde(deserialize_with = "crate::config::null_as_default")]
    pub architecture: String,
    /// `v7` and the like; empty where the architecture has none.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "crate::config::null_as_default"
    )]
    pub variant: String,
}

impl Platform {
    /// What this machine runs natively.
    #[must_use]
    pub fn host() -> Self {
        let machine = rustix::system::uname()
            .machine()
            .to_string_lossy()
            .into_owned();
        // A 32-bit build on a 64-bit kernel: what was built can run, and no more.
        let machine = match (std::env::consts::ARCH, machine.as_str()) {
            ("arm", "aarch64") => "armv7l".to_owned(),
            ("x86", _) => "386".to_owned(),
            _ => machine,
        };
        Self {
            os: "linux".into(),
            architecture: machine,
            variant: String::new(),
        }
        .normalised()
    }

    /// With kernel and vendor spellings made OCI's.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "v8" | "8") => ("arm64", ""),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("armv5tel" | "armv5tejl", _) => ("arm", "v5"),
            ("armv6l", _) => ("arm", "v6"),
            ("armv7l", _) => ("arm", "v7"),
            ("armv8l", _) => ("arm", "v8"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        (self.architecture, self.variant) = (architecture, variant);
        self
    }

    /// How well an image for `offer` runs here: `None` not at all, 0 best.
    #[must_use]
    pub fn rank(&self, offer: &Self) -> Option<usize> {
        let (want, offer) = (self.clone().normalised(), offer.clone().normalised());
        if offer.os != want.os && !offer.os.is_empty() {
            return None;
        }
        want.runnable()
            .iter()
            .position(|(architecture, variant)| {
                offer.architecture == *architecture && offer.variant == *variant
            })
            .or_else(|| (offer == want).then_some(0))
    }

    /// Architectures and variants that run on this platform, best first.
    fn runnable(&self) -> Vec<(&str, &str)> {
        const ARM: [(&str, &str); 4] = [("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")];
        let own = (self.architecture.as_str(), self.variant.as_str());
        match own {
            ("amd64", "") => vec![own, ("386", "")],
            ("amd64", _) => vec![own, ("amd64", ""), ("386", "")],
            ("arm64", "") => [&[own], &ARM[..]].concat(),
            ("arm64", _) => [&[own, ("arm64", "")], &ARM[..]].concat(),
            ("arm", variant) => ARM.into_iter().filter(|(_, v)| *v <= variant).collect(),
            _ => vec![own],
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `linux/arm/v7`, `linux/amd64`, or an architecture or system alone.
    fn from_str(text: &str) -> Result<Self> {
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_word) || parts.len() > 3 {
            return Err(Error::invalid(format!(
                "{text:?} is an invalid OS component of {text:?}: \
                 platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
            )));
        }
        let own = |part: Option<&&str>| part.map_or(String::new(), |part| (*part).to_owned());
        let platform = match parts.as_slice() {
            ["linux"] => return Ok(Self::host()),
            [architecture] => Self {
                os: "linux".into(),
                architecture: (*architecture).into(),
                variant: String::new(),
            },
            parts => Self {
                os: own(parts.first()),
                architecture: own(parts.get(1)),
                variant: own(parts.get(2)),
            },
        };
        Ok(platform.normalised())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_board_runs_its_own_and_older_variants() {
        let (v7, v6) = (platform("linux/arm/v7"), platform("linux/arm/v6"));
        assert_eq!(v7.rank(&v7), Some(0));
        assert_eq!(v7.rank(&v6), Some(1));
        assert_eq!(v6.rank(&v7), None);
        assert_eq!(v7.rank(&platform("linux/arm")), Some(0));
        assert_eq!(
            platform("linux/arm64").rank(&platform("linux/arm64/v8")),
            Some(0)
        );
        assert!(platform("linux/arm64").rank(&v7) < platform("linux/arm64").rank(&v6));
        assert_eq!(platform("linux/amd64").rank(&platform("linux/arm64")), None);
        assert_eq!(
            platform("linux/amd64").rank(&platform("windows/amd64")),
            None
        );
        assert_eq!(
            platform("linux/amd64").rank(&platform("linux/386")),
            Some(1)
        );
        let unknown = Platform {
            os: "unknown".into(),
            architecture: "unknown".into(),
            ..Platform::default()
        };
        assert_eq!(Platform::host().rank(&unknown), None);
    }

    #[test]
    fn spellings_meet() {
        assert_eq!(platform("linux/x86_64"), platform("linux/amd64"));
        assert_eq!(platform("aarch64").to_string(), "linux/arm64");
        assert_eq!(platform("linux/armv7l").to_string(), "linux/arm/v7");
        assert!("linux/a b".parse::<Platform>().is_err());
        assert!("".parse::<Platform>().is_err());
    }
}
