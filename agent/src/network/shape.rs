//! A network's record as the kernel needs it. Pure.
//!
//! Owns the reading of Docker's options and addresses out of a record.
//! Invariant: what cannot be read is left at Docker's default, for records
//! were checked when they were made.

use super::nft::Prefix;
use skep_control::model::{IpamConfig, Network as NetworkRecord};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// Options that bridges know.
pub(super) mod option {
    pub(in crate::network) const NAME: &str = "com.docker.network.bridge.name";
    pub(in crate::network) const DEFAULT: &str = "com.docker.network.bridge.default_bridge";
    pub(in crate::network) const ICC: &str = "com.docker.network.bridge.enable_icc";
    pub(in crate::network) const MASQUERADE: &str =
        "com.docker.network.bridge.enable_ip_masquerade";
    pub(in crate::network) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    pub(in crate::network) const MTU: &str = "com.docker.network.driver.mtu";
}

/// The name of the default bridge's link.
pub(super) const DEFAULT_BRIDGE: &str = "skep0";

/// What carries a network's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A bridge of this node; also an overlay, as long as there is one machine.
    Bridge,
    /// The node's own namespace.
    Host,
    /// Nothing but loopback.
    Nothing,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) prefix: Prefix,
    pub(super) gateway: Option<IpAddr>,
    pub(super) range: Option<Prefix>,
    /// Addresses that are never given.
    pub(super) taken: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) carrier: Carrier,
    pub(super) bridge: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) subnets: Vec<Subnet>,
    /// No way out and none in.
    pub(super) internal: bool,
    /// Outbound packets carry the node's address.
    pub(super) masquerade: bool,
    /// Containers on it may talk to each other.
    pub(super) between_containers: bool,
    /// Names are answered at 127.0.0.11.
    pub(super) has_names: bool,
    /// Where ports are published that name no address of the host.
    pub(super) host_binding: Option<IpAddr>,
}

pub(super) fn shape(record: &NetworkRecord) -> Shape {
    let spec = &record.spec;
    let is_true = |key: &str| {
        let value = spec.options.get(key);
        value.is_none_or(|value| !matches!(value.as_str(), "false" | "0" | "False" | "f"))
    };
    let is_default = spec.options.contains_key(option::DEFAULT);
    let id = record.id.as_str();
    let bridge = spec.options.get(option::NAME).cloned();
    Shape {
        carrier: match spec.driver.as_str() {
            "host" => Carrier::Host,
            "null" => Carrier::Nothing,
            _ => Carrier::Bridge,
        },
        bridge: bridge.unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(id))),
        mac: mac_of(id),
        mtu: spec
            .options
            .get(option::MTU)
            .and_then(|mtu| mtu.parse().ok())
            .unwrap_or(0),
        subnets: spec.ipam.config.iter().filter_map(subnet).collect(),
        internal: spec.internal,
        masquerade: is_true(option::MASQUERADE),
        between_containers: is_true(option::ICC),
        has_names: !is_default,
        host_binding: spec
            .options
            .get(option::HOST_BINDING)
            .and_then(|address| address.parse().ok()),
    }
}

/// `None`: no subnet can be read out of it.
pub(super) fn subnet(config: &IpamConfig) -> Option<Subnet> {
    let prefix = Prefix::parse(&config.subnet)?.block();
    // Some clients write the gateway with the subnet's length.
    let plain = |text: &str| text.split('/').next()?.parse::<IpAddr>().ok();
    let gateway = plain(&config.gateway);
    let auxiliary = config.aux_addresses.values();
    Some(Subnet {
        prefix,
        gateway,
        range: Prefix::parse(&config.ip_range).map(Prefix::block),
        taken: gateway
            .into_iter()
            .chain(auxiliary.filter_map(|text| plain(text)))
            .collect(),
    })
}

/// A locally administered address, always the same for the same text.
pub(super) fn mac_of(text: &str) -> [u8; 6] {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
    [0x02, a, b, c, d, e]
}

/// The address a container gets where the user asks for none.
pub(super) fn mac_for(address: IpAddr, endpoint: &str) -> [u8; 6] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x02, 0x42, a, b, c, d]
        }
        IpAddr::V6(_) => mac_of(endpoint),
    }
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() <= 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_read_as_they_are_written() {
        let mac = [0x02, 0x42, 0xac, 0x11, 0, 2];
        assert_eq!(mac_for("172.17.0.2".parse().unwrap(), ""), mac);
        assert_eq!(mac_text(mac), "02:42:ac:11:00:02");
        assert_eq!(parse_mac(&mac_text(mac)), Some(mac));
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:xx",
            "002:1:1:1:1:1",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
        assert_eq!(mac_of("a")[0] & 3, 2, "local, and to one station");
    }

    #[test]
    fn options_that_are_not_there_are_dockers_defaults() {
        let mut record = NetworkRecord {
            id: "0123456789abcdef".into(),
            ..NetworkRecord::default()
        };
        record.spec.driver = "bridge".into();
        let plain = shape(&record);
        assert_eq!(plain.bridge, "br-0123456789ab");
        assert!(plain.masquerade && plain.between_containers && plain.has_names);
        record
            .spec
            .options
            .insert(option::ICC.into(), "false".into());
        record
            .spec
            .options
            .insert(option::NAME.into(), "mine".into());
        let changed = shape(&record);
        assert!(!changed.between_containers);
        assert_eq!(changed.bridge, "mine");
    }
}
