//! A profile of the user's own, in Docker's JSON.

use super::{
    ALLOW, Condition, EPERM, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, Profile, Rule, TRACE, TRAP,
    Test,
};
use crate::error::{Error, Result};
use crate::oci::capabilities::Capabilities;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
}

/// Reads a profile for a process that has `capabilities`.
///
/// # Errors
/// Not JSON, or an action or comparison that is not one.
pub(crate) fn parse(text: &str, capabilities: Capabilities) -> Result<Profile> {
    let document: Document = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("Decoding seccomp profile failed: {e}")))?;
    let mut rules = Vec::new();
    for entry in document.syscalls.unwrap_or_default() {
        if !applies(&entry, capabilities) {
            continue;
        }
        let mut calls = entry.names;
        if !entry.name.is_empty() {
            calls.push(entry.name);
        }
        let conditions = entry.args.unwrap_or_default();
        rules.push(Rule {
            calls,
            action: action(&entry.action, entry.errno_ret)?,
            conditions: conditions.iter().map(condition).collect::<Result<_>>()?,
        });
    }
    Ok(Profile {
        default: action(&document.default_action, document.default_errno_ret)?,
        rules,
    })
}

/// Docker's names for the architecture, which are Go's.
fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "arm") {
        "arm"
    } else {
        "amd64"
    }
}

fn applies(entry: &Entry, capabilities: Capabilities) -> bool {
    let has = |name: &String| Capabilities::of(name).is_ok_and(|c| capabilities.contains(c));
    let here = |arch: &String| arch == native();
    let included = entry.includes.as_ref().is_none_or(|filter| {
        filter
            .arches
            .as_ref()
            .is_none_or(|list| list.is_empty() || list.iter().any(here))
            && filter.caps.as_ref().is_none_or(|list| list.iter().all(has))
    });
    let excluded = entry.excludes.as_ref().is_some_and(|filter| {
        filter
            .arches
            .as_ref()
            .is_some_and(|list| list.iter().any(here))
            || filter
                .caps
                .as_ref()
                .is_some_and(|list| list.iter().any(has))
    });
    included && !excluded
}

fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let data = |default: u32| errno.unwrap_or(default) & 0xffff;
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | data(EPERM),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_TRACE" => TRACE | data(EPERM),
        "SCMP_ACT_LOG" => LOG,
        _ => {
            return Err(Error::invalid(format!(
                "invalid seccomp profile: action '{name}' is not supported"
            )));
        }
    })
}

fn condition(argument: &Argument) -> Result<Condition> {
    let (test, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Test::Equal, argument.value),
        "SCMP_CMP_NE" => (Test::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Test::Less, argument.value),
        "SCMP_CMP_LE" => (Test::LessOrEqual, argument.value),
        "SCMP_CMP_GE" => (Test::GreaterOrEqual, argument.value),
        "SCMP_CMP_GT" => (Test::Greater, argument.value),
        // The mask comes first, what is to be under it second.
        "SCMP_CMP_MASKED_EQ" => (Test::Masked(argument.value), argument.value_two),
        other => {
            return Err(Error::invalid(format!(
                "invalid seccomp profile: operator '{other}' is not supported"
            )));
        }
    };
    if argument.index > 5 {
        return Err(Error::invalid(format!(
            "invalid seccomp profile: a call has arguments 0 to 5, not {}",
            argument.index
        )));
    }
    Ok(Condition {
        argument: argument.index,
        test,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_architectures_choose_the_rules() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "clone", "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
             "args": [{"index": 0, "value": 255, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["tuxcall"], "action": "SCMP_ACT_TRAP", "includes": {"arches": ["vax"]}}
        ]}"#;
        let none = parse(text, Capabilities(0)).unwrap();
        assert_eq!(none.default, ERRNO | 38);
        let names: Vec<&str> = none.rules.iter().map(|r| r.calls[0].as_str()).collect();
        assert_eq!(names, ["read", "clone"]);
        assert_eq!(none.rules[1].conditions[0].test, Test::Masked(255));
        let admin = parse(text, Capabilities::SYS_ADMIN).unwrap();
        assert_eq!(admin.rules[1].calls, ["mount"]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let message = |text: &str| parse(text, Capabilities(0)).unwrap_err().message;
        assert!(message("{").starts_with("Decoding seccomp profile failed"));
        assert!(message(r#"{"defaultAction": "SCMP_ACT_SING"}"#).contains("SCMP_ACT_SING"));
    }
}
