//! Docker's rules for what a container may ask of its host, in its words.

use crate::backend::NodeFacts;
use crate::error::{Error, Result};
use skep_control::model::{Config, HostConfig, HostRestartPolicy};

/// The least memory that Docker accepts as a limit, bytes.
const MEMORY_MIN: i64 = 6 << 20;

/// Checks all of it but the resources; returns warnings.
pub(super) fn host(config: &Config, host: &HostConfig) -> Result<Vec<String>> {
    restart_policy(&host.restart_policy)?;
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if host.auto_remove && restarts {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    for extra in &host.extra_hosts {
        let pair = extra.split_once(['=', ':']);
        if pair.is_none_or(|(name, ip)| name.is_empty() || ip.is_empty()) {
            return Err(Error::invalid(format!(
                "bad format for add-host: \"{extra}\""
            )));
        }
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if !matches!(
        host.runtime.as_str(),
        "" | "runc" | "skep" | "io.containerd.runc.v2"
    ) {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    if !matches!(
        host.log_config.kind.as_str(),
        "" | "json-file" | "local" | "none"
    ) {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{}' is registered",
            host.log_config.kind
        )));
    }
    modes(host)?;
    bindings(host)?;
    network(config, host)
}

pub(super) fn restart_policy(policy: &HostRestartPolicy) -> Result<()> {
    let bad = |why: String| Err(Error::invalid(format!("invalid restart policy: {why}")));
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" | "" if policy.maximum_retry_count != 0 => {
            bad("maximum retry count can only be used with 'on-failure'".into())
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            bad("maximum retry count cannot be negative".into())
        }
        "always" | "unless-stopped" | "no" | "" | "on-failure" => Ok(()),
        name => bad(format!(
            "unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

fn modes(host: &HostConfig) -> Result<()> {
    let of_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|c| !c.is_empty())
    };
    let check = |what: &str, mode: &str, words: &[&str], container: bool| {
        if words.contains(&mode) || container && of_container(mode) {
            return Ok(());
        }
        Err(Error::invalid(format!("invalid {what} mode: {mode}")))
    };
    check(
        "IPC",
        &host.ipc_mode,
        &["", "none", "private", "shareable", "host"],
        true,
    )?;
    check("PID", &host.pid_mode, &["", "host"], true)?;
    check("UTS", &host.uts_mode, &["", "host"], false)?;
    check("userns", &host.userns_mode, &["", "host"], false)?;
    check(
        "cgroup namespace",
        &host.cgroupns_mode,
        &["", "private", "host"],
        false,
    )
}

fn bindings(host: &HostConfig) -> Result<()> {
    for bind in &host.binds {
        let parts: Vec<&str> = bind.split(':').collect();
        let target = match parts.as_slice() {
            [target] | [_, target] | [_, target, _] if !target.is_empty() => target,
            _ => {
                return Err(Error::invalid(format!(
                    "invalid volume specification: '{bind}'"
                )));
            }
        };
        if !target.starts_with('/') {
            return Err(Error::invalid(format!(
                "invalid volume specification: '{bind}': invalid mount path: '{target}' mount path \
                 must be absolute"
            )));
        }
        if *target == "/" {
            return Err(Error::invalid(format!(
                "invalid volume specification: '{bind}': invalid specification: destination can't \
                 be '/'"
            )));
        }
    }
    for mount in &host.mounts {
        let bad = |why: &str| {
            Err(Error::invalid(format!(
                "invalid mount config for type \"{}\": {why}",
                mount.kind
            )))
        };
        match (mount.kind.as_str(), mount.source.as_str()) {
            _ if mount.target.is_empty() => return bad("field Target must not be empty"),
            _ if !mount.target.starts_with('/') => {
                return bad(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.target
                ));
            }
            ("bind", "") => return bad("field Source must not be empty"),
            ("bind", source) if !source.starts_with('/') => {
                return bad(&format!(
                    "invalid mount path: '{source}' mount path must be absolute"
                ));
            }
            ("tmpfs", source) if !source.is_empty() => {
                return bad("field Source must not be specified");
            }
            ("bind" | "volume" | "tmpfs", _) => {}
            _ => return Err(Error::invalid("mount type unknown")),
        }
    }
    Ok(())
}

fn network(config: &Config, host: &HostConfig) -> Result<Vec<String>> {
    let conflict = |what: &str| {
        Err(Error::invalid(format!(
            "conflicting options: {what} and the network mode"
        )))
    };
    let mode = host.network_mode.as_str();
    let of_container = mode.starts_with("container:");
    if of_container && !config.hostname.is_empty() {
        return conflict("hostname");
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid(
            "conflicting options: hostname and the UTS mode",
        ));
    }
    if of_container && !host.dns.is_empty() {
        return conflict("dns");
    }
    if of_container && !host.extra_hosts.is_empty() {
        return conflict("custom host-to-IP mapping");
    }
    let published = !host.port_bindings.is_empty() || host.publish_all_ports;
    if of_container && published {
        return Err(Error::invalid(
            "conflicting options: port publishing and the container type network mode",
        ));
    }
    if let Some(bad) = host
        .dns
        .iter()
        .find(|ip| ip.parse::<std::net::IpAddr>().is_err())
    {
        return Err(Error::invalid(format!("invalid DNS server address: {bad}")));
    }
    for binding in host.port_bindings.values().flatten() {
        let (first, last) = binding
            .host_port
            .split_once('-')
            .unwrap_or((&binding.host_port, "0"));
        let valid = |text: &str| text.is_empty() || text.parse::<u16>().is_ok();
        if !valid(first) || !valid(last) {
            return Err(Error::invalid(format!(
                "invalid port specification: \"{}\"",
                binding.host_port
            )));
        }
        let ip = binding.host_ip.as_str();
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid host IP address: {ip}")));
        }
    }
    let mut warnings = Vec::new();
    if mode == "host" && published {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

/// `80` or `80/tcp` as `80/tcp`.
pub(super) fn port(text: &str) -> Result<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let valid = number.parse::<u16>().is_ok_and(|number| number > 0);
    if !valid || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!(
            "invalid port specification: \"{text}\""
        )));
    }
    Ok(format!("{number}/{protocol}"))
}

