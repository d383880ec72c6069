//! `--mount` and `-v`.

use serde_json::{Value, json};

use super::super::flags::parse_bool;
use super::super::units;

/// Splits at commas that are not within double quotes; a doubled quote within
/// is one quote.
pub(in crate::cli) fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '"' => {
                return Err(
                    "parse error on line 1, column 1: bare \" in non-quoted-field".to_owned(),
                );
            }
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(
            "parse error on line 1, column 1: extraneous or missing \" in quoted-field".to_owned(),
        );
    }
    all.push(field);
    Ok(all)
}

/// Fields that may stand without a value, meaning true.
const SWITCHES: &[&str] = &[
    "readonly",
    "ro",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-src",
];

/// `type=bind,source=/a,target=/b,readonly` as the API's mount.
pub(in crate::cli) fn mount(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = json!({ "Type": "volume" });
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        if value.is_none() && !SWITCHES.contains(&key.as_str()) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        set(&mut mount, &key, value, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn set(mount: &mut Value, key: &str, given: Option<&str>, field: &str) -> Result<(), String> {
    let value = given.unwrap_or("true");
    let truth = || {
        parse_bool(value)
            .map(Value::from)
            .map_err(|_| format!("invalid value for {key}: {value}"))
    };
    let invalid = || format!("invalid value for {key}: {value}");
    let pair = || value.split_once('=').unwrap_or((value, ""));
    match key {
        "type" => mount["Type"] = value.to_lowercase().into(),
        "source" | "src" => mount["Source"] = absolute(value).into(),
        "target" | "dst" | "destination" => mount["Target"] = value.into(),
        "readonly" | "ro" => mount["ReadOnly"] = truth()?,
        "consistency" => mount["Consistency"] = value.to_lowercase().into(),
        "bind-propagation" => mount["BindOptions"]["Propagation"] = value.to_lowercase().into(),
        "bind-nonrecursive" => mount["BindOptions"]["NonRecursive"] = truth()?,
        "bind-create-src" => mount["BindOptions"]["CreateMountpoint"] = truth()?,
        "bind-recursive" => {
            let option = match value {
                "enabled" => return Ok(()),
                "disabled" => "NonRecursive",
                "writable" => "ReadOnlyNonRecursive",
                "readonly" => "ReadOnlyForceRecursive",
                _ => {
                    return Err(format!(
                        "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            };
            mount["BindOptions"][option] = true.into();
        }
        "volume-subpath" => mount["VolumeOptions"]["Subpath"] = value.into(),
        "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = truth()?,
        "volume-label" => mount["VolumeOptions"]["Labels"][pair().0] = pair().1.into(),
        "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = value.into(),
        "volume-opt" => {
            mount["VolumeOptions"]["DriverConfig"]["Options"][pair().0] = pair().1.into()
        }
        "image-subpath" => mount["ImageOptions"]["Subpath"] = value.into(),
        "tmpfs-size" => {
            mount["TmpfsOptions"]["SizeBytes"] =
                units::ram_in_bytes(value).map_err(|_| invalid())?.into();
        }
        "tmpfs-mode" => {
            mount["TmpfsOptions"]["Mode"] =
                u32::from_str_radix(value, 8).map_err(|_| invalid())?.into();
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// What the type of a mount forbids.
fn check(mount: &Value) -> Result<(), String> {
    let kind = mount["Type"].as_str().unwrap_or("");
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount["Target"].as_str().unwrap_or("").is_empty() {
        return Err("target is required".to_owned());
    }
    for (options, owner) in [
        ("VolumeOptions", "volume"),
        ("BindOptions", "bind"),
        ("TmpfsOptions", "tmpfs"),
        ("ImageOptions", "image"),
    ] {
        let prefix = options.trim_end_matches("Options").to_lowercase();
        if mount.get(options).is_some() && kind != owner {
            return Err(format!(
                "cannot mix '{prefix}-*' options with mount type '{kind}'"
            ));
        }
    }
    if mount["BindOptions"]["ReadOnlyNonRecursive"] == true && mount["ReadOnly"] != true {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
                .to_owned(),
        );
    }
    if mount["BindOptions"]["ReadOnlyForceRecursive"] == true && mount["ReadOnly"] != true {
        return Err(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
                .to_owned(),
        );
    }
    Ok(())
}

/// A source that begins with a dot is the client's, and made absolute.
fn absolute(path: &str) -> String {
    if !path.starts_with('.') {
        return path.to_owned();
    }
    let Ok(here) = std::env::current_dir() else {
        return path.to_owned();
    };
    let mut whole = here;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole.to_string_lossy().into_owned()
}

/// What `-v` words mean: binds, and volumes without a name.
pub(in crate::cli) fn volumes(words: &[String]) -> Result<(Vec<String>, Value), String> {
    let (mut binds, mut anonymous) = (Vec::new(), json!({}));
    for word in words {
        let Some((source, rest)) = word.split_once(':') else {
            if word.is_empty() {
                return Err("invalid empty volume spec".to_owned());
            }
            anonymous[word] = json!({});
            continue;
        };
        if word.split(':').any(str::is_empty) {
            return Err(format!(
                "invalid spec: {word}: empty section between colons"
            ));
        }
        binds.push(format!("{}:{rest}", absolute(source)));
    }
    Ok((binds, anonymous))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_every_type() {
        assert_eq!(
            mount("type=bind,source=/a,target=/b,ro,bind-propagation=rslave").unwrap(),
            json!({"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave"}})
        );
        assert_eq!(
            mount("src=v,dst=/d,volume-driver=local,\"volume-opt=o=a,b\",volume-nocopy").unwrap(),
            json!({"Type":"volume","Source":"v","Target":"/d","VolumeOptions":{"NoCopy":true,"DriverConfig":{"Name":"local","Options":{"o":"a,b"}}}})
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777").unwrap(),
            json!({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1_048_576,"Mode":0o1777}})
        );
    }

    #[test]
    fn refusals_are_dockers() {
        let wrong = |text| mount(text).unwrap_err();
        assert_eq!(wrong("foo"), "invalid field 'foo' must be a key=value pair");
        assert_eq!(
            wrong("type=bind,targ=/y"),
            "unexpected key 'targ' in 'targ=/y'"
        );
        assert_eq!(wrong("type=volume,source=a"), "target is required");
        assert_eq!(
            wrong("type=bind,target=/a,volume-nocopy"),
            "cannot mix 'volume-*' options with mount type 'bind'"
        );
    }

    #[test]
    fn short_volumes() {
        let words = ["/data", "v:/v:ro", "/h:/c"].map(str::to_owned);
        let (binds, anonymous) = volumes(&words).unwrap();
        assert_eq!(binds, ["v:/v:ro", "/h:/c"]);
        assert_eq!(anonymous, json!({ "/data": {} }));
        assert_eq!(
            volumes(&[":/x".to_owned()]).unwrap_err(),
            "invalid spec: :/x: empty section between colons"
        );
    }
}
