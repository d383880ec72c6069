//! Limits: Docker's numbers as cgroup settings, as far as this kernel has the
//! controllers.

use super::{Device, Facts};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use skep_control::model::{HostConfig, ThrottleDevice};
use std::path::Path;

/// Microseconds of the CFS period that `--cpus` is spread over.
const CPU_PERIOD: i64 = 100_000;

/// The `resources` object and what had to be left out.
pub(super) fn resources(host: &HostConfig, facts: &Facts) -> Result<(Value, Vec<String>)> {
    let machine = &facts.machine;
    let mut warnings = Vec::new();
    let mut missing = |present: bool, asked: bool, what: &str, name: &str| {
        if asked && !present {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {name} discarded."
            ));
        }
        asked && present
    };
    let mut all = Map::new();
    if machine.devices || machine.cgroup_v2 {
        all.insert(
            "devices".to_owned(),
            json!(device_rules(host, &facts.devices)?),
        );
    }
    let asked = host.memory > 0 || host.memory_reservation > 0;
    if missing(
        machine.memory,
        asked,
        "memory limit capabilities",
        "Limitation",
    ) {
        // Only who asked for a swap limit is told that there is none.
        missing(
            machine.swap,
            host.memory_swap != 0,
            "swap limit capabilities",
            "Swap limit",
        );
        let swap = swap_limit(host).filter(|_| machine.swap);
        all.insert("memory".to_owned(), memory(host, swap, machine.cgroup_v2));
    }
    let asked = host.pids_limit.is_some_and(|limit| limit > 0);
    if missing(machine.pids, asked, "pids limit capabilities", "PIDs limit") {
        all.insert("pids".to_owned(), json!({"limit": host.pids_limit}));
    }
    let cpu = cpu(host, &mut missing, machine.cpu, machine.cpuset);
    if !cpu.is_empty() {
        all.insert("cpu".to_owned(), Value::Object(cpu));
    }
    let io = block_io(host, &facts.devices)?;
    if missing(
        machine.blkio,
        !io.is_empty(),
        "Block I/O weight or throttling",
        "Block I/O limit",
    ) {
        all.insert("blockIO".to_owned(), Value::Object(io));
    }
    Ok((Value::Object(all), warnings))
}

/// Docker's: twice the memory when not said, -1 for no limit.
pub(super) fn swap_limit(host: &HostConfig) -> Option<i64> {
    match host.memory_swap {
        0 if host.memory > 0 => Some(host.memory.saturating_mul(2)),
        0 => None,
        swap => Some(swap),
    }
}

fn memory(host: &HostConfig, swap: Option<i64>, v2: bool) -> Value {
    let mut memory = Map::new();
    if host.memory > 0 {
        memory.insert("limit".to_owned(), json!(host.memory));
    }
    if host.memory_reservation > 0 {
        memory.insert("reservation".to_owned(), json!(host.memory_reservation));
    }
    if let Some(swap) = swap {
        memory.insert("swap".to_owned(), json!(swap));
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|s| *s >= 0 && !v2) {
        memory.insert("swappiness".to_owned(), json!(swappiness));
    }
    if host.oom_kill_disable == Some(true) && !v2 {
        memory.insert("disableOOMKiller".to_owned(), json!(true));
    }
    Value::Object(memory)
}

/// Microseconds: the period and how much of it; `--cpus` goes before both.
pub(super) fn cpu_quota(host: &HostConfig) -> (i64, i64) {
    if host.nano_cpus > 0 {
        (CPU_PERIOD, host.nano_cpus / (1_000_000_000 / CPU_PERIOD))
    } else {
        (host.cpu_period, host.cpu_quota)
    }
}

fn cpu(
    host: &HostConfig,
    missing: &mut impl FnMut(bool, bool, &str, &str) -> bool,
    has_cpu: bool,
    has_cpuset: bool,
) -> Map<String, Value> {
    let mut cpu = Map::new();
    if missing(has_cpu, host.cpu_shares > 0, "CPU shares", "Shares") {
        cpu.insert("shares".to_owned(), json!(host.cpu_shares));
    }
    let (period, quota) = cpu_quota(host);
    if missing(has_cpu, period > 0 || quota > 0, "CPU CFS quota", "Quota") {
        if period > 0 {
            cpu.insert("period".to_owned(), json!(period));
        }
        if quota > 0 {
            cpu.insert("quota".to_owned(), json!(quota));
        }
    }
    let sets = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if missing(has_cpuset, sets, "cpuset", "Cpuset") {
        if !host.cpuset_cpus.is_empty() {
            cpu.insert("cpus".to_owned(), json!(host.cpuset_cpus));
        }
        if !host.cpuset_mems.is_empty() {
            cpu.insert("mems".to_owned(), json!(host.cpuset_mems));
        }
    }
    cpu
}

fn numbers<'a>(path: &str, devices: &'a [Device]) -> Result<&'a Device> {
    devices
        .iter()
        .find(|d| d.host == Path::new(path))
        .ok_or_else(|| Error::invalid(format!("no such device: \"{path}\"")))
}

