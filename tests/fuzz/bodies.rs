//! Any JSON as the body of an API call: refused, or read, written and read
//! again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use skep_control::model::{Config, HostConfig, NetworkSpec, NodeSpec, ServiceSpec};
use std::fmt::Debug;

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the noun: bodies of all kinds share a corpus.
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    strip_nulls(&mut json);
    match kind % 5 {
        0 => round_trip::<ServiceSpec>(json),
        1 => round_trip::<Config>(json),
        2 => round_trip::<NetworkSpec>(json),
        3 => round_trip::<NodeSpec>(json),
        _ => round_trip::<HostConfig>(json),
    }
});

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: Value) {
    let Ok(first) = serde_json::from_value::<T>(json) else {
        return;
    };
    let written = serde_json::to_value(&first).expect("what was read can be written");
    let mut stripped = written.clone();
    strip_nulls(&mut stripped);
    let again = serde_json::from_value::<T>(stripped);
    assert_eq!(again.ok().as_ref(), Some(&first), "written as {written}");
}

/// As the API does it: in Go's decoder a null leaves the field as it was.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}
