//! `cp`: files between a container and here, or a tar stream.
//!
//! What comes out of a container is read as hostile: no entry is written
//! outside the place it was asked for, whatever its name or links say.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use hyper::Method;

use super::path as container_path;
use crate::cli::Invocation;
use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::http::{Answer, Query, Upload};
use crate::cli::image::error_text;
use crate::cli::json::Value;
use crate::cli::units;

pub(super) const FLAGS: &str = "\
a archive bool Keep user and group ids
L follow-link bool Copy what a link at SRC_PATH points to
q quiet bool Say nothing";

/// Go's mode bits, as the archive's header has them.
const GO_MODE_DIR: i64 = 1 << 31;
const GO_MODE_SYMLINK: i64 = 1 << 27;

/// What the daemon says of a path in a container.
struct Stat {
    is_dir: bool,
    is_link: bool,
    link_target: String,
}

/// `CONTAINER:PATH`; a name with a slash or dot before the colon is a path here.
fn split(operand: &str) -> (Option<&str>, &str) {
    if operand.starts_with('/') || operand.starts_with('.') {
        return (None, operand);
    }
    match operand.split_once(':') {
        Some((container, path)) => (Some(container), path),
        None => (None, operand),
    }
}

pub(super) fn run(inv: &Invocation) -> Outcome {
    let (source, destination) = (split(&inv.operands[0]), split(&inv.operands[1]));
    if source.1.is_empty() {
        return Err(Exit::failure("source can not be empty"));
    }
    if destination.1.is_empty() {
        return Err(Exit::failure("destination can not be empty"));
    }
    let bytes = match (source, destination) {
        ((Some(_), _), (Some(_), _)) => {
            return Err(Exit::failure("copying between containers is not supported"));
        }
        ((Some(container), from), (None, to)) => from_container(inv, container, from, to)?,
        ((None, from), (Some(container), to)) => to_container(inv, container, from, to)?,
        ((None, _), (None, _)) => {
            return Err(Exit::failure("must specify at least one container source"));
        }
    };
    let watched = rustix::termios::isatty(io::stderr());
    if let Some(bytes) = bytes
        && watched
        && !inv.flags.bool("quiet")
    {
        let to = match destination {
            (Some(container), path) => format!("{container}:{path}"),
            (None, path) => path.to_owned(),
        };
        exit::warn(&format!(
            "Successfully copied {} to {to}",
            units::short_size(bytes as f64)
        ));
    }
    Ok(())
}

fn archive(container: &str, path: &str) -> String {
    container_path(container, &Query::new().with("path", path).on("/archive"))
}

/// Reads the daemon's header about a path.
fn parse_stat(header: &str) -> Option<Stat> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(header)
        .ok()?;
    let stat = Value::parse(&bytes).ok()?;
    let mode = stat.int("mode");
    Some(Stat {
        is_dir: mode & GO_MODE_DIR != 0,
        is_link: mode & GO_MODE_SYMLINK != 0,
        link_target: stat.text("linkTarget").to_owned(),
    })
}

fn stat(inv: &Invocation, container: &str, path: &str) -> Answer<Option<Stat>> {
    let response = inv
        .client
        .request(Method::HEAD, &archive(container, path), Upload::Nothing)?;
    Ok(parse_stat(response.header("x-docker-container-path-stat")))
}

/// The last name of a path; none for `/`, `.` and the like.
fn base_name(path: &str) -> Option<&str> {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .filter(|name| !matches!(*name, "" | "." | ".."))
}

/// Whether a path asks for what a folder holds, not the folder.
fn wants_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

fn from_container(inv: &Invocation, container: &str, from: &str, to: &str) -> Outcome<Option<u64>> {
    let mut source = from.to_owned();
    let mut rename_from = None;
    if inv.flags.bool("follow-link")
        && let Ok(Some(stat)) = stat(inv, container, from)
        && stat.is_link
    {
        source = if stat.link_target.starts_with('/') {
            stat.link_target
        } else {
            let parent = from
                .trim_end_matches('/')
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent);
            format!("{parent}/{}", stat.link_target)
        };
        rename_from = base_name(from);
    }
    let response =
        inv.client
            .request(Method::GET, &archive(container, &source), Upload::Nothing)?;
    let found = parse_stat(response.header("x-docker-container-path-stat"));
    let mut tar = Counted {
        from: response,
        bytes: 0,
    };
    if to == "-" {
        crate::cli::streams::copy(&mut tar, &mut io::stdout().lock())?;
        return Ok(None);
    }
    let is_dir = found.is_some_and(|stat| stat.is_dir);
    let name = rename_from.or_else(|| base_name(&source));
    let place = Place::here(to, is_dir, name, wants_contents(from))?;
    unpack(&mut tar, &place, inv.flags.bool("archive"))?;
    io::copy(&mut tar, &mut io::sink())?;
    Ok(Some(tar.bytes))
}