fn block_io(host: &HostConfig, devices: &[Device]) -> Result<Map<String, Value>> {
    let mut io = Map::new();
    if host.blkio_weight > 0 {
        io.insert("weight".to_owned(), json!(host.blkio_weight));
    }
    let mut weights = Vec::new();
    for entry in &host.blkio_weight_device {
        let device = numbers(&entry.path, devices)?;
        weights.push(json!({
            "major": device.major, "minor": device.minor, "weight": entry.weight,
        }));
    }
    if !weights.is_empty() {
        io.insert("weightDevice".to_owned(), json!(weights));
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("throttleReadBpsDevice", &host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &host.blkio_device_write_iops),
    ];
    for (name, entries) in throttles {
        let mut list = Vec::new();
        for entry in entries {
            let device = numbers(&entry.path, devices)?;
            list.push(json!({
                "major": device.major, "minor": device.minor, "rate": entry.rate,
            }));
        }
        if !list.is_empty() {
            io.insert(name.to_owned(), json!(list));
        }
    }
    Ok(io)
}

/// Docker's: nothing but making nodes, the harmless ones, terminals, and what
/// was asked for.
fn device_rules(host: &HostConfig, devices: &[Device]) -> Result<Vec<Value>> {
    if host.privileged {
        return Ok(vec![json!({"allow": true, "access": "rwm"})]);
    }
    let allow = |kind: &str, major: i64, minor: Option<i64>, access: &str| {
        let mut rule = json!({"allow": true, "type": kind, "major": major, "access": access});
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    };
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.push(json!({"allow": true, "type": "c", "access": "m"}));
    rules.push(json!({"allow": true, "type": "b", "access": "m"}));
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        rules.push(allow("c", major, Some(minor), "rwm"));
    }
    rules.push(allow("c", 136, None, "rwm"));
    for device in devices.iter().filter(|d| !d.permissions.is_empty()) {
        let kind = if device.block { "b" } else { "c" };
        let (major, minor) = (i64::from(device.major), i64::from(device.minor));
        rules.push(allow(kind, major, Some(minor), &device.permissions));
    }
    for rule in &host.device_cgroup_rules {
        rules.push(parse_rule(rule)?);
    }
    Ok(rules)
}

/// `c 42:* rmw`.
fn parse_rule(text: &str) -> Result<Value> {
    let wrong = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_whitespace();
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let known = matches!(kind, "a" | "b" | "c")
        && !access.is_empty()
        && access.chars().all(|c| "rwm".contains(c));
    if !known {
        return Err(wrong());
    }
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (name, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[name] = json!(number.parse::<i64>().map_err(|_| wrong())?);
        }
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::super::Machine;
    use super::*;

    fn full() -> Facts {
        Facts {
            machine: Machine {
                memory: true,
                swap: true,
                pids: true,
                cpu: true,
                cpuset: true,
                blkio: true,
                devices: true,
                ..Machine::default()
            },
            ..Facts::default()
        }
    }

    fn host() -> HostConfig {
        HostConfig {
            memory: 64 << 20,
            nano_cpus: 1_500_000_000,
            pids_limit: Some(100),
            cpuset_cpus: "0-1".to_owned(),
            ..HostConfig::default()
        }
    }

    #[test]
    fn limits_become_settings() {
        let (all, warnings) = resources(&host(), &full()).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(
            all["memory"],
            json!({"limit": 67_108_864, "swap": 134_217_728})
        );
        assert_eq!(
            all["cpu"],
            json!({"period": 100_000, "quota": 150_000, "cpus": "0-1"})
        );
        assert_eq!(all["pids"], json!({"limit": 100}));
        assert_eq!(all["devices"][0], json!({"allow": false, "access": "rwm"}));
    }

    #[test]
    fn missing_controllers_are_warnings() {
        let (all, warnings) = resources(&host(), &Facts::default()).unwrap();
        assert_eq!(all, json!({}));
        assert_eq!(warnings.len(), 4);
        assert!(warnings[0].starts_with("Your kernel does not support memory limit capabilities"));
        let mut facts = full();
        facts.machine.swap = false;
        let (all, warnings) = resources(&host(), &facts).unwrap();
        assert_eq!(
            (&all["memory"], warnings.len()),
            (&json!({"limit": 67_108_864}), 0)
        );
    }

    #[test]
    fn device_rules_parse_or_are_refused() {
        assert_eq!(
            parse_rule("c 42:* rw").unwrap(),
            json!({"allow": true, "type": "c", "major": 42, "access": "rw"})
        );
        for wrong in [
            "",
            "c 1:2",
            "x 1:2 r",
            "c 1 r",
            "c 1:2 x",
            "c a:b r",
            "c 1:2 r more",
        ] {
            assert!(parse_rule(wrong).is_err(), "{wrong}");
        }
        let mut privileged = host();
        privileged.privileged = true;
        let (all, _) = resources(&privileged, &full()).unwrap();
        assert_eq!(all["devices"], json!([{"allow": true, "access": "rwm"}]));
    }

    #[test]
    fn throttles_name_their_device_by_number() {
        let mut host = HostConfig::default();
        host.blkio_device_read_bps.push(ThrottleDevice {
            path: "/dev/sda".to_owned(),
            rate: 1024,
        });
        assert_eq!(
            resources(&host, &full()).unwrap_err().message,
            "no such device: \"/dev/sda\""
        );
        let mut facts = full();
        facts.devices.push(Device {
            host: "/dev/sda".into(),
            block: true,
            major: 8,
            ..Device::default()
        });
        let (all, _) = resources(&host, &facts).unwrap();
        assert_eq!(
            all["blockIO"]["throttleReadBpsDevice"],
            json!([{"major": 8, "minor": 0, "rate": 1024}])
        );
    }
}
