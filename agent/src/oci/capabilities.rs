//! Capability sets as Docker makes them.

use crate::error::{Error, Result};

/// In the kernel's numbering.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has when nobody asked for anything: Docker's fourteen.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, one bit each in the kernel's numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    pub(crate) const SYS_ADMIN: Self = Self(1 << 21);

    /// Docker's default, with the additions and without the drops; `ALL` in
    /// either. What the node itself does not have (`available`) cannot be
    /// given, and is left out.
    pub(crate) fn choose(add: &[String], drop: &[String], available: Self) -> Result<Self> {
        let everything = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("ALL"));
        let mut chosen = Self(0);
        if everything(add) {
            chosen = available;
        } else if !everything(drop) {
            for name in DEFAULT {
                chosen.0 |= Self::of(name)?.0;
            }
        }
        if !everything(drop) {
            for name in drop {
                chosen.0 &= !Self::of(name)?.0;
            }
        }
        for name in add.iter().filter(|c| !c.eq_ignore_ascii_case("ALL")) {
            chosen.0 |= Self::of(name)?.0;
        }
        Ok(Self(chosen.0 & available.0))
    }

    /// `NET_ADMIN`, `cap_net_admin`, `CAP_NET_ADMIN`.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES
            .iter()
            .position(|known| *known == bare)
            .map(|bit| Self(1 << bit))
            .ok_or_else(|| Error::invalid(format!("invalid capability: \"{upper}\"")))
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As the runtime spec writes them.
    pub(crate) fn names(self) -> Vec<String> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| format!("CAP_{name}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Capabilities = Capabilities((1 << 41) - 1);

    fn choose(add: &[&str], drop: &[&str]) -> u64 {
        let list = |of: &[&str]| of.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        Capabilities::choose(&list(add), &list(drop), ALL)
            .unwrap()
            .0
    }

    #[test]
    fn the_default_is_dockers() {
        // What /proc/PID/status shows in a container of dockerd's.
        assert_eq!(choose(&[], &[]), 0x0000_0000_a804_25fb);
    }

    #[test]
    fn additions_and_drops_combine_as_dockers() {
        assert_eq!(choose(&["net_admin"], &["ALL"]), 1 << 12);
        assert_eq!(
            choose(&["CAP_SYS_ADMIN"], &["CAP_MKNOD"]),
            0xa004_25fb_u64 & !(1 << 27) | 1 << 21
        );
        assert_eq!(
            choose(&["ALL"], &["SYS_ADMIN"]),
            ((1 << 41) - 1) & !(1 << 21)
        );
        assert_eq!(choose(&[], &["ALL"]), 0);
        let few = Capabilities::choose(&["ALL".to_owned()], &[], Capabilities(5)).unwrap();
        assert_eq!(few, Capabilities(5));
        let wrong = Capabilities::choose(&["CAP_FLY".to_owned()], &[], ALL).unwrap_err();
        assert_eq!(wrong.message, "invalid capability: \"CAP_FLY\"");
    }
}
