//! The runtime spec, put together.

use super::capabilities::Capabilities;
use super::process::Common;
use super::{Facts, Inputs, Namespace, Plan, mounts, process, resources, seccomp, user};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use skep_control::model::HostConfig;
use std::path::Path;

/// What `--security-opt` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Security {
    no_new_privileges: bool,
    /// `unconfined`, a profile's text or `file`; `None` is Docker's default.
    seccomp: Option<String>,
    warnings: Vec<String>,
}

/// Everything that makes the container's first process.
///
/// # Errors
/// What the user wrote and cannot be meant: an unknown user, capability,
/// ulimit, propagation, device rule, security option or profile.
pub(crate) fn runtime_spec(inputs: &Inputs, facts: &Facts) -> Result<Plan> {
    let (config, host) = (&inputs.create.config, &inputs.create.host);
    let security = security(&host.security_opt)?;
    let who = user::resolve(&config.user, &host.group_add, &facts.passwd, &facts.group)?;
    let available = facts.machine.capabilities;
    let capabilities = if host.privileged {
        available
    } else {
        Capabilities::choose(&host.cap_add, &host.cap_drop, available)?
    };
    let mut warnings = security.warnings;
    let filter = filter(inputs, security.seccomp, capabilities, facts, &mut warnings)?;
    let init = host.init == Some(true);
    let (hostname, domainname) = names(inputs);
    let args = process::args(config, init)?;
    let env = process::env(config, &hostname, &who.home);
    let process = Common {
        args: &args,
        env: &env,
        tty: config.tty,
        working_dir: &config.working_dir,
        user: &who,
        capabilities,
        lend_admin: filter != seccomp::Choice::Unconfined
            && !security.no_new_privileges
            && !capabilities.contains(Capabilities::SYS_ADMIN),
        no_new_privileges: security.no_new_privileges,
    };
    let (limits, left_out) = resources::resources(host, facts)?;
    warnings.extend(left_out);
    let init_file = init.then_some(facts.init.as_path());
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": process.spec(host)?,
        "root": {"path": facts.root, "readonly": host.readonly_rootfs},
        "mounts": mounts::mounts(inputs, init_file)?,
        "linux": linux(inputs, facts, limits)?,
    });
    if host.uts_mode != "host" {
        spec["hostname"] = json!(hostname);
        if !domainname.is_empty() {
            spec["domainname"] = json!(domainname);
        }
    }
    Ok(Plan {
        spec,
        user: who,
        capabilities,
        no_new_privileges: security.no_new_privileges,
        seccomp: filter,
        warnings,
    })
}

/// The container's names; a container is named by its id when by nothing else.
fn names(inputs: &Inputs) -> (String, String) {
    let config = &inputs.create.config;
    let hostname = if config.hostname.is_empty() {
        inputs.id.get(..12).unwrap_or(&inputs.id).to_owned()
    } else {
        config.hostname.clone()
    };
    (hostname, config.domainname.clone())
}

fn filter(
    inputs: &Inputs,
    wanted: Option<String>,
    capabilities: Capabilities,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<seccomp::Choice> {
    let file = inputs.seccomp_profile.clone();
    let choice = match wanted.as_deref() {
        Some("unconfined") => seccomp::Choice::Unconfined,
        None | Some("builtin") if inputs.create.host.privileged => seccomp::Choice::Unconfined,
        None | Some("builtin") => seccomp::Choice::Docker { capabilities },
        Some(text) => {
            let text = file.as_deref().unwrap_or(text);
            seccomp::Choice::Profile(seccomp::parse(text, capabilities)?)
        }
    };
    if choice != seccomp::Choice::Unconfined && !facts.machine.seccomp {
        warnings.push("Your kernel does not support seccomp. Profile discarded.".to_owned());
        return Ok(seccomp::Choice::Unconfined);
    }
    Ok(choice)
}

/// `no-new-privileges`, `seccomp=…`, `apparmor=…`, `label=…`; `:` for `=` as
/// older clients write it.
fn security(options: &[String]) -> Result<Security> {
    let mut security = Security::default();
    for option in options {
        if option == "no-new-privileges" {
            security.no_new_privileges = true;
            continue;
        }
        let at = option.find(['=', ':']);
        let Some((key, value)) = at.and_then(|at| Some((option.get(..at)?, option.get(at + 1..)?)))
        else {
            return Err(Error::invalid(format!(
                "invalid --security-opt 1: \"{option}\""
            )));
        };
        match key {
            "no-new-privileges" => {
                security.no_new_privileges = value.parse().map_err(|_| {
                    Error::invalid(format!("invalid --security-opt 2: \"{option}\""))
                })?;
            }
            "seccomp" => security.seccomp = Some(value.to_owned()),
            "apparmor" | "label" => {
                if !matches!(value, "unconfined" | "disable") {
                    security.warnings.push(format!(
                        "skep does not set {key} labels. Security option \"{option}\" discarded."
                    ));
                }
            }
            "systempaths" | "writable-cgroups" => {}
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: \"{option}\""
                )));
            }
        }
    }
    Ok(security)
}

