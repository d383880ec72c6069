//! Files into and out of a container: `cp`, `export`, stat.
//!
//! Everything is resolved below the container's root, so a link in it leads
//! nowhere else; what comes in is unpacked as hostile input. Tar is read and
//! written on a thread of the blocking pool, a few pieces ahead of the client.

use super::Executor;
use super::container::Container;
use super::mounts::clean;
use super::rootfs::{self, Root};
use super::unpack;
use crate::backend::{ArchivePut, ByteStream, PathStat, Reader};
use crate::error::{Error, Kind, Result};
use rustix::fs::{AtFlags, OFlags, Stat};
use skep_control::model::WallTime;
use smol::channel::{Sender, bounded};
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one piece of a stream, and pieces made ahead of a slow client.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_AHEAD: usize = 4;
/// Folders within folders: the kernel's longest path has 2048.
const DEPTH_MAX: usize = 2048;

/// Where a path of a container leads: below one of its mounts, or its root.
pub(super) struct Place {
    pub(super) root: Root,
    pub(super) path: PathBuf,
    pub(super) writable: bool,
}

impl Executor {
    /// Something in the container's file system, links not followed.
    pub(crate) async fn archive_stat(&self, wanted: &str, path: &str) -> Result<PathStat> {
        let container = self.container_with_layers(wanted).await?;
        let (executor, path, wanted) = (self.clone(), path.to_owned(), wanted.to_owned());
        smol::unblock(move || {
            let place = executor.place(&container, &path)?;
            stat(&place, &path).map_err(|e| missing(&e, &path, &wanted))
        })
        .await
    }

    /// A file or folder as a tar stream.
    pub(crate) async fn archive_get(
        &self,
        wanted: &str,
        path: &str,
    ) -> Result<(PathStat, ByteStream)> {
        let container = self.container_with_layers(wanted).await?;
        let (executor, path, wanted) = (self.clone(), path.to_owned(), wanted.to_owned());
        smol::unblock(move || {
            let place = executor.place(&container, &path)?;
            let found = stat(&place, &path).map_err(|e| missing(&e, &path, &wanted))?;
            let name = match path.ends_with("/.") || found.name == "/" {
                true => PathBuf::from("."),
                false => PathBuf::from(&found.name),
            };
            Ok((found, stream(place.root, place.path, name, false)))
        })
        .await
    }

    /// The whole root file system, without what is mounted in it.
    pub(crate) async fn export(&self, wanted: &str) -> Result<ByteStream> {
        let container = self.container_with_layers(wanted).await?;
        let executor = self.clone();
        let of = container.clone();
        let root = smol::unblock(move || executor.root_of(&of)).await?;
        self.tell(&container, "export", &[]);
        Ok(stream(root, PathBuf::from("/"), PathBuf::from("."), true))
    }

    /// Unpacks a tar stream into a folder.
    pub(crate) async fn archive_put(
        &self,
        wanted: &str,
        path: &str,
        options: ArchivePut,
        body: Reader,
    ) -> Result<()> {
        let container = self.container_with_layers(wanted).await?;
        let (executor, path, wanted) = (self.clone(), path.to_owned(), wanted.to_owned());
        smol::unblock(move || {
            let place = executor.place(&container, &path)?;
            if !place.writable {
                return Err(Error::forbidden("container rootfs is marked read-only"));
            }
            // Followed: a link to a folder is a folder to put into.
            let folder = place
                .root
                .open(&place.path, OFlags::PATH)
                .map_err(|e| missing(&e.into(), &path, &wanted))?;
            let is_folder = rustix::fs::fstat(&folder).is_ok_and(|stat| is_dir(&stat));
            if !is_folder {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            let body = skep_images::plain(smol::io::BlockOn::new(body))
                .map_err(|e| Error::invalid(format!("archive: {e}")))?;
            unpack::into(&place, options, body)
        })
        .await
    }

    async fn container_with_layers(&self, wanted: &str) -> Result<Arc<Container>> {
        let container = self.find(wanted)?;
        self.know_layers(&container).await?;
        Ok(container)
    }

    /// A running container shows its mounts itself; a stopped one's volumes
    /// are looked up by hand.
    fn place(&self, container: &Container, path: &str) -> Result<Place> {
        let target = PathBuf::from(clean(path));
        let (runs, mounts, read_only) = {
            let life = container.life();
            let record = &life.record;
            (
                life.state.is_running(),
                record.mounts.clone(),
                record.create.host.readonly_rootfs,
            )
        };
        let below = mounts
            .iter()
            .filter(|mount| mount.kind != "tmpfs" && target.starts_with(&mount.destination))
            .max_by_key(|mount| mount.destination.len());
        let Some(mount) = below else {
            return Ok(Place {
                root: self.root_of(container)?,
                path: target,
                writable: !read_only,
            });
        };
        if runs {
            let root = self.root_of(container)?;
            return Ok(Place {
                root,
                path: target,
                writable: mount.writable,
            });
        }
        let rest = target.strip_prefix(&mount.destination).unwrap_or(&target);
        let source = match mount.subpath.is_empty() {
            true => PathBuf::from(&mount.source),
            false => rootfs::inside(Path::new(&mount.source), Path::new(&mount.subpath))?,
        };
        Ok(Place {
            root: rootfs::of_image(&[source])?,
            path: Path::new("/").join(rest),
            writable: mount.writable,
        })
    }
}

/// Docker's words for something that is not there.
fn missing(error: &io::Error, path: &str, container: &str) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::not_found(format!(
            "Could not find the file {path} in container {container}"
        )),
        _ => Error {
            kind: Kind::Internal,
            message: format!("{path}: {error}"),
        },
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir()
}

fn is_link(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink()
}

