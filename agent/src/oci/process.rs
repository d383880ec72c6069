//! The process: what runs, as whom, with which environment and limits.

use super::capabilities::Capabilities;
use super::user::Identity;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use skep_control::model::{Config, HostConfig, Ulimit};

/// Where programs are looked for when nobody says.
pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The init's place in a container that has `--init`.
pub(super) const INIT_PATH: &str = "/sbin/docker-init";

/// The command line: entrypoint, then command.
pub(super) fn args(config: &Config, init: bool) -> Result<Vec<String>> {
    let words = |argv: &Option<skep_control::model::Argv>| {
        argv.as_ref().map(|a| a.0.clone()).unwrap_or_default()
    };
    let mut args = words(&config.entrypoint);
    args.extend(words(&config.cmd));
    if args.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    if init {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    Ok(args)
}

/// Sets `variables` over `base`: a `K=V` replaces in place, a bare `K` removes.
pub(super) fn overlay_env(base: Vec<String>, variables: &[String]) -> Vec<String> {
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut env = base;
    for variable in variables {
        let name = key(variable);
        if !variable.contains('=') {
            env.retain(|old| key(old) != name);
        } else if let Some(old) = env.iter_mut().find(|old| key(old) == name) {
            old.clone_from(variable);
        } else {
            env.push(variable.clone());
        }
    }
    env
}

/// The environment, in the order that dockerd gives it.
pub(super) fn env(config: &Config, hostname: &str, home: &str) -> Vec<String> {
    let mut base = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if config.tty {
        base.push("TERM=xterm".to_owned());
    }
    let mut env = overlay_env(base, &config.env);
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// The capability sets of the spec. A process that has to install its filter
/// without "no new privileges" needs CAP_SYS_ADMIN for that one call: it gets
/// it in the permitted and effective sets and loses it before it executes.
pub(super) fn capability_sets(capabilities: Capabilities, lend_admin: bool) -> Value {
    let lent = if lend_admin {
        capabilities.with(Capabilities::SYS_ADMIN)
    } else {
        capabilities
    };
    json!({
        "bounding": capabilities.names(),
        "effective": lent.names(),
        "permitted": lent.names(),
        "inheritable": [],
        "ambient": [],
    })
}

/// Docker's names are the kernel's, lower case and without the prefix.
pub(super) fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<Value>> {
    const KNOWN: [&str; 16] = [
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
        "as",
    ];
    let rlimit = |limit: &Ulimit| {
        if !KNOWN.contains(&limit.name.as_str()) {
            return Err(Error::invalid(format!(
                "invalid ulimit type: {}",
                limit.name
            )));
        }
        // -1 is unlimited on both sides.
        Ok(json!({
            "type": format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
            "hard": limit.hard as u64,
            "soft": limit.soft as u64,
        }))
    };
    ulimits.iter().map(rlimit).collect()
}

/// What every process of the container has in common.
pub(super) struct Common<'a> {
    pub(super) args: &'a [String],
    pub(super) env: &'a [String],
    pub(super) tty: bool,
    pub(super) working_dir: &'a str,
    pub(super) user: &'a Identity,
    pub(super) capabilities: Capabilities,
    pub(super) lend_admin: bool,
    pub(super) no_new_privileges: bool,
}

impl Common<'_> {
    /// The `process` object of the runtime spec.
    pub(super) fn spec(&self, host: &HostConfig) -> Result<Value> {
        let cwd = if self.working_dir.is_empty() {
            "/"
        } else {
            self.working_dir
        };
        Ok(json!({
            "terminal": self.tty,
            "user": {
                "uid": self.user.uid,
                "gid": self.user.gid,
                "additionalGids": self.user.groups,
            },
            "args": self.args,
            "env": self.env,
            "cwd": cwd,
            "capabilities": capability_sets(self.capabilities, self.lend_admin),
            "rlimits": rlimits(&host.ulimits)?,
            "noNewPrivileges": self.no_new_privileges,
            "oomScoreAdj": host.oom_score_adj,
        }))
    }
}

/// A command to run in a container that runs already.
#[derive(Clone, Debug)]
pub(crate) struct Tenant<'a> {
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) tty: bool,
    /// Empty: the container's.
    pub(crate) working_dir: &'a str,
    /// Empty: the container's.
    pub(crate) user: &'a str,
    pub(crate) privileged: bool,
    /// What `privileged` gives.
    pub(crate) available: Capabilities,
}