fn linux(inputs: &Inputs, facts: &Facts, resources: Value) -> Result<Value> {
    let host = &inputs.create.host;
    let paths = |given: &Option<Vec<String>>, default: &[&str]| -> Vec<String> {
        match given {
            _ if host.privileged => Vec::new(),
            Some(list) => list.clone(),
            None => default.iter().map(|p| (*p).to_owned()).collect(),
        }
    };
    let devices: Vec<Value> = facts
        .devices
        .iter()
        .filter(|d| !d.permissions.is_empty())
        .map(|d| {
            json!({
                "path": d.path, "type": if d.block { "b" } else { "c" },
                "major": d.major, "minor": d.minor,
                "fileMode": d.mode, "uid": d.uid, "gid": d.gid,
            })
        })
        .collect();
    Ok(json!({
        "namespaces": namespaces(inputs, facts)?,
        "cgroupsPath": inputs.cgroup_path,
        "resources": resources,
        "devices": devices,
        "sysctl": sysctls(inputs, host),
        "rootfsPropagation": propagation(inputs),
        "maskedPaths": paths(&host.masked_paths, &mounts::MASKED),
        "readonlyPaths": paths(&host.readonly_paths, &mounts::READ_ONLY),
    }))
}

fn namespaces(inputs: &Inputs, facts: &Facts) -> Result<Vec<Value>> {
    let host = &inputs.create.host;
    let mut list = vec![json!({"type": "mount"})];
    match &inputs.network {
        Namespace::Private => list.push(json!({"type": "network"})),
        Namespace::Path(path) => list.push(json!({"type": "network", "path": path})),
        Namespace::Host => {}
    }
    if host.uts_mode != "host" {
        list.push(json!({"type": "uts"}));
    }
    list.extend(shared("pid", &host.pid_mode, inputs.pid.as_deref())?);
    list.extend(shared("ipc", &host.ipc_mode, inputs.ipc.as_deref())?);
    // Docker's default: private where the hierarchy is one, the host's on v1.
    let private = match host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => facts.machine.cgroup_v2 && !host.privileged,
    };
    if private {
        list.push(json!({"type": "cgroup"}));
    }
    Ok(list)
}

fn shared(kind: &str, mode: &str, path: Option<&Path>) -> Result<Option<Value>> {
    if mode == "host" {
        return Ok(None);
    }
    if !mode.starts_with("container:") {
        return Ok(Some(json!({"type": kind})));
    }
    let path = path.ok_or_else(|| {
        Error::conflict(format!(
            "cannot join {kind} of a non running container: {mode}"
        ))
    })?;
    Ok(Some(json!({"type": kind, "path": path})))
}

/// The user's, over the two that make binding low ports and `ping` work
/// without capabilities.
fn sysctls(inputs: &Inputs, host: &HostConfig) -> Map<String, Value> {
    let mut all = Map::new();
    if inputs.network != Namespace::Host && !host.privileged {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), json!("0"));
        all.insert(
            "net.ipv4.ping_group_range".to_owned(),
            json!("0 2147483647"),
        );
    }
    for (name, value) in &host.sysctls {
        all.insert(name.clone(), json!(value));
    }
    all
}

