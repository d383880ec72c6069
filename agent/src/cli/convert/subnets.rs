//! `network create`'s subnets, ranges and gateways into the API's list.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

/// An address range.
#[derive(Clone, Copy)]
struct Prefix {
    address: IpAddr,
    bits: u32,
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid subnet: invalid CIDR address: {text}");
        let (address, bits) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits: u32 = bits.parse().map_err(|_| invalid())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        if bits > width {
            Err(invalid())
        } else {
            Ok(Self { address, bits })
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - self.bits;
                self.bits == 0 || a.to_bits() >> shift == b.to_bits() >> shift
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - self.bits;
                self.bits == 0 || a.to_bits() >> shift == b.to_bits() >> shift
            }
            _ => false,
        }
    }
}

/// Puts each range, gateway and reserved address to the subnet it is in.
pub(in crate::cli) fn plan(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    reserved: &BTreeMap<String, String>,
) -> Result<Vec<Value>, String> {
    let split = |lists: &[String]| -> Vec<String> {
        lists
            .iter()
            .flat_map(|l| l.split(','))
            .map(str::to_owned)
            .collect()
    };
    let (subnets, ranges, gateways) = (split(subnets), split(ranges), split(gateways));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut plans: Vec<(Prefix, Value)> = Vec::new();
    for subnet in &subnets {
        let prefix = Prefix::parse(subnet)?;
        if plans
            .iter()
            .any(|(other, _)| other.contains(prefix.address) || prefix.contains(other.address))
        {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        plans.push((prefix, json!({ "Subnet": subnet })));
    }
    for range in &ranges {
        let address = Prefix::parse(range)
            .map_err(|e| e.replacen("invalid subnet: ", "", 1))?
            .address;
        put(&mut plans, address, "IPRange", range, "ranges", "range")?;
    }
    for gateway in &gateways {
        let address = gateway
            .parse()
            .map_err(|_| format!("invalid address {gateway}"))?;
        put(
            &mut plans, address, "Gateway", gateway, "gateways", "gateway",
        )?;
    }
    for (name, text) in reserved.iter().filter(|(_, text)| !text.is_empty()) {
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("ParseAddr({text:?}): unable to parse IP"))?;
        let found = plans
            .iter_mut()
            .find(|(prefix, _)| prefix.contains(address));
        let (_, plan) =
            found.ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        plan["AuxiliaryAddresses"][name] = text.as_str().into();
    }
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

fn put(
    plans: &mut [(Prefix, Value)],
    address: IpAddr,
    field: &str,
    text: &str,
    many: &str,
    one: &str,
) -> Result<(), String> {
    let found = plans
        .iter_mut()
        .find(|(prefix, _)| prefix.contains(address));
    let (_, plan) = found.ok_or_else(|| format!("no matching subnet for {one} {text}"))?;
    if let Some(other) = plan[field].as_str() {
        let subnet = plan["Subnet"].as_str().unwrap_or("");
        return Err(format!(
            "cannot configure multiple {many} ({text}, {other}) on the same subnet ({subnet})"
        ));
    }
    plan[field] = text.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subnets: &[&str], ranges: &[&str], gateways: &[&str]) -> Result<Vec<Value>, String> {
        let own = |l: &[&str]| -> Vec<String> { l.iter().map(|s| (*s).to_owned()).collect() };
        plan(
            &own(subnets),
            &own(ranges),
            &own(gateways),
            &BTreeMap::new(),
        )
    }

    #[test]
    fn parts_go_to_their_subnet() {
        let planned = of(
            &["10.1.0.0/16", "10.2.0.0/16"],
            &["10.2.3.0/24"],
            &["10.1.0.1"],
        )
        .unwrap();
        assert_eq!(
            planned[0],
            json!({ "Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1" })
        );
        assert_eq!(
            planned[1],
            json!({ "Subnet": "10.2.0.0/16", "IPRange": "10.2.3.0/24" })
        );
    }

    #[test]
    fn refusals_are_dockers() {
        assert_eq!(
            of(&[], &[], &["10.0.0.1"]).unwrap_err(),
            "every ip-range or gateway must have a corresponding subnet"
        );
        assert_eq!(
            of(&["10.0.0.0/8"], &[], &["11.0.0.1"]).unwrap_err(),
            "no matching subnet for gateway 11.0.0.1"
        );
        assert_eq!(
            of(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[]).unwrap_err(),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(
            of(&["x"], &[], &[]).unwrap_err(),
            "invalid subnet: invalid CIDR address: x"
        );
    }
}
