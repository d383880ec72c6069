//! The node's network as one value: what is wanted, and the hands that make
//! the kernel agree.
//!
//! Blocking and single-threaded; [`super::Network`] runs it off the executor's
//! threads, one call at a time. Invariant: a call either completes, or leaves
//! nothing of what it began.

use super::attach::{Attach, Sandbox};
use super::catalog::{Catalog, is_predefined};
use super::dns::{NodeResolvers, Server, SharedZone};
use super::files::{Resolvers, append_extra, hosts};
use super::ipam::Pool;
use super::leave::Leaving;
use super::links::Links;
use super::netns::Folder;
use super::nft::{Firewall, has_drop_policy};
use super::ports::Ports;
use super::rules::Published;
use super::services::Services;
use super::shape::{Carrier, Shape, shape};
use super::{Member, NetworkView, Options, endpoint, publish};
use crate::disk;
use crate::error::{Error, Result};
use skep_control::model::{
    EndpointSettings, Network as NetworkRecord, NetworkId, NetworkSpec, WallTime,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of the node that its containers' files are made of.
pub(super) struct HostFiles {
    pub(super) resolv_conf: PathBuf,
    /// Read instead where the first one names only systemd's stub.
    pub(super) resolv_conf_behind_stub: PathBuf,
    pub(super) hosts: PathBuf,
}

impl Default for HostFiles {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            resolv_conf_behind_stub: "/run/systemd/resolve/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
        }
    }
}

/// A container that has its place.
pub(super) struct Attached {
    pub(super) wish: Attach,
    pub(super) sandbox: Sandbox,
    /// `None`: it has no network with names.
    pub(super) resolver: Option<Server>,
}

pub(super) struct Core {
    pub(super) catalog: Catalog,
    pub(super) pools: BTreeMap<String, Vec<Pool>>,
    pub(super) folder: Folder,
    pub(super) containers: BTreeMap<String, Attached>,
    pub(super) ports: Ports,
    pub(super) services: Services,
    /// Addresses of backends that ended here, until the cluster has noticed:
    /// nothing is led to them.
    pub(super) ended: BTreeSet<IpAddr>,
    /// The services were told since this agent started.
    pub(super) is_told: bool,
    /// UDP ports of the host that lead somewhere, as the kernel was told.
    pub(super) udp_ports: BTreeSet<u16>,
    pub(super) links: Links,
    pub(super) zone: SharedZone,
    pub(super) node_resolvers: Arc<NodeResolvers>,
    pub(super) host_files: HostFiles,
    /// Cluster networks whose bridge is here; it stays until the network goes.
    pub(super) built: BTreeSet<String>,
    pub(super) leaving: Vec<Leaving>,
    /// RUN/network: what the cluster told, for the next agent.
    pub(super) told: PathBuf,
    /// What the operator must know of, until it is over.
    pub(super) troubles: BTreeSet<String>,
}

/// What `NetworkMode` says.
enum Mode {
    Networks,
    Host,
    Nothing,
    /// The namespace of another container, by full id.
    Container(String),
}

impl Core {
    pub(super) fn open(options: &Options, host_files: HostFiles, now: WallTime) -> Result<Self> {
        let folder = Folder::open(&options.run_dir)?;
        let mut links = Links::open()?;
        let occupied = links.routes()?;
        let mut core = Self {
            catalog: Catalog::open(&options.data_dir, &occupied, now)?,
            pools: BTreeMap::new(),
            folder,
            containers: BTreeMap::new(),
            ports: Ports::default(),
            services: Services::default(),
            ended: BTreeSet::new(),
            is_told: false,
            udp_ports: BTreeSet::new(),
            links,
            zone: SharedZone::default(),
            node_resolvers: Arc::new(NodeResolvers::new(host_files.resolv_conf.clone())),
            host_files,
            built: BTreeSet::new(),
            leaving: Vec::new(),
            told: options.run_dir.join("network"),
            troubles: BTreeSet::new(),
        };
        std::fs::create_dir_all(&core.told).map_err(|e| disk::failure("create", &core.told, &e))?;
        core.recall();
        core.enable_forwarding("net/ipv4/ip_forward");
        Ok(core)
    }