/// Where an archive's first name goes.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The folder that all is written in.
    root: PathBuf,
    /// What takes the place of each entry's first name; empty for nothing.
    name: PathBuf,
}

impl Place {
    fn here(to: &str, is_dir: bool, name: Option<&str>, contents: bool) -> Outcome<Self> {
        let path = Path::new(to);
        if let Ok(there) = fs::metadata(path) {
            if there.is_dir() {
                let name = if contents {
                    PathBuf::new()
                } else {
                    PathBuf::from(name.unwrap_or(""))
                };
                return Ok(Self {
                    root: path.to_owned(),
                    name,
                });
            }
            if is_dir {
                return Err(Exit::failure("cannot copy directory"));
            }
        }
        let trimmed = Path::new(to.trim_end_matches('/'));
        let parent = match trimmed.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if to.ends_with('/') && !is_dir {
            return Err(Exit::failure("no such directory"));
        }
        if !parent.is_dir() {
            let absolute = std::path::absolute(&parent).unwrap_or(parent);
            return Err(Exit::failure(format!(
                "invalid output path: directory {absolute:?} does not exist"
            )));
        }
        let name = trimmed.file_name().map(PathBuf::from).unwrap_or_default();
        Ok(Self { root: parent, name })
    }

    /// An entry's name under this place; none when it would leave it.
    fn rebase(&self, entry: &Path) -> Option<PathBuf> {
        let mut names = entry.components();
        // The first name is that of what was asked for; `.` for contents.
        names.next();
        let mut whole = self.name.clone();
        for component in names {
            match component {
                Component::Normal(name) => whole.push(name),
                _ => return None,
            }
        }
        Some(whole)
    }
}

/// Writes an archive under a place.
fn unpack(tar: &mut impl Read, place: &Place, keep_owner: bool) -> Outcome {
    let mut archive = tar::Archive::new(tar);
    archive.set_overwrite(true);
    archive.set_preserve_ownerships(keep_owner);
    archive.set_preserve_permissions(true);
    let root = place.root.canonicalize()?;
    let broken = |e: io::Error| Exit::failure(format!("cannot read archive: {e}"));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let refused =
            |why: &str| Exit::failure(format!("refusing archive entry {}: {why}", name.display()));
        let below = place
            .rebase(&name)
            .ok_or_else(|| refused("it would leave the destination"))?;
        if below.as_os_str().is_empty() {
            // The destination itself, which is there.
            continue;
        }
        let target = root.join(&below);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
            // A link made by an earlier entry may lead out.
            if !parent.canonicalize()?.starts_with(&root) {
                return Err(refused("it would leave the destination through a link"));
            }
        }
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() || kind.is_fifo() {
            exit::warn(&format!(
                "WARNING: {} is a device or pipe and was not copied",
                name.display()
            ));
            continue;
        }
        if kind.is_dir() && target.is_dir() && !target.is_symlink() {
            continue;
        }
        if kind.is_hard_link() {
            let link = entry
                .link_name()
                .map_err(broken)?
                .ok_or_else(|| refused("it links to nothing"))?;
            let to = place.rebase(&link).map(|below| root.join(below));
            let to = to.filter(|to| to.canonicalize().is_ok_and(|to| to.starts_with(&root)));
            let to = to.ok_or_else(|| refused("it links to what is not in the archive"))?;
            let _ = fs::remove_file(&target);
            fs::hard_link(to, &target)?;
            continue;
        }
        entry
            .unpack(&target)
            .map_err(|e| Exit::failure(format!("{}: {e}", target.display())))?;
    }
    Ok(())
}

