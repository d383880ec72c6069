//! Names for containers that were given none, and the rule for those that were.

use crate::error::{Error, Result};

/// Tries before digits are added: with a thousand containers, each of 3,600
/// pairs is free in two cases of three.
const PLAIN_TRIES: usize = 6;
/// Longest name, bytes: it is a DNS label part and a file name here and there.
const NAME_BYTES_MAX: usize = 255;

const MOODS: [&str; 60] = [
    "agile", "amber", "ample", "azure", "balmy", "blithe", "brave", "breezy", "bright", "brisk",
    "bubbly", "calm", "candid", "cheery", "civil", "clever", "cosy", "crisp", "dapper", "deft",
    "dewy", "eager", "earnest", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad",
    "golden", "hale", "handy", "hardy", "hearty", "humble", "jolly", "keen", "kind", "lively",
    "loyal", "lucid", "mellow", "merry", "mild", "neat", "nimble", "noble", "patient", "placid",
    "plucky", "quiet", "ready", "serene", "steady", "sunny", "tidy", "tranquil", "witty", "zesty",
];

const PEOPLE: [&str; 60] = [
    "ampere",
    "archimedes",
    "babbage",
    "banneker",
    "bardeen",
    "bell",
    "berzelius",
    "bohr",
    "boyle",
    "brahe",
    "cavendish",
    "celsius",
    "chandrasekhar",
    "cori",
    "curie",
    "dalton",
    "darwin",
    "dijkstra",
    "einstein",
    "euclid",
    "euler",
    "faraday",
    "fermi",
    "feynman",
    "franklin",
    "frisch",
    "galileo",
    "gauss",
    "germain",
    "goodall",
    "halley",
    "hamilton",
    "hertz",
    "hodgkin",
    "hooke",
    "hopper",
    "huber",
    "hypatia",
    "joule",
    "kepler",
    "khorana",
    "langstroth",
    "leavitt",
    "linnaeus",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "newton",
    "noether",
    "pasteur",
    "pauli",
    "planck",
    "raman",
    "ramanujan",
    "tesla",
    "turing",
    "volta",
    "watt",
    "wu",
];

/// A free name such as `merry_hopper`. `random` gives any number; after some
/// tries a digit follows, as Docker does, so that it ends.
pub(super) fn invent(mut random: impl FnMut() -> u32, taken: impl Fn(&str) -> bool) -> String {
    let mut pick = |words: &[&'static str]| {
        let at = random() as usize % words.len();
        words.get(at).copied().unwrap_or("plain")
    };
    let mut name = String::new();
    for _ in 0..PLAIN_TRIES {
        name = format!("{}_{}", pick(&MOODS), pick(&PEOPLE));
        if !taken(&name) {
            return name;
        }
    }
    // The number of containers is finite, so this ends.
    let mut number = 1_u64;
    while taken(&format!("{name}{number}")) {
        number += 1;
    }
    format!("{name}{number}")
}

/// Checks a name that a user gave; a leading slash is Docker's own.
pub(super) fn check(name: &str) -> Result<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !first || !rest || name.len() < 2 || name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(name)
}

/// The refusal when a name has an owner.
pub(super) fn conflict(name: &str, owner: &str) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_free_and_end() {
        let mut seed = 7_u32;
        let mut taken = BTreeSet::new();
        for _ in 0..5000 {
            let name = invent(
                || {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    seed >> 8
                },
                |name| taken.contains(name),
            );
            assert!(check(&name).is_ok());
            assert!(taken.insert(name));
        }
    }

    #[test]
    fn stuck_randomness_still_ends() {
        let name = invent(|| 0, |name| name == "agile_ampere");
        assert_eq!(name, "agile_ampere1");
    }

    #[test]
    fn rule_is_dockers() {
        assert_eq!(check("/web-1.a_b").expect("is fine"), "web-1.a_b");
        for bad in ["", "a", "-a", "a b", "a/b", "ä1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
