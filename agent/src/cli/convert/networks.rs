//! `--network` of `run`, and what the other flags add to its first network.

use serde_json::{Map, Value, json};

use super::super::flags::Flags;

/// One `--network`: a name or `name=…,alias=…`.
#[derive(Debug, Default, PartialEq)]
pub(in crate::cli) struct Attachment {
    pub(in crate::cli) target: String,
    pub(in crate::cli) aliases: Vec<String>,
    pub(in crate::cli) options: Map<String, Value>,
    ip: String,
    ip6: String,
    mac: String,
    link_local: Vec<String>,
    priority: i64,
}

/// Names that are modes, not networks a user made.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

pub(in crate::cli) fn attachment(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for field in super::mount::fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.target = value.to_owned(),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => attachment.ip = address(value)?,
            "ip6" => attachment.ip6 = address(value)?,
            "mac-address" => attachment.mac = mac(value)?,
            "link-local-ip" => attachment.link_local.push(address(value)?),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                attachment
                    .options
                    .insert(key.trim().to_lowercase(), value.trim().into());
            }
            "gw-priority" => {
                attachment.priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

fn address(text: &str) -> Result<String, String> {
    text.parse::<std::net::IpAddr>()
        .map(|_| text.to_owned())
        .map_err(|_| format!("invalid IP address: {text}"))
}

/// Six pairs of hexadecimal digits.
pub(in crate::cli) fn mac(text: &str) -> Result<String, String> {
    let text = text.trim();
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let sound = pairs.len() == 6
        && pairs
            .iter()
            .all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok());
    if sound {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid mac address"))
    }
}

/// The network mode, and the endpoints to make.
pub(in crate::cli) fn endpoints(flags: &Flags) -> Result<(String, Value), String> {
    let mut all = flags
        .list("network")
        .iter()
        .map(|n| attachment(n))
        .collect::<Result<Vec<_>, _>>()?;
    all.extend(
        flags
            .list("net")
            .iter()
            .map(|n| attachment(n))
            .collect::<Result<Vec<_>, _>>()?,
    );
    if all.is_empty() {
        all.push(Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let only = all.len() == 1;
    if let Some(first) = all.first_mut() {
        add_flags(first, flags)?;
    }
    let mode = all.first().map(|a| a.target.clone()).unwrap_or_default();
    let user_defined = all.iter().filter(|a| is_user_defined(&a.target)).count();
    let mut endpoints = Map::new();
    let count = all.len();
    for attachment in all {
        let endpoint = endpoint(&attachment, flags)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!(
                "network {:?} is specified multiple times",
                attachment.target
            ));
        }
        // A single network without settings is told by the mode alone.
        if !(only && endpoint == json!({})) {
            endpoints.insert(attachment.target, endpoint);
        }
    }
    if user_defined > 0 && user_defined < count {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned());
    }
    Ok((mode, endpoints.into()))
}

fn add_flags(first: &mut Attachment, flags: &Flags) -> Result<(), String> {
    let both = |what: &str| Err(format!("conflicting options: cannot specify both {what}"));
    let aliases: Vec<String> = flags
        .list("network-alias")
        .iter()
        .chain(flags.list("net-alias"))
        .cloned()
        .collect();
    if !aliases.is_empty() && !first.aliases.is_empty() {
        return both("--network-alias and per-network alias");
    }
    first.aliases.extend(aliases);
    for (flag, own, what) in [
        ("ip", &mut first.ip, "--ip and per-network IPv4 address"),
        ("ip6", &mut first.ip6, "--ip6 and per-network IPv6 address"),
        (
            "mac-address",
            &mut first.mac,
            "--mac-address and per-network MAC address",
        ),
    ] {
        if let Some(given) = flags.get(flag) {
            if !own.is_empty() {
                return both(what);
            }
            given.clone_into(own);
        }
    }
    if !flags.list("link-local-ip").is_empty() && !first.link_local.is_empty() {
        return both("--link-local-ip and per-network link-local IP addresses");
    }
    first
        .link_local
        .extend(flags.list("link-local-ip").iter().cloned());
    Ok(())
}

fn endpoint(attachment: &Attachment, flags: &Flags) -> Result<Value, String> {
    let user_defined = is_user_defined(&attachment.target);
    if !user_defined && !attachment.aliases.is_empty() {
        return Err(
            "network-scoped aliases are only supported for user-defined networks".to_owned(),
        );
    }
    let mut endpoint = json!({});
    if !attachment.aliases.is_empty() {
        endpoint["Aliases"] = json!(attachment.aliases);
    }
    if user_defined && !flags.list("link").is_empty() {
        endpoint["Links"] = json!(flags.list("link"));
    }
    if !attachment.options.is_empty() {
        endpoint["DriverOpts"] = json!(attachment.options);
    }
    if !attachment.mac.is_empty() {
        endpoint["MacAddress"] = mac(&attachment.mac)?.into();
    }
    if attachment.priority != 0 {
        endpoint["GwPriority"] = attachment.priority.into();
    }
    let Attachment {
        ip,
        ip6,
        link_local,
        ..
    } = attachment;
    if !ip.is_empty() || !ip6.is_empty() || !link_local.is_empty() {
        endpoint["IPAMConfig"] =
            json!({ "IPv4Address": ip, "IPv6Address": ip6, "LinkLocalIPs": link_local });
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_fields() {
        assert_eq!(attachment("a").unwrap().target, "a");
        let long = attachment("name=a,alias=x,alias=y,driver-opt=k=v,ip=1.2.3.4").unwrap();
        assert_eq!((long.aliases.len(), long.ip.as_str()), (2, "1.2.3.4"));
        assert_eq!(
            attachment("name=a,foo=b").unwrap_err(),
            "invalid field key foo"
        );
        assert_eq!(mac("x").unwrap_err(), "x is not a valid mac address");
    }
}
