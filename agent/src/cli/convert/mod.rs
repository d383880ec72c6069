//! Flags into the API's documents: pure functions, refusing in Docker's words.

pub(super) mod mount;
pub(super) mod networks;
pub(super) mod pairs;
pub(super) mod ports;
pub(super) mod resources;
pub(super) mod service;
pub(super) mod subnets;

/// `--external-ca protocol=cfssl,url=…[,cacert=FILE]`.
pub(super) fn external_ca(text: &str, trust_root: &str) -> Result<serde_json::Value, String> {
    let (mut protocol, mut url) = (String::new(), String::new());
    let mut cert = trust_root.to_owned();
    let mut options = serde_json::Map::new();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "protocol" if value.eq_ignore_ascii_case("cfssl") => protocol = "cfssl".to_owned(),
            "protocol" => return Err(format!("unrecognized external CA protocol {value}")),
            "url" => url = value.to_owned(),
            "cacert" => {
                cert = std::fs::read_to_string(value)
                    .map_err(|e| format!("unable to read CA cert for external CA: {e}"))?;
            }
            _ => {
                options.insert(key.to_owned(), value.into());
            }
        }
    }
    if protocol.is_empty() {
        return Err("the external-ca option needs a protocol= parameter".to_owned());
    }
    if url.is_empty() {
        return Err("the external-ca option needs a url= parameter".to_owned());
    }
    Ok(serde_json::json!({ "Protocol": protocol, "URL": url, "Options": options, "CACert": cert }))
}

/// Whether a flag's value is of its kind, for kinds that are not numbers.
pub(super) fn check(kind: &str, value: &str) -> Result<(), String> {
    match kind {
        "mount" => mount::mount(value).map(drop),
        "network" => networks::attachment(value).map(drop),
        "resource" => service::generic_resource(value).map(drop),
        "command" => service::command_line(value).map(drop),
        "pref" => service::preference(value).map(drop),
        "port" => service::publish(value).map(drop),
        "ulimit" => resources::ulimit(value).map(drop),
        "env" => pairs::variable_name(value),
        "label" => pairs::label_name(value),
        "host" => resources::extra_host(value).map(drop),
        "sysctl" => resources::sysctl(value),
        "gpus" => resources::gpus(value).map(drop),
        "rule" => resources::device_rule(value),
        "weight" => resources::weight_device(value).map(drop),
        "rate" => resources::rate_device(value, true).map(drop),
        "count" => resources::rate_device(value, false).map(drop),
        "address" => value
            .parse::<std::net::IpAddr>()
            .map(drop)
            .map_err(|_| format!("IP address is not correctly formatted: {value}")),
        "stream" => match value.to_lowercase().as_str() {
            "stdin" | "stdout" | "stderr" => Ok(()),
            _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
        },
        _ => Ok(()),
    }
}

/// The kinds that [`check`] knows.
#[cfg(test)]
pub(super) const KINDS: &[&str] = &[
    "mount", "resource", "command", "pref", "port", "network", "ulimit", "env", "label", "host",
    "sysctl", "gpus", "rule", "weight", "rate", "count", "address", "stream",
];
