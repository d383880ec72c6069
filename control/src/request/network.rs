//! Networks of cluster scope: created with every address decided.

use super::*;
use std::net::Ipv4Addr;

/// Where subnets come from unless the cluster says otherwise: Docker's.
const POOL: &str = "10.0.0.0/8";

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    base: u32,
    bits: u32,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let base = base.parse::<Ipv4Addr>().ok()?.to_bits();
        let bits = bits.parse::<u32>().ok().filter(|bits| *bits <= 32)?;
        Some(Self {
            base: base & Self::mask(bits),
            bits,
        })
    }
    fn mask(bits: u32) -> u32 {
        u32::MAX.checked_shl(32 - bits).unwrap_or(0)
    }
    fn overlaps(self, other: Self) -> bool {
        let mask = Self::mask(self.bits.min(other.bits));
        self.base & mask == other.base & mask
    }
    fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.base), self.bits)
    }
    /// The first usable address, which Docker gives to the gateway.
    fn gateway(self) -> String {
        Ipv4Addr::from_bits(self.base + 1).to_string()
    }
}

/// The pools of a cluster and the prefix length of its subnets.
pub(super) fn check_pools(pools: &[String], asked: u32) -> Result<(Vec<String>, u32), Refusal> {
    let size = swarm::subnet_size(asked);
    let mut blocks: Vec<Block> = Vec::new();
    for pool in pools {
        let Some(block) = Block::parse(pool) else {
            return Err(Refusal::invalid(format!("invalid CIDR address: {pool}")));
        };
        if block.bits > size || size > 30 {
            let message = format!("invalid CIDR address: {pool}: subnets of /{size} do not fit");
            return Err(Refusal::invalid(message));
        }
        if blocks.iter().any(|other| other.overlaps(block)) {
            let message = format!("default-address-pool {pool} overlaps with another one");
            return Err(Refusal::invalid(message));
        }
        blocks.push(block);
    }
    let pools = if pools.is_empty() {
        vec![POOL.to_owned()]
    } else {
        pools.to_vec()
    };
    Ok((pools, size))
}

/// The network that published ports go through.
pub(super) fn ingress(cluster: &Cluster, random: &mut Random) -> Result<Network, Refusal> {
    let mut spec = NetworkSpec {
        name: "ingress".into(),
        ingress: true,
        ..NetworkSpec::default()
    };
    let empty = State::default();
    complete(&empty, cluster, &mut spec)?;
    Ok(Network {
        id: random.id().into(),
        meta: Meta::default(),
        spec,
    })
}

pub(super) fn create(context: &mut Context<'_>, mut spec: NetworkSpec) -> Outcome {
    let Some(cluster) = context.state.cluster() else {
        return Err(Refusal::unavailable(crate::refusal::NOT_A_MANAGER));
    };
    check::name(&spec.name)?;
    if context.state.network_named(&spec.name).is_some() {
        let message = format!("network with name {} already exists", spec.name);
        return Err(Refusal::conflict(message));
    }
    if spec.ingress && context.state.networks().any(|other| other.spec.ingress) {
        let message = "ingress network is already present";
        return Err(Refusal::conflict(message));
    }
    complete(context.state, cluster, &mut spec)?;
    let id = NetworkId::from(context.random.id());
    let network = Network {
        id: id.clone(),
        meta: Meta::default(),
        spec,
    };
    Ok(Accepted {
        changes: vec![Change::PutNetwork(Box::new(network))],
        answer: Answer::Network(id),
    })
}

pub(super) fn remove(context: &mut Context<'_>, argument: &str) -> Outcome {
    let network = context.state.find_network(argument)?;
    let id = network.id.as_str();
    // What is only shutting down does not count, so that a stack goes in one
    // pass.
    let users: Vec<&str> = context
        .state
        .services()
        .filter(|service| uses(&service.spec, id))
        .map(|service| service.spec.name.as_str())
        .collect();
    if !users.is_empty() {
        let (noun, users) = (plural(users.len()), users.join(", "));
        let message = format!("network {id} is in use by {noun} {users}");
        return Err(Refusal::invalid(message));
    }
    if network.spec.ingress && context.state.services().any(publishes_by_ingress) {
        let message =
            format!("ingress network cannot be removed because service {id} depends on it");
        return Err(Refusal::invalid(message));
    }
    Ok(Accepted {
        changes: vec![Change::RemoveNetwork(network.id.clone())],
        answer: Answer::Done,
    })
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "service" } else { "services" }
}

