//! Limits, devices, health checks, restart policies and the like.

use serde_json::{Value, json};

use super::super::flags::Flags;
use super::super::units;

/// `nofile=1024:2048`.
pub(in crate::cli) fn ulimit(text: &str) -> Result<Value, String> {
    const NAMES: &[&str] = &[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text
        .split_once('=')
        .filter(|(_, limits)| !limits.is_empty())
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let (soft, hard) = match limits.split_once(':') {
        None => (number(limits)?, number(limits)?),
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(if soft == -1 {
            format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )
        } else {
            format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        });
    }
    Ok(json!({ "Name": name, "Soft": soft, "Hard": hard }))
}

fn is_device_mode(mode: &str) -> bool {
    let distinct = |c: char| mode.matches(c).count() <= 1;
    !mode.is_empty() && mode.chars().all(|c| "rwm".contains(c) && distinct(c))
}

/// `/dev/a[:/dev/b][:rwm]`.
pub(in crate::cli) fn device(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] if !host.is_empty() => (*host, *host, "rwm"),
        [host, mode] if !host.is_empty() && is_device_mode(mode) => (*host, *host, *mode),
        [host, container] if !host.is_empty() => (*host, *container, "rwm"),
        [host, container, mode] if !host.is_empty() => {
            if !is_device_mode(mode) {
                return Err(format!("bad mode specified: {mode}"));
            }
            (*host, *container, *mode)
        }
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(json!({ "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode }))
}

/// `c 1:3 rwm`.
pub(in crate::cli) fn device_rule(text: &str) -> Result<(), String> {
    let valid = || {
        let mut words = text.split(' ');
        let kind = words.next().filter(|k| matches!(*k, "a" | "b" | "c"));
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |n: &str| n == "*" || !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let mode = words
            .next()
            .filter(|m| (1..=3).contains(&m.len()) && m.chars().all(|c| "rwm".contains(c)));
        (kind.is_some()
            && number(major)
            && number(minor)
            && mode.is_some()
            && words.next().is_none())
        .then_some(())
    };
    valid().ok_or_else(|| format!("invalid device cgroup format '{text}'"))
}

/// `/dev/sda:200`.
pub(in crate::cli) fn weight_device(text: &str) -> Result<Value, String> {
    let (path, weight) = text
        .split_once(':')
        .filter(|(p, _)| !p.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    match weight.parse::<u16>() {
        Ok(n) if n == 0 || (10..=1000).contains(&n) => Ok(json!({ "Path": path, "Weight": n })),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `/dev/sda:1mb` or, counted, `/dev/sda:100`.
pub(in crate::cli) fn rate_device(text: &str, bytes: bool) -> Result<Value, String> {
    let (path, rate) = text
        .split_once(':')
        .filter(|(p, _)| !p.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let rate = if bytes {
        units::ram_in_bytes(rate).ok().filter(|n| *n >= 0).ok_or_else(|| {
            format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
        })?
    } else {
        rate.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(|| {
            format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
        })?
    };
    Ok(json!({ "Path": path, "Rate": rate }))
}

/// `--gpus all`, `2`, or `device=0,capabilities=…`.
pub(in crate::cli) fn gpus(text: &str) -> Result<Value, String> {
    let mut request = json!({ "Driver": "", "Count": 0, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {} });
    let count = |text: &str| match text {
        "all" => Ok(-1),
        _ => text.parse::<i64>().map_err(|_| {
            format!(
                "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
            )
        }),
    };
    for field in super::mount::fields(text)? {
        match field.split_once('=') {
            None => request["Count"] = count(&field)?.into(),
            Some(("count", value)) => request["Count"] = count(value)?.into(),
            Some(("driver", value)) => request["Driver"] = value.into(),
            Some(("device", value)) => {
                request["Count"] = 0.into();
                request["DeviceIDs"] = value.split(',').collect::<Vec<_>>().into();
            }
            Some(("capabilities", value)) => {
                let mut all = vec!["gpu"];
                all.extend(value.split(',').filter(|c| *c != "gpu"));
                request["Capabilities"] = json!([all]);
            }
            Some(("options", value)) => {
                for (key, value) in value.split(',').filter_map(|o| o.split_once('=')) {
                    request["Options"][key] = value.into();
                }
            }
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    Ok(request)
}

/// `no`, `always`, `unless-stopped`, `on-failure[:n]`; the daemon judges the name.
pub(in crate::cli) fn restart_policy(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(json!({ "Name": "", "MaximumRetryCount": 0 }));
    }
    let (name, count) = text
        .split_once(':')
        .map_or((text, None), |(n, c)| (n, Some(c)));
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let count = match count {
        None | Some("") => 0,
        Some(count) => count.parse::<i64>().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(json!({ "Name": name, "MaximumRetryCount": count }))
}

/// The health check that `--health-*` and `--no-healthcheck` ask for.
pub(in crate::cli) fn health(flags: &Flags) -> Result<Option<Value>, String> {
    let command = flags.str("health-cmd");
    let numbers = [
        (
            "health-interval",
            "Interval",
            flags.duration("health-interval"),
        ),
        (
            "health-timeout",
            "Timeout",
            flags.duration("health-timeout"),
        ),
        ("health-retries", "Retries", flags.int("health-retries")),
        (
            "health-start-period",
            "StartPeriod",
            flags.duration("health-start-period"),
        ),
        (
            "health-start-interval",
            "StartInterval",
            flags.duration("health-start-interval"),
        ),
    ];
    let given = !command.is_empty() || numbers.iter().any(|(_, _, n)| n.unwrap_or(0) != 0);
    if flags.bool("no-healthcheck") {
        return match given {
            true => Err("--no-healthcheck conflicts with --health-* options".to_owned()),
            false => Ok(Some(json!({ "Test": ["NONE"] }))),
        };
    }
    if !given {
        return Ok(None);
    }
    let mut health = json!({});
    if !command.is_empty() {
        health["Test"] = json!(["CMD-SHELL", command]);
    }
    for (flag, field, number) in numbers {
        match number {
            Some(n) if n < 0 => return Err(format!("--{flag} cannot be negative")),
            Some(n) if n != 0 => health[field] = n.into(),
            _ => {}
        }
    }
    Ok(Some(health))
}

/// Security options, a seccomp profile's file read in. The second is whether
/// the masked and read-only paths are lifted.
pub(in crate::cli) fn security(words: &[String]) -> Result<(Vec<String>, bool), String> {
    let (mut all, mut lifted) = (Vec::new(), false);
    for word in words {
        if word == "systempaths=unconfined" {
            lifted = true;
            continue;
        }
        let (key, value) = match word.split_once('=') {
            Some(pair) => pair,
            None if word == "no-new-privileges" => (word.as_str(), ""),
            None => word.split_once(':').unwrap_or((word, "")),
        };
        if value.is_empty() && key != "no-new-privileges" {
            return Err(format!("Invalid --security-opt: {word:?}"));
        }
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let failed = |what: &str, e: &dyn std::fmt::Display| {
                format!("{what} seccomp profile ({value}) failed: {e}")
            };
            let text = std::fs::read_to_string(value).map_err(|e| failed("opening", &e))?;
            let profile: Value =
                serde_json::from_str(&text).map_err(|e| failed("compacting json for", &e))?;
            all.push(format!("seccomp={profile}"));
        } else {
            all.push(word.clone());
        }
    }
    Ok((all, lifted))
}

/// `host:ip`; the address may be `host-gateway`.
pub(in crate::cli) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (name, address) = text
        .split_once(['=', ':'])
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(bad)?;
    let plain = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    if plain != "host-gateway" && plain.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{plain}"))
}

/// Namespaced kernel settings a container may have.
pub(in crate::cli) fn sysctl(text: &str) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = text.split_once('=').is_some_and(|(name, _)| {
        NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    if allowed {
        Ok(())
    } else {
        Err(format!("sysctl '{text}' is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_devices() {
        assert_eq!(
            ulimit("nofile=1:2"),
            Ok(json!({"Name":"nofile","Soft":1,"Hard":2}))
        );
        assert_eq!(
            ulimit("core=-1"),
            Ok(json!({"Name":"core","Soft":-1,"Hard":-1}))
        );
        assert_eq!(ulimit("x"), Err("invalid ulimit argument: x".into()));
        assert_eq!(ulimit("foo=1"), Err("invalid ulimit type: foo".into()));
        assert_eq!(
            ulimit("nofile=3:2"),
            Err("ulimit soft limit must be less than or equal to hard limit: 3 > 2".into())
        );
        assert_eq!(
            device("/dev/a:/dev/b:r").unwrap(),
            json!({"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"r"})
        );
        assert_eq!(device("/dev/a:rw").unwrap()["CgroupPermissions"], "rw");
        assert_eq!(device("x"), Err("x is not an absolute path".into()));
        assert!(device_rule("c 1:* rwm").is_ok() && device_rule("c 1 r").is_err());
        assert_eq!(rate_device("/dev/a:1mb", true).unwrap()["Rate"], 1 << 20);
    }

    #[test]
    fn restart_policies() {
        assert_eq!(
            restart_policy("on-failure:3"),
            Ok(json!({"Name":"on-failure","MaximumRetryCount":3}))
        );
        assert_eq!(
            restart_policy("on-failure:x"),
            Err("invalid restart policy format: maximum retry count must be an integer".into())
        );
    }

    #[test]
    fn hosts_and_sysctls() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra_host("a=[::1]"), Ok("a:::1".into()));
        assert_eq!(
            extra_host("x"),
            Err("bad format for add-host: \"x\"".into())
        );
        assert!(sysctl("net.core.somaxconn=1").is_ok() && sysctl("kernel.panic=1").is_err());
    }
}
