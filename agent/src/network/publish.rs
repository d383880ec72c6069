//! From what a container wants published to ports that are held
//! and rules that lead to it.

use super::attach::{Attach, Sandbox};
use super::endpoint::{addresses, in_order};
use super::nft::{Family, Protocol};
use super::ports::{Ports, parse_port, parse_range};
use super::rules::Published;
use crate::error::{Error, Result};
use skep_control::model::{EndpointSettings, PortBinding};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Exposed ports of one container at most: a range of all ports twice over.
const EXPOSED_MAX: usize = 1 << 17;

pub(super) const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(super) const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The endpoint that published ports lead to: the one that leads out.
pub(super) fn endpoint<'a>(
    sandbox: &'a Sandbox,
    mode: &str,
) -> Option<(&'a String, &'a EndpointSettings)> {
    in_order(&sandbox.endpoints, mode)
        .into_iter()
        .find(|(_, endpoint)| !endpoint.gateway.is_empty() || !endpoint.ipv6_gateway.is_empty())
}

/// Takes the host's ports that the container wishes, and says which they are.
/// On an error the caller gives back what the container holds.
pub(super) fn take(
    ports: &mut Ports,
    wish: &Attach,
    sandbox: &Sandbox,
    host_binding: Option<IpAddr>,
) -> Result<BTreeMap<String, Vec<PortBinding>>> {
    let mut wanted = exposed(&wish.exposed)?;
    for (port, bindings) in &wish.ports {
        let (number, protocol) = container_port(port)?;
        let key = format!("{number}/{}", protocol.as_str());
        wanted
            .entry(key)
            .or_default()
            .extend(bindings.iter().cloned());
    }
    if wish.publish_all {
        for bindings in wanted.values_mut().filter(|b| b.is_empty()) {
            bindings.push(PortBinding::default());
        }
    }
    let Some((_, endpoint)) = endpoint(sandbox, &wish.mode) else {
        // Nothing leads in: the ports are known, and published nowhere.
        wanted.values_mut().for_each(Vec::clear);
        return Ok(wanted);
    };
    let has_v6 = !endpoint.global_ipv6_address.is_empty();
    let mut taken = BTreeMap::new();
    for (port, bindings) in wanted {
        let (_, protocol) = container_port(&port)?;
        let mut chosen = Vec::new();
        for binding in bindings {
            let hosts = hosts(&binding.host_ip, host_binding, has_v6)?;
            let range = parse_range(&binding.host_port).ok_or_else(|| {
                Error::invalid(format!(
                    "invalid port specification: \"{}\"",
                    binding.host_port
                ))
            })?;
            let number = ports
                .take(&wish.container, protocol, &hosts, range)
                .map_err(|refusal| {
                    Error::internal(format!(
                        "driver failed programming external connectivity on endpoint {} ({}): {refusal}",
                        wish.name, endpoint.endpoint_id
                    ))
                })?;
            chosen.extend(hosts.iter().map(|host| PortBinding {
                host_ip: host.to_string(),
                host_port: number.to_string(),
            }));
        }
        taken.insert(port, chosen);
    }
    Ok(taken)
}

fn container_port(text: &str) -> Result<(u16, Protocol)> {
    parse_port(text)
        .ok_or_else(|| Error::invalid(format!("invalid port specification: \"{text}\"")))
}

/// `8000-8010/udp` is each of them.
fn exposed(ports: &[String]) -> Result<BTreeMap<String, Vec<PortBinding>>> {
    let mut all = BTreeMap::new();
    for text in ports {
        let wrong = || Error::invalid(format!("invalid port specification: \"{text}\""));
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = Protocol::parse(protocol).ok_or_else(wrong)?;
        let range = parse_range(numbers).flatten().ok_or_else(wrong)?;
        for number in range {
            if all.len() == EXPOSED_MAX {
                return Err(wrong());
            }
            all.insert(format!("{number}/{}", protocol.as_str()), Vec::new());
        }
    }
    Ok(all)
}

