//! The table of networks: this node's own, on disk, and the cluster's, as last
//! told.
//!
//! Owns names, ids and subnets, and Docker's words for what is refused.
//! Invariant: no two networks of this node overlap, and the file is written
//! only when the table of this node's own networks has changed. It does not
//! know who is on a network.

use super::nft::Prefix;
use super::shape::{DEFAULT_BRIDGE, option, subnet};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use skep_control::model::{
    IpamConfig, Labels, Meta, Network as NetworkRecord, NetworkId, NetworkSpec, WallTime,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Names that are always there, with their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];
/// Docker's built-in pools: block, and the length of what is cut out of it.
const POOLS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];
/// Longest name of a link (`IFNAMSIZ` without its zero).
const LINK_NAME_MAX: usize = 15;
/// Smallest MTU that IPv4 allows.
const MTU_MIN: u32 = 68;

pub(super) struct Catalog {
    path: PathBuf,
    local: BTreeMap<NetworkId, NetworkRecord>,
    cluster: BTreeMap<NetworkId, NetworkRecord>,
}

impl Catalog {
    /// Reads the table, and completes it with the predefined networks.
    /// `occupied`: what the host's routes lead to already.
    pub(super) fn open(data_dir: &Path, occupied: &[Prefix], now: WallTime) -> Result<Self> {
        let folder = data_dir.join("node");
        std::fs::create_dir_all(&folder).map_err(|e| disk::failure("create", &folder, &e))?;
        let path = folder.join("networks");
        let records: Vec<NetworkRecord> = disk::read_record(&path)?.unwrap_or_default();
        let mut catalog = Self {
            path,
            local: records.into_iter().map(|r| (r.id.clone(), r)).collect(),
            cluster: BTreeMap::new(),
        };
        let mut changed = false;
        for (name, driver) in PREDEFINED {
            if !catalog.local.values().any(|r| r.spec.name == name) {
                let spec = catalog.predefined(name, driver, occupied)?;
                catalog.insert(spec, now);
                changed = true;
            }
        }
        if changed {
            catalog.save()?;
        }
        Ok(catalog)
    }

    fn predefined(&self, name: &str, driver: &str, occupied: &[Prefix]) -> Result<NetworkSpec> {
        let mut spec = NetworkSpec {
            name: name.into(),
            driver: driver.into(),
            scope: "local".into(),
            enable_ipv4: Some(true),
            enable_ipv6: Some(false),
            ..NetworkSpec::default()
        };
        spec.ipam.driver = "default".into();
        if driver == "bridge" {
            let options = [
                (option::DEFAULT, "true"),
                (option::ICC, "true"),
                (option::MASQUERADE, "true"),
                (option::HOST_BINDING, "0.0.0.0"),
                (option::NAME, DEFAULT_BRIDGE),
                (option::MTU, "1500"),
            ];
            spec.options = options
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            spec.ipam.config = vec![self.free_subnet(occupied)?];
        }
        Ok(spec)
    }

    fn insert(&mut self, spec: NetworkSpec, now: WallTime) -> NetworkId {
        let id = NetworkId(super::random_hex::<32>());
        let record = NetworkRecord {
            id: id.clone(),
            meta: Meta {
                created_at: now,
                updated_at: now,
                ..Meta::default()
            },
            spec,
        };
        self.local.insert(id.clone(), record);
        id
    }

    fn save(&self) -> Result<()> {
        let records: Vec<&NetworkRecord> = self.local.values().collect();
        disk::write_record(&self.path, &records, Durability::Synced)
    }

