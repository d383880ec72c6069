//! The flags of `run` and `create`, and the API's create document made of them.

use serde_json::{Map, Value, json};

use crate::cli::convert::{mount, networks, pairs, ports, resources};
use crate::cli::flags::Flags;
use crate::cli::terminal;

pub(super) const FLAGS: &str = "\
# Container
. name string Name of the container
. cidfile string Write the container's id to a file
i interactive bool Keep standard input open
t tty bool Give a terminal
a attach stream Attach only this stream (stdin, stdout, stderr)
. entrypoint string Program in place of the image's
w workdir string Folder to run in
u user string User, and group after a colon, by name or number
. group-add list Another group
e env env Set a variable
. env-file list Read variables from a file
l label label Set a label
. label-file list Read labels from a file
. annotation map Annotation for the runtime
. init bool Run a small init that reaps processes
. rm bool Remove it and its anonymous volumes when it exits
. restart string When to start it again: no, always, unless-stopped, on-failure[:n]
. stop-signal string Signal that stops it
. stop-timeout int Seconds until it is killed
. pull string Fetch the image: always, missing (the default) or never
q quiet bool Show no progress of a fetch
. platform string Platform of the image
. disable-content-trust bool Accepted, without effect
# Network
. network network Network to join (name, or name=…,alias=…,ip=…)
. net network The same as --network
. network-alias list Another name in the network
. net-alias list The same as --network-alias
p publish list Publish a port ([[ip:]host:]container[/proto])
P publish-all bool Publish all exposed ports
. expose list A port or range others may reach
h hostname string Host name
. domainname string Domain name
. add-host host Line of /etc/hosts (name:ip)
. dns address Name server
. dns-option list Option of name resolution
. dns-opt list The same as --dns-option
. dns-search list Domain to search
. ip string IPv4 address
. ip6 string IPv6 address
. link list Another container's name and an alias
. link-local-ip list Link-local address
. mac-address string MAC address
# Files
v volume list Volume or folder (name:path[:ro], /host:/path, /path)
. mount mount Mount (type=…,source=…,target=…)
. tmpfs list Memory file system (path[:options])
. volumes-from list Mounts of another container
. volume-driver string Driver of new volumes
. read-only bool Root file system read-only
. storage-opt list Option of the root file system
. device list Device of the host (/dev/a[:/dev/b][:rwm])
. device-cgroup-rule rule Rule for devices (c 1:3 rwm)
. gpus gpus GPUs to give (all, or a number)
# Limits
m memory bytes Memory
. memory-reservation bytes Memory it should stay under
. memory-swap bytes Memory and swap together, -1 for no limit
. memory-swappiness int How readily it swaps (0 to 100)
. kernel-memory bytes Accepted, without effect
. cpus decimal CPUs
c cpu-shares int CPU weight against others
. cpu-period int Period of the CPU quota, microseconds
. cpu-quota int CPU time a period, microseconds
. cpu-rt-period int Period of the real-time quota, microseconds
. cpu-rt-runtime int Real-time CPU time a period, microseconds
. cpuset-cpus string CPUs it may run on (0-3, 0,1)
. cpuset-mems string Memory nodes it may use
. pids-limit int Processes, -1 for no limit
. ulimit ulimit Kernel limit (name=soft[:hard])
. shm-size bytes Size of /dev/shm
. oom-kill-disable bool Do not kill it for memory
. oom-score-adj int How readily it is killed for memory (-1000 to 1000)
. blkio-weight uint Disk weight (10 to 1000, 0 for none)
. blkio-weight-device weight Disk weight of a device
. device-read-bps rate Bytes a second read from a device
. device-read-iops count Reads a second from a device
. device-write-bps rate Bytes a second written to a device
. device-write-iops count Writes a second to a device
# Isolation
. privileged bool Give all privileges
. cap-add list Give a capability
. cap-drop list Take a capability
. security-opt list Security option (no-new-privileges, seccomp=…)
. cgroup-parent string Parent control group
. cgroupns string Control group namespace (host, private)
. ipc string IPC namespace
. pid string Process namespace
. userns string User namespace
. uts string UTS namespace
. isolation string Isolation technology
. runtime string Runtime
. sysctl sysctl Kernel setting (name=value)
# Health
. health-cmd string Command that checks health
. health-interval duration Time between checks
. health-timeout duration Time a check may take
. health-retries int Failures in a row that count
. health-start-period duration Time to start in which failures do not count
. health-start-interval duration Time between checks while starting
. no-healthcheck bool No check, whatever the image says
# Logs
. log-driver string Where output goes
. log-opt list Option of it";

