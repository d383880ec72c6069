//! Members of a layer become files of a folder that overlayfs can stack: a
//! whiteout is a character device 0/0, an opaque folder has overlayfs' mark.
//! Owners, modes with set-id bits, times, device nodes and file capabilities
//! are kept, as Docker keeps them; attributes that would speak to overlayfs
//! itself are not taken from an archive.

use crate::{
    error::{Error, Kind, Result},
    limits::{COPY_BYTES, DEFERRED_BYTES_MAX},
    unpack::{
        root::{Place, Root, clean, join, remove_tree},
        stream::Member,
    },
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use std::{
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Aufs' own bookkeeping, which old Docker layers contain.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Mode of a folder that no layer describes, as Docker makes it.
const IMPLIED_MODE: u32 = 0o755;

/// A layer's folder while it is filled.
pub(crate) struct Tree {
    root: Root,
    /// The layers below, the nearest first: they describe folders that this
    /// layer only implies.
    parents: Vec<Root>,
    /// The last parent used: members come folder by folder.
    recent: Option<(Place, OwnedFd)>,
    /// Folders whose times are set at the end.
    deferred: Vec<(Place, (i64, i64))>,
    deferred_bytes: usize,
    root_is_opaque: bool,
    size: u64,
    buffer: Vec<u8>,
}

impl Tree {
    pub(crate) fn new(root: Root, parents: Vec<Root>) -> Result<Self> {
        let mut tree = Self {
            root,
            parents,
            recent: None,
            deferred: Vec::new(),
            deferred_bytes: 0,
            root_is_opaque: false,
            size: 0,
            buffer: vec![0; COPY_BYTES],
        };
        tree.copy_folder(&[], &tree.root.folder(&[])?)?;
        Ok(tree)
    }

    /// Adds one member.
    pub(crate) fn add(&mut self, member: &Member, body: &mut dyn Read) -> Result<()> {
        if member.kind.is_pax_global_extensions() {
            return Ok(());
        }
        let mut place = clean(&member.name)?;
        let Some(name) = place.pop() else {
            return self.describe_root(member);
        };
        if name == OPAQUE {
            return self.mark_opaque(&place);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = name.strip_prefix(WHITEOUT);
        if let Some(hidden) = hidden {
            check_hidden(hidden)?;
            if !self.is_below(&place, hidden) {
                // Overlayfs shows a whiteout that hides nothing as a device.
                return Ok(());
            }
        }
        let parent = self.parent(&place)?;
        let result = match hidden {
            Some(hidden) => white_out(parent.as_fd(), hidden),
            None => self.make(&place, parent.as_fd(), &name, member, body),
        };
        self.recent = Some((place, parent));
        result
    }

    /// Sets what had to wait; gives the bytes of all files.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if self.root_is_opaque {
            self.hide_all_below()?;
        }
        while let Some((place, modified)) = self.deferred.pop() {
            // A later member may have replaced the folder: then there is
            // nothing to set.
            if let Ok(folder) = self.root.folder_without_links(&place) {
                rustix::fs::futimens(&folder, &times(modified))?;
            }
        }
        Ok(self.size)
    }

    /// The member's folder, made where the archive only implies it.
    fn parent(&mut self, place: &[Vec<u8>]) -> Result<OwnedFd> {
        if let Some((recent, fd)) = self.recent.take()
            && recent == place
        {
            return Ok(fd);
        }
        match self.root.folder(place) {
            Err(Errno::NOENT) => self.imply(place),
            result => result.map_err(|e| parent_error(place, e)),
        }
    }

    fn imply(&mut self, place: &[Vec<u8>]) -> Result<OwnedFd> {
        let mut above = self.root.folder(&[])?;
        for (depth, name) in place.iter().enumerate() {
            let here = place.get(..=depth).unwrap_or(place);
            above = match self.root.folder(here) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    if is_whiteout(above.as_fd(), name) {
                        rustix::fs::unlinkat(&above, name.as_slice(), AtFlags::empty())?;
                    }
                    let mode = Mode::from_raw_mode(IMPLIED_MODE);
                    rustix::fs::mkdirat(&above, name.as_slice(), mode)
                        .map_err(|e| parent_error(here, e))?;
                    let made = self.root.folder(here).map_err(|e| parent_error(here, e))?;
                    self.copy_folder(here, &made)?;
                    made
                }
                Err(e) => return Err(parent_error(here, e)),
            };
        }
        Ok(above)
    }

    /// Takes mode, owner and times for a folder from the layer below, so that
    /// implying it does not change how it looks in the stack.
    fn copy_folder(&mut self, place: &[Vec<u8>], to: &OwnedFd) -> Result<()> {
        let below = self
            .parents
            .iter()
            .find_map(|parent| parent.folder_without_links(place).ok());
        let Some(below) = below else {
            rustix::fs::fchmod(to, Mode::from_raw_mode(IMPLIED_MODE))?;
            return Ok(());
        };
        let stat = rustix::fs::fstat(&below)?;
        rustix::fs::fchown(
            to,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        #[allow(
            clippy::useless_conversion,
            reason = "its type differs between targets"
        )]
        let modified = (
            i64::from(stat.st_mtime),
            i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        );
        self.defer(place.to_vec(), modified);
        Ok(())
    }

    fn describe_root(&mut self, member: &Member) -> Result<()> {
        if !member.kind.is_dir() {
            return Err(Error::invalid("the root itself can only be a folder"));
        }
        let root = self.root.folder(&[])?;
        describe(root.as_fd(), member)?;
        self.defer(Place::new(), member.modified);
        Ok(())
    }

    fn mark_opaque(&mut self, place: &[Vec<u8>]) -> Result<()> {
        if place.is_empty() {
            self.root_is_opaque = true;
            return Ok(());
        }
        let folder = self.parent(place)?;
        Ok(rustix::fs::fsetxattr(
            &folder,
            OPAQUE_XATTR,
            b"y",
            XattrFlags::empty(),
        )?)
    }

    /// Some layer beneath has the name, if only as a whiteout.
    fn is_below(&self, place: &[Vec<u8>], name: &[u8]) -> bool {
        self.parents.iter().any(|parent| {
            let folder = parent.folder_without_links(place);
            folder.is_ok_and(|folder| {
                rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            })
        })
    }

    /// Overlayfs never treats a layer's root as opaque: hide name by name.
    fn hide_all_below(&mut self) -> Result<()> {
        for parent in &self.parents {
            for entry in Dir::read_from(parent.fd())? {
                let entry = entry?;
                match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => white_out(self.root.fd(), name)?,
                }
            }
        }
        Ok(())
    }

    fn make(
        &mut self,
        place: &[Vec<u8>],
        parent: BorrowedFd<'_>,
        name: &[u8],
        member: &Member,
        body: &mut dyn Read,
    ) -> Result<()> {
        let kind = member.kind;
        if kind.is_dir() {
            return self.make_folder(place, parent, name, member);
        }
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            return self.make_file(parent, name, member, body);
        }
        if kind.is_hard_link() {
            return self.make_hard_link(parent, name, member);
        }
        if kind.is_symlink() {
            if member.link.is_empty() || member.link.contains(&0) {
                return Err(Error::invalid("a symbolic link without a usable target"));
            }
            replacing(parent, name, || {
                rustix::fs::symlinkat(member.link.as_slice(), parent, name)
            })?;
            own(parent, name, member)?;
            // Docker counts what a link says as its size.
            self.size += member.link.len() as u64;
        } else {
            let node = match kind {
                kind if kind.is_character_special() => FileType::CharacterDevice,
                kind if kind.is_block_special() => FileType::BlockDevice,
                kind if kind.is_fifo() => FileType::Fifo,
                kind => {
                    return Err(Error::invalid(format!(
                        "unhandled tar header type {}",
                        kind.as_byte()
                    )));
                }
            };
            let (major, minor) = member.device;
            let device = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(member.mode);
            replacing(parent, name, || {
                rustix::fs::mknodat(parent, name, node, mode, device)
            })?;
            own(parent, name, member)?;
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(
            parent,
            name,
            &times(member.modified),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn make_folder(
        &mut self,
        place: &[Vec<u8>],
        parent: BorrowedFd<'_>,
        name: &[u8],
        member: &Member,
    ) -> Result<()> {
        let was_hidden = is_whiteout(parent, name);
        let mkdir = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        match mkdir() {
            // A folder twice is merged, anything else replaced.
            Err(Errno::EXIST) if is_folder(parent, name) => {}
            Err(Errno::EXIST) => replacing(parent, name, mkdir)?,
            result => result?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        describe(folder.as_fd(), member)?;
        if was_hidden {
            rustix::fs::fsetxattr(&folder, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        let mut own_place = place.to_vec();
        own_place.push(name.to_vec());
        self.defer(own_place, member.modified);
        Ok(())
    }

    fn make_file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        member: &Member,
        body: &mut dyn Read,
    ) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(replacing(parent, name, create)?);
        loop {
            let n = body.read(&mut self.buffer)?;
            if n == 0 {
                break;
            }
            file.write_all(self.buffer.get(..n).unwrap_or_default())?;
            self.size += n as u64;
        }
        describe(file.as_fd(), member)?;
        Ok(rustix::fs::futimens(&file, &times(member.modified))?)
    }

    fn make_hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        member: &Member,
    ) -> Result<()> {
        let shown = String::from_utf8_lossy(&member.link).into_owned();
        let wrong =
            |reason: &str| Error::invalid(format!("invalid hardlink to {shown:?}: {reason}"));
        let mut target = clean(&member.link).map_err(|e| wrong(&e.message))?;
        let Some(last) = target.pop() else {
            return Err(wrong("it is the root"));
        };
        let from = self.root.folder(&target).map_err(|e| wrong(&reason(e)))?;
        if is_folder(from.as_fd(), &last) {
            return Err(wrong("it is a folder"));
        }
        let link = || rustix::fs::linkat(&from, last.as_slice(), parent, name, AtFlags::empty());
        if link() == Err(Errno::EXIST) {
            if is_same(from.as_fd(), &last, parent, name) {
                return Ok(());
            }
            replacing(parent, name, link).map_err(|e| wrong(&e.message))?;
        } else if !is_same(from.as_fd(), &last, parent, name) {
            return Err(wrong("no such file in this layer"));
        }
        Ok(())
    }

    fn defer(&mut self, place: Place, modified: (i64, i64)) {
        let bytes = place
            .iter()
            .map(|name| name.len() + size_of::<Vec<u8>>())
            .sum::<usize>();
        if self.deferred_bytes + bytes <= DEFERRED_BYTES_MAX {
            self.deferred_bytes += bytes;
            self.deferred.push((place, modified));
        }
    }
}

/// Runs `make`; if something has the name already, that goes first.
fn replacing<T>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            remove_tree(parent, name)?;
            Ok(make()?)
        }
        result => Ok(result?),
    }
}

