//! One container's place on one network: wished, decided, ordered. Pure but
//! for the pools that addresses come from.

use super::attach::Attach;
use super::ipam::Pool;
use super::nft::Prefix;
use super::shape::{Shape, mac_for, mac_text, parse_mac};
use crate::error::{Error, Result};
use skep_control::model::{EndpointSettings, Network as NetworkRecord};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest id prefix in a link's name: `IFNAMSIZ` without its zero and `veth`.
const VETH_ID_LENGTH: usize = 11;

/// The outer end of an endpoint's veth.
pub(super) fn veth_name(endpoint: &EndpointSettings) -> String {
    let id = &endpoint.endpoint_id;
    format!("veth{}", id.get(..VETH_ID_LENGTH).unwrap_or(id))
}

/// The addresses that an endpoint has, with their lengths.
pub(super) fn addresses(endpoint: &EndpointSettings) -> Vec<Prefix> {
    let pairs = [
        (&endpoint.ip_address, endpoint.ip_prefix_len),
        (
            &endpoint.global_ipv6_address,
            endpoint.global_ipv6_prefix_len,
        ),
    ];
    pairs
        .into_iter()
        .filter_map(|(address, length)| {
            let address = address.parse().ok()?;
            Some(Prefix { address, length })
        })
        .collect()
}

/// The way out by this endpoint, of each family that has one.
pub(super) fn gateways(endpoint: &EndpointSettings) -> Vec<IpAddr> {
    [&endpoint.gateway, &endpoint.ipv6_gateway]
        .into_iter()
        .filter_map(|gateway| gateway.parse().ok())
        .collect()
}

/// A container's endpoints, the one that leads out first: by the user's
/// priority, then those with a gateway, then the network that the container
/// was made for, then by name.
pub(super) fn in_order<'a>(
    endpoints: &'a BTreeMap<String, EndpointSettings>,
    mode: &str,
) -> Vec<(&'a String, &'a EndpointSettings)> {
    let mut ordered: Vec<_> = endpoints.iter().collect();
    ordered.sort_by_key(|(name, endpoint)| {
        (
            Reverse(endpoint.gw_priority),
            gateways(endpoint).is_empty(),
            *name != mode && endpoint.network_id != mode,
            *name,
        )
    });
    ordered
}