/// The create document; an error is what Docker's client says before it asks
/// the daemon anything.
pub(super) fn document(flags: &Flags, image: &str, command: &[String]) -> Result<Value, String> {
    let host = host_config(flags)?;
    let (mode, endpoints) = networks::endpoints(flags)?;
    let mut document = config(flags, image, command)?;
    document["HostConfig"] = host;
    document["HostConfig"]["NetworkMode"] = mode.into();
    let (bindings, exposed) = port_maps(flags)?;
    document["HostConfig"]["PortBindings"] = bindings;
    document["ExposedPorts"] = exposed;
    let (binds, anonymous) = mount::volumes(flags.list("volume"))?;
    document["HostConfig"]["Binds"] = json!(binds);
    document["Volumes"] = anonymous;
    document["NetworkingConfig"] = json!({ "EndpointsConfig": endpoints });
    Ok(document)
}

fn config(flags: &Flags, image: &str, command: &[String]) -> Result<Value, String> {
    if let Some(mac) = flags.get("mac-address") {
        networks::mac(mac)?;
    }
    let attaches = |stream: &str| {
        flags
            .list("attach")
            .iter()
            .any(|s| s.eq_ignore_ascii_case(stream))
    };
    let all = flags.list("attach").is_empty();
    let stdin = flags.bool("interactive");
    let attach_stdin = attaches("stdin") || stdin;
    let mut config = json!({
        "Hostname": flags.str("hostname"),
        "Domainname": flags.str("domainname"),
        "User": flags.str("user"),
        "AttachStdin": attach_stdin,
        "AttachStdout": attaches("stdout") || all,
        "AttachStderr": attaches("stderr") || all,
        "Tty": flags.bool("tty"),
        "OpenStdin": stdin,
        "StdinOnce": stdin && attach_stdin,
        "Env": pairs::environment(flags.list("env-file"), flags.list("env"))?,
        "Cmd": if command.is_empty() { Value::Null } else { json!(command) },
        "Image": image,
        "WorkingDir": flags.str("workdir"),
        "Entrypoint": flags.get("entrypoint").map_or(Value::Null, |program| json!([program])),
        "Labels": pairs::labels(flags.list("label-file"), flags.list("label"))?,
    });
    if let Some(signal) = flags.get("stop-signal") {
        config["StopSignal"] = signal.into();
    }
    if let Some(seconds) = flags.int("stop-timeout") {
        config["StopTimeout"] = seconds.into();
    }
    if let Some(health) = resources::health(flags)? {
        config["Healthcheck"] = health;
    }
    Ok(config)
}

/// Namespaces a flag may name.
fn check_modes(flags: &Flags) -> Result<(), String> {
    let of = |flag: &str, names: &[&str], container: bool, what: &str| {
        let value = flags.str(flag);
        let sound = value.is_empty()
            || names.contains(&value)
            || container
                && value
                    .strip_prefix("container:")
                    .is_some_and(|name| !name.is_empty());
        if sound {
            Ok(())
        } else {
            Err(format!("--{flag}: invalid {what} mode"))
        }
    };
    of("pid", &["host"], true, "PID")?;
    of("uts", &["host"], false, "UTS")?;
    of("userns", &["host"], false, "USER")?;
    of("cgroupns", &["host", "private"], false, "CGROUP")
}