fn check_hidden(name: &[u8]) -> Result<()> {
    match name {
        b"" | b"." | b".." => Err(Error::invalid("a whiteout without a name to hide")),
        _ => Ok(()),
    }
}

/// Hides `name` of the layers below. What this very layer has under the name
/// stays: a whiteout speaks of lower layers only, in whatever order it comes.
fn white_out(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let mode = Mode::empty();
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, 0) {
        Err(Errno::EXIST) if is_folder(parent, name) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            Ok(rustix::fs::fsetxattr(
                &folder,
                OPAQUE_XATTR,
                b"y",
                XattrFlags::empty(),
            )?)
        }
        Err(Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

/// Owner, mode and attributes of an open file or folder. The owner first:
/// changing it clears set-id bits and capabilities.
fn describe(fd: BorrowedFd<'_>, member: &Member) -> Result<()> {
    rustix::fs::fchown(
        fd,
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
    )?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(member.mode))?;
    for (name, value) in &member.xattrs {
        if !is_wanted_xattr(name) {
            continue;
        }
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            // The file system keeps none of this kind; Docker goes on as well.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if name.starts_with(b"user.") => {}
            Err(e) => {
                let name = String::from_utf8_lossy(name);
                return Err(Error::from(e).within(format_args!("extended attribute {name}")));
            }
        }
    }
    Ok(())
}

