//! The vocabulary: every command, the words that name it and what it takes.

use super::exit::Outcome;
use super::{Invocation, container, image, network, node, service, swarm, system, volume};

/// One command of the client.
pub(super) struct Command {
    /// The words that name it, the management form first: `container ls`, `ps`.
    pub(super) names: &'static [&'static str],
    /// What follows the name in a usage line.
    pub(super) operands: &'static str,
    pub(super) about: &'static str,
    pub(super) arity: Arity,
    /// Blocks of a flag table, see [`super::flags`].
    pub(super) flags: &'static [&'static str],
    /// `run` and its like: what follows the image belongs to the container.
    pub(super) flags_end_at_operand: bool,
    pub(super) run: fn(&Invocation) -> Outcome,
}

impl Command {
    pub(super) const fn new(
        names: &'static [&'static str],
        operands: &'static str,
        about: &'static str,
        arity: Arity,
        flags: &'static [&'static str],
        run: fn(&Invocation) -> Outcome,
    ) -> Self {
        Self {
            names,
            operands,
            about,
            arity,
            flags,
            flags_end_at_operand: false,
            run,
        }
    }

    pub(super) const fn flags_first(mut self) -> Self {
        self.flags_end_at_operand = true;
        self
    }
}

/// How many operands a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    Any,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

impl Arity {
    /// What is wrong with `count` operands, as it follows the command's name.
    pub(super) fn complain(self, count: usize) -> Option<String> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        match self {
            Self::Exactly(0) if count > 0 => Some("accepts no arguments".to_owned()),
            Self::Exactly(n) if count != n => Some(format!("requires {n} {}", plural(n))),
            Self::AtLeast(n) if count < n => Some(format!("requires at least {n} {}", plural(n))),
            Self::AtMost(n) if count > n => Some(format!("requires at most {n} {}", plural(n))),
            Self::Between(low, high) if count < low || count > high => Some(format!(
                "requires at least {low} and at most {high} {}",
                plural(high)
            )),
            _ => None,
        }
    }
}

/// A first word that gathers commands under it.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Its commands make sense only with a swarm.
    pub(super) swarm: bool,
}

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Work with containers",
        swarm: false,
    },
    Group {
        name: "image",
        about: "Work with images",
        swarm: false,
    },
    Group {
        name: "network",
        about: "Work with networks",
        swarm: false,
    },
    Group {
        name: "node",
        about: "Work with the swarm's nodes",
        swarm: true,
    },
    Group {
        name: "service",
        about: "Work with services",
        swarm: true,
    },
    Group {
        name: "swarm",
        about: "Work with the swarm itself",
        swarm: true,
    },
    Group {
        name: "system",
        about: "Work with the node",
        swarm: false,
    },
    Group {
        name: "volume",
        about: "Work with volumes",
        swarm: false,
    },
];

/// Every noun's commands.
const TABLES: &[&[Command]] = &[
    container::COMMANDS,
    image::COMMANDS,
    network::COMMANDS,
    volume::COMMANDS,
    system::COMMANDS,
    swarm::COMMANDS,
    service::COMMANDS,
    node::COMMANDS,
];

/// Every command there is.
pub(super) fn all() -> impl Iterator<Item = &'static Command> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The command the words name, and how many of them name it.
pub(super) fn find(words: &[String]) -> Option<(&'static Command, usize)> {
    let two = words.get(1).map(|second| format!("{} {second}", words[0]));
    let named = |name: &str| all().find(|c| c.names.contains(&name));
    two.and_then(|name| named(&name))
        .map(|c| (c, 2))
        .or_else(|| named(words.first()?).map(|c| (c, 1)))
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    const KINDS: &[&str] = &[
        "bool", "string", "list", "filter", "int", "uint", "float", "bytes", "decimal", "duration",
        "map",
    ];

    #[test]
    fn every_command_has_one_name_one_group_and_a_sound_flag_table() {
        let mut names = std::collections::BTreeSet::new();
        for command in all() {
            for name in command.names {
                assert!(names.insert(*name), "{name} names two commands");
                if let Some((group, _)) = name.split_once(' ') {
                    assert!(
                        GROUPS.iter().any(|g| g.name == group),
                        "{name} is in no group"
                    );
                }
            }
            let mut longs = std::collections::BTreeSet::new();
            let mut shorts = std::collections::BTreeSet::new();
            for flag in flags::table(command.flags) {
                assert!(
                    longs.insert(flag.long),
                    "{}: --{} twice",
                    command.names[0],
                    flag.long
                );
                if let Some(short) = flag.short {
                    assert!(shorts.insert(short), "{}: -{short} twice", command.names[0]);
                }
                assert!(
                    KINDS.contains(&flag.kind) || super::super::convert::KINDS.contains(&flag.kind),
                    "{}: --{} is a {}",
                    command.names[0],
                    flag.long,
                    flag.kind
                );
                assert!(
                    !flag.about.is_empty(),
                    "{}: --{} says nothing",
                    command.names[0],
                    flag.long
                );
            }
        }
    }
}