    pub(super) fn enable_forwarding(&mut self, path: &str) {
        if let Err(e) = set_sysctl(path, "1") {
            let trouble = format!(
                "WARNING: /proc/sys/{path} cannot be set ({e}): containers reach nothing outside this node; set it to 1"
            );
            if self.troubles.insert(trouble.clone()) {
                log::warn!("network: {trouble}");
            }
        }
    }

    pub(super) fn attach(&mut self, wish: Attach) -> Result<Sandbox> {
        let container = wish.container.clone();
        if self.containers.contains_key(&container) {
            self.detach(&container);
        }
        // The namespace of its last run has the same path.
        self.reap(|leaving| leaving == container);
        let made = match self.mode(&wish)? {
            Mode::Host => self.attach_host(wish),
            Mode::Nothing => self.attach_nothing(wish),
            Mode::Container(of) => self.attach_to(&of, wish),
            Mode::Networks => self.attach_networks(wish),
        };
        if made.is_err() {
            self.detach(&container);
            self.reap(|leaving| leaving == container);
        }
        made
    }

    fn mode(&self, wish: &Attach) -> Result<Mode> {
        if let Some(of) = wish.mode.strip_prefix("container:") {
            return Ok(Mode::Container(of.to_owned()));
        }
        for (name, _) in self.wanted_endpoints(wish)? {
            match shape(self.catalog.find(&name)?).carrier {
                Carrier::Host => return Ok(Mode::Host),
                Carrier::Nothing => return Ok(Mode::Nothing),
                Carrier::Bridge => {}
            }
        }
        Ok(Mode::Networks)
    }

    /// Network name → wish, for every network that the container names.
    fn wanted_endpoints(&self, wish: &Attach) -> Result<BTreeMap<String, EndpointSettings>> {
        let default = |name: &str| matches!(name, "" | "default").then_some("bridge");
        let mode = default(&wish.mode).unwrap_or(&wish.mode);
        let mut wanted = BTreeMap::new();
        for (name, settings) in &wish.endpoints {
            let name = default(name).unwrap_or(name);
            let record = self.catalog.find(name)?;
            wanted.insert(record.spec.name.clone(), settings.clone());
        }
        let is_chosen = !matches!(wish.mode.as_str(), "" | "default" | "bridge");
        if wanted.is_empty() || is_chosen {
            let record = self.catalog.find(mode)?;
            wanted.entry(record.spec.name.clone()).or_default();
        }
        Ok(wanted)
    }

    fn attach_host(&mut self, wish: Attach) -> Result<Sandbox> {
        let mut hosts = std::fs::read_to_string(&self.host_files.hosts).unwrap_or_default();
        append_extra(&mut hosts, &wish.extra_hosts, None);
        let resolvers = Resolvers::parse(&read(&self.host_files.resolv_conf));
        let resolvers = resolvers.overridden(&wish.dns, &wish.dns_search, &wish.dns_options);
        let sandbox = Sandbox {
            netns: None,
            id: super::random_hex::<32>(),
            endpoints: self.bare_endpoint("host")?,
            ports: BTreeMap::new(),
            resolv_conf: resolvers.text(),
            hosts,
        };
        self.keep(wish, sandbox.clone());
        Ok(sandbox)
    }

    fn attach_nothing(&mut self, wish: Attach) -> Result<Sandbox> {
        let netns = self.folder.make(&wish.container)?;
        super::inside::prepare(&netns)?;
        let mut sandbox = Sandbox {
            netns: Some(netns),
            id: super::random_hex::<32>(),
            endpoints: self.bare_endpoint("none")?,
            ..Sandbox::default()
        };
        sandbox.ports = publish::take(&mut self.ports, &wish, &sandbox, None)?;
        self.write_texts(&wish, &mut sandbox);
        self.keep(wish, sandbox.clone());
        Ok(sandbox)
    }

