//! What a node is: read once from the kernel, told to the API and the engine.

use super::Flags;
use crate::backend::{Controllers, NodeFacts};
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use skep_control::model::{
    DiscreteResource, EngineDescription, GenericResource, Labels, NamedResource, NodeDescription,
    Platform, PluginDescription, Resources,
};
use std::fs;
use std::path::Path;

/// Billionths of a CPU.
const NANOS_PER_CPU: i64 = 1_000_000_000;

/// Reads everything; only the id can fail, since it must be kept.
pub(super) fn read(flags: &Flags) -> Result<NodeFacts> {
    let kernel = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let cgroup_version = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => 2,
        false => 1,
    };
    let controllers = controllers(cgroup_version);
    Ok(NodeFacts {
        id: identity(&flags.data_dir.join("node"))?,
        hostname: text(kernel.nodename()),
        data_dir: flags.data_dir.to_string_lossy().into_owned(),
        kernel_version: text(kernel.release()),
        operating_system: quoted(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        os_version: quoted(&release, "VERSION_ID").unwrap_or_default(),
        machine: text(kernel.machine()),
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        memory: memory(),
        labels: labels(&flags.labels)?,
        generic_resources: generic_resources(&flags.generic_resources)?,
        cgroup_version,
        controllers,
        ipv4_forwarding: forwards(),
        backing_filesystem: filesystem(&flags.data_dir),
        warnings: warnings(controllers),
        ..NodeFacts::default()
    })
}

/// Whether the kernel forwards between interfaces now; the network turns it on.
pub(super) fn forwards() -> bool {
    let forwarding = fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    forwarding.is_ok_and(|text| text.trim() == "1")
}

