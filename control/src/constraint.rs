//! Placement constraints: `node.labels.disk == ssd`.
//!
//! A leaf: requests check them, planning applies them.

use crate::model::*;

/// One parsed constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    key: String,
    is_equal: bool,
    value: String,
}

impl Constraint {
    /// # Errors
    /// swarmkit's words for what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let found = ["==", "!="]
            .into_iter()
            .find_map(|operator| text.split_once(operator).map(|parts| (operator, parts)));
        let Some((operator, (key, value))) = found else {
            return Err("constraint expected one operator from ==, !=".to_owned());
        };
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(format!("key '{key}' is invalid"));
        }
        if value.contains("==") || value.contains("!=") || !is_value(value) {
            return Err(format!("value '{value}' is invalid"));
        }
        Ok(Self {
            key: key.to_owned(),
            is_equal: operator == "==",
            value: value.to_owned(),
        })
    }

    /// Those of a service; what does not parse was refused when it came.
    pub(crate) fn of(placement: Option<&Placement>) -> Vec<Self> {
        let texts = placement.map_or(&[][..], |placement| &placement.constraints);
        texts
            .iter()
            .filter_map(|text| Self::parse(text).ok())
            .collect()
    }

    /// Unknown keys match nothing, missing labels are empty.
    pub(crate) fn is_met_by(&self, node: &Node) -> bool {
        let key = self.key.to_ascii_lowercase();
        let about = &node.description;
        let role = match node.spec.role {
            NodeRole::Worker => "worker",
            NodeRole::Manager => "manager",
        };
        match key.as_str() {
            "node.id" => self.accepts(node.id.as_str()),
            "node.hostname" => self.accepts(&about.hostname),
            "node.ip" => self.accepts_address(&node.addr),
            "node.role" => self.accepts(role),
            "node.platform.os" => self.accepts(&about.platform.os),
            "node.platform.arch" => self.accepts(normal_arch(&about.platform.architecture)),
            _ => {
                let labels = [
                    ("node.labels.", &node.spec.labels),
                    ("engine.labels.", &about.engine.labels),
                ];
                labels.iter().any(|(prefix, labels)| {
                    key.starts_with(prefix) && {
                        let label = self.key.get(prefix.len()..).unwrap_or("");
                        self.accepts(labels.get(label).map_or("", String::as_str))
                    }
                })
            }
        }
    }

    fn accepts(&self, actual: &str) -> bool {
        let wanted = if self.key.eq_ignore_ascii_case("node.platform.arch") {
            normal_arch(&self.value)
        } else {
            &self.value
        };
        wanted.eq_ignore_ascii_case(actual) == self.is_equal
    }

    /// An address, or a block of addresses.
    fn accepts_address(&self, addr: &str) -> bool {
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let Ok(ip) = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() else {
            return !self.is_equal;
        };
        is_in_block(&self.value, ip) == self.is_equal
    }
}

fn is_in_block(block: &str, ip: std::net::IpAddr) -> bool {
    let (base, bits) = match block.split_once('/') {
        Some((base, bits)) => (base, bits.parse::<u32>().ok()),
        None => (block, Some(128)),
    };
    let (Ok(base), Some(bits)) = (base.parse::<std::net::IpAddr>(), bits) else {
        return false;
    };
    let (one, other, width) = match (base, ip) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => {
            (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
        }
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let ignored = width - bits.min(width);
    let cut = |bits: u128| bits.checked_shr(ignored).unwrap_or(0);
    cut(one) == cut(other)
}

/// Docker takes the kernel's and Go's names for the same.
pub(crate) fn normal_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_key(key: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(inner)
}

fn is_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || " -_:.*()?+[]\\^$|/@".contains(c);
    !value.is_empty() && value.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let mut node = Node {
            id: "abc".into(),
            addr: "10.1.2.3:2377".into(),
            ..Node::default()
        };
        node.spec.labels.insert("disk".into(), "SSD".into());
        node.description.hostname = "pi-1".into();
        node.description.platform.architecture = "aarch64".into();
        node.description.platform.os = "linux".into();
        node
    }

    #[test]
    fn constraints_are_met_or_not() {
        let table = [
            ("node.id==abc", true),
            ("node.hostname != pi-1", false),
            ("node.role == worker", true),
            ("node.role==manager", false),
            ("node.labels.disk==ssd", true),
            ("node.labels.Disk==ssd", false),
            ("NODE.LABELS.disk == ssd", true),
            ("node.labels.gone!=x", true),
            ("node.labels.gone==x", false),
            ("engine.labels.disk==ssd", false),
            ("node.platform.arch==arm64", true),
            ("node.platform.arch==aarch64", true),
            ("node.platform.os==Linux", true),
            ("node.ip==10.1.2.3", true),
            ("node.ip==10.1.0.0/16", true),
            ("node.ip!=10.1.0.0/16", false),
            ("node.nothing==x", false),
        ];
        for (text, wanted) in table {
            let constraint = Constraint::parse(text).unwrap();
            assert_eq!(constraint.is_met_by(&node()), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let table = [
            ("node.role", "constraint expected one operator from ==, !="),
            ("node role==x", "key 'node role' is invalid"),
            ("node.role==", "value '' is invalid"),
        ];
        for (text, wanted) in table {
            assert_eq!(Constraint::parse(text).unwrap_err(), wanted);
        }
    }
}