    /// The namespace, the names and the files of another container.
    fn attach_to(&mut self, of: &str, wish: Attach) -> Result<Sandbox> {
        let Some(other) = self.containers.get(of) else {
            let short = of.get(..12).unwrap_or(of);
            return Err(Error::conflict(format!(
                "cannot join network namespace of a non running container: {short}"
            )));
        };
        let sandbox = Sandbox {
            netns: other.sandbox.netns.clone(),
            id: String::new(),
            endpoints: BTreeMap::new(),
            ports: BTreeMap::new(),
            resolv_conf: other.sandbox.resolv_conf.clone(),
            hosts: other.sandbox.hosts.clone(),
        };
        self.keep(wish, sandbox.clone());
        Ok(sandbox)
    }

    fn attach_networks(&mut self, wish: Attach) -> Result<Sandbox> {
        let container = wish.container.clone();
        let mut sandbox = Sandbox {
            netns: Some(self.folder.path(&container)),
            id: super::random_hex::<32>(),
            ..Sandbox::default()
        };
        let wanted = self.wanted_endpoints(&wish)?;
        self.keep(wish.clone(), sandbox.clone());
        for (name, settings) in wanted {
            let endpoint = self.decide(&name, &settings, &wish)?;
            sandbox.endpoints.insert(name, endpoint);
            // Kept as it grows: an error later gives all of it back.
            self.keep(wish.clone(), sandbox.clone());
        }
        let netns = self.folder.make(&container)?;
        super::inside::prepare(&netns)?;
        self.reconcile_links()?;
        let host_binding = self.host_binding(&sandbox, &wish.mode);
        sandbox.ports = publish::take(&mut self.ports, &wish, &sandbox, host_binding)?;
        self.write_texts(&wish, &mut sandbox);
        self.keep(wish, sandbox.clone());
        self.refresh_resolver(&container)?;
        self.refresh_names();
        self.apply_firewall()?;
        Ok(sandbox)
    }

    fn keep(&mut self, wish: Attach, sandbox: Sandbox) {
        let attached = Attached {
            resolver: None,
            sandbox,
            wish,
        };
        self.containers
            .insert(attached.wish.container.clone(), attached);
    }

    /// An endpoint of `host` or `none`: an id and no address.
    fn bare_endpoint(&self, name: &str) -> Result<BTreeMap<String, EndpointSettings>> {
        let record = self.catalog.find(name)?;
        let endpoint = EndpointSettings {
            network_id: record.id.0.clone(),
            endpoint_id: super::random_hex::<32>(),
            ..EndpointSettings::default()
        };
        Ok(BTreeMap::from([(name.to_owned(), endpoint)]))
    }

    pub(super) fn decide(
        &mut self,
        network: &str,
        settings: &EndpointSettings,
        wish: &Attach,
    ) -> Result<EndpointSettings> {
        let record = self.catalog.find(network)?.clone();
        let shape = shape(&record);
        let pools = self.pools_of(&record.id, &shape);
        let mut decided = endpoint::decide(wish, settings, &record, &shape, pools);
        if decided.is_err() && !self.leaving.is_empty() {
            // What is missing may be with one that is about to be gone.
            self.reap(|_| true);
            let pools = self.pools_of(&record.id, &shape);
            decided = endpoint::decide(wish, settings, &record, &shape, pools);
        }
        for prefix in decided.iter().flat_map(endpoint::addresses) {
            self.ended.remove(&prefix.address);
        }
        decided
    }

    pub(super) fn pools_of(&mut self, network: &NetworkId, shape: &Shape) -> &mut Vec<Pool> {
        self.pools.entry(network.0.clone()).or_insert_with(|| {
            let subnets = shape.subnets.iter();
            subnets
                .map(|s| Pool::new(s.prefix, s.range, &s.taken))
                .collect()
        })
    }

    fn host_binding(&self, sandbox: &Sandbox, mode: &str) -> Option<IpAddr> {
        let (name, _) = publish::endpoint(sandbox, mode)?;
        shape(self.catalog.find(name).ok()?).host_binding
    }

