//! A command's flags: their table, and what a command line says of them.
//!
//! Tables are text, a line a flag: `short long type description`, `.` where
//! there is no short form, `# Title` before a group. Tokenising is clap's;
//! meaning and wording of what is refused are those of Docker's flag parser:
//! clustered shorts, attached values, `--bool=false`, the last of a repeated
//! scalar wins, and for `run`, `exec` and the like flags end at the first
//! operand.

use std::collections::BTreeMap;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction};

use super::units;

/// One flag of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) group: &'static str,
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    /// What a value is: `bool`, `string`, `list`, `int`, `bytes`, …
    pub(super) kind: &'static str,
    pub(super) about: &'static str,
}

/// Whether flags may stand after operands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Mixed,
    FlagsFirst,
}

/// What a command line said: every value of every flag that was given.
#[derive(Debug, Default)]
pub(super) struct Flags(BTreeMap<&'static str, Vec<String>>);

#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) flags: Flags,
    pub(super) operands: Vec<String>,
}

/// Why a command line was refused, in the words of Docker's parser.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

impl Wrong {
    /// A word that looks like a flag and is none.
    pub(super) fn unknown(word: &str) -> Self {
        match word.strip_prefix("--") {
            Some(long) => Self(format!(
                "unknown flag: --{}",
                long.split('=').next().unwrap_or(long)
            )),
            None => {
                let first = word.chars().nth(1).unwrap_or('-');
                Self(format!("unknown shorthand flag: {first:?} in {word}"))
            }
        }
    }

    fn value(flag: &Flag, value: &str, reason: &str) -> Self {
        let name = match flag.short {
            Some(short) => format!("-{short}, --{}", flag.long),
            None => format!("--{}", flag.long),
        };
        Self(format!(
            "invalid argument {value:?} for {name:?} flag: {reason}"
        ))
    }
}

/// Reads the blocks of a table; `--help` is on every command.
pub(super) fn table(blocks: &[&'static str]) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut group = "";
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let line = line.trim();
        if let Some(title) = line.strip_prefix("# ") {
            group = title;
            continue;
        }
        let mut parts = line.splitn(4, ' ');
        let (Some(short), Some(long), Some(kind)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let short = short.chars().next().filter(|c| *c != '.');
        flags.push(Flag {
            group,
            short,
            long,
            kind,
            about: parts.next().unwrap_or(""),
        });
    }
    if !flags.iter().any(|f| f.long == "help") {
        flags.push(Flag {
            group: "",
            short: None,
            long: "help",
            kind: "bool",
            about: "Print usage",
        });
    }
    flags
}

/// Reads a command line by a table.
pub(super) fn parse(table: &[Flag], words: &[String], order: Order) -> Result<Parsed, Wrong> {
    let matches = parser(table, order)
        .try_get_matches_from(words)
        .map_err(|e| explain(&e, table, words))?;
    let mut flags = Flags::default();
    for flag in table {
        let values: Vec<String> = matches
            .get_many::<String>(flag.long)
            .map(|v| v.cloned().collect())
            .unwrap_or_default();
        for value in &values {
            check(flag.kind, value).map_err(|reason| Wrong::value(flag, value, &reason))?;
        }
        if !values.is_empty() {
            flags.0.insert(flag.long, values);
        }
    }
    let operands = matches
        .get_many::<String>(OPERANDS)
        .map(|v| v.cloned().collect())
        .unwrap_or_default();
    Ok(Parsed { flags, operands })
}

/// A name no flag can have.
const OPERANDS: &str = "\0operands";

fn parser(table: &[Flag], order: Order) -> clap::Command {
    let mut parser = clap::Command::new("")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true);
    for flag in table {
        let mut arg = Arg::new(flag.long)
            .long(flag.long)
            .action(ArgAction::Append);
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        arg = if flag.kind == "bool" {
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
        } else {
            arg.num_args(1).allow_hyphen_values(true)
        };
        parser = parser.arg(arg);
    }
    let operands = Arg::new(OPERANDS)
        .num_args(0..)
        .action(ArgAction::Append)
        .trailing_var_arg(order == Order::FlagsFirst);
    parser.arg(operands)
}

fn explain(error: &clap::Error, table: &[Flag], words: &[String]) -> Wrong {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.clone(),
        Some(ContextValue::Strings(names)) => names.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    if error.kind() == ErrorKind::UnknownArgument {
        if named.starts_with("--") {
            return Wrong::unknown(&named);
        }
        let letter = named.chars().nth(1).unwrap_or('-');
        let cluster = words
            .iter()
            .find(|w| w.starts_with('-') && !w.starts_with("--") && w.contains(letter))
            .map_or(named.as_str(), String::as_str);
        // From the letter on: what stood before it was understood.
        let tail = cluster.find(letter).map_or("", |at| &cluster[at..]);
        return Wrong(format!("unknown shorthand flag: {letter:?} in -{tail}"));
    }
    // What is left is a value that is missing: the last word wanted one.
    let last = words.last().map_or("", String::as_str);
    if last.starts_with("--") {
        return Wrong(format!("flag needs an argument: {last}"));
    }
    let letter = last.chars().last().unwrap_or('-');
    if table.iter().any(|f| f.short == Some(letter)) && last.starts_with('-') {
        return Wrong(format!("flag needs an argument: {letter:?} in -{letter}"));
    }
    Wrong(
        error
            .to_string()
            .trim_start_matches("error: ")
            .lines()
            .next()
            .unwrap_or("")
            .to_owned(),
    )
}