    /// The cluster's networks, all of them. Returns whether they changed.
    pub(super) fn set_cluster(&mut self, networks: Vec<NetworkRecord>) -> bool {
        let cluster = networks.into_iter().map(|n| (n.id.clone(), n)).collect();
        let changed = self.cluster != cluster;
        self.cluster = cluster;
        changed
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &NetworkRecord> {
        self.local.values().chain(self.cluster.values())
    }

    pub(super) fn get(&self, id: &str) -> Option<&NetworkRecord> {
        let id = NetworkId(id.to_owned());
        self.local.get(&id).or_else(|| self.cluster.get(&id))
    }

    /// By full id, name or unique id prefix, in this order.
    pub(super) fn find(&self, wanted: &str) -> Result<&NetworkRecord> {
        let unknown = || Error::not_found(format!("network {wanted} not found"));
        if wanted.is_empty() {
            return Err(unknown());
        }
        let exact = self
            .get(wanted)
            .or_else(|| self.all().find(|record| record.spec.name == wanted));
        if let Some(record) = exact {
            return Ok(record);
        }
        let mut by_prefix = self.all().filter(|r| r.id.as_str().starts_with(wanted));
        match (by_prefix.next(), by_prefix.count()) {
            (None, _) => Err(unknown()),
            (Some(one), 0) => Ok(one),
            (Some(_), more) => Err(Error::invalid(format!(
                "network {wanted} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    /// Makes a network of this node.
    pub(super) fn create(
        &mut self,
        mut spec: NetworkSpec,
        occupied: &[Prefix],
        now: WallTime,
    ) -> Result<NetworkId> {
        self.check_name(&spec.name)?;
        check_driver(&mut spec)?;
        check_options(&spec.options)?;
        let ipv6 = spec.enable_ipv6 == Some(true);
        check_ipam(&spec.ipam.config)?;
        if spec.ipam.driver.is_empty() {
            spec.ipam.driver = "default".into();
        }
        self.decide_subnets(&mut spec, occupied, ipv6)?;
        self.check_bridge_name(&spec)?;
        spec.scope = "local".into();
        spec.enable_ipv4 = Some(true);
        spec.enable_ipv6 = Some(ipv6);
        let id = self.insert(spec, now);
        if let Err(e) = self.save() {
            self.local.remove(&id);
            return Err(e);
        }
        Ok(id)
    }

    /// Removes a network of this node; that nobody is on it is the caller's
    /// business.
    pub(super) fn remove(&mut self, id: &NetworkId) -> Result<()> {
        let Some(record) = self.local.remove(id) else {
            return Err(Error::not_found(format!("network {id} not found")));
        };
        if let Err(e) = self.save() {
            self.local.insert(id.clone(), record);
            return Err(e);
        }
        Ok(())
    }

    /// Whether it is this node's own.
    pub(super) fn is_local(&self, id: &NetworkId) -> bool {
        self.local.contains_key(id)
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if is_predefined(name) || name == "default" {
            return Err(Error::forbidden(format!(
                "operation is not permitted on predefined {name} network "
            )));
        }
        if name.trim().is_empty() {
            return Err(Error::invalid("invalid name: name is empty"));
        }
        // Docker asks no more of a name; what would break paths and lines is out.
        if name != name.trim() || name.contains(|c: char| c == '/' || c.is_control()) {
            return Err(Error::invalid(format!(
                "invalid name \"{}\": no slashes, control characters or spaces at its ends",
                name.escape_debug()
            )));
        }
        if self.all().any(|record| record.spec.name == name) {
            return Err(Error::conflict(format!(
                "network with name {name} already exists"
            )));
        }
        Ok(())
    }

    fn check_bridge_name(&self, spec: &NetworkSpec) -> Result<()> {
        let Some(name) = spec.options.get(option::NAME) else {
            return Ok(());
        };
        let taken = self
            .all()
            .any(|record| record.spec.options.get(option::NAME) == Some(name));
        if taken {
            return Err(Error::conflict(format!(
                "cannot create network {}: bridge name {name} is already in use by another network",
                spec.name
            )));
        }
        Ok(())
    }

    fn decide_subnets(
        &self,
        spec: &mut NetworkSpec,
        occupied: &[Prefix],
        ipv6: bool,
    ) -> Result<()> {
        for config in &mut spec.ipam.config {
            if config.subnet.is_empty() {
                config.subnet = self.free_subnet(occupied)?.subnet;
            }
            let Some(wanted) = subnet(config) else {
                continue;
            };
            let overlaps = self.subnets().any(|held| held.overlaps(wanted.prefix));
            if overlaps {
                return Err(Error::forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space",
                ));
            }
            if wanted.gateway.is_none() {
                config.gateway = wanted.prefix.at(1).to_string();
            }
        }
        let has = |v4: bool| {
            let mut prefixes = spec.ipam.config.iter().filter_map(subnet);
            prefixes.any(|s| s.prefix.address.is_ipv4() == v4)
        };
        let (has_v4, has_v6) = (has(true), has(false));
        if !has_v4 {
            spec.ipam.config.push(self.free_subnet(occupied)?);
        }
        if ipv6 && !has_v6 {
            spec.ipam.config.push(unique_local_subnet());
        }
        Ok(())
    }

    fn subnets(&self) -> impl Iterator<Item = Prefix> {
        let configs = self.all().flat_map(|record| &record.spec.ipam.config);
        configs.filter_map(subnet).map(|subnet| subnet.prefix)
    }

    /// The first of Docker's pools' blocks that collides with nothing.
    fn free_subnet(&self, occupied: &[Prefix]) -> Result<IpamConfig> {
        let held: Vec<Prefix> = self.subnets().chain(occupied.iter().copied()).collect();
        for (block, length) in POOLS {
            let Some(block) = Prefix::parse(block) else {
                continue;
            };
            let step = 1u128 << (32 - length);
            let mut first = block.first();
            while first <= block.last() {
                let candidate = Prefix {
                    address: block.at(first - block.first()),
                    length,
                };
                if !held.iter().any(|held| held.overlaps(candidate)) {
                    return Ok(IpamConfig {
                        subnet: candidate.to_string(),
                        gateway: candidate.at(1).to_string(),
                        ..IpamConfig::default()
                    });
                }
                first += step;
            }
        }
        Err(Error::invalid(
            "all predefined address pools have been fully subnetted",
        ))
    }
}

pub(super) fn is_predefined(name: &str) -> bool {
    PREDEFINED.iter().any(|(predefined, _)| *predefined == name)
}

fn check_driver(spec: &mut NetworkSpec) -> Result<()> {
    if spec.config_only {
        return Err(Error::not_implemented(
            "config-only networks are not supported: give the settings to the network itself",
        ));
    }
    match spec.driver.as_str() {
        "" | "default" | "bridge" => spec.driver = "bridge".into(),
        "host" | "null" => {
            return Err(Error::forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                spec.driver
            )));
        }
        "macvlan" | "ipvlan" => {
            return Err(Error::not_implemented(format!(
                "network driver {} is not supported: use bridge, or host for direct access to the node's links",
                spec.driver
            )));
        }
        other => return Err(Error::not_found(format!("plugin \"{other}\" not found"))),
    }
    Ok(())
}

fn check_options(options: &Labels) -> Result<()> {
    if let Some(name) = options.get(option::NAME)
        && (name.is_empty()
            || name.len() > LINK_NAME_MAX
            || name.contains(|c: char| c == '/' || c.is_whitespace() || !c.is_ascii())
            || name == "."
            || name == "..")
    {
        return Err(Error::invalid(format!(
            "invalid bridge name \"{name}\": at most {LINK_NAME_MAX} characters, without / and spaces"
        )));
    }
    if let Some(mtu) = options.get(option::MTU) {
        let parsed: Option<u32> = mtu.parse().ok();
        if !parsed.is_some_and(|mtu| mtu == 0 || (MTU_MIN..=65535).contains(&mtu)) {
            return Err(Error::invalid(format!("invalid MTU: {mtu}")));
        }
    }
    Ok(())
}

/// Docker's checks, all complaints at once.
fn check_ipam(configs: &[IpamConfig]) -> Result<()> {
    let mut complaints = Vec::new();
    for config in configs {
        if config.subnet.is_empty() {
            if !config.gateway.is_empty() || !config.ip_range.is_empty() {
                complaints.push(
                    "invalid subnet : a subnet is needed for a gateway or an ip-range".to_owned(),
                );
            }
            continue;
        }
        let Some(given) = Prefix::parse(&config.subnet) else {
            let subnet = &config.subnet;
            complaints.push(format!(
                "invalid subnet {subnet}: invalid CIDR block notation"
            ));
            continue;
        };
        if given != given.block() {
            complaints.push(format!(
                "invalid subnet {given}: it should be {}",
                given.block()
            ));
        }
        check_range(&config.ip_range, given, &mut complaints);
        if let Some(complaint) = bad_address(&config.gateway, given) {
            complaints.push(format!("invalid gateway {}: {complaint}", config.gateway));
        }
        for address in config.aux_addresses.values() {
            if let Some(complaint) = bad_address(address, given) {
                complaints.push(format!("invalid auxiliary address {address}: {complaint}"));
            }
        }
    }
    let parsed: Vec<Prefix> = configs
        .iter()
        .filter_map(subnet)
        .map(|s| s.prefix)
        .collect();
    let overlap = parsed
        .iter()
        .enumerate()
        .any(|(at, one)| parsed.iter().skip(at + 1).any(|other| one.overlaps(*other)));
    if overlap {
        return Err(Error::forbidden(
            "invalid pool request: Pool overlaps with other one on this address space",
        ));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid network config:\n{}",
        complaints.join("\n")
    )))
}

fn check_range(range: &str, subnet: Prefix, complaints: &mut Vec<String>) {
    if range.is_empty() {
        return;
    }
    let Some(given) = Prefix::parse(range) else {
        complaints.push(format!(
            "invalid ip-range {range}: invalid CIDR block notation"
        ));
        return;
    };
    if given != given.block() {
        complaints.push(format!(
            "invalid ip-range {given}: it should be {}",
            given.block()
        ));
    }
    if given.length < subnet.length || !subnet.contains(given.address) {
        complaints.push(format!(
            "invalid ip-range {given}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
}

/// `None`: it is empty, or an address of the subnet.
fn bad_address(text: &str, subnet: Prefix) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let plain = text.split('/').next().unwrap_or_default();
    let Ok(address) = plain.parse::<IpAddr>() else {
        return Some("invalid address".into());
    };
    (!subnet.contains(address))
        .then(|| format!("parent subnet {subnet} doesn't contain this address"))
}

/// A random block of the private IPv6 space, as RFC 4193 wants it.
fn unique_local_subnet() -> IpamConfig {
    let random = super::random_bytes::<7>();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    let block = Prefix {
        address: IpAddr::from(octets),
        length: 64,
    };
    IpamConfig {
        subnet: block.to_string(),
        gateway: block.at(1).to_string(),
        ..IpamConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn catalog(occupied: &[&str]) -> (Catalog, PathBuf) {
        let dir =
            std::env::temp_dir().join(format!("skep-net-{}", crate::network::random_hex::<8>()));
        let occupied: Vec<_> = occupied.iter().filter_map(|p| Prefix::parse(p)).collect();
        let catalog = Catalog::open(&dir, &occupied, WallTime::default()).unwrap();
        (catalog, dir)
    }

    fn spec(name: &str, subnet: &str) -> NetworkSpec {
        let mut spec = NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        };
        if !subnet.is_empty() {
            spec.ipam.config = vec![IpamConfig {
                subnet: subnet.into(),
                ..IpamConfig::default()
            }];
        }
        spec
    }

    fn create(catalog: &mut Catalog, spec: NetworkSpec) -> Result<String> {
        let id = catalog.create(spec, &[], WallTime::default())?;
        Ok(catalog.get(id.as_str()).unwrap().spec.ipam.config[0]
            .subnet
            .clone())
    }

    #[test]
    fn pools_are_dockers_and_collisions_are_avoided() {
        let (catalog, dir) = catalog(&["172.17.3.0/24"]);
        let bridge = catalog.find("bridge").unwrap();
        assert_eq!(bridge.spec.ipam.config[0].subnet, "172.18.0.0/16");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn subnets_are_handed_out_until_none_is_left() {
        let (mut catalog, dir) = catalog(&[]);
        assert_eq!(
            create(&mut catalog, spec("a", "")).unwrap(),
            "172.18.0.0/16"
        );
        for number in 0..29 {
            create(&mut catalog, spec(&format!("n{number}"), "")).unwrap();
        }
        let last = catalog.find("n28").unwrap().spec.ipam.config[0]
            .subnet
            .clone();
        assert_eq!(last, "192.168.240.0/20");
        let refused = create(&mut catalog, spec("more", "")).unwrap_err();
        assert_eq!(
            refused.message,
            "all predefined address pools have been fully subnetted"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        let (mut catalog, dir) = catalog(&[]);
        create(&mut catalog, spec("a", "10.1.0.0/24")).unwrap();
        let mut refused = |name: &str, subnet: &str| {
            let error = create(&mut catalog, spec(name, subnet)).unwrap_err();
            (error.kind, error.message)
        };
        assert_eq!(
            refused("a", ""),
            (Kind::Conflict, "network with name a already exists".into())
        );
        assert_eq!(refused("bridge", "").0, Kind::Forbidden);
        assert_eq!(refused("b", "10.1.0.128/25").0, Kind::Forbidden);
        assert_eq!(
            refused("b", "10.2.0.1/24").1,
            "invalid network config:\ninvalid subnet 10.2.0.1/24: it should be 10.2.0.0/24"
        );
        assert_eq!(
            refused("b", "x").1,
            "invalid network config:\ninvalid subnet x: invalid CIDR block notation"
        );
        assert_eq!(refused("a/b", "").0, Kind::Invalid);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_table_is_there_after_a_restart_and_ids_stay() {
        let (mut catalog, dir) = catalog(&[]);
        create(&mut catalog, spec("mine", "")).unwrap();
        let before = catalog.local.clone();
        let mut again = Catalog::open(&dir, &[], WallTime(7)).unwrap();
        assert_eq!(again.local, before);
        let id = again.find("mine").unwrap().id.clone();
        assert_eq!(again.find(id.short()).unwrap().id, id);
        again.remove(&id).unwrap();
        assert_eq!(
            again.find("mine").unwrap_err().message,
            "network mine not found"
        );
        assert_eq!(again.find("").unwrap_err().kind, Kind::NotFound);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
