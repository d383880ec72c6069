//! The functions of templates: Go's own and those Docker adds.

use super::super::json::Value;
use super::super::units::significant;

const KNOWN: &[&str] = &[
    "json", "split", "join", "title", "lower", "upper", "pad", "truncate", "and", "or", "not",
    "len", "index", "slice", "print", "printf", "println", "eq", "ne", "lt", "le", "gt", "ge",
    "urlquery",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Functions that give a table's header back unchanged.
pub(super) fn leaves_headers(name: &str) -> bool {
    matches!(
        name,
        "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate"
    )
}

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Int(n) => *n != 0,
        Value::Float(f) => *f != 0.0,
        Value::String(s) => !s.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}

/// A value's type, in Go's names.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
pub(super) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e21 => format!("{f:.0}"),
        Value::Float(f) => f.to_string(),
        Value::String(s) => s.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(_) => {
            let entries: Vec<String> = value
                .sorted_root()
                .into_iter()
                .map(|(k, v)| format!("{k}:{}", go_text(v)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

type Called = Result<Value, String>;

pub(super) fn call(name: &str, arguments: Vec<Value>) -> Called {
    let wanted = match name {
        "json" | "title" | "lower" | "upper" | "not" | "len" => Some(1),
        "split" | "join" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge" => Some(2),
        "pad" => Some(3),
        _ => None,
    };
    if let Some(wanted) = wanted
        && arguments.len() != wanted
    {
        return Err(format!(
            "wrong number of args for {name}: want {wanted} got {}",
            arguments.len()
        ));
    }
    let arg = |i: usize| arguments.get(i).unwrap_or(&Value::Null);
    match name {
        "json" => Ok(visible(arg(0)).to_json().into()),
        "split" => Ok(Value::List(
            arg(0).str().split(arg(1).str()).map(Value::from).collect(),
        )),
        "join" => join(arg(0), arg(1).str()),
        "title" => Ok(title(text(arg(0))?).into()),
        "lower" => Ok(text(arg(0))?.to_lowercase().into()),
        "upper" => Ok(text(arg(0))?.to_uppercase().into()),
        "pad" => Ok(pad(arg(0).str(), arg(1).as_int(), arg(2).as_int()).into()),
        "truncate" => {
            let length = usize::try_from(arg(1).as_int()).unwrap_or(0);
            Ok(text(arg(0))?.get(..length).unwrap_or(arg(0).str()).into())
        }
        "not" => Ok((!truth(arg(0))).into()),
        "and" | "or" => {
            let stops = |v: &Value| truth(v) == (name == "or");
            let at = arguments
                .iter()
                .position(stops)
                .unwrap_or(arguments.len().saturating_sub(1));
            Ok(arg(at).clone())
        }
        "len" => length(arg(0)),
        "index" => index(&arguments),
        "slice" => slice(&arguments),
        "print" => Ok(print(&arguments).into()),
        "println" => {
            let words: Vec<String> = arguments.iter().map(go_text).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        "printf" => Ok(printf(arg(0).str(), arguments.get(1..).unwrap_or(&[])).into()),
        "urlquery" => Ok(super::super::http::escape(&print(&arguments)).into()),
        "eq" => {
            if arguments.len() < 2 {
                return Err("missing argument for comparison".to_owned());
            }
            for other in &arguments[1..] {
                if compare(arg(0), other)?.is_eq() {
                    return Ok(true.into());
                }
            }
            Ok(false.into())
        }
        "ne" => Ok((!compare(arg(0), arg(1))?.is_eq()).into()),
        "lt" => Ok(compare(arg(0), arg(1))?.is_lt().into()),
        "le" => Ok(compare(arg(0), arg(1))?.is_le().into()),
        "gt" => Ok(compare(arg(0), arg(1))?.is_gt().into()),
        "ge" => Ok(compare(arg(0), arg(1))?.is_ge().into()),
        _ => Err("not defined".to_owned()),
    }
}

/// A whole row as JSON: Go escapes what HTML would read there.
pub(super) fn row_json(row: &Value) -> String {
    let json = visible(row).to_json();
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// A row without what it carries for lookups only.
fn visible(value: &Value) -> Value {
    match value {
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .filter(|(k, _)| !k.starts_with('\0'))
                .cloned()
                .collect(),
        ),
        other => other.clone(),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(s) => Ok(s),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            kind(other)
        )),
    }
}

fn join(value: &Value, separator: &str) -> Called {
    let items: Vec<String> = match value {
        Value::List(items) => items.iter().map(go_text).collect(),
        Value::Map(entries) => {
            let mut items: Vec<String> = entries.iter().map(|(_, v)| go_text(v)).collect();
            items.sort();
            items
        }
        Value::Null => Vec::new(),
        other => return Err(format!("expected slice, got {}", kind(other))),
    };
    Ok(items.join(separator).into())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        starts = !c.is_alphanumeric() && c != '_' && c != '\'';
    }
    out
}

/// Room a template may ask for on one side, characters.
const PAD_MAX: i64 = 1000;

fn pad(text: &str, before: i64, after: i64) -> String {
    let blanks = |n: i64| " ".repeat(usize::try_from(n.clamp(0, PAD_MAX)).unwrap_or(0));
    if text.is_empty() {
        String::new()
    } else {
        format!("{}{text}{}", blanks(before), blanks(after))
    }
}

fn length(value: &Value) -> Called {
    let n = match value {
        Value::String(s) => s.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        Value::Null => 0,
        other => return Err(format!("len of type {}", kind(other))),
    };
    Ok(i64::try_from(n).unwrap_or(i64::MAX).into())
}

fn index(arguments: &[Value]) -> Called {
    let Some((first, keys)) = arguments.split_first() else {
        return Err("index of untyped nil".to_owned());
    };
    let mut value = first;
    for key in keys {
        value = match (value, key) {
            (Value::Map(_), Value::String(key)) => match value.get(key) {
                Some(found) => found,
                // The zero value of what the map holds; a string most often.
                None => return Ok("".into()),
            },
            (Value::List(items), Value::Int(n)) => usize::try_from(*n)
                .ok()
                .and_then(|n| items.get(n))
                .ok_or_else(|| {
                    format!("error calling index: reflect: slice index out of range: {n}")
                })?,
            (Value::Null, _) => return Err("index of nil pointer".to_owned()),
            (other, key) => {
                return Err(format!(
                    "cannot index slice/array with type {} of {}",
                    kind(key),
                    kind(other)
                ));
            }
        };
    }
    Ok(value.clone())
}

fn slice(arguments: &[Value]) -> Called {
    let at = |i: usize, default: usize| match arguments.get(i) {
        Some(Value::Int(n)) => usize::try_from(*n).map_err(|_| format!("index out of range: {n}")),
        _ => Ok(default),
    };
    match arguments.first() {
        Some(Value::String(s)) => {
            let (from, to) = (at(1, 0)?, at(2, s.len())?);
            s.get(from..to)
                .map(Value::from)
                .ok_or_else(|| format!("index out of range: {to}"))
        }
        Some(Value::List(items)) => {
            let (from, to) = (at(1, 0)?, at(2, items.len())?);
            items
                .get(from..to)
                .map(|l| Value::List(l.to_vec()))
                .ok_or_else(|| format!("index out of range: {to}"))
        }
        _ => Err("slice of untyped nil".to_owned()),
    }
}

/// Go's `Sprint`: a blank between operands when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in arguments.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| arguments.get(i));
        if before.is_some_and(|b| !matches!(b, Value::String(_)))
            && !matches!(value, Value::String(_))
        {
            out.push(' ');
        }
        out += &go_text(value);
    }
    out
}

