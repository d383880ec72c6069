//! `--filter` as the API takes it.

use std::collections::BTreeMap;

use super::exit::Exit;

/// Filters by key; the API's document is `{"key":{"value":true}}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `KEY=VALUE` words.
    pub(super) fn parse(words: &[String]) -> Result<Self, Exit> {
        let mut filters = Self::default();
        for word in words.iter().filter(|w| !w.is_empty()) {
            // The flag's own check has seen that there is one.
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Exit::failure(format!(
                    "bad format of filter (expected name=value): {word}"
                ))
            })?;
            filters.add(key.trim().to_lowercase(), value.trim());
        }
        Ok(filters)
    }

    pub(super) fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().push(value.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    pub(super) fn to_json(&self) -> String {
        let document: serde_json::Map<String, serde_json::Value> = self
            .0
            .iter()
            .map(|(key, values)| {
                let set = values.iter().map(|v| (v.clone(), true.into())).collect();
                (key.clone(), serde_json::Value::Object(set))
            })
            .collect();
        serde_json::Value::Object(document).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_the_document_the_api_takes() {
        let words = [
            "label=a=b".to_owned(),
            "Label = c".to_owned(),
            "name=x".to_owned(),
        ];
        let filters = Filters::parse(&words).unwrap();
        assert_eq!(
            filters.to_json(),
            r#"{"label":{"a=b":true,"c":true},"name":{"x":true}}"#
        );
        assert!(Filters::parse(&["nothing".to_owned()]).is_err());
    }
}