fn stat(place: &Place, asked: &str) -> io::Result<PathStat> {
    // A slash at the end asks for the folder behind a link.
    let follow = match asked.ends_with('/') || asked.ends_with("/.") {
        true => OFlags::DIRECTORY,
        false => OFlags::NOFOLLOW,
    };
    let fd = place.root.open(&place.path, OFlags::PATH | follow)?;
    let stat = rustix::fs::fstat(&fd)?;
    let link_target = match is_link(&stat) {
        true => {
            let link = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
            let link = PathBuf::from(OsStr::from_bytes(link.as_bytes()));
            let parent = Path::new(asked).parent().unwrap_or(Path::new("/"));
            clean(&parent.join(link).to_string_lossy())
        }
        false => String::new(),
    };
    let cleaned = clean(asked);
    let name = Path::new(&cleaned)
        .file_name()
        .map_or("/".into(), OsStr::to_string_lossy);
    Ok(PathStat {
        name: name.into_owned(),
        size: stat.st_size as i64,
        mode: stat.st_mode,
        modified: WallTime(
            (stat.st_mtime as i64)
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec as i64),
        ),
        link_target,
    })
}

/// Packs on a thread; a failure is the stream's last item.
fn stream(root: Root, path: PathBuf, name: PathBuf, one_device: bool) -> ByteStream {
    let (to, from) = bounded(PIECES_AHEAD);
    smol::unblock(move || {
        let out = Pieces {
            to: to.clone(),
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        if let Err(error) = pack(&root, &path, &name, one_device, out)
            // A client that went away needs no reason.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let message = format!("{}: {error}", path.display());
            let _ = to.send_blocking(Err(Error::internal(message)));
        }
    })
    .detach();
    Box::pin(from)
}

/// A writer into a channel of pieces.
struct Pieces {
    to: Sender<Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.piece.len()).max(1);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.to
            .send_blocking(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Packer {
    tar: tar::Builder<Pieces>,
    /// (device, inode) → the name under which it is in the archive.
    links: HashMap<(u64, u64), PathBuf>,
    /// Stay on the file system of the start.
    device: Option<u64>,
}

fn pack(root: &Root, path: &Path, name: &Path, one_device: bool, out: Pieces) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut packer = Packer {
        tar: tar::Builder::new(out),
        links: HashMap::new(),
        device: None,
    };
    match path.file_name() {
        Some(last) => {
            let folder = root.open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let last = CString::new(last.as_bytes())?;
            packer.entry(folder.as_fd(), &last, name, 0)?;
        }
        None => {
            let folder = root.open(Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY)?;
            let stat = rustix::fs::fstat(&folder)?;
            packer.device = one_device.then_some(device(&stat));
            packer.folder(folder, &stat, name, 0)?;
        }
    }
    packer.tar.into_inner()?.flush()
}

impl Packer {
    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        as_name: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_dir(&stat) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty())?;
            return self.folder(inner, &stat, as_name, depth);
        }
        let mut header = header(&stat)?;
        let key = (device(&stat), stat.st_ino as u64);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&key)
        {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            return self.tar.append_link(&mut header, as_name, first);
        }
        self.links.insert(key, as_name.to_owned());
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty())?;
                self.attributes(fd.as_fd())?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                // A file that shrinks on the way is filled up; one that grows
                // is cut: its header is already out.
                let bytes = io::Read::take(
                    io::Read::chain(std::fs::File::from(fd), io::repeat(0)),
                    size,
                );
                self.tar.append_data(&mut header, as_name, bytes)
            }
            rustix::fs::FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
                self.tar.append_link(&mut header, as_name, target)
            }
            // A socket means nothing outside; tar has no word for it.
            rustix::fs::FileType::Socket => Ok(()),
            _ => self.tar.append_data(&mut header, as_name, io::empty()),
        }
    }

    fn folder(
        &mut self,
        folder: OwnedFd,
        stat: &Stat,
        as_name: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other("folders are nested too deep"));
        }
        let mut header = header(stat)?;
        self.attributes(folder.as_fd())?;
        self.tar
            .append_data(&mut header, as_name.join(""), io::empty())?;
        if self.device.is_some_and(|start| start != device(stat)) {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        // The same container gives the same archive.
        names.sort();
        for name in names {
            let inner = as_name.join(OsStr::from_bytes(name.to_bytes()));
            match self.entry(folder.as_fd(), &name, &inner, depth + 1) {
                // It went away meanwhile, as files in /proc and /tmp do.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// File capabilities and the like, as pax records before the entry.
    fn attributes(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut names = vec![0; 4096];
        let Ok(length) = rustix::fs::flistxattr(fd, &mut names[..]) else {
            return Ok(());
        };
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        for name in names.get(..length).unwrap_or_default().split(|b| *b == 0) {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if !name.starts_with("security.capability") && !name.starts_with("user.") {
                continue;
            }
            let mut value = vec![0; 64 << 10];
            if let Ok(length) = rustix::fs::fgetxattr(fd, name, &mut value[..]) {
                value.truncate(length);
                records.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(records)
    }
}

#[allow(clippy::unnecessary_cast, reason = "narrower on some targets")]
fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

fn header(stat: &Stat) -> io::Result<tar::Header> {
    use rustix::fs::FileType;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match kind {
        FileType::Directory => tar::EntryType::Directory,
        FileType::Symlink => tar::EntryType::Symlink,
        FileType::CharacterDevice => tar::EntryType::Char,
        FileType::BlockDevice => tar::EntryType::Block,
        FileType::Fifo => tar::EntryType::Fifo,
        _ => tar::EntryType::Regular,
    });
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(match kind {
        FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    });
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        header.set_device_major(rustix::fs::major(stat.st_rdev))?;
        header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
    }
    Ok(header)
}