/// Checks limits, drops those this kernel cannot set, and says so.
pub(super) fn checked_resources(host: &mut HostConfig, facts: &NodeFacts) -> Result<Vec<String>> {
    memory(host)?;
    cpu(host, facts)?;
    let mut warnings = Vec::new();
    let has = facts.controllers;
    let mut discard = |lacks: bool, text: &str| {
        if lacks {
            warnings.push(format!("Your kernel does not support {text}"));
        }
        lacks
    };
    let mounted = "capabilities or the cgroup is not mounted.";
    let limited = host.memory > 0 || host.memory_reservation > 0;
    if discard(
        !has.memory && limited,
        &format!("memory limit {mounted} Limitation discarded."),
    ) {
        (host.memory, host.memory_swap, host.memory_reservation) = (0, 0, 0);
    }
    if discard(
        has.memory && !has.swap && host.memory > 0 && host.memory_swap != -1,
        &format!("swap limit {mounted} Memory limited without swap."),
    ) {
        host.memory_swap = -1;
    }
    let pids = host.pids_limit.is_some_and(|limit| limit > 0);
    if discard(
        !has.pids && pids,
        &format!("PIDs limit {mounted} PIDs limit discarded."),
    ) {
        host.pids_limit = None;
    }
    if discard(
        !has.cpu_quota && (host.nano_cpus > 0 || host.cpu_quota > 0 || host.cpu_period > 0),
        "CPU CFS quota or the cgroup is not mounted. Quota discarded.",
    ) {
        (host.nano_cpus, host.cpu_quota, host.cpu_period) = (0, 0, 0);
    }
    if discard(
        !has.cpu_shares && host.cpu_shares > 0,
        "CPU shares or the cgroup is not mounted. Shares discarded.",
    ) {
        host.cpu_shares = 0;
    }
    let sets = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if discard(
        !has.cpuset && sets,
        "cpuset or the cgroup is not mounted. Cpuset discarded.",
    ) {
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    Ok(warnings)
}

fn memory(host: &HostConfig) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    if host.memory != 0 && host.memory < MEMORY_MIN {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return bad(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(value) = host.memory_swappiness.filter(|v| !(-1..=100).contains(v)) {
        return bad(&format!(
            "Invalid value: {value}, valid memory swappiness range is 0-100"
        ));
    }
    if host.memory_reservation != 0 && host.memory_reservation < MEMORY_MIN {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory < host.memory_reservation {
        return bad(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn cpu(host: &HostConfig, facts: &NodeFacts) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set.");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set.");
    }
    let most = i64::from(facts.cpus) * 1_000_000_000;
    if host.nano_cpus < 0 || host.nano_cpus > most {
        return bad(&format!(
            "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available",
            facts.cpus
        ));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return bad(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let policy = |name: &str, count| HostRestartPolicy {
            name: name.into(),
            maximum_retry_count: count,
        };
        assert!(restart_policy(&policy("on-failure", 3)).is_ok());
        assert!(restart_policy(&policy("always", 3)).is_err());
        let error = restart_policy(&policy("often", 0)).unwrap_err();
        assert!(
            error
                .message
                .starts_with("invalid restart policy: unknown policy 'often'; use")
        );
    }

    #[test]
    fn a_kernel_without_controllers_warns_and_goes_on() {
        let mut host = HostConfig {
            memory: 8 << 20,
            pids_limit: Some(10),
            ..HostConfig::default()
        };
        let facts = NodeFacts {
            cpus: 1,
            ..NodeFacts::default()
        };
        let warnings = checked_resources(&mut host, &facts).unwrap();
        assert_eq!(
            warnings,
            [
                "Your kernel does not support memory limit capabilities or the cgroup is not \
                 mounted. Limitation discarded.",
                "Your kernel does not support PIDs limit capabilities or the cgroup is not \
                 mounted. PIDs limit discarded.",
            ]
        );
        assert_eq!((host.memory, host.pids_limit), (0, None));
    }

    #[test]
    fn limits_out_of_range() {
        let facts = NodeFacts {
            cpus: 2,
            ..NodeFacts::default()
        };
        let refusal =
            |mut host: HostConfig| checked_resources(&mut host, &facts).unwrap_err().message;
        assert_eq!(
            refusal(HostConfig {
                memory: 4 << 20,
                ..HostConfig::default()
            }),
            "Minimum memory limit allowed is 6MB"
        );
        assert_eq!(
            refusal(HostConfig {
                nano_cpus: 3_000_000_000,
                ..HostConfig::default()
            }),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
    }

    #[test]
    fn ports_and_mounts() {
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert_eq!(port("53/UDP").unwrap(), "53/udp");
        for bad in ["0", "70000", "80/icmp", "x"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        let bind = |text: &str| {
            bindings(&HostConfig {
                binds: vec![text.into()],
                ..HostConfig::default()
            })
        };
        assert!(bind("/a:/b:ro").is_ok() && bind("vol:/b").is_ok());
        assert!(bind("/a:b").is_err() && bind("a:b:c:d").is_err() && bind("/a:/").is_err());
    }
}