/// The `process` object of an exec, from the container's own `spec`, and who
/// it is and what it keeps.
pub(crate) fn tenant_process(
    spec: &Value,
    tenant: &Tenant<'_>,
    passwd: &str,
    group: &str,
) -> Result<(Value, Identity, Capabilities)> {
    let init = spec
        .get("process")
        .ok_or_else(|| Error::internal("the container's spec has no process"))?;
    let mut process = init.clone();
    let identity = if tenant.user.is_empty() {
        init_identity(init)
    } else {
        super::user::resolve(tenant.user, &[], passwd, group)?
    };
    let strings = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut env = strings(init.get("env"));
    if !tenant.user.is_empty() {
        // The container user's own home is what was filled in for him; any
        // other was asked for, and holds for whoever comes.
        let init = init_identity(init).uid.to_string();
        let filled_in = super::user::resolve(&init, &[], passwd, group)?.home;
        let is_asked_for = env
            .iter()
            .filter_map(|v| v.strip_prefix("HOME="))
            .any(|home| home != filled_in);
        if !is_asked_for {
            env = overlay_env(env, &[format!("HOME={}", identity.home)]);
        }
    }
    if tenant.tty && !env.iter().any(|v| v.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    env = overlay_env(env, tenant.env);
    let mut capabilities = Capabilities::default();
    for name in strings(init.pointer("/capabilities/bounding")) {
        capabilities = capabilities.with(Capabilities::of(&name)?);
    }
    if tenant.privileged {
        capabilities = tenant.available;
    }
    let lent = init.pointer("/capabilities/permitted") != init.pointer("/capabilities/bounding");
    process["args"] = json!(tenant.args);
    process["env"] = json!(env);
    process["terminal"] = json!(tenant.tty);
    process["capabilities"] = capability_sets(capabilities, lent);
    process["user"] = json!({
        "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups,
    });
    if !tenant.working_dir.is_empty() {
        process["cwd"] = json!(tenant.working_dir);
    }
    Ok((process, identity, capabilities))
}

fn init_identity(process: &Value) -> Identity {
    let number = |at: &str| {
        let value = process.pointer(at).and_then(Value::as_u64);
        value.and_then(|v| u32::try_from(v).ok()).unwrap_or(0)
    };
    let groups = process.pointer("/user/additionalGids");
    let groups = groups.and_then(Value::as_array).into_iter().flatten();
    Identity {
        uid: number("/user/uid"),
        gid: number("/user/gid"),
        groups: groups
            .filter_map(|g| g.as_u64().and_then(|g| u32::try_from(g).ok()))
            .collect(),
        home: "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::Argv;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn entrypoint_and_command_join_behind_the_init() {
        let config = Config {
            entrypoint: Some(Argv(strings(&["/entry"]))),
            cmd: Some(Argv(strings(&["a", "b"]))),
            ..Config::default()
        };
        assert_eq!(args(&config, false).unwrap(), ["/entry", "a", "b"]);
        assert_eq!(
            args(&config, true).unwrap(),
            ["/sbin/docker-init", "--", "/entry", "a", "b"]
        );
        let none = args(&Config::default(), false).unwrap_err();
        assert_eq!(none.message, "no command specified");
    }

    #[test]
    fn the_environment_has_dockers_order_and_overrides() {
        let config = Config {
            tty: true,
            env: strings(&["PATH=/opt", "A=1", "TERM", "A=2"]),
            ..Config::default()
        };
        assert_eq!(
            env(&config, "box", "/root"),
            ["PATH=/opt", "HOSTNAME=box", "A=2", "HOME=/root"]
        );
    }

    #[test]
    fn an_exec_inherits_and_overrides() {
        let spec = json!({"process": {
            "user": {"uid": 33, "gid": 33, "additionalGids": [33, 50]},
            "env": ["PATH=/bin", "HOME=/srv", "A=1"], "cwd": "/srv",
            "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_SYS_ADMIN"]},
        }});
        let command = strings(&["sh"]);
        let added = strings(&["A=2"]);
        let mut tenant = Tenant {
            args: &command,
            env: &added,
            tty: true,
            working_dir: "",
            user: "",
            privileged: false,
            available: Capabilities(7),
        };
        let (process, identity, capabilities) = tenant_process(&spec, &tenant, "", "").unwrap();
        assert_eq!((identity.uid, identity.groups), (33, vec![33, 50]));
        assert_eq!(capabilities.names(), ["CAP_CHOWN"]);
        assert_eq!(
            process["env"],
            json!(["PATH=/bin", "HOME=/srv", "A=2", "TERM=xterm"])
        );
        assert_eq!(process["cwd"], "/srv");
        assert_eq!(
            process["capabilities"]["permitted"],
            json!(["CAP_CHOWN", "CAP_SYS_ADMIN"])
        );

        tenant.user = "0";
        tenant.privileged = true;
        tenant.working_dir = "/tmp";
        let passwd = "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n";
        let (process, identity, capabilities) = tenant_process(&spec, &tenant, passwd, "").unwrap();
        assert_eq!((identity.uid, identity.gid), (0, 0));
        assert_eq!(capabilities, Capabilities(7));
        assert_eq!(process["cwd"], "/tmp");
        let has_home = |process: &Value, home: &str| {
            let wanted = json!(format!("HOME={home}"));
            process["env"].as_array().unwrap().contains(&wanted)
        };
        assert!(has_home(&process, "/root"), "{process}");
        // Not the container user's own: the user of skep asked for it.
        let (process, ..) = tenant_process(&spec, &tenant, "", "").unwrap();
        assert!(has_home(&process, "/srv"), "{process}");
    }
}
