//! Published and exposed ports: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, with
//! ranges on either side.

use std::net::IpAddr;

/// One container port and where it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Port {
    pub(in crate::cli) ip: String,
    /// A number, a range to choose from, or nothing.
    pub(in crate::cli) host: String,
    pub(in crate::cli) container: u16,
    pub(in crate::cli) protocol: String,
}

/// `80` or `80-90`.
pub(in crate::cli) fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// All ports a word publishes.
pub(in crate::cli) fn parse(word: &str) -> Result<Vec<Port>, String> {
    let (rest, container) = word
        .rsplit_once(':')
        .map_or(("", word), |(rest, c)| (rest, c));
    let (ip, host) = rest.rsplit_once(':').map_or(("", rest), |(ip, h)| (ip, h));
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let ip = match ip.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}: missing ']'"))?,
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {word}<empty>"));
    }
    let (first, last) =
        range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = hosts
        && host_last - host_first != last - first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let ports = (first..=last).map(|container| {
        let host = match hosts {
            None => String::new(),
            // One port to be chosen from a range.
            Some((host_first, host_last)) if first == last && host_first != host_last => {
                format!("{host_first}-{host_last}")
            }
            Some((host_first, _)) => (host_first + (container - first)).to_string(),
        };
        Port {
            ip: ip.to_owned(),
            host,
            container,
            protocol: protocol.clone(),
        }
    });
    Ok(ports.collect())
}

/// The long form, `published=…,target=…`, as the short one.
pub(in crate::cli) fn standard(word: &str) -> Result<String, String> {
    if !word.contains('=') {
        return Ok(word.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in word.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((key, _)) if !key.is_empty() => {}
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(word: &str) -> Vec<String> {
        let ports = parse(word).unwrap();
        ports
            .iter()
            .map(|p| format!("{}|{}|{}/{}", p.ip, p.host, p.container, p.protocol))
            .collect()
    }

    #[test]
    fn every_form() {
        assert_eq!(shown("80"), ["||80/tcp"]);
        assert_eq!(shown("8080:80/udp"), ["|8080|80/udp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1||80/tcp"]);
        assert_eq!(shown("[::1]:1:2"), ["::1|1|2/tcp"]);
        assert_eq!(shown("1-2:3-4"), ["|1|3/tcp", "|2|4/tcp"]);
        assert_eq!(shown("1-9:80"), ["|1-9|80/tcp"]);
        assert_eq!(standard("published=1,target=2"), Ok("1:2/tcp".into()));
    }

    #[test]
    fn refusals_are_dockers() {
        let wrong = |word| parse(word).unwrap_err();
        assert_eq!(wrong("x"), "invalid containerPort: x");
        assert_eq!(wrong("x:80"), "invalid hostPort: x");
        assert_eq!(wrong("80:80:80:80"), "invalid IP address: 80:80");
        assert_eq!(wrong("80/foo"), "invalid proto: foo");
        assert_eq!(
            wrong("8080-8082:80-81"),
            "invalid ranges specified for container and host Ports: 80-81 and 8080-8082"
        );
    }
}
