//! Placement constraints: `node.labels.disk == ssd`.
//!
//! A leaf: requests check them, planning applies them.

use crate::model::*;

/// One parsed constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    subject: Subject,
    is_equal: bool,
    value: String,
}

/// What of a node a constraint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Id,
    Hostname,
    Address,
    Role,
    Os,
    Architecture,
    /// The label itself is case sensitive, its prefix is not.
    NodeLabel(String),
    EngineLabel(String),
    /// Matches nothing.
    Unknown,
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
            subject: Subject::of(key),
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

    /// Unknown keys match nothing, missing labels are empty, case does not
    /// count.
    pub(crate) fn is_met_by(&self, node: &Node) -> bool {
        let about = &node.description;
        match &self.subject {
            Subject::Id => self.accepts(node.id.as_str()),
            Subject::Hostname => self.accepts(&about.hostname),
            Subject::Address => self.accepts_address(&node.addr),
            Subject::Role => self.accepts(match node.spec.role {
                NodeRole::Worker => "worker",
                NodeRole::Manager => "manager",
            }),
            Subject::Os => self.accepts(&about.platform.os),
            Subject::Architecture => {
                let raw = about.platform.architecture.as_str();
                let wanted = normal_arch(&self.value);
                let is_it = self.value.eq_ignore_ascii_case(raw)
                    || wanted.eq_ignore_ascii_case(raw)
                    || wanted.eq_ignore_ascii_case(arch_family(raw));
                is_it == self.is_equal
            }
            Subject::NodeLabel(label) => self.accepts_label(&node.spec.labels, label),
            Subject::EngineLabel(label) => self.accepts_label(&about.engine.labels, label),
            Subject::Unknown => false,
        }
    }

    fn accepts(&self, actual: &str) -> bool {
        self.value.eq_ignore_ascii_case(actual) == self.is_equal
    }

    fn accepts_label(&self, labels: &Labels, label: &str) -> bool {
        self.accepts(labels.get(label).map_or("", String::as_str))
    }

    /// An address, or a block of addresses; anything else matches nothing.
    fn accepts_address(&self, addr: &str) -> bool {
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let Some((base, bits)) = block(&self.value) else {
            return false;
        };
        let is_within = ip.is_ok_and(|ip| is_in_block(base, bits, ip));
        is_within == self.is_equal
    }
}

impl Subject {
    fn of(key: &str) -> Self {
        let lower = key.to_ascii_lowercase();
        let label = |prefix: &str| {
            let rest = lower.strip_prefix(prefix)?;
            let own = key.get(key.len() - rest.len()..)?;
            (!own.is_empty()).then(|| own.to_owned())
        };
        match lower.as_str() {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.ip" => Self::Address,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Architecture,
            _ => match (label(NODE_LABELS), label(ENGINE_LABELS)) {
                (Some(label), _) => Self::NodeLabel(label),
                (_, Some(label)) => Self::EngineLabel(label),
                (None, None) => Self::Unknown,
            },
        }
    }
}

const NODE_LABELS: &str = "node.labels.";
const ENGINE_LABELS: &str = "engine.labels.";

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spread(Subject);

impl Spread {
    /// The preferences of a service that name a label; others count for
    /// nothing, as with Docker.
    pub(crate) fn of(placement: Option<&Placement>) -> Vec<Self> {
        let preferences = placement.map_or(&[][..], |placement| &placement.preferences);
        let spreads = preferences.iter().filter_map(|of| of.spread.as_ref());
        spreads
            .map(|spread| Subject::of(&spread.spread_descriptor))
            .filter(|subject| matches!(subject, Subject::NodeLabel(_) | Subject::EngineLabel(_)))
            .map(Self)
            .collect()
    }

    /// The node's value of the label; empty without one.
    pub(crate) fn value<'a>(&self, node: &'a Node) -> &'a str {
        let found = match &self.0 {
            Subject::NodeLabel(label) => node.spec.labels.get(label),
            Subject::EngineLabel(label) => node.description.engine.labels.get(label),
            _ => None,
        };
        found.map_or("", String::as_str)
    }
}

/// An address or a block: its base and how many bits of it count.
fn block(text: &str) -> Option<(std::net::IpAddr, u32)> {
    let (base, bits) = match text.split_once('/') {
        Some((base, bits)) => (base, bits.parse::<u32>().ok()?),
        None => (text, 128),
    };
    Some((base.parse().ok()?, bits))
}

fn is_in_block(base: std::net::IpAddr, bits: u32, ip: std::net::IpAddr) -> bool {
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

/// The kernel's name of an architecture as Go and images have it.
pub(crate) fn normal_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What images call the architecture of a node: its variants are one.
pub(crate) fn arch_family(arch: &str) -> &str {
    match arch {
        "armv6l" | "armv7l" | "armv8l" => "arm",
        other => normal_arch(other),
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
            ("node.ip!=nonsense", false),
            ("node.nothing==x", false),
            ("node.nothing!=x", false),
            ("node.labels.==x", false),
        ];
        for (text, wanted) in table {
            let constraint = Constraint::parse(text).unwrap();
            assert_eq!(constraint.is_met_by(&node()), wanted, "{text}");
        }
    }

    #[test]
    fn an_architecture_has_several_names() {
        let table = [
            ("x86_64", "amd64", true),
            ("amd64", "x86_64", true),
            ("armv7l", "arm", true),
            ("armv7l", "armv7l", true),
            ("armv7l", "armv6l", false),
            ("armv7l", "arm64", false),
        ];
        for (own, named, wanted) in table {
            let mut node = node();
            node.description.platform.architecture = own.into();
            for (operator, wanted) in [("==", wanted), ("!=", !wanted)] {
                let text = format!("node.platform.arch{operator}{named}");
                let constraint = Constraint::parse(&text).unwrap();
                assert_eq!(constraint.is_met_by(&node), wanted, "{own}: {text}");
            }
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
