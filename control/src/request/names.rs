//! A name for a service that was given none, as Docker makes one: two words.

use crate::random::Random;

const MOODS: [&str; 32] = [
    "able", "amber", "bold", "brisk", "busy", "calm", "clever", "cosy", "eager", "early", "fair",
    "fond", "gentle", "glad", "golden", "happy", "hardy", "humble", "keen", "kind", "lively",
    "merry", "mild", "nimble", "patient", "proud", "quiet", "ready", "steady", "sunny", "swift",
    "warm",
];

const BEINGS: [&str; 32] = [
    "aphid",
    "badger",
    "bee",
    "beetle",
    "bumblebee",
    "butterfly",
    "carder",
    "cicada",
    "cricket",
    "damselfly",
    "dragonfly",
    "drone",
    "firefly",
    "forager",
    "heron",
    "hornet",
    "hoverfly",
    "ladybird",
    "leafcutter",
    "mason",
    "mayfly",
    "miner",
    "moth",
    "nurse",
    "queen",
    "scout",
    "skipper",
    "swallow",
    "swift",
    "wasp",
    "weaver",
    "worker",
];

pub(super) fn made_up(random: &mut Random) -> String {
    let mood = MOODS[random.below(MOODS.len())];
    let being = BEINGS[random.below(BEINGS.len())];
    format!("{mood}_{being}")
}