/// Decides an endpoint's addresses. On an error nothing is held.
pub(super) fn decide(
    attach: &Attach,
    wish: &EndpointSettings,
    record: &NetworkRecord,
    shape: &Shape,
    pools: &mut [Pool],
) -> Result<EndpointSettings> {
    let asked = wish.ipam_config.clone().unwrap_or_default();
    if !shape.has_names {
        if !asked.ipv4_address.is_empty() || !asked.ipv6_address.is_empty() {
            return Err(Error::invalid(
                "user specified IP address is supported on user defined networks only",
            ));
        }
        if !wish.aliases.is_empty() {
            return Err(Error::invalid(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
    }
    let mut endpoint = EndpointSettings {
        ipam_config: wish.ipam_config.clone(),
        links: wish.links.clone(),
        aliases: wish.aliases.clone(),
        driver_opts: wish.driver_opts.clone(),
        gw_priority: wish.gw_priority,
        network_id: record.id.0.clone(),
        endpoint_id: super::random_hex::<32>(),
        ..EndpointSettings::default()
    };
    let wished_mac = match wish.mac_address.as_str() {
        "" => None,
        text => Some(parse_mac(text).ok_or_else(|| {
            Error::invalid(format!(
                "invalid MAC address: address {text}: invalid MAC address"
            ))
        })?),
    };
    let v4 = address(pools, true, &asked.ipv4_address)?;
    let wants_v6 = record.spec.enable_ipv6 == Some(true) || !asked.ipv6_address.is_empty();
    let v6 = match wants_v6.then(|| address(pools, false, &asked.ipv6_address)) {
        None => None,
        Some(Ok(v6)) => v6,
        Some(Err(e)) => {
            give_back(pools, v4.as_ref());
            return Err(e);
        }
    };
    let gateway = |prefix: Prefix| {
        let subnet = shape.subnets.iter().find(|s| s.prefix == prefix)?;
        (!shape.internal).then_some(subnet.gateway?.to_string())
    };
    if let Some((address, prefix)) = v4 {
        endpoint.ip_address = address.to_string();
        endpoint.ip_prefix_len = prefix.length;
        endpoint.gateway = gateway(prefix).unwrap_or_default();
    }
    if let Some((address, prefix)) = v6 {
        endpoint.global_ipv6_address = address.to_string();
        endpoint.global_ipv6_prefix_len = prefix.length;
        endpoint.ipv6_gateway = gateway(prefix).unwrap_or_default();
    }
    let by_address = v4.or(v6).map(|(a, _)| mac_for(a, &endpoint.endpoint_id));
    endpoint.mac_address = wished_mac.or(by_address).map(mac_text).unwrap_or_default();
    if shape.has_names {
        endpoint.dns_names = names(attach, &endpoint.aliases);
    }
    Ok(endpoint)
}

fn address(pools: &mut [Pool], v4: bool, asked: &str) -> Result<Option<(IpAddr, Prefix)>> {
    let mut of_family = pools
        .iter_mut()
        .filter(|pool| pool.subnet().address.is_ipv4() == v4);
    if !asked.is_empty() {
        let asked: IpAddr = asked
            .parse()
            .ok()
            .filter(|asked: &IpAddr| asked.is_ipv4() == v4)
            .ok_or_else(|| {
                let version = if v4 { 4 } else { 6 };
                Error::invalid(format!(
                    "invalid endpoint settings:\ninvalid IPv{version} address: {asked}"
                ))
            })?;
        let pool = of_family
            .find(|pool| pool.subnet().contains(asked))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {asked}"
                ))
            })?;
        pool.claim(asked)?;
        return Ok(Some((asked, pool.subnet())));
    }
    let mut refused = None;
    for pool in of_family {
        match pool.take() {
            Ok(address) => return Ok(Some((address, pool.subnet()))),
            Err(e) => refused = Some(e),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn give_back(pools: &mut [Pool], held: Option<&(IpAddr, Prefix)>) {
    let Some((address, prefix)) = held else {
        return;
    };
    for pool in pools.iter_mut().filter(|pool| pool.subnet() == *prefix) {
        pool.give_back(*address);
    }
}

/// What a container is called on a network of its user's.
pub(super) fn names(attach: &Attach, aliases: &[String]) -> Vec<String> {
    let id = &attach.container;
    let short = id.get(..12).unwrap_or(id);
    let mut names: Vec<String> = Vec::new();
    let all = [attach.name.as_str()]
        .into_iter()
        .chain(aliases.iter().map(String::as_str))
        .chain([short, attach.hostname.as_str()]);
    for name in all {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::shape::shape;
    use skep_control::model::{EndpointIpamConfig, IpamConfig};

    fn network() -> (NetworkRecord, Shape, Vec<Pool>) {
        let mut record = NetworkRecord {
            id: "n".into(),
            ..NetworkRecord::default()
        };
        record.spec.driver = "bridge".into();
        record.spec.ipam.config = vec![IpamConfig {
            subnet: "10.0.0.0/30".into(),
            gateway: "10.0.0.1".into(),
            ..IpamConfig::default()
        }];
        let shape = shape(&record);
        let pools = shape
            .subnets
            .iter()
            .map(|s| Pool::new(s.prefix, s.range, &s.taken))
            .collect();
        (record, shape, pools)
    }

    fn attach() -> Attach {
        Attach {
            container: "c0ffee".repeat(11),
            name: "web".into(),
            hostname: "c0ffeec0ffee".into(),
            ..Attach::default()
        }
    }

    #[test]
    fn an_endpoint_has_address_gateway_mac_and_names() {
        let (record, shape, mut pools) = network();
        let wish = EndpointSettings {
            aliases: vec!["w".into()],
            ..EndpointSettings::default()
        };
        let endpoint = decide(&attach(), &wish, &record, &shape, &mut pools).unwrap();
        assert_eq!(endpoint.ip_address, "10.0.0.2");
        assert_eq!(endpoint.gateway, "10.0.0.1");
        assert_eq!(endpoint.mac_address, "02:42:0a:00:00:02");
        assert_eq!(endpoint.dns_names, ["web", "w", "c0ffeec0ffee"]);
        assert_eq!(veth_name(&endpoint).len(), 15);
        let full = decide(&attach(), &wish, &record, &shape, &mut pools);
        assert!(
            full.unwrap_err()
                .message
                .starts_with("no available IPv4 addresses")
        );
    }

    #[test]
    fn a_refused_address_leaves_nothing_held() {
        let (record, shape, mut pools) = network();
        let mut wish = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: "10.0.0.2".into(),
                ipv6_address: "fd00::2".into(),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        assert!(decide(&attach(), &wish, &record, &shape, &mut pools).is_err());
        wish.ipam_config.as_mut().unwrap().ipv6_address.clear();
        assert!(decide(&attach(), &wish, &record, &shape, &mut pools).is_ok());
    }

    #[test]
    fn the_way_out_comes_first() {
        let endpoint = |gateway: &str, priority| EndpointSettings {
            gateway: gateway.into(),
            gw_priority: priority,
            ..EndpointSettings::default()
        };
        let endpoints = BTreeMap::from([
            ("a-internal".to_owned(), endpoint("", 0)),
            ("b".to_owned(), endpoint("10.0.0.1", 0)),
            ("c".to_owned(), endpoint("10.1.0.1", 0)),
            ("d".to_owned(), endpoint("10.2.0.1", 7)),
        ]);
        let names: Vec<_> = in_order(&endpoints, "c")
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, ["d", "c", "b", "a-internal"]);
    }
}