/// Settings that rule each other out: swappiness, restart policy, storage.
fn checked(flags: &Flags) -> Result<(i64, Value, Map<String, Value>), String> {
    let swappiness = flags.int("memory-swappiness").unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let restart = resources::restart_policy(flags.get("restart").unwrap_or("no"))?;
    if flags.bool("rm") && !matches!(restart["Name"].as_str(), Some("" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    if flags.str("log-driver") == "none" && !flags.list("log-opt").is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    let mut storage = Map::new();
    for option in flags.list("storage-opt") {
        let (key, value) = option.split_once('=').ok_or("invalid storage option")?;
        storage.insert(key.to_owned(), value.into());
    }
    Ok((swappiness, restart, storage))
}

fn host_config(flags: &Flags) -> Result<Value, String> {
    check_modes(flags)?;
    let (swappiness, restart, storage) = checked(flags)?;
    let (security, lifted) = resources::security(flags.list("security-opt"))?;
    let tmpfs: Map<String, Value> = flags
        .list("tmpfs")
        .iter()
        .map(|t| {
            t.split_once(':')
                .map_or((t.clone(), "".into()), |(path, o)| {
                    (path.to_owned(), o.into())
                })
        })
        .collect();
    let (rows, columns) = terminal::size().unwrap_or((0, 0));
    let dns_options: Vec<&String> = flags
        .list("dns-option")
        .iter()
        .chain(flags.list("dns-opt"))
        .collect();
    let mut host = json!({
        "ContainerIDFile": flags.str("cidfile"),
        "LogConfig": { "Type": flags.str("log-driver"), "Config": pairs::map(flags.list("log-opt")) },
        "RestartPolicy": restart,
        "AutoRemove": flags.bool("rm"),
        "VolumeDriver": flags.str("volume-driver"),
        "VolumesFrom": list(flags, "volumes-from"),
        "ConsoleSize": [rows, columns],
        "Annotations": pairs::map(flags.list("annotation")),
        "CapAdd": list(flags, "cap-add"),
        "CapDrop": list(flags, "cap-drop"),
        "CgroupnsMode": flags.str("cgroupns"),
        "Dns": flags.list("dns"),
        "DnsOptions": dns_options,
        "DnsSearch": flags.list("dns-search"),
        "ExtraHosts": all(flags, "add-host", |h| resources::extra_host(h).map(Value::from))?,
        "GroupAdd": list(flags, "group-add"),
        "IpcMode": flags.str("ipc"),
        "Links": list(flags, "link"),
        "OomScoreAdj": flags.int("oom-score-adj").unwrap_or(0),
        "PidMode": flags.str("pid"),
        "Privileged": flags.bool("privileged"),
        "PublishAllPorts": flags.bool("publish-all"),
        "ReadonlyRootfs": flags.bool("read-only"),
        "SecurityOpt": if security.is_empty() { Value::Null } else { json!(security) },
        "StorageOpt": storage,
        "Tmpfs": tmpfs,
        "UTSMode": flags.str("uts"),
        "UsernsMode": flags.str("userns"),
        "ShmSize": flags.bytes("shm-size").unwrap_or(0),
        "Sysctls": pairs::map(flags.list("sysctl")),
        "Runtime": flags.str("runtime"),
        "Isolation": flags.str("isolation"),
        "Mounts": all(flags, "mount", mount::mount)?,
        "MemorySwappiness": swappiness,
    });
    if lifted {
        host["MaskedPaths"] = json!([]);
        host["ReadonlyPaths"] = json!([]);
    }
    if flags.changed("init") {
        host["Init"] = flags.bool("init").into();
    }
    add_resources(&mut host, flags)?;
    Ok(host)
}

/// A list, or null as Docker's client sends for none.
fn list(flags: &Flags, name: &str) -> Value {
    match flags.list(name) {
        [] => Value::Null,
        words => json!(words),
    }
}

fn all(
    flags: &Flags,
    name: &str,
    read: impl Fn(&str) -> Result<Value, String>,
) -> Result<Value, String> {
    match flags.list(name) {
        [] => Ok(Value::Null),
        words => words.iter().map(|word| read(word)).collect(),
    }
}

/// Limits and devices, as `create` and `update` send them.
fn add_resources(host: &mut Value, flags: &Flags) -> Result<(), String> {
    for (name, value) in limits(flags) {
        host[name] = value;
    }
    host["CgroupParent"] = flags.str("cgroup-parent").into();
    host["OomKillDisable"] = flags.bool("oom-kill-disable").into();
    for (field, flag, bytes) in [
        ("BlkioDeviceReadBps", "device-read-bps", true),
        ("BlkioDeviceWriteBps", "device-write-bps", true),
        ("BlkioDeviceReadIOps", "device-read-iops", false),
        ("BlkioDeviceWriteIOps", "device-write-iops", false),
    ] {
        host[field] = all(flags, flag, |word| resources::rate_device(word, bytes))?;
    }
    host["BlkioWeightDevice"] = all(flags, "blkio-weight-device", resources::weight_device)?;
    host["Ulimits"] = all(flags, "ulimit", resources::ulimit)?;
    host["DeviceCgroupRules"] = list(flags, "device-cgroup-rule");
    let is_cdi =
        |device: &&String| !device.starts_with('/') && device.contains('/') && device.contains('=');
    let (cdi, plain): (Vec<&String>, Vec<&String>) = flags.list("device").iter().partition(is_cdi);
    host["Devices"] = plain
        .iter()
        .map(|d| resources::device(d))
        .collect::<Result<Vec<_>, _>>()?
        .into();
    let mut requests = flags
        .list("gpus")
        .iter()
        .map(|g| resources::gpus(g))
        .collect::<Result<Vec<_>, _>>()?;
    if !cdi.is_empty() {
        requests.push(json!({ "Driver": "cdi", "DeviceIDs": cdi }));
    }
    host["DeviceRequests"] = if requests.is_empty() {
        Value::Null
    } else {
        json!(requests)
    };
    Ok(())
}

/// The limits that may be changed later too.
pub(super) fn limits(flags: &Flags) -> Vec<(&'static str, Value)> {
    let number = |flag: &str| flags.int(flag).unwrap_or(0).into();
    let bytes = |flag: &str| flags.bytes(flag).unwrap_or(0).into();
    vec![
        ("CpuShares", number("cpu-shares")),
        ("Memory", bytes("memory")),
        ("MemoryReservation", bytes("memory-reservation")),
        ("MemorySwap", bytes("memory-swap")),
        ("NanoCpus", flags.nano_cpus("cpus").unwrap_or(0).into()),
        ("CpuPeriod", number("cpu-period")),
        ("CpuQuota", number("cpu-quota")),
        ("CpuRealtimePeriod", number("cpu-rt-period")),
        ("CpuRealtimeRuntime", number("cpu-rt-runtime")),
        ("CpusetCpus", flags.str("cpuset-cpus").into()),
        ("CpusetMems", flags.str("cpuset-mems").into()),
        (
            "PidsLimit",
            flags.int("pids-limit").map_or(Value::Null, Value::from),
        ),
        ("BlkioWeight", number("blkio-weight")),
    ]
}

/// Published ports by container port, and every port exposed.
fn port_maps(flags: &Flags) -> Result<(Value, Value), String> {
    let (mut bindings, mut exposed) = (json!({}), json!({}));
    for word in flags.list("publish") {
        for port in ports::parse(&ports::standard(word)?)? {
            let key = format!("{}/{}", port.container, port.protocol);
            exposed[&key] = json!({});
            let binding = json!({ "HostIp": port.ip, "HostPort": port.host });
            match bindings[&key].as_array_mut() {
                Some(list) => list.push(binding),
                None => bindings[&key] = json!([binding]),
            }
        }
    }
    for word in flags.list("expose") {
        if word.contains(':') {
            return Err(format!("invalid port format for --expose: {word}"));
        }
        let (numbers, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let (first, last) = ports::range(numbers).ok_or_else(|| {
            format!("invalid range format for --expose: {word}, error: strconv.ParseUint: parsing {numbers:?}: invalid syntax")
        })?;
        for port in first..=last {
            exposed[format!("{port}/{}", protocol.to_lowercase())] = json!({});
        }
    }
    Ok((bindings, exposed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{self, Order};

    fn made(line: &str) -> Result<Value, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let parsed =
            flags::parse(&flags::table(&[FLAGS]), &words, Order::FlagsFirst).map_err(|w| w.0)?;
        document(&parsed.flags, &parsed.operands[0], &parsed.operands[1..])
    }

    #[test]
    fn a_command_line_becomes_a_document() {
        let d = made("-it --name x -p 8080:80 -p 127.0.0.1:53:53/udp -v v:/v -v /anon -e A=1 --cpus 0.5 -m 64m --network n --network-alias a img sh -c x").unwrap();
        assert_eq!(d["Image"], "img");
        assert_eq!(d["Cmd"], json!(["sh", "-c", "x"]));
        assert_eq!(d["OpenStdin"], true);
        assert_eq!(d["StdinOnce"], true);
        assert_eq!(
            d["HostConfig"]["PortBindings"]["80/tcp"],
            json!([{ "HostIp": "", "HostPort": "8080" }])
        );
        assert_eq!(
            d["HostConfig"]["PortBindings"]["53/udp"][0]["HostIp"],
            "127.0.0.1"
        );
        assert_eq!(d["HostConfig"]["Binds"], json!(["v:/v"]));
        assert_eq!(d["Volumes"], json!({ "/anon": {} }));
        assert_eq!(d["HostConfig"]["NanoCpus"], 500_000_000);
        assert_eq!(d["HostConfig"]["Memory"], 64 << 20);
        assert_eq!(d["HostConfig"]["NetworkMode"], "n");
        assert_eq!(
            d["NetworkingConfig"]["EndpointsConfig"]["n"]["Aliases"],
            json!(["a"])
        );
    }

    #[test]
    fn conflicts_are_refused() {
        let wrong = |line| made(line).unwrap_err();
        assert_eq!(
            wrong("--rm --restart always i"),
            "conflicting options: cannot specify both --restart and --rm"
        );
        assert_eq!(
            wrong("--network-alias x i"),
            "network-scoped aliases are only supported for user-defined networks"
        );
        assert_eq!(wrong("--pid foo i"), "--pid: invalid PID mode");
        assert_eq!(
            wrong("--memory-swappiness 200 i"),
            "invalid value: 200. Valid memory swappiness range is 0-100"
        );
        assert_eq!(
            wrong("--expose x i"),
            "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}
