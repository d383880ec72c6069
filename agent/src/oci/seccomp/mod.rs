//! System call filters: Docker's default list or a profile of the user's,
//! compiled to one cBPF program for all architectures that this family of
//! processors runs.
//!
//! Invariant: an architecture that the program does not know ends the process;
//! a call that no rule names gets the profile's default. One program serves
//! 64- and 32-bit images: a board with a 64-bit kernel runs armhf images too.
//!
//! Does not know: how a filter is installed (the shim's executor does).

mod assemble;
mod docker;
mod profile;

pub(crate) use assemble::{Instruction, compile};
pub(crate) use profile::parse;

use super::capabilities::Capabilities;

/// `SECCOMP_RET_*`.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;

pub(super) const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;

/// Which filter a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    #[default]
    Unconfined,
    /// Docker's, for a process that has these capabilities.
    Docker {
        capabilities: Capabilities,
    },
    Profile(Profile),
}

/// A list of rules; what none of them names gets the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// `SECCOMP_RET_*` with its data.
    default: u32,
    rules: Vec<Rule>,
}

/// What to do when one of `calls` is made and all `conditions` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    calls: Vec<String>,
    action: u32,
    conditions: Vec<Condition>,
}

/// One argument of a call compared with a number, 64 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Condition {
    /// 0 to 5.
    argument: u8,
    test: Test,
    value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    /// The argument under this mask equals the value.
    Masked(u64),
}

impl Choice {
    /// The rules, or `None` when nothing is filtered.
    pub(crate) fn profile(&self) -> Option<Profile> {
        match self {
            Self::Unconfined => None,
            Self::Docker { capabilities } => Some(docker::profile(*capabilities)),
            Self::Profile(profile) => Some(profile.clone()),
        }
    }
}

/// Architectures, with the kernel's audit numbers and their column in the
/// table of call numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    /// x86_64's audit number, told apart by bit 30 of the call's.
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Arch {
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X32 => 1,
            Self::X86 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// What a kernel of this binary's family can run.
    pub(crate) fn native() -> &'static [Self] {
        if cfg!(any(target_arch = "aarch64", target_arch = "arm")) {
            &[Self::Aarch64, Self::Arm]
        } else {
            &[Self::X86_64, Self::X32, Self::X86]
        }
    }
}

const NUMBERS: &str = include_str!("syscalls.txt");

/// Every call that `arch` has, by name.
fn calls(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    NUMBERS.lines().filter_map(move |line| {
        let mut words = line.split(' ').filter(|_| !line.starts_with('#'));
        let name = words.next()?;
        let number = words.nth(arch.column())?.parse().ok()?;
        Some((name, number))
    })
}
