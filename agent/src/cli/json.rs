//! JSON as the daemon sent it: keys keep their order, absent keys read as
//! null. Reading is total: a field of another type reads as that type's zero.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A JSON value whose objects keep their order.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

static NULL: Value = Value::Null;

impl Value {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The field of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The field of a map under Go's spelling of it: `APIVersion` and `ID` in
    /// templates are `ApiVersion` and `Id` in JSON.
    pub(super) fn get_as_go(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let mut alike = entries.iter().filter(|(k, _)| k.eq_ignore_ascii_case(key));
        match (self.get(key), alike.next(), alike.next()) {
            (Some(exact), _, _) => Some(exact),
            (None, Some((_, only)), None) => Some(only),
            _ => None,
        }
    }

    /// A field deeper down: `Spec.Mode.Replicated`.
    pub(super) fn at(&self, path: &str) -> &Self {
        path.split('.')
            .try_fold(self, |value, key| value.get(key))
            .unwrap_or(&NULL)
    }

    /// The string, or nothing.
    pub(super) fn str(&self) -> &str {
        match self {
            Self::String(s) => s,
            _ => "",
        }
    }

    /// The string at a path, or nothing.
    pub(super) fn text(&self, path: &str) -> &str {
        self.at(path).str()
    }

    pub(super) fn int(&self, path: &str) -> i64 {
        self.at(path).as_int()
    }

    pub(super) fn as_int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::Float(f) => *f as i64,
            _ => 0,
        }
    }

    pub(super) fn float(&self, path: &str) -> f64 {
        match self.at(path) {
            Self::Int(n) => *n as f64,
            Self::Float(f) => *f,
            _ => 0.0,
        }
    }

    pub(super) fn bool(&self, path: &str) -> bool {
        matches!(self.at(path), Self::Bool(true))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The elements at a path, or none.
    pub(super) fn list(&self, path: &str) -> &[Self] {
        self.at(path).elements()
    }

    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The strings at a path, or none.
    pub(super) fn strings(&self, path: &str) -> Vec<&str> {
        self.list(path).iter().map(Self::str).collect()
    }

    /// The entries of the map at a path, or none.
    pub(super) fn entries(&self, path: &str) -> &[(String, Self)] {
        match self.at(path) {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Entries of the map at a path ordered by key, as Go prints maps.
    pub(super) fn sorted(&self, path: &str) -> Vec<(&str, &Self)> {
        self.at(path).sorted_root()
    }

    /// [`Self::sorted`] of the value itself.
    pub(super) fn sorted_root(&self) -> Vec<(&str, &Self)> {
        let Self::Map(entries) = self else {
            return Vec::new();
        };
        let mut entries: Vec<_> = entries.iter().map(|(k, v)| (k.as_str(), v)).collect();
        entries.sort_by_key(|(k, _)| *k);
        entries
    }

    /// Sets a field of a map, at the end when it is new.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Self>) {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        if let Self::Map(entries) = self {
            match entries.iter_mut().find(|(k, _)| k == key) {
                Some((_, old)) => *old = value.into(),
                None => entries.push((key.to_owned(), value.into())),
            }
        }
    }

    /// The field at a path, made if it is not there.
    pub(super) fn at_mut(&mut self, path: &str) -> &mut Self {
        let mut place = self;
        for key in path.split('.') {
            place = place.field_mut(key);
        }
        place
    }

    fn field_mut(&mut self, key: &str) -> &mut Self {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        match self {
            Self::Map(entries) => {
                let at = entries
                    .iter()
                    .position(|(k, _)| k == key)
                    .unwrap_or_else(|| {
                        entries.push((key.to_owned(), Self::Null));
                        entries.len() - 1
                    });
                &mut entries[at].1
            }
            other => other,
        }
    }

    /// Takes a field out of a map.
    pub(super) fn remove(&mut self, key: &str) {
        if let Self::Map(entries) = self {
            entries.retain(|(k, _)| k != key);
        }
    }

    /// In one line, as `{{json .}}` prints it.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(b) => Self::Bool(b),
            serde_json::Value::Number(n) => n
                .as_i64()
                .map_or_else(|| Self::Float(n.as_f64().unwrap_or(0.0)), Self::Int),
            serde_json::Value::String(s) => Self::String(s),
            serde_json::Value::Array(items) => {
                Self::List(items.into_iter().map(Into::into).collect())
            }
            serde_json::Value::Object(map) => {
                Self::Map(map.into_iter().map(|(k, v)| (k, v.into())).collect())
            }
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::String(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::String(s)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::Int(n.into())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<Vec<String>> for Value {
    fn from(items: Vec<String>) -> Self {
        Self::List(items.into_iter().map(Self::String).collect())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Float(f) => serializer.serialize_f64(*f),
            Self::String(s) => serializer.serialize_str(s),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E>(self, f: f64) -> Result<Value, E> {
        Ok(Value::Float(f))
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::String(s.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

/// Lays JSON text out with four blanks a level; numbers and strings stay
/// byte for byte what they were.
pub(super) fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut opened) = (0_usize, false, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if opened && !closes {
            depth += 1;
            newline(&mut out, depth);
        }
        if closes && !opened {
            depth = depth.saturating_sub(1);
            newline(&mut out, depth);
        }
        opened = false;
        out.push(c);
        match c {
            '{' | '[' => opened = true,
            ',' => newline(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_absent_fields_are_null() {
        let v = Value::parse(br#"{"b":1,"a":{"z":[true,null],"y":"s"}}"#).unwrap();
        assert_eq!(v.to_json(), r#"{"b":1,"a":{"z":[true,null],"y":"s"}}"#);
        assert_eq!(v.text("a.y"), "s");
        assert!(v.at("a.nothing.here").is_null());
    }

    #[test]
    fn indenting_keeps_strings_and_empty_containers() {
        let text = indent(r#"[{"a":{},"b":[],"c":["x:{,\"",1.50]}]"#);
        assert_eq!(
            text,
            "[\n    {\n        \"a\": {},\n        \"b\": [],\n        \"c\": [\n            \"x:{,\\\"\",\n            1.50\n        ]\n    }\n]"
        );
    }

    #[test]
    fn fields_are_made_on_the_way() {
        let mut v = Value::Null;
        v.at_mut("a.b").set("c", 1);
        assert_eq!(v.to_json(), r#"{"a":{"b":{"c":1}}}"#);
    }
}
