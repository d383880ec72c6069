//! Limits for a container that runs already, as files of its cgroup.

use super::Facts;
use super::resources::{cpu_quota, swap_limit};
use skep_control::model::HostConfig;

/// What to write: controller (of version 1), file, text; in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) values: Vec<(&'static str, &'static str, String)>,
    pub(crate) warnings: Vec<String>,
}

/// The settings for all that is set (not zero) in `host`.
pub(crate) fn live_settings(host: &HostConfig, facts: &Facts) -> Settings {
    let mut settings = Settings::default();
    let machine = &facts.machine;
    if machine.cgroup_v2 {
        unified(host, facts, &mut settings);
    } else {
        divided(host, facts, &mut settings);
    }
    let present = |controller: &str| match controller {
        "memory" => machine.memory,
        "cpu" => machine.cpu,
        "cpuset" => machine.cpuset,
        "pids" => machine.pids,
        _ => machine.blkio,
    };
    let (kept, missing): (Vec<_>, Vec<_>) = settings
        .values
        .into_iter()
        .partition(|(controller, _, _)| present(controller));
    settings.values = kept;
    for (controller, _, _) in missing {
        let warning = format!(
            "Your kernel does not support {controller} limits or the cgroup is not mounted. \
             Limitation discarded."
        );
        if !settings.warnings.contains(&warning) {
            settings.warnings.push(warning);
        }
    }
    settings
}

fn unified(host: &HostConfig, facts: &Facts, settings: &mut Settings) {
    let max = |number: i64| match number {
        number if number < 0 => "max".to_owned(),
        number => number.to_string(),
    };
    let mut set = |controller, file, value| settings.values.push((controller, file, value));
    if host.memory > 0 {
        set("memory", "memory.max", host.memory.to_string());
    }
    // Version 2 counts swap beside memory, Docker together.
    if let Some(swap) = swap_limit(host).filter(|_| facts.machine.swap) {
        let beside = if swap < 0 {
            -1
        } else {
            (swap - host.memory).max(0)
        };
        set("memory", "memory.swap.max", max(beside));
    }
    if host.memory_reservation > 0 {
        set("memory", "memory.low", host.memory_reservation.to_string());
    }
    if host.cpu_shares > 0 {
        let weight = 1 + (host.cpu_shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        set("cpu", "cpu.weight", weight.to_string());
    }
    let (period, quota) = cpu_quota(host);
    if quota != 0 {
        let period = if period > 0 { period } else { 100_000 };
        set("cpu", "cpu.max", format!("{} {period}", max(quota)));
    }
    if !host.cpuset_cpus.is_empty() {
        set("cpuset", "cpuset.cpus", host.cpuset_cpus.clone());
    }
    if !host.cpuset_mems.is_empty() {
        set("cpuset", "cpuset.mems", host.cpuset_mems.clone());
    }
    if let Some(limit) = host.pids_limit {
        set("pids", "pids.max", max(if limit == 0 { -1 } else { limit }));
    }
    if host.blkio_weight > 0 {
        set("blkio", "io.bfq.weight", host.blkio_weight.to_string());
    }
}

fn divided(host: &HostConfig, facts: &Facts, settings: &mut Settings) {
    let mut set = |controller, file, value| settings.values.push((controller, file, value));
    if host.memory > 0 {
        set("memory", "memory.limit_in_bytes", host.memory.to_string());
    }
    if let Some(swap) = swap_limit(host).filter(|_| facts.machine.swap) {
        set("memory", "memory.memsw.limit_in_bytes", swap.to_string());
    }
    if host.memory_reservation > 0 {
        set(
            "memory",
            "memory.soft_limit_in_bytes",
            host.memory_reservation.to_string(),
        );
    }
    if host.cpu_shares > 0 {
        set("cpu", "cpu.shares", host.cpu_shares.to_string());
    }
    let (period, quota) = cpu_quota(host);
    if period > 0 {
        set("cpu", "cpu.cfs_period_us", period.to_string());
    }
    if quota != 0 {
        set("cpu", "cpu.cfs_quota_us", quota.to_string());
    }
    if !host.cpuset_cpus.is_empty() {
        set("cpuset", "cpuset.cpus", host.cpuset_cpus.clone());
    }
    if !host.cpuset_mems.is_empty() {
        set("cpuset", "cpuset.mems", host.cpuset_mems.clone());
    }
    match host.pids_limit {
        Some(limit) if limit > 0 => set("pids", "pids.max", limit.to_string()),
        Some(_) => set("pids", "pids.max", "max".to_owned()),
        None => {}
    }
    if host.blkio_weight > 0 {
        set("blkio", "blkio.weight", host.blkio_weight.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Machine;
    use super::*;

    #[test]
    fn both_versions_get_their_files() {
        let host = HostConfig {
            memory: 1000,
            memory_swap: 1500,
            nano_cpus: 500_000_000,
            cpu_shares: 1024,
            pids_limit: Some(-1),
            ..HostConfig::default()
        };
        let mut facts = Facts {
            machine: Machine {
                memory: true,
                swap: true,
                cpu: true,
                pids: true,
                ..Machine::default()
            },
            ..Facts::default()
        };
        let files = |facts: &Facts| {
            let settings = live_settings(&host, facts);
            let line = |(_, file, text): (_, &str, String)| format!("{file} {text}");
            settings.values.into_iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            files(&facts),
            [
                "memory.limit_in_bytes 1000",
                "memory.memsw.limit_in_bytes 1500",
                "cpu.shares 1024",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 50000",
                "pids.max max",
            ]
        );
        facts.machine.cgroup_v2 = true;
        assert_eq!(
            files(&facts),
            [
                "memory.max 1000",
                "memory.swap.max 500",
                "cpu.weight 39",
                "cpu.max 50000 100000",
                "pids.max max",
            ]
        );
        facts.machine.memory = false;
        let settings = live_settings(&host, &facts);
        assert_eq!((settings.values.len(), settings.warnings.len()), (3, 1));
    }
}
