//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container, as
//! Docker writes them. Pure: text in, text out.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Docker's default search list and server are the host's; this many of the
/// host's name servers are taken over, as libc reads no more.
const NAMESERVERS_MAX: usize = 3;
/// What Docker asks when the host has no usable server.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// `extra` is `name:address`; `own` the container's addresses with the names
/// that it has under them.
pub(super) fn hosts(own: &[(IpAddr, Vec<String>)], extra: &[String], gateway: Option<IpAddr>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for entry in extra {
        let Some((name, address)) = entry.split_once([':', '=']) else {
            continue;
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        match (address, gateway) {
            ("host-gateway", Some(gateway)) => {
                let _ = writeln!(text, "{gateway}\t{name}");
            }
            ("host-gateway", None) => {}
            _ => {
                let _ = writeln!(text, "{address}\t{name}");
            }
        }
    }
    for (address, names) in own {
        if !names.is_empty() {
            let _ = writeln!(text, "{address}\t{}", names.join(" "));
        }
    }
    text
}

/// What a container's resolver asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) servers: Vec<String>,
    pub(super) search: Vec<String>,
    pub(super) options: Vec<String>,
}

impl Resolver {
    /// Reads a resolv.conf.
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }

    /// The host's, as a container without a resolver of its own can use it:
    /// loopback servers are unreachable from another namespace.
    pub(super) fn reachable(mut self) -> Self {
        self.servers.retain(|server| {
            let bare = server.split('%').next().unwrap_or(server);
            bare.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
        });
        self.servers.truncate(NAMESERVERS_MAX);
        if self.servers.is_empty() {
            self.servers = FALLBACK_SERVERS.map(str::to_owned).to_vec();
        }
        self
    }

    /// With what the container's own flags say in place of the host's.
    pub(super) fn with(mut self, servers: &[String], search: &[String], options: &[String]) -> Self {
        if !servers.is_empty() {
            self.servers = servers.to_vec();
        }
        if !search.is_empty() {
            self.search = search.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        if !options.is_empty() {
            self.options = options.to_vec();
        }
        self
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_itself_and_the_extras() {
        let own = [("172.17.0.2".parse().expect("is an address"), vec!["web".into(), "id".into()])];
        let extra = ["db:10.0.0.9".into(), "up:host-gateway".into(), "six:[fd00::1]".into()];
        let text = hosts(&own, &extra, "172.17.0.1".parse().ok());
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.9\tdb\n172.17.0.1\tup\nfd00::1\tsix\n172.17.0.2\tweb id\n"));
    }

    #[test]
    fn loopback_servers_are_replaced() {
        let host = Resolver::parse("nameserver 127.0.0.53\nsearch a b\noptions edns0\n");
        assert_eq!(
            host.clone().reachable().text(),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch a b\noptions edns0\n"
        );
        let flags = host.with(&["9.9.9.9".into()], &[".".into()], &[]);
        assert_eq!(flags.text(), "nameserver 9.9.9.9\noptions edns0\n");
    }
}