fn compare(a: &Value, b: &Value) -> Result<std::cmp::Ordering, String> {
    use std::cmp::Ordering;
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            let number = |v: &Value| {
                if let Value::Float(f) = v {
                    *f
                } else {
                    v.as_int() as f64
                }
            };
            Ok(number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Less))
        }
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Null, Value::Null) => Ok(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => Ok(Ordering::Less),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// The width and precision a template may ask for.
const WIDTH_MAX: usize = 1000;

/// Go's `Sprintf`, the verbs that JSON values can have.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut sign) = (false, false, false);
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            left |= flag == '-';
            zero |= flag == '0';
            sign |= flag == '+';
        }
        let mut number = || {
            let mut n: Option<usize> = None;
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                let digit = d as usize - '0' as usize;
                n = Some((n.unwrap_or(0) * 10 + digit).min(WIDTH_MAX));
            }
            n
        };
        let width = number().unwrap_or(0);
        let precision = if chars.next_if_eq(&'.').is_some() {
            let mut n = 0;
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                n = (n * 10 + (d as usize - '0' as usize)).min(WIDTH_MAX);
            }
            Some(n)
        } else {
            None
        };
        let Some(verb) = chars.next() else {
            out += "%!(NOVERB)";
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            out += &format!("%!{verb}(MISSING)");
            continue;
        };
        let mut text = formatted(verb, value, precision);
        if sign && matches!(value, Value::Int(0..)) {
            text.insert(0, '+');
        }
        let missing = width.saturating_sub(text.chars().count());
        out += &match () {
            () if left => format!("{text}{}", " ".repeat(missing)),
            () if zero && verb != 's' => format!("{}{text}", "0".repeat(missing)),
            () => format!("{}{text}", " ".repeat(missing)),
        };
    }
    out
}

fn formatted(verb: char, value: &Value, precision: Option<usize>) -> String {
    let float = |v: &Value| {
        if let Value::Float(f) = v {
            *f
        } else {
            v.as_int() as f64
        }
    };
    match (verb, value) {
        ('v', _) | ('s', Value::List(_) | Value::Map(_)) => go_text(value),
        ('d', Value::Int(n)) => n.to_string(),
        ('x', Value::Int(n)) => format!("{n:x}"),
        ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('s', Value::String(s)) => match precision {
            Some(n) => s.chars().take(n).collect(),
            None => s.clone(),
        },
        ('q', Value::String(s)) => format!("{s:?}"),
        ('t', Value::Bool(b)) => b.to_string(),
        ('f', Value::Float(_)) => format!("{:.*}", precision.unwrap_or(6), float(value)),
        ('g', Value::Float(_)) => significant(float(value), precision.unwrap_or(17)),
        ('T', _) => kind(value).to_owned(),
        _ => format!("%!{verb}({}={})", kind(value), go_text(value)),
    }
}