/// Capabilities, access lists and users' own. Not `trusted.`: an archive
/// could redirect overlayfs to other files; not other `security.`: labels are
/// this machine's business.
fn is_wanted_xattr(name: &[u8]) -> bool {
    let of_users = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let known: [&[u8]; 3] = [
        b"security.capability",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    ];
    (of_users || known.contains(&name)) && !name.contains(&0)
}

fn own(parent: BorrowedFd<'_>, name: &[u8], member: &Member) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    Ok(rustix::fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn is_folder(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

fn is_same(a: BorrowedFd<'_>, a_name: &[u8], b: BorrowedFd<'_>, b_name: &[u8]) -> bool {
    let inode = |fd, name: &[u8]| {
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    matches!((inode(a, a_name), inode(b, b_name)), (Some(a), Some(b)) if a == b)
}

fn times((seconds, nanos): (i64, i64)) -> Timestamps {
    #[allow(
        clippy::useless_conversion,
        reason = "its type differs between targets"
    )]
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn reason(e: Errno) -> String {
    Error::from(e).message
}

/// Why a member's folder cannot be used; the archive's fault but for a disk's.
fn parent_error(place: &[Vec<u8>], e: Errno) -> Error {
    let shown = String::from_utf8_lossy(&join(place)).into_owned();
    let kind = match e {
        Errno::NOSPC | Errno::IO | Errno::ROFS | Errno::DQUOT | Errno::MFILE => Kind::Internal,
        _ => Kind::Invalid,
    };
    Error {
        kind,
        message: format!("its folder {shown:?}: {}", reason(e)),
    }
}
