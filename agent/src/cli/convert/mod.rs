//! Flags into the API's documents: pure functions, refusing in Docker's words.

pub(super) mod pairs;
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
