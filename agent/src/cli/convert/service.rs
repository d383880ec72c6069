//! Words of service flags: ports, preferences, secrets, resources, command
//! lines, capabilities.

use serde_json::{Value, json};

use super::mount::fields;
use super::ports;

/// The ports a `--publish` of a service means, in the long or short form.
pub(in crate::cli) fn publish(text: &str) -> Result<Vec<Value>, String> {
    if text.contains('=') {
        return publish_long(text).map(|port| vec![port]);
    }
    let mut all = Vec::new();
    for port in ports::parse(text)? {
        if !port.ip.is_empty() && port.ip != "0.0.0.0" {
            return Err("hostip is not supported".to_owned());
        }
        let (first, last) = if port.host.is_empty() {
            (0, 0)
        } else {
            ports::range(&port.host).ok_or_else(|| {
                format!(
                    "invalid hostport binding ({}) for port ({})",
                    port.host, port.container
                )
            })?
        };
        for published in first..=last {
            all.push(json!({
                "Protocol": port.protocol,
                "TargetPort": port.container,
                "PublishedPort": published,
                "PublishMode": "ingress",
            }));
        }
    }
    Ok(all)
}

fn publish_long(text: &str) -> Result<Value, String> {
    let mut port = json!({ "Protocol": "tcp", "PublishMode": "ingress" });
    let number = |name: &str, value: &str| {
        value.parse::<u16>().map_err(|_| {
            format!("invalid {name} port ({value}): value must be an integer: invalid syntax")
        })
    };
    for field in fields(text)? {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, v)| !v.is_empty())
            .ok_or_else(|| format!("invalid field: {field}"))?;
        match key {
            "protocol" if matches!(value, "tcp" | "udp" | "sctp") => {
                port["Protocol"] = value.into()
            }
            "protocol" => return Err(format!("invalid protocol value '{value}'")),
            "mode" if matches!(value, "ingress" | "host") => port["PublishMode"] = value.into(),
            "mode" => {
                return Err(format!(
                    "invalid publish mode value ({value}): must be either 'ingress' or 'host'"
                ));
            }
            "target" => port["TargetPort"] = number("target", value)?.into(),
            "published" => port["PublishedPort"] = number("published", value)?.into(),
            _ => return Err(format!("invalid field key: {key}")),
        }
    }
    if port["TargetPort"].as_u64().unwrap_or(0) == 0 {
        return Err("missing mandatory field 'target'".to_owned());
    }
    Ok(port)
}

/// `spread=node.labels.zone`.
pub(in crate::cli) fn preference(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some(("spread", label)) => Ok(json!({ "Spread": { "SpreadDescriptor": label } })),
        Some((other, _)) if !other.is_empty() => Err(format!(
            "unsupported placement preference {other} (only spread is supported)"
        )),
        _ => Err("placement preference must be of the format \"<strategy>=<arg>\"".to_owned()),
    }
}

/// What a `--secret` or `--config` names, and how its file is shown.
pub(in crate::cli) struct FileReference {
    pub(in crate::cli) source: String,
    pub(in crate::cli) file: Value,
}

/// A name, or `source=…,target=…,uid=…,gid=…,mode=…`.
pub(in crate::cli) fn file_reference(text: &str) -> Result<FileReference, String> {
    let (mut source, mut target) = (String::new(), String::new());
    let mut file = json!({ "UID": "0", "GID": "0", "Mode": 0o444 });
    let parts = fields(text)?;
    if let [name] = parts.as_slice()
        && !name.contains('=')
    {
        file["Name"] = name.as_str().into();
        return Ok(FileReference {
            source: name.clone(),
            file,
        });
    }
    for field in parts {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "source" | "src" => source = value.to_owned(),
            "target" => target = value.to_owned(),
            "uid" => file["UID"] = value.into(),
            "gid" => file["GID"] = value.into(),
            "mode" => {
                let mode = u32::from_str_radix(value, 8);
                file["Mode"] = mode
                    .map_err(|_| format!("invalid mode specified: {value}"))?
                    .into();
            }
            other => return Err(format!("invalid field in secret request: {other}")),
        }
    }
    if source.is_empty() {
        return Err("source is required".to_owned());
    }
    file["Name"] = if target.is_empty() {
        source.clone()
    } else {
        target
    }
    .into();
    Ok(FileReference { source, file })
}