fn to_container(inv: &Invocation, container: &str, from: &str, to: &str) -> Outcome<Option<u64>> {
    let mut to = to.to_owned();
    let mut there = stat(inv, container, &to).ok().flatten();
    if let Some(stat) = there.as_ref().filter(|stat| stat.is_link) {
        let parent = to
            .trim_end_matches('/')
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent);
        to = match stat.link_target.starts_with('/') {
            true => stat.link_target.clone(),
            false => format!("{parent}/{}", stat.link_target),
        };
        there = self::stat(inv, container, &to).ok().flatten();
    }
    if from == "-" {
        if there.as_ref().is_some_and(|stat| !stat.is_dir) {
            return Err(Exit::failure(format!(
                "destination \"{container}:{to}\" must be a directory"
            )));
        }
        put(inv, container, &to, Box::new(io::stdin()))?;
        return Ok(None);
    }
    let follow = inv.flags.bool("follow-link");
    let source = std::path::absolute(from)?;
    let found = if follow {
        fs::metadata(&source)
    } else {
        fs::symlink_metadata(&source)
    };
    let found = found
        .map_err(|e| Exit::failure(format!("lstat {}: {}", source.display(), error_text(&e))))?;
    let is_dir = found.is_dir() || wants_contents(from) && source.is_dir();
    let to_is_dir = there.as_ref().is_some_and(|stat| stat.is_dir);
    let (folder, name) = if to_is_dir {
        let name = if wants_contents(from) {
            "."
        } else {
            base_name(from).unwrap_or(".")
        };
        (to.clone(), name.to_owned())
    } else {
        if there.is_some() && is_dir {
            return Err(Exit::failure("cannot copy directory"));
        }
        if to.ends_with('/') && !is_dir {
            return Err(Exit::failure("no such directory"));
        }
        let trimmed = to.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        (
            if parent.is_empty() {
                "/".to_owned()
            } else {
                parent.to_owned()
            },
            name.to_owned(),
        )
    };
    let (reader, writer) = io::pipe()?;
    let packing = std::thread::spawn(move || pack(writer, &source, &name, is_dir, follow));
    let sent = put(inv, container, &folder, Box::new(reader));
    let packed = packing
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("packing gave up")));
    sent?;
    Ok(Some(packed?))
}

fn put(inv: &Invocation, container: &str, folder: &str, tar: Box<dyn Read + Send>) -> Outcome {
    let query = Query::new()
        .with("path", folder)
        .with("noOverwriteDirNonDir", "true")
        .some(
            "copyUIDGID",
            if inv.flags.bool("archive") {
                "true"
            } else {
                ""
            },
        );
    inv.client.request(
        Method::PUT,
        &container_path(container, &query.on("/archive")),
        Upload::Tar(tar),
    )?;
    Ok(())
}

/// Writes a file or folder as an archive under another name; how many bytes.
fn pack(
    to: impl io::Write,
    source: &Path,
    name: &str,
    is_dir: bool,
    follow: bool,
) -> io::Result<u64> {
    struct Counting<W> {
        to: W,
        bytes: u64,
    }
    impl<W: io::Write> io::Write for Counting<W> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let n = self.to.write(buf)?;
            self.bytes += n as u64;
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.to.flush()
        }
    }
    let mut archive = tar::Builder::new(Counting { to, bytes: 0 });
    archive.follow_symlinks(false);
    if is_dir {
        archive.append_dir_all(name, source)?;
    } else if follow {
        archive.append_path_with_name(source.canonicalize()?, name)?;
    } else {
        archive.append_path_with_name(source, name)?;
    }
    let mut done = archive.into_inner()?;
    io::Write::flush(&mut done)?;
    Ok(done.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_name_containers_or_files() {
        assert_eq!(split("c:/a"), (Some("c"), "/a"));
        assert_eq!(split("./c:/a"), (None, "./c:/a"));
        assert_eq!(split("-"), (None, "-"));
        assert_eq!(base_name("/a/b/"), Some("b"));
        assert_eq!(base_name("/"), None);
        assert!(wants_contents("/a/.") && !wants_contents("/a"));
    }

    #[test]
    fn entries_stay_in_their_place() {
        let place = Place {
            root: "/r".into(),
            name: "n".into(),
        };
        assert_eq!(place.rebase(Path::new("d/x/y")), Some("n/x/y".into()));
        assert_eq!(place.rebase(Path::new("d/../../etc")), None);
        assert_eq!(place.rebase(Path::new("d")), Some("n".into()));
        assert_eq!(place.rebase(Path::new("./f")), Some("n/f".into()));
    }

    #[test]
    fn a_link_out_of_the_destination_is_refused() {
        let root = std::env::temp_dir().join(format!("skep-cp-{}", std::process::id()));
        fs::create_dir_all(root.join("in")).unwrap();
        fs::create_dir_all(root.join("out")).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "d/l", root.join("out")).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        tar.append_data(&mut file, "d/l/evil", &b"x"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let place = Place {
            root: root.join("in"),
            name: "d".into(),
        };
        let e = unpack(&mut bytes.as_slice(), &place, false).unwrap_err();
        assert!(e.message.contains("through a link"), "{}", e.message);
        assert!(!root.join("out/evil").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