fn propagation(inputs: &Inputs) -> &'static str {
    let any = |words: [&str; 2]| {
        let mut mounts = inputs.mounts.iter();
        mounts.any(|m| words.contains(&m.propagation.as_str()))
    };
    match () {
        () if any(["shared", "rshared"]) => "shared",
        () if any(["slave", "rslave"]) => "slave",
        () => "private",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Machine;
    use super::*;
    use skep_control::model::{Argv, ContainerCreate};

    fn inputs() -> Inputs {
        let mut create = ContainerCreate::default();
        create.config.cmd = Some(Argv(vec!["sleep".to_owned(), "9".to_owned()]));
        Inputs {
            id: "0123456789abcdef".repeat(4),
            create,
            cgroup_path: "/skep/x".into(),
            ..Inputs::default()
        }
    }

    fn facts() -> Facts {
        Facts {
            root: "/root-fs".into(),
            machine: Machine {
                cgroup_v2: true,
                capabilities: Capabilities((1 << 41) - 1),
                seccomp: true,
                ..Machine::default()
            },
            ..Facts::default()
        }
    }

    fn kinds(plan: &Plan) -> Vec<&str> {
        let list = plan.spec["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|n| n["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_plain_container_is_confined() {
        let plan = runtime_spec(&inputs(), &facts()).unwrap();
        assert_eq!(
            kinds(&plan),
            ["mount", "network", "uts", "pid", "ipc", "cgroup"]
        );
        assert_eq!(plan.spec["hostname"], "0123456789ab");
        assert_eq!(plan.spec["process"]["args"], json!(["sleep", "9"]));
        assert_eq!(
            plan.spec["process"]["env"],
            json!([process::DEFAULT_PATH, "HOSTNAME=0123456789ab", "HOME=/"])
        );
        assert_eq!(plan.spec["process"]["noNewPrivileges"], false);
        let permitted = plan.spec["process"]["capabilities"]["permitted"]
            .as_array()
            .unwrap();
        assert!(
            permitted.contains(&json!("CAP_SYS_ADMIN")),
            "lent for the filter"
        );
        let bounding = plan.spec["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap();
        assert_eq!((bounding.len(), plan.capabilities.0), (14, 0xa804_25fb));
        assert!(matches!(plan.seccomp, seccomp::Choice::Docker { .. }));
        assert!(plan.spec["linux"]["maskedPaths"].as_array().unwrap().len() > 8);
        assert!(plan.warnings.is_empty());
        serde_json::from_value::<oci_spec::runtime::Spec>(plan.spec).unwrap();
    }

    #[test]
    fn a_privileged_one_is_not() {
        let mut inputs = inputs();
        inputs.create.host.privileged = true;
        inputs.create.host.pid_mode = "host".to_owned();
        inputs.network = Namespace::Host;
        inputs.create.host.uts_mode = "host".to_owned();
        let plan = runtime_spec(&inputs, &facts()).unwrap();
        assert_eq!(kinds(&plan), ["mount", "ipc"]);
        assert_eq!(plan.seccomp, seccomp::Choice::Unconfined);
        assert_eq!(plan.spec["linux"]["maskedPaths"], json!([]));
        assert_eq!(plan.spec["linux"]["sysctl"], json!({}));
        assert_eq!(plan.spec.get("hostname"), None);
    }

    #[test]
    fn security_options_are_dockers() {
        let of = |options: &[&str]| {
            security(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        };
        assert!(of(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(!of(&["no-new-privileges:false"]).unwrap().no_new_privileges);
        assert_eq!(
            of(&["seccomp=unconfined"]).unwrap().seccomp.unwrap(),
            "unconfined"
        );
        assert!(
            of(&["apparmor=unconfined", "label=disable"])
                .unwrap()
                .warnings
                .is_empty()
        );
        assert_eq!(of(&["apparmor=mine"]).unwrap().warnings.len(), 1);
        assert!(of(&["colour=blue"]).is_err());
        assert!(of(&["nonsense"]).is_err());
    }

    #[test]
    fn joined_namespaces_need_somebody_to_join() {
        let mut inputs = inputs();
        inputs.create.host.pid_mode = "container:abc".to_owned();
        assert!(runtime_spec(&inputs, &facts()).is_err());
        inputs.pid = Some("/proc/7/ns/pid".into());
        let plan = runtime_spec(&inputs, &facts()).unwrap();
        let list = plan.spec["linux"]["namespaces"].as_array().unwrap();
        assert!(list.contains(&json!({"type": "pid", "path": "/proc/7/ns/pid"})));
    }
}
