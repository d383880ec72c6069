//! Where Go's encoder and ours differ: what is left out when it is empty.

use super::reply::is_empty;
use serde_json::Value;

/// Members that Go's types keep when they are zero: no `omitempty`, or a
/// pointer (whose absence is null here).
const KEPT: &[&str] = &[
    "ForceUpdate",
    "Parallelism",
    "MaxFailureRatio",
    "Hard",
    "Soft",
    "UID",
    "GID",
    "NoNewPrivileges",
    "Replicas",
    "MaxAttempts",
    "Delay",
    "Window",
    "StopGracePeriod",
    "Init",
    "TotalCompletions",
    "MaxConcurrent",
    "SwapBytes",
    "MemorySwappiness",
];
/// Members that are maps: left out when empty, where `{}` of another name is
/// an object that says something (`Global`, `Limits`).
const MAPS: &[&str] = &[
    "Labels",
    "Options",
    "DriverOpts",
    "Sysctls",
    "AuxiliaryAddresses",
    "Annotations",
];

/// The value without its empty members at every depth, as Go's `omitempty`
/// leaves them out of specs.
pub(super) fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| (name, without_empty(member)))
                .filter(|(name, member)| is_kept(name, member))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_empty).collect()),
        other => other,
    }
}

fn is_kept(name: &str, member: &Value) -> bool {
    match member {
        Value::Object(members) => !members.is_empty() || !MAPS.contains(&name),
        Value::Null => false,
        other => !is_empty(other) || KEPT.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empties_go_and_meaningful_ones_stay() {
        let spec = json!({
            "Mode": {"Global": {}, "Replicated": null},
            "TaskTemplate": {"ForceUpdate": 0, "Runtime": "", "Resources": {"Limits": {"NanoCPUs": 0}}},
            "Labels": {},
            "EndpointSpec": {"Mode": "", "Ports": []},
        });
        assert_eq!(
            without_empty(spec),
            json!({
                "Mode": {"Global": {}},
                "TaskTemplate": {"ForceUpdate": 0, "Resources": {"Limits": {}}},
                "EndpointSpec": {},
            })
        );
    }
}