    /// The text of the container's own files.
    pub(super) fn write_texts(&self, wish: &Attach, sandbox: &mut Sandbox) {
        let resolvers = Resolvers::parse(&read(&self.host_files.resolv_conf));
        let is_named = self.has_names(sandbox);
        let only_stub = resolvers.servers == ["127.0.0.53"];
        let resolvers = if !is_named && only_stub {
            Resolvers::parse(&read(&self.host_files.resolv_conf_behind_stub))
        } else {
            resolvers
        };
        let resolvers = resolvers.overridden(&wish.dns, &wish.dns_search, &wish.dns_options);
        let resolvers = match (is_named, wish.dns.is_empty()) {
            (true, _) => resolvers.embedded(),
            (false, true) => resolvers.without_loopback(),
            (false, false) => resolvers,
        };
        sandbox.resolv_conf = resolvers.text();
        let ordered = endpoint::in_order(&sandbox.endpoints, &wish.mode);
        let own: Vec<String> = ordered
            .iter()
            .flat_map(|(_, e)| endpoint::addresses(e))
            .map(|prefix| prefix.address.to_string())
            .collect();
        let gateway = ordered.first().map(|(_, e)| e.gateway.as_str());
        sandbox.hosts = hosts(
            &own,
            &wish.hostname,
            &wish.domainname,
            &wish.extra_hosts,
            gateway,
        );
    }

    /// Whether any of its networks has names.
    pub(super) fn has_names(&self, sandbox: &Sandbox) -> bool {
        let known = sandbox
            .endpoints
            .values()
            .filter_map(|endpoint| self.catalog.get(&endpoint.network_id));
        known
            .map(shape)
            .any(|shape| shape.has_names && shape.carrier == Carrier::Bridge)
    }

    /// Takes all of a container away; what fails is logged, for the rest must
    /// go on.
    pub(super) fn detach(&mut self, container: &str) {
        let Some(attached) = self.containers.remove(container) else {
            self.folder.remove(container);
            return;
        };
        // First nothing leads to it any more, then it goes.
        self.ports.release(container, |_, _| false);
        let endpoints = attached.sandbox.endpoints.values();
        let addresses: BTreeSet<IpAddr> = endpoints
            .flat_map(endpoint::addresses)
            .map(|prefix| prefix.address)
            .collect();
        self.ended
            .extend(addresses.intersection(&self.services.backends()));
        self.refresh_names();
        warn("rules", self.apply_firewall());
        drop(attached.resolver);
        let own = self.folder.path(container);
        let owns_namespace = attached.sandbox.netns.as_deref() == Some(own.as_path());
        let endpoints = attached.sandbox.endpoints.into_values().collect();
        self.leave(container, endpoints, owns_namespace);
    }

    pub(super) fn give_back(&mut self, endpoint: &EndpointSettings) {
        for prefix in endpoint::addresses(endpoint) {
            for pool in self.pools.entry(endpoint.network_id.clone()).or_default() {
                if pool.subnet().contains(prefix.address) {
                    pool.give_back(prefix.address);
                }
            }
        }
    }

    pub(super) fn rename(&mut self, container: &str, name: &str) {
        let Some(attached) = self.containers.get_mut(container) else {
            return;
        };
        attached.wish.name = name.to_owned();
        for endpoint in attached.sandbox.endpoints.values_mut() {
            if !endpoint.dns_names.is_empty() {
                endpoint.dns_names = endpoint::names(&attached.wish, &endpoint.aliases);
            }
        }
        self.refresh_names();
    }

    pub(super) fn create(&mut self, spec: NetworkSpec, now: WallTime) -> Result<NetworkId> {
        let occupied = self.links.routes()?;
        let id = self.catalog.create(spec, &occupied, now)?;
        let made = self.reconcile_links().and_then(|()| self.apply_firewall());
        if let Err(e) = made {
            warn("network table", self.catalog.remove(&id));
            warn("links", self.reconcile_links());
            return Err(e);
        }
        Ok(id)
    }

