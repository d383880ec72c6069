//! A tar read member by member with bounded memory: the tar crate keeps long
//! names and PAX records whole, so the bytes it may read between two bodies
//! are metered; bodies are exact or an error; counts and sizes have limits.

use crate::{
    compression::invalid,
    error::{Error, Result},
    limits::{COPY_BYTES, HEADER_BYTES_MAX},
};
use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};
use tar::{Archive, EntryType};

/// Prefix of a PAX record that carries an extended attribute.
const XATTR_RECORD: &[u8] = b"SCHILY.xattr.";

/// One member's header, read but not believed.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Target of a link, else empty.
    pub(crate) link: Vec<u8>,
    /// Bytes of the body.
    pub(crate) size: u64,
    /// Permission and set-id bits only.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// Major and minor.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        format!("{:?}", String::from_utf8_lossy(&self.name))
    }
}

/// Bounds on one tar.
pub(crate) struct Bounds {
    pub(crate) entries_max: u64,
    pub(crate) bytes_max: u64,
}

/// Calls `visit` for each member with its body, which it need not read.
/// Errors name the member they happened at.
pub(crate) fn each_member(
    from: impl Read,
    bounds: &Bounds,
    visit: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let allowance = Rc::new(Cell::new(HEADER_BYTES_MAX));
    let mut archive = Archive::new(Metered {
        from,
        allowance: Rc::clone(&allowance),
    });
    let mut last = String::new();
    let (mut count, mut total) = (0_u64, 0_u64);
    let mut entries = archive.entries().map_err(|e| header_error(&e, &last))?;
    loop {
        allowance.set(HEADER_BYTES_MAX);
        let mut entry = match entries.next() {
            None => break,
            Some(entry) => entry.map_err(|e| header_error(&e, &last))?,
        };
        let member = read_header(&mut entry).map_err(|e| header_error(&e, &last))?;
        let within = |e: Error| e.within(format_args!("entry {}", member.name()));
        count += 1;
        total = total.saturating_add(member.size);
        if count > bounds.entries_max {
            let message = format!("the archive has more than {} entries", bounds.entries_max);
            return Err(within(Error::invalid(message)));
        }
        if total > bounds.bytes_max {
            let message = format!(
                "with its {} bytes the archive unpacks to more than {}",
                member.size, bounds.bytes_max
            );
            return Err(within(Error::invalid(message)));
        }
        allowance.set(u64::MAX);
        let mut body = Exact {
            from: entry,
            rest: member.size,
        };
        visit(&member, &mut body).map_err(within)?;
        skip(&mut body).map_err(|e| within(e.into()))?;
        last = member.name();
    }
    Ok(())
}

/// Reads what is left: a digest is of all bytes, also those after the end.
pub(crate) fn skip(from: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(16 << 10)];
    while from.read(&mut buffer)? > 0 {}
    Ok(())
}

fn read_header<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Member> {
    let mut xattrs = Vec::new();
    let mut modified_exactly = None;
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            let record = record?;
            let key = record.key_bytes();
            if let Some(name) = key.strip_prefix(XATTR_RECORD) {
                xattrs.push((name.to_vec(), record.value_bytes().to_vec()));
            } else if key == b"mtime" {
                modified_exactly = record.value().ok().and_then(parse_time);
            }
        }
    }
    let name = entry.path_bytes().into_owned();
    let link = entry
        .link_name_bytes()
        .map_or_else(Vec::new, |link| link.into_owned());
    let size = entry.size();
    let header = entry.header();
    let mut kind = header.entry_type();
    // As tars from before POSIX spell a folder.
    if header.as_bytes().get(156) == Some(&0) && name.ends_with(b"/") {
        kind = EntryType::Directory;
    }
    let bodiless = kind.is_dir()
        || kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_fifo();
    if bodiless && size > 0 {
        // Parsers disagree whether the body is there: refuse the ambiguity.
        return Err(invalid(format!(
            "entry {:?} of a kind without a body claims one of {size} bytes",
            String::from_utf8_lossy(&name)
        )));
    }
    let owner = |id: u64| {
        u32::try_from(id).map_err(|_| invalid(format!("owner {id} does not fit 32 bits")))
    };
    let device = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    Ok(Member {
        kind,
        link,
        size,
        mode: header.mode()? & 0o7777,
        uid: owner(header.uid()?)?,
        gid: owner(header.gid()?)?,
        modified: modified_exactly.unwrap_or_else(|| {
            (
                header
                    .mtime()
                    .ok()
                    .and_then(|s| i64::try_from(s).ok())
                    .unwrap_or(0),
                0,
            )
        }),
        device: (device(header.device_major()), device(header.device_minor())),
        xattrs,
        name,
    })
}

/// PAX times: decimal seconds with a fraction.
fn parse_time(text: &str) -> Option<(i64, i64)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let (seconds, nanos) = (seconds.parse::<i64>().ok()?, digits.parse::<i64>().ok()?);
    match (text.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

fn header_error(e: &io::Error, last: &str) -> Error {
    let place = if last.is_empty() {
        "first entry".into()
    } else {
        format!("after entry {last}")
    };
    let text = e.to_string();
    let reason = match e.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        _ if text.contains("failed to read entire block") => "unexpected EOF".into(),
        io::ErrorKind::Other => format!("archive/tar: invalid tar header ({text})"),
        _ => return Error::from(io::Error::new(e.kind(), text)).within(place),
    };
    Error::invalid(reason).within(place)
}

/// Bytes may pass while the allowance lasts.
struct Metered<R> {
    from: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.get();
        if left == 0 {
            return Err(invalid(format!(
                "headers of one entry exceed {HEADER_BYTES_MAX} bytes"
            )));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.from.read(buf.get_mut(..most).unwrap_or_default())?;
        if left != u64::MAX {
            self.allowance.set(left - n as u64);
        }
        Ok(n)
    }
}

/// A body that ends where its header says or fails.
struct Exact<R> {
    from: R,
    rest: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest == 0 || buf.is_empty() {
            return Ok(0);
        }
        let n = self.from.read(buf)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest = self.rest.saturating_sub(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times_have_fractions_and_signs() {
        assert_eq!(parse_time("12.5"), Some((12, 500_000_000)));
        assert_eq!(parse_time("12"), Some((12, 0)));
        assert_eq!(parse_time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time("12.1234567891"), Some((12, 123_456_789)));
        assert_eq!(parse_time("x"), None);
    }
}
