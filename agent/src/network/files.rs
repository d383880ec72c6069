//! Text of a container's /etc/resolv.conf and /etc/hosts. Pure.

use super::rules::RESOLVER;
use std::net::IpAddr;

/// Resolvers of last resort, where the node has none but its own loopback's:
/// Docker's.
const LAST_RESORT: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    pub(super) servers: Vec<String>,
    pub(super) search: Vec<String>,
    pub(super) options: Vec<String>,
}

impl Resolvers {
    pub(super) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => parsed.servers.extend(words.next()),
                // The last of several lines counts.
                Some("search" | "domain") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                _ => {}
            }
        }
        parsed
    }

    /// With what the user asked for in place of what the node has.
    pub(super) fn overridden(
        mut self,
        servers: &[String],
        search: &[String],
        options: &[String],
    ) -> Self {
        if !servers.is_empty() {
            self.servers = servers.to_vec();
        }
        if !search.is_empty() {
            // A single dot is the way to ask for none.
            self.search = search.iter().filter(|s| *s != ".").cloned().collect();
        }
        if !options.is_empty() {
            self.options = options.to_vec();
        }
        self
    }

    /// Without servers that are not there in another namespace.
    pub(super) fn without_loopback(mut self) -> Self {
        self.servers.retain(|server| !is_loopback(server));
        if self.servers.is_empty() {
            self.servers = LAST_RESORT.map(str::to_owned).to_vec();
        }
        self
    }

    /// The same, with the node's embedded resolver as the only one.
    pub(super) fn embedded(mut self) -> Self {
        self.servers = vec![RESOLVER.to_string()];
        if !self.options.iter().any(|o| o.starts_with("ndots:")) {
            self.options.push("ndots:0".into());
        }
        self
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("# Made by skep.\n");
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn is_loopback(server: &str) -> bool {
    // An address may carry its zone: `fe80::1%eth0`.
    let plain = server.split('%').next().unwrap_or_default();
    plain.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const HOSTS: &str = "127.0.0.1\tlocalhost\n\
::1\tlocalhost ip6-localhost ip6-loopback\n\
fe00::\tip6-localnet\n\
ff00::\tip6-mcastprefix\n\
ff02::1\tip6-allnodes\n\
ff02::2\tip6-allrouters\n";

/// The word that stands for the node's own address in `--add-host`.
const HOST_GATEWAY: &str = "host-gateway";

/// `own`: the container's addresses; `gateway`: what `host-gateway` stands for.
pub(super) fn hosts(
    own: &[String],
    hostname: &str,
    domainname: &str,
    extra: &[String],
    gateway: Option<&str>,
) -> String {
    let mut text = String::from(HOSTS);
    append_extra(&mut text, extra, gateway);
    for address in own {
        if hostname.is_empty() {
            continue;
        }
        if domainname.is_empty() {
            text.push_str(&format!("{address}\t{hostname}\n"));
        } else {
            text.push_str(&format!("{address}\t{hostname}.{domainname} {hostname}\n"));
        }
    }
    text
}

/// Adds `name:ip` lines.
pub(super) fn append_extra(text: &mut String, extra: &[String], gateway: Option<&str>) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in extra {
        let Some((name, address)) = entry.split_once([':', '=']) else {
            continue;
        };
        let address = address.trim_matches(['[', ']']);
        let address = match address {
            HOST_GATEWAY => gateway.unwrap_or_default(),
            address => address,
        };
        if !address.is_empty() {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n\
        domain old.example\nsearch example.org lan\noptions edns0 trust-ad\n";

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn loopback_resolvers_do_not_leave_the_node() {
        let plain = Resolvers::parse(NODE).without_loopback();
        assert_eq!(
            plain.text(),
            "# Made by skep.\nnameserver 192.0.2.53\nsearch example.org lan\noptions edns0 trust-ad\n"
        );
        let none = Resolvers::parse("nameserver ::1\nnameserver 127.0.0.1").without_loopback();
        assert_eq!(none.servers, LAST_RESORT);
    }

    #[test]
    fn user_networks_ask_the_embedded_resolver() {
        let text = Resolvers::parse(NODE)
            .overridden(&[], &strings(&["."]), &[])
            .embedded()
            .text();
        assert_eq!(
            text,
            "# Made by skep.\nnameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n"
        );
        let kept = Resolvers::default()
            .overridden(&[], &[], &strings(&["ndots:2"]))
            .embedded();
        assert_eq!(kept.options, ["ndots:2"]);
    }

    #[test]
    fn hosts_has_the_container_and_what_was_added() {
        let text = hosts(
            &strings(&["172.17.0.2"]),
            "web",
            "lan",
            &strings(&["db:10.0.0.9", "six:[fd00::1]", "up:host-gateway", "bad"]),
            Some("172.17.0.1"),
        );
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.contains("10.0.0.9\tdb\nfd00::1\tsix\n172.17.0.1\tup\n"));
        assert!(text.ends_with("172.17.0.2\tweb.lan web\n"));
    }
}