    pub(super) fn remove(&mut self, network: &str) -> Result<()> {
        let view = self.view(network)?;
        let (id, name) = (view.network.id, view.network.spec.name);
        if is_predefined(&name) && self.catalog.is_local(&id) {
            return Err(Error::forbidden(format!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        }
        let users: Vec<String> = view
            .members
            .iter()
            .map(|(id, member)| {
                format!(
                    "name:\"{}\" id:\"{}\"",
                    member.name,
                    id.get(..12).unwrap_or(id)
                )
            })
            .collect();
        if !users.is_empty() {
            return Err(Error::forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                users.join(", ")
            )));
        }
        self.catalog.remove(&id)?;
        self.pools.remove(&id.0);
        warn("links", self.reconcile_links());
        warn("rules", self.apply_firewall());
        Ok(())
    }

    pub(super) fn set_cluster_networks(&mut self, networks: Vec<NetworkRecord>) -> Result<()> {
        if !self.catalog.set_cluster(networks.clone()) {
            return Ok(());
        }
        self.remember("networks", &networks);
        let catalog = &self.catalog;
        self.pools.retain(|id, _| catalog.get(id).is_some());
        self.hold_addresses();
        self.reconcile_links()?;
        self.refresh_names();
        self.apply_firewall()
    }

    /// Addresses that containers have are not given again.
    pub(super) fn hold_addresses(&mut self) {
        let held: Vec<EndpointSettings> = self
            .containers
            .values()
            .flat_map(|attached| attached.sandbox.endpoints.values().cloned())
            .collect();
        for endpoint in held {
            let Some(record) = self.catalog.get(&endpoint.network_id).cloned() else {
                continue;
            };
            for pool in self.pools_of(&record.id, &shape(&record)) {
                for prefix in endpoint::addresses(&endpoint) {
                    pool.hold(prefix.address);
                }
            }
        }
    }

    pub(super) fn views(&self) -> Vec<NetworkView> {
        self.catalog
            .all()
            .map(|record| self.view_of(record))
            .collect()
    }

    pub(super) fn view(&self, network: &str) -> Result<NetworkView> {
        self.catalog
            .find(network)
            .map(|record| self.view_of(record))
    }

    fn view_of(&self, record: &NetworkRecord) -> NetworkView {
        let on_it = self.containers.iter().filter_map(|(id, attached)| {
            let mut endpoints = attached.sandbox.endpoints.values();
            let endpoint = endpoints.find(|e| e.network_id == record.id.0)?;
            let member = Member {
                name: attached.wish.name.clone(),
                endpoint: endpoint.clone(),
            };
            Some((id.clone(), member))
        });
        NetworkView {
            members: on_it.collect(),
            network: record.clone(),
        }
    }

    /// Whole sentences for `info`.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.troubles.iter().cloned().collect();
        match Firewall::open().and_then(|mut tables| has_drop_policy(&mut tables)) {
            Ok(tables) if !tables.is_empty() => warnings.push(format!(
                "WARNING: the policy of {} is drop: another firewall discards what containers send and receive through this node; accept packets of {} there",
                tables.join(", "),
                super::shape::DEFAULT_BRIDGE
            )),
            Ok(_) => {}
            Err(e) => log::debug!("network: other tables' policies: {e}"),
        }
        warnings
    }

    /// All ports that lead somewhere: containers' first.
    pub(super) fn published(&self) -> Vec<Published> {
        let containers = self
            .containers
            .values()
            .flat_map(|a| publish::published(&a.sandbox, &a.wish.mode));
        let services = self.services.ports.iter().filter(|port| {
            let published = &port.published;
            self.ports
                .has(&port.owner, published.protocol, published.port)
        });
        let services = services.map(|port| {
            let mut published = port.published.clone();
            let ended = |address: &IpAddr| self.ended.contains(address);
            published.targets.retain(|(address, _)| !ended(address));
            published
        });
        containers.chain(services).collect()
    }
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Writes below /proc/sys, unless it is so already. What is below `net` is of
/// the calling thread's namespace.
pub(super) fn set_sysctl(path: &str, value: &str) -> std::io::Result<()> {
    let path = Path::new("/proc/sys").join(path);
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(path, value)
}

/// For clean-up: the rest must go on.
pub(super) fn warn(what: &str, result: Result<()>) {
    if let Err(e) = result {
        log::warn!("network: {what}: {e}");
    }
}