/// The same for the cluster.
pub(super) fn describe(facts: &NodeFacts) -> NodeDescription {
    let plugin = |kind: &str, name: &str| PluginDescription {
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    NodeDescription {
        hostname: facts.hostname.clone(),
        platform: Platform {
            architecture: facts.machine.clone(),
            os: "linux".into(),
        },
        resources: Resources {
            nano_cpus: i64::from(facts.cpus) * NANOS_PER_CPU,
            memory_bytes: facts.memory,
            generic_resources: facts.generic_resources.clone(),
        },
        engine: EngineDescription {
            engine_version: env!("CARGO_PKG_VERSION").into(),
            labels: facts.labels.clone(),
            plugins: vec![
                plugin("Log", "json-file"),
                plugin("Log", "local"),
                plugin("Log", "none"),
                plugin("Network", "bridge"),
                plugin("Network", "host"),
                plugin("Network", "null"),
                plugin("Network", "overlay"),
                plugin("Volume", "local"),
            ],
        },
        ..NodeDescription::default()
    }
}

/// This node's own id, made at its first start.
fn identity(folder: &Path) -> Result<String> {
    fs::create_dir_all(folder).map_err(|e| disk::failure("mkdir", folder, &e))?;
    let path = folder.join("id");
    match disk::read_record::<String>(&path) {
        Ok(Some(id)) => return Ok(id),
        Ok(None) => {}
        Err(error) => log::error!("{error}; the node gets a new id"),
    }
    let id = crate::executor::random_id()?;
    disk::write_record(&path, &id, Durability::Synced)?;
    Ok(id)
}

/// `slot=3` is counted, `gpu=uuid-1` is one of several that have names.
fn generic_resources(pairs: &[String]) -> Result<Vec<GenericResource>> {
    let parsed = pairs.iter().map(|pair| {
        let found = pair.split_once('=');
        let Some((kind, value)) =
            found.filter(|(kind, value)| !kind.is_empty() && !value.is_empty())
        else {
            return Err(Error::invalid(format!(
                "--node-generic-resource {pair}: expected KIND=COUNT or KIND=NAME"
            )));
        };
        let (kind, mut resource) = (kind.to_owned(), GenericResource::default());
        match value.parse::<i64>() {
            Ok(value) => resource.discrete_resource_spec = Some(DiscreteResource { kind, value }),
            Err(_) => {
                let value = value.to_owned();
                resource.named_resource_spec = Some(NamedResource { kind, value });
            }
        }
        Ok(resource)
    });
    parsed.collect()
}

fn labels(pairs: &[String]) -> Result<Labels> {
    let mut labels = Labels::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.is_empty() {
            return Err(Error::invalid(format!(
                "--label {pair}: the key is missing"
            )));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// Bytes of the machine's memory.
fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<i64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// `KEY="value"` of os-release.
fn quoted(text: &str, key: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

fn controllers(version: u8) -> Controllers {
    let names: Vec<String> = match version {
        2 => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect(),
        _ => enabled(&fs::read_to_string("/proc/cgroups").unwrap_or_default()),
    };
    let has = |name: &str| names.iter().any(|there| there == name);
    let file = |path: &str| Path::new(path).exists();
    Controllers {
        memory: has("memory"),
        swap: match version {
            2 => has("memory") && file("/proc/swaps"),
            _ => file("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"),
        },
        cpu_shares: has("cpu"),
        cpu_quota: match version {
            2 => has("cpu"),
            _ => {
                file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
                    || file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us")
            }
        },
        cpuset: has("cpuset"),
        pids: has("pids"),
        oom_kill_disable: version == 1 && has("memory"),
        blkio: has("io") || has("blkio"),
    }
}

/// The names in /proc/cgroups whose last column is 1.
fn enabled(table: &str) -> Vec<String> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?;
            (words.last() == Some("1")).then(|| name.to_owned())
        })
        .collect()
}

fn warnings(controllers: Controllers) -> Vec<String> {
    let mut warnings = Vec::new();
    if !controllers.memory {
        warnings.push(
            "WARNING: No memory limit support: add cgroup_enable=memory to the kernel's command line"
                .into(),
        );
    } else if !controllers.swap {
        warnings.push("WARNING: No swap limit support".into());
    }
    if !controllers.pids {
        warnings.push("WARNING: No pids limit support".into());
    }
    if !controllers.cpu_quota {
        warnings.push("WARNING: No cpu cfs quota support".into());
    }
    warnings
}

/// The name that Docker shows for the file system under a folder.
fn filesystem(folder: &Path) -> String {
    let Ok(stat) = rustix::fs::statfs(folder) else {
        return "unknown".into();
    };
    // Only the low 32 bits: the field is signed on some targets.
    let magic = u64::try_from(stat.f_type).map_or(0, |number| number & 0xffff_ffff);
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0xf2f5_2010 => "f2fs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        _ => "unknown",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disabled_controllers_are_not_there() {
        let table =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t1\t1\nmemory\t0\t1\t0\n";
        assert_eq!(enabled(table), ["cpu"]);
    }

    #[test]
    fn generic_resources_are_counted_or_named() {
        let of = |pair: &str| generic_resources(&[pair.to_owned()]);
        let counted = of("slot=3").unwrap()[0].discrete_resource_spec.clone();
        assert_eq!(
            counted.map(|of| (of.kind, of.value)),
            Some(("slot".into(), 3))
        );
        let named = of("gpu=uuid-1").unwrap()[0].named_resource_spec.clone();
        assert_eq!(named.map(|of| of.value), Some("uuid-1".into()));
        assert!(of("gpu").is_err() && of("=1").is_err() && of("gpu=").is_err());
    }

    #[test]
    fn labels_need_a_key() {
        let labels_of = |pair: &str| labels(&[pair.to_owned()]);
        assert_eq!(
            labels_of("a=b=c")
                .expect("fine")
                .get("a")
                .map(String::as_str),
            Some("b=c")
        );
        assert!(labels_of("=b").is_err());
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=12\n";
        assert_eq!(
            quoted(text, "PRETTY_NAME").as_deref(),
            Some("Debian GNU/Linux 12")
        );
        assert_eq!(quoted(text, "VERSION_ID").as_deref(), Some("12"));
    }
}
