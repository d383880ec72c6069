//! The local driver's options: a volume that is a mount of something else.

use crate::error::{Error, Result};
use rustix::mount::MountFlags;
use skep_control::model::Labels;
use std::ffi::CString;
use std::path::Path;

/// What `--opt type=… --opt device=… --opt o=…` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceMount {
    pub(super) source: String,
    kind: String,
    flags: u32,
    data: String,
}

/// Words of mount(8) that are flags to the kernel: set and cleared.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("bind", MountFlags::BIND, true),
    ("rbind", MountFlags::BIND.union(MountFlags::REC), true),
];

impl DeviceMount {
    /// `None` for a plain folder.
    pub(super) fn parse(options: &Labels) -> Result<Option<Self>> {
        if options.is_empty() {
            return Ok(None);
        }
        for key in options.keys() {
            if !["type", "device", "o", "size"].contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid option: {key:?}")));
            }
        }
        if options.contains_key("size") {
            return Err(Error::invalid("quota size requested but no quota support"));
        }
        let required = |key: &str| {
            options
                .get(key)
                .cloned()
                .ok_or_else(|| Error::invalid(format!("missing required option: {key:?}")))
        };
        let (source, kind) = (required("device")?, required("type")?);
        let mut flags = MountFlags::empty();
        let mut data = Vec::new();
        for word in options.get("o").map_or("", String::as_str).split(',') {
            match FLAGS.iter().find(|(name, ..)| *name == word) {
                Some((_, flag, true)) => flags |= *flag,
                Some((_, flag, false)) => flags &= !*flag,
                None if word.is_empty() || word == "defaults" => {}
                None => data.push(word.to_owned()),
            }
        }
        let source = nfs_source(&kind, source, &mut data);
        Ok(Some(Self {
            source,
            kind,
            flags: flags.bits(),
            data: data.join(","),
        }))
    }

    /// Mounts it at `target`; the error is the kernel's, for the caller to wrap.
    pub(super) fn mount(&self, target: &Path) -> Result<(), std::io::Error> {
        let flags = MountFlags::from_bits_retain(self.flags);
        let data = CString::new(self.data.as_str())
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        let data = (!self.data.is_empty()).then_some(data.as_c_str());
        rustix::mount::mount(
            self.source.as_str(),
            target,
            self.kind.as_str(),
            flags,
            data,
        )?;
        // The kernel ignores read-only on the first call of a bind mount.
        if flags.contains(MountFlags::BIND) && flags.contains(MountFlags::RDONLY) {
            rustix::mount::mount_remount(target, flags, c"")?;
        }
        Ok(())
    }
}

/// An NFS server may be given as `addr=` with only the path in the device.
fn nfs_source(kind: &str, source: String, data: &mut [String]) -> String {
    if !matches!(kind, "nfs" | "nfs4") || !source.starts_with(':') {
        return source;
    }
    match data.iter().find_map(|word| word.strip_prefix("addr=")) {
        Some(server) => format!("{server}{source}"),
        None => source,
    }
}

/// Whether something is mounted right there.
pub(super) fn is_mounted(target: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounted_in(&table, target)
}

fn mounted_in(mountinfo: &str, target: &Path) -> bool {
    // The kernel writes blanks in paths as octal.
    let wanted = target.to_string_lossy().replace(' ', "\\040");
    mountinfo
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Option<DeviceMount>> {
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        DeviceMount::parse(&options.collect())
    }

    #[test]
    fn words_become_flags_and_the_rest_data() {
        let got = parse(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,nodev,ro,uid=7"),
        ])
        .expect("is valid")
        .expect("has a device");
        assert_eq!(got.data, "size=1m,uid=7");
        assert_eq!(got.flags, (MountFlags::NODEV | MountFlags::RDONLY).bits());
        assert_eq!(parse(&[]).expect("is valid"), None);
    }

    #[test]
    fn refusals_are_dockers() {
        let told = |options: &[(&str, &str)]| parse(options).expect_err("refused").message;
        assert_eq!(told(&[("x", "1")]), "invalid option: \"x\"");
        assert_eq!(
            told(&[("type", "tmpfs")]),
            "missing required option: \"device\""
        );
    }

    #[test]
    fn nfs_address_completes_the_device() {
        let got = parse(&[
            ("type", "nfs"),
            ("device", ":/x"),
            ("o", "addr=10.0.0.1,rw"),
        ])
        .expect("is valid")
        .expect("has a device");
        assert_eq!(got.source, "10.0.0.1:/x");
    }

    #[test]
    fn mount_table_is_read_by_its_fifth_column() {
        let table = "36 35 98:0 / /a\\040b rw - ext3 /dev/root rw\n";
        assert!(mounted_in(table, Path::new("/a b")));
        assert!(!mounted_in(table, Path::new("/a")));
    }
}