/// `KIND=N`, or a named resource.
pub(in crate::cli) fn generic_resource(text: &str) -> Result<Value, String> {
    let (kind, value) = text
        .split_once('=')
        .filter(|(kind, value)| !kind.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("invalid generic-resource format `{text}` expected `name=value`"))?;
    match value.parse::<i64>() {
        Ok(n) if n > 0 => Ok(json!({ "DiscreteResourceSpec": { "Kind": kind, "Value": n } })),
        _ => Err("invalid generic-resource request, Named Generic Resources is not supported for service create or update".to_owned()),
    }
}

/// Splits a command line as a shell does: blanks, quotes, backslashes.
pub(in crate::cli) fn command_line(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = text.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => match chars.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("EOF found after escape character".to_owned()),
            },
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("EOF found when expecting closing quote".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// `cap_net_admin` and `NET_ADMIN` alike as `CAP_NET_ADMIN`.
pub(in crate::cli) fn capability(text: &str) -> String {
    let upper = text.trim().to_uppercase();
    match upper.as_str() {
        "ALL" | "RESET" => upper,
        name if name.starts_with("CAP_") => upper,
        name => format!("CAP_{name}"),
    }
}

/// `config://…`, `file://…` or `registry://…`.
pub(in crate::cli) fn credential_spec(text: &str) -> Result<Value, String> {
    match text.split_once("://") {
        _ if text.is_empty() => Ok(json!({})),
        Some(("config", value)) => Ok(json!({ "Config": value })),
        Some(("file", value)) => Ok(json!({ "File": value })),
        Some(("registry", value)) => Ok(json!({ "Registry": value })),
        _ => Err("invalid credential spec: value must be prefixed with \"config://\", \"file://\", or \"registry://\""
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_short_and_long() {
        assert_eq!(
            publish("8080:80").unwrap(),
            [
                json!({"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"})
            ]
        );
        assert_eq!(publish("80").unwrap()[0]["PublishedPort"], 0);
        assert_eq!(
            publish("published=53,target=5353,protocol=udp,mode=host").unwrap(),
            [json!({"Protocol":"udp","TargetPort":5353,"PublishedPort":53,"PublishMode":"host"})]
        );
        assert_eq!(
            publish("mode=host").unwrap_err(),
            "missing mandatory field 'target'"
        );
        assert_eq!(
            publish("1.2.3.4:80:80").unwrap_err(),
            "hostip is not supported"
        );
    }

    #[test]
    fn command_lines_are_split() {
        assert_eq!(
            command_line(r#"sh -c "echo 'a b'" x\ y"#).unwrap(),
            ["sh", "-c", "echo 'a b'", "x y"]
        );
        assert_eq!(command_line("''").unwrap(), [""]);
        assert!(command_line("'a").is_err());
    }

    #[test]
    fn secrets_resources_and_capabilities() {
        let long = file_reference("source=a,target=b,mode=0400").unwrap();
        assert_eq!(
            (long.source.as_str(), &long.file["Name"], &long.file["Mode"]),
            ("a", &json!("b"), &json!(0o400))
        );
        assert_eq!(
            generic_resource("GPU=2").unwrap()["DiscreteResourceSpec"]["Value"],
            2
        );
        assert_eq!(capability("net_admin"), "CAP_NET_ADMIN");
        assert_eq!(
            preference("x").unwrap_err(),
            "placement preference must be of the format \"<strategy>=<arg>\""
        );
    }
}