/// The host's addresses that a binding means.
fn hosts(wished: &str, default: Option<IpAddr>, has_v6: bool) -> Result<Vec<IpAddr>> {
    if wished.is_empty() {
        let v4 = default.unwrap_or(ANY_V4);
        return Ok(if has_v6 && v4.is_unspecified() {
            vec![ANY_V4, ANY_V6]
        } else {
            vec![v4]
        });
    }
    let plain = wished.trim_matches(['[', ']']);
    let address = plain
        .parse()
        .map_err(|_| Error::invalid(format!("invalid IP address: {wished}")))?;
    Ok(vec![address])
}

/// Where a container's ports lead.
pub(super) fn published(sandbox: &Sandbox, mode: &str) -> Vec<Published> {
    let Some((_, endpoint)) = endpoint(sandbox, mode) else {
        return Vec::new();
    };
    let targets = addresses(endpoint);
    let mut published = Vec::new();
    for (port, bindings) in &sandbox.ports {
        let Some((number, protocol)) = parse_port(port) else {
            continue;
        };
        for binding in bindings {
            let (Ok(host), Ok(host_port)) = (binding.host_ip.parse(), binding.host_port.parse())
            else {
                continue;
            };
            let host: IpAddr = host;
            let target = targets
                .iter()
                .find(|target| Family::of(target.address) == Family::of(host));
            published.extend(target.map(|target| Published {
                host,
                port: host_port,
                protocol,
                targets: vec![(target.address, number)],
            }));
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Attach {
        Attach {
            container: "c".into(),
            name: "web".into(),
            mode: "front".into(),
            exposed: vec!["80/tcp".into(), "9000-9002/udp".into()],
            ..Attach::default()
        }
    }

    fn sandbox(gateway: &str) -> Sandbox {
        let endpoint = EndpointSettings {
            endpoint_id: "e1".into(),
            ip_address: "10.0.0.2".into(),
            ip_prefix_len: 24,
            gateway: gateway.into(),
            ..EndpointSettings::default()
        };
        Sandbox {
            endpoints: BTreeMap::from([("front".to_owned(), endpoint)]),
            ..Sandbox::default()
        }
    }

    #[test]
    fn all_exposed_ports_get_a_port_of_the_host() {
        let mut ports = Ports::default();
        let mut wish = wish();
        wish.publish_all = true;
        let mut sandbox = sandbox("10.0.0.1");
        sandbox.ports = take(&mut ports, &wish, &sandbox, None).unwrap();
        assert_eq!(sandbox.ports.len(), 4);
        let published = published(&sandbox, "front");
        assert_eq!(published.len(), 4);
        assert!(
            published
                .iter()
                .all(|p| p.port >= 32768 && p.host == ANY_V4)
        );
        assert_eq!(
            published
                .iter()
                .find(|p| p.protocol == Protocol::Tcp)
                .unwrap()
                .targets,
            [("10.0.0.2".parse().unwrap(), 80)]
        );
    }

    #[test]
    fn an_internal_network_publishes_nothing() {
        let mut wish = wish();
        wish.publish_all = true;
        let taken = take(&mut Ports::default(), &wish, &sandbox(""), None).unwrap();
        assert!(taken.len() == 4 && taken.values().all(Vec::is_empty));
    }

    #[test]
    fn a_taken_port_is_refused_in_dockers_words() {
        let mut ports = Ports::default();
        let free = ports.take("other", Protocol::Tcp, &[ANY_V4], None).unwrap();
        let mut wish = wish();
        let binding = PortBinding {
            host_port: free.to_string(),
            ..PortBinding::default()
        };
        wish.ports.insert("80/tcp".into(), vec![binding]);
        let refused = take(&mut ports, &wish, &sandbox("10.0.0.1"), None).unwrap_err();
        assert_eq!(
            refused.message,
            format!(
                "driver failed programming external connectivity on endpoint web (e1): Bind for 0.0.0.0:{free} failed: port is already allocated"
            )
        );
    }
}
