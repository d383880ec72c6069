//! The `filters` parameter: which objects a list, a prune or a watch is about.

use crate::error::{Error, Result};
use regex::RegexBuilder;
use serde_json::Value;
use skep_control::model::Labels;
use std::collections::BTreeMap;

/// Bytes of a compiled name pattern; it comes from outside.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Key → wanted values. Keys are joined by "and", values of a key by "or"
/// (labels by "and").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Both of Docker's forms, `{"k":{"v":true}}` and `{"k":["v"]}`. A key not
    /// in `known` is refused.
    pub(super) fn parse(raw: &str, known: &[&str]) -> Result<Self> {
        if raw.is_empty() {
            return Ok(Self::default());
        }
        let bad = || Error::invalid("invalid filter");
        let Ok(Value::Object(keys)) = serde_json::from_str(raw) else {
            return Err(bad());
        };
        let mut filters = BTreeMap::new();
        for (key, values) in keys {
            if !known.contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
            let values: Option<Vec<String>> = match values {
                Value::Object(values) => Some(values.into_iter().map(|(value, _)| value).collect()),
                Value::Array(values) => values
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect(),
                _ => None,
            };
            let values = values.ok_or_else(bad)?;
            if !values.is_empty() {
                filters.insert(key, values);
            }
        }
        Ok(Self(filters))
    }

    pub(super) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// No such key, or the value is one of its values.
    pub(super) fn exact(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// No such key, or the value starts with one of its values (ids).
    pub(super) fn prefix(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| value.starts_with(wanted))
    }

    /// No such key, or one of its values, read as a regular expression, is
    /// found in the value (names). What is no expression is looked for as it is.
    pub(super) fn pattern(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| {
            match RegexBuilder::new(wanted)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
            {
                Ok(pattern) => pattern.is_match(value),
                Err(_) => value.contains(wanted),
            }
        })
    }

    /// No such key, or `test` holds for one of its values.
    pub(super) fn any(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        match self.0.get(key) {
            None => true,
            Some(values) => values.iter().map(String::as_str).any(test),
        }
    }

    /// Every `k` or `k=v` under the key holds for these labels.
    pub(super) fn labels(&self, key: &str, labels: &Labels) -> bool {
        self.values(key)
            .iter()
            .all(|wanted| has_label(wanted, labels))
    }

    /// No `k` or `k=v` under the key holds for these labels (`label!`).
    pub(super) fn no_labels(&self, key: &str, labels: &Labels) -> bool {
        !self
            .values(key)
            .iter()
            .any(|wanted| has_label(wanted, labels))
    }

    /// A key that has one boolean.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [one] if matches!(one.as_str(), "1" | "true" | "True" | "TRUE" | "t") => Ok(Some(true)),
            [one] if matches!(one.as_str(), "0" | "false" | "False" | "FALSE" | "f") => {
                Ok(Some(false))
            }
            values => Err(Self::bad_value(key, values)),
        }
    }

    /// The refusal of a value.
    pub(super) fn bad_value(key: &str, values: &[String]) -> Error {
        Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))
    }
}

fn has_label(wanted: &str, labels: &Labels) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|is| is == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_unknown_keys() {
        let known = ["label", "name"];
        let map = Filters::parse(r#"{"label":{"a=b":true,"c":true}}"#, &known).unwrap();
        let list = Filters::parse(r#"{"label":["a=b","c"]}"#, &known).unwrap();
        assert_eq!(map, list);
        assert_eq!(Filters::parse("", &known).unwrap(), Filters::default());
        let unknown = Filters::parse(r#"{"x":["1"]}"#, &known).unwrap_err();
        assert_eq!(unknown.message, "invalid filter 'x'");
        for bad in ["{", "[]", r#"{"name":1}"#, r#"{"name":[1]}"#] {
            assert_eq!(
                Filters::parse(bad, &known).unwrap_err().message,
                "invalid filter"
            );
        }
    }

    #[test]
    fn matching() {
        let filters = Filters::parse(
            r#"{"name":["^/we","("],"label":["a=b","c"],"all":["true"],"odd":["maybe"]}"#,
            &["name", "label", "all", "odd"],
        )
        .unwrap();
        assert!(filters.pattern("name", "/web") && !filters.pattern("name", "/a/we"));
        assert!(filters.pattern("name", "a(b") && filters.exact("missing", "x"));
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        assert!(filters.labels("label", &labels(&[("a", "b"), ("c", "x")])));
        assert!(!filters.labels("label", &labels(&[("a", "b")])));
        assert!(!filters.no_labels("label", &labels(&[("a", "b")])));
        assert_eq!(filters.flag("all").unwrap(), Some(true));
        assert_eq!(
            filters.flag("odd").unwrap_err().message,
            "invalid filter 'odd=[maybe]'"
        );
    }
}
