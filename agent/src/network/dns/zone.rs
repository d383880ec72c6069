//! Who is called what on which network. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Prefix of the name that always stands for each task of a service.
const TASKS: &str = "tasks.";

/// The names of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    /// As users write it.
    network: String,
    /// Lower case → addresses; none: the name exists, and nothing is there.
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The first name an address was given.
    reverse: BTreeMap<IpAddr, String>,
}

/// All names of this node, by network id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::network) struct Zone(BTreeMap<String, Names>);

/// What one container may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::network) struct Asker {
    /// Ids of its networks, the one with its default route first.
    pub(in crate::network) networks: Vec<String>,
    /// Its private names for others (`--link`): alias → name.
    pub(in crate::network) links: BTreeMap<String, String>,
    pub(in crate::network) upstreams: Upstreams,
}

/// Where other names are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::network) enum Upstreams {
    /// Of the node's resolvers.
    Node,
    /// Of these.
    These(Vec<SocketAddr>),
    /// Of nobody: its networks are internal.
    #[default]
    Nowhere,
}

impl Zone {
    pub(in crate::network) fn add_network(&mut self, id: &str, name: &str) {
        self.0.entry(id.to_owned()).or_default().network = name.to_lowercase();
    }

    /// One more address of a name, or a name without any.
    pub(in crate::network) fn add(&mut self, network: &str, name: &str, address: Option<IpAddr>) {
        let Some(names) = self.0.get_mut(network) else {
            return;
        };
        let addresses = names.addresses.entry(name.to_lowercase()).or_default();
        let Some(address) = address else {
            return;
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        names
            .reverse
            .entry(address)
            .or_insert_with(|| name.to_owned());
    }

    /// A service's name and its `tasks.` twin.
    pub(in crate::network) fn add_service(
        &mut self,
        network: &str,
        name: &str,
        address: Option<IpAddr>,
    ) {
        self.add(network, name, address);
        self.add(network, &format!("{TASKS}{name}"), address);
    }

    /// `None`: nobody here is called that.
    pub(super) fn resolve(&self, asker: &Asker, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_lowercase();
        let name = asker.links.get(&name).map_or(name, |n| n.to_lowercase());
        let mut found: Option<Vec<IpAddr>> = None;
        for id in &asker.networks {
            let Some(names) = self.0.get(id) else {
                continue;
            };
            let addresses = names.addresses.get(&name).or_else(|| {
                // `web.front` is `web` on the network `front`.
                let short = name.strip_suffix(&names.network)?.strip_suffix('.')?;
                names.addresses.get(short)
            });
            match addresses {
                Some(addresses) if !addresses.is_empty() => return Some(addresses.clone()),
                Some(_) => found = Some(Vec::new()),
                None => {}
            }
        }
        found
    }

    /// The name of an address, with its network behind it.
    pub(super) fn reverse(&self, asker: &Asker, address: IpAddr) -> Option<String> {
        asker.networks.iter().find_map(|id| {
            let names = self.0.get(id)?;
            let name = names.reverse.get(&address)?;
            Some(format!("{name}.{}", names.network))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(networks: &[&str]) -> Asker {
        Asker {
            networks: networks.iter().map(|n| (*n).to_owned()).collect(),
            links: BTreeMap::from([("db".to_owned(), "Postgres".to_owned())]),
            upstreams: Upstreams::Nowhere,
        }
    }

    fn zone() -> Zone {
        let mut zone = Zone::default();
        zone.add_network("n1", "Front");
        zone.add_network("n2", "back");
        zone.add("n1", "web", Some("10.1.0.2".parse().unwrap()));
        zone.add("n2", "postgres", Some("10.2.0.3".parse().unwrap()));
        zone.add_service("n2", "api", Some("10.2.0.4".parse().unwrap()));
        zone.add_service("n2", "api", Some("10.2.0.5".parse().unwrap()));
        zone.add_service("n2", "asleep", None);
        zone
    }

    #[test]
    fn names_end_at_their_network() {
        let zone = zone();
        assert_eq!(zone.resolve(&asker(&["n1"]), "WEB.").unwrap().len(), 1);
        assert_eq!(zone.resolve(&asker(&["n1"]), "web.front").unwrap().len(), 1);
        assert_eq!(zone.resolve(&asker(&["n2"]), "web"), None);
        assert_eq!(zone.resolve(&asker(&["n1"]), "web.back"), None);
        assert_eq!(zone.resolve(&asker(&["n1", "n2"]), "db").unwrap().len(), 1);
    }

    #[test]
    fn a_service_has_all_its_tasks_or_is_known_and_empty() {
        let zone = zone();
        let asker = asker(&["n2"]);
        assert_eq!(zone.resolve(&asker, "api").unwrap().len(), 2);
        assert_eq!(zone.resolve(&asker, "tasks.api").unwrap().len(), 2);
        assert_eq!(zone.resolve(&asker, "asleep"), Some(Vec::new()));
        assert_eq!(zone.resolve(&asker, "tasks.other"), None);
    }

    #[test]
    fn addresses_have_names() {
        let address = "10.2.0.4".parse().unwrap();
        assert_eq!(
            zone().reverse(&asker(&["n2"]), address).unwrap(),
            "api.back"
        );
        assert_eq!(zone().reverse(&asker(&["n1"]), address), None);
    }
}