/// Whether a value is of the flag's kind; the reason why not, as Docker words it.
fn check(kind: &str, value: &str) -> Result<(), String> {
    match kind {
        "bool" => parse_bool(value).map(drop),
        "int" => go_int(value).map(drop),
        "uint" | "uint16" => value
            .parse::<u64>()
            .map(drop)
            .map_err(|_| number_reason("ParseUint", value)),
        "float" => value
            .parse::<f64>()
            .map(drop)
            .map_err(|_| number_reason("ParseFloat", value)),
        "bytes" => units::ram_in_bytes(value).map(drop),
        "decimal" => units::nano_cpus(value).map(drop),
        "duration" => units::parse_duration(value).map(drop),
        "filter" if !value.is_empty() && !value.contains('=') => {
            Err("bad format of filter (expected name=value)".to_owned())
        }
        other => super::convert::check(other, value),
    }
}

/// Docker's booleans.
pub(super) fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(number_reason("ParseBool", value)),
    }
}

fn go_int(value: &str) -> Result<i64, String> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse::<i64>(),
    };
    parsed
        .map(|n| if negative { -n } else { n })
        .map_err(|_| number_reason("ParseInt", value))
}

fn number_reason(function: &str, value: &str) -> String {
    format!("strconv.{function}: parsing {value:?}: invalid syntax")
}

impl Flags {
    /// Whether the flag was given at all.
    pub(super) fn changed(&self, long: &str) -> bool {
        self.0.contains_key(long)
    }

    /// The last value given.
    pub(super) fn get(&self, long: &str) -> Option<&str> {
        self.0
            .get(long)
            .and_then(|values| values.last())
            .map(String::as_str)
    }

    /// The last value given, or nothing.
    pub(super) fn str(&self, long: &str) -> &str {
        self.get(long).unwrap_or("")
    }

    /// Every value given, in order.
    pub(super) fn list(&self, long: &str) -> &[String] {
        self.0.get(long).map_or(&[], Vec::as_slice)
    }

    pub(super) fn bool(&self, long: &str) -> bool {
        self.bool_or(long, false)
    }

    pub(super) fn bool_or(&self, long: &str, default: bool) -> bool {
        self.get(long)
            .and_then(|v| parse_bool(v).ok())
            .unwrap_or(default)
    }

    /// A number; checked when the line was read, so an absent one is the only
    /// `None`.
    pub(super) fn int(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(|v| go_int(v).ok())
    }

    pub(super) fn float(&self, long: &str) -> Option<f64> {
        self.get(long).and_then(|v| v.parse().ok())
    }

    /// A size in bytes, of `512m` and the like.
    pub(super) fn bytes(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(|v| units::ram_in_bytes(v).ok())
    }

    /// Billionths of a CPU, of `0.5` and the like.
    pub(super) fn nano_cpus(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(|v| units::nano_cpus(v).ok())
    }

    /// Nanoseconds, of `1m30s` and the like.
    pub(super) fn duration(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(|v| units::parse_duration(v).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# General
        d detach bool Run apart
        i interactive bool Keep stdin
        t tty bool Terminal
        p publish list Ports
        . name string Name
        m memory bytes Memory
        . cpus decimal CPUs";

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn read(line: &str, order: Order) -> Result<Parsed, Wrong> {
        parse(&table(&[TABLE]), &words(line), order)
    }

    #[test]
    fn clusters_attached_values_and_explicit_booleans() {
        let p = read(
            "-it -p8000:8000 -p 1:2 --detach=false --name=x -m 64m img",
            Order::FlagsFirst,
        )
        .unwrap();
        assert!(p.flags.bool("interactive") && p.flags.bool("tty") && !p.flags.bool("detach"));
        assert!(p.flags.changed("detach"));
        assert_eq!(p.flags.list("publish"), ["8000:8000", "1:2"]);
        assert_eq!(p.flags.bytes("memory"), Some(64 << 20));
        assert_eq!(p.operands, ["img"]);
    }

    #[test]
    fn flags_end_at_the_first_operand_when_they_must() {
        let p = read("-d img sh -c x --name y -- z", Order::FlagsFirst).unwrap();
        assert_eq!(
            p.operands,
            ["img", "sh", "-c", "x", "--name", "y", "--", "z"]
        );
        assert!(!p.flags.changed("name"));
        let p = read("a -d b --name y -- -c", Order::Mixed).unwrap();
        assert_eq!(p.operands, ["a", "b", "-c"]);
        assert_eq!(p.flags.str("name"), "y");
    }

    #[test]
    fn refusals_are_worded_as_dockers() {
        let wrong = |line| read(line, Order::FlagsFirst).unwrap_err().0;
        assert_eq!(wrong("--foo=1 img"), "unknown flag: --foo");
        assert_eq!(wrong("-itx img"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(wrong("--name"), "flag needs an argument: --name");
        assert_eq!(wrong("-p"), "flag needs an argument: 'p' in -p");
        assert_eq!(
            wrong("-m abc img"),
            r#"invalid argument "abc" for "-m, --memory" flag: invalid size: 'abc'"#
        );
        assert_eq!(
            wrong("--detach=maybe img"),
            r#"invalid argument "maybe" for "-d, --detach" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#
        );
    }

    #[test]
    fn a_lone_dash_and_negative_values_are_values() {
        let p = read("--name -x -", Order::Mixed).unwrap();
        assert_eq!(p.flags.str("name"), "-x");
        assert_eq!(p.operands, ["-"]);
    }
}