fn uses(spec: &ServiceSpec, network: &str) -> bool {
    let of_task = spec.task_template.networks.iter();
    of_task
        .chain(&spec.networks)
        .any(|attachment| attachment.target == network)
}

fn publishes_by_ingress(service: &Service) -> bool {
    service.ports.iter().any(PortConfig::is_ingress)
}

/// Decides whatever the request left open.
fn complete(state: &State, cluster: &Cluster, spec: &mut NetworkSpec) -> Result<(), Refusal> {
    spec.scope = "swarm".into();
    if spec.driver.is_empty() {
        spec.driver = "overlay".into();
    }
    spec.enable_ipv4.get_or_insert(true);
    spec.enable_ipv6.get_or_insert(false);
    if spec.ipam.driver.is_empty() {
        spec.ipam.driver = "default".into();
    }
    let taken: Vec<Block> = state
        .networks()
        .flat_map(|network| &network.spec.ipam.config)
        .filter_map(|config| Block::parse(&config.subnet))
        .collect();
    if spec.ipam.config.is_empty() {
        spec.ipam.config.push(IpamConfig::default());
    }
    for config in &mut spec.ipam.config {
        if config.subnet.contains(':') {
            // An IPv6 subnet is taken as it is given.
            continue;
        }
        let block = if config.subnet.is_empty() {
            let free = free_block(cluster, &taken);
            free.ok_or_else(|| {
                let message = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network";
                Refusal::invalid(message)
            })?
        } else {
            let Some(block) = Block::parse(&config.subnet) else {
                let message = format!("invalid CIDR address: {}", config.subnet);
                return Err(Refusal::invalid(message));
            };
            if taken.iter().any(|other| other.overlaps(block)) {
                let message =
                    "invalid pool request: Pool overlaps with other one on this address space";
                return Err(Refusal::invalid(message));
            }
            block
        };
        config.subnet = block.text();
        if config.gateway.is_empty() {
            config.gateway = block.gateway();
        }
    }
    Ok(())
}

/// The lowest block of the pools that is free.
fn free_block(cluster: &Cluster, taken: &[Block]) -> Option<Block> {
    let bits = cluster.subnet_size.clamp(1, 30);
    let step = 1u32 << (32 - bits);
    for pool in cluster
        .default_addr_pool
        .iter()
        .filter_map(|pool| Block::parse(pool))
    {
        let last = pool.base | !Block::mask(pool.bits);
        let mut base = pool.base;
        loop {
            let block = Block { base, bits };
            if !taken.iter().any(|other| other.overlaps(block)) {
                return Some(block);
            }
            match base.checked_add(step) {
                Some(next) if next <= last => base = next,
                _ => break,
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_carved_one_after_the_other() {
        let cluster = Cluster {
            default_addr_pool: vec!["10.0.0.0/8".into()],
            subnet_size: 24,
            ..Cluster::default()
        };
        let mut taken = Vec::new();
        for wanted in ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"] {
            let block = free_block(&cluster, &taken).unwrap();
            assert_eq!(block.text(), wanted);
            taken.push(block);
        }
        taken[1] = Block::parse("10.0.0.0/16").unwrap();
        assert_eq!(free_block(&cluster, &taken).unwrap().text(), "10.1.0.0/24");
    }

    #[test]
    fn a_full_pool_gives_nothing() {
        let cluster = Cluster {
            default_addr_pool: vec!["192.168.0.0/24".into()],
            subnet_size: 24,
            ..Cluster::default()
        };
        let taken = [Block::parse("192.168.0.128/25").unwrap()];
        assert_eq!(free_block(&cluster, &taken), None);
    }
}
