//! What a container mounts: short and long forms, the image's volumes and
//! other containers' become one list. Parsing is pure; making volumes is not.

use super::record::Mounted;
use super::{Executor, now, random_id};
use crate::error::{Error, Result};
use crate::volumes::Volume;
use skep_control::model::{ContainerCreate, Labels, Mount};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Mounts of one container: the kernel takes 100,000 a namespace; a record
/// with more than this is a mistake.
const MOUNTS_MAX: usize = 1024;

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// A mount and what its volume is to be, if it has one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) mounted: Mounted,
    volume_labels: Labels,
    volume_options: Labels,
    volume_driver: String,
    /// A missing source is an error, not a new folder.
    must_exist: bool,
}

/// All that a request asks for, but the mounts of other containers.
pub(super) fn parse(create: &ContainerCreate) -> Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    for bind in &create.host.binds {
        wishes.push(short_form(bind, &create.host.volume_driver)?);
    }
    for mount in &create.host.mounts {
        let wish = long_form(mount)
            .map_err(|e| e.within(format!("invalid mount config for type \"{}\"", mount.kind)))?;
        wishes.push(wish);
    }
    let mut targets = BTreeSet::new();
    for wish in &wishes {
        if !targets.insert(wish.mounted.destination.clone()) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {}",
                wish.mounted.destination
            )));
        }
    }
    targets.extend(create.host.tmpfs.keys().map(|path| clean(path)));
    for path in create.config.volumes.keys() {
        let target = target(path)?;
        if targets.insert(target.clone()) {
            wishes.push(volume_wish("", target, &create.host.volume_driver));
        }
    }
    match wishes.len() > MOUNTS_MAX {
        true => Err(Error::invalid(format!("more than {MOUNTS_MAX} mounts"))),
        false => Ok(wishes),
    }
}

fn volume_wish(name: &str, target: String, driver: &str) -> Wish {
    Wish {
        mounted: Mounted {
            kind: "volume".into(),
            name: name.to_owned(),
            destination: target,
            mode: if name.is_empty() { "" } else { "z" }.into(),
            writable: true,
            anonymous: name.is_empty(),
            copy_up: true,
            ..Mounted::default()
        },
        volume_driver: driver.to_owned(),
        ..Wish::default()
    }
}

/// `source:target[:options]`, or a target alone.
fn short_form(text: &str, driver: &str) -> Result<Wish> {
    let wrong = |why: &str| Error::invalid(format!("invalid volume specification: '{text}'{why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, to, mode) = match parts[..] {
        [to] => ("", to, ""),
        [source, to] => (source, to, ""),
        [source, to, mode] => (source, to, mode),
        _ => return Err(wrong("")),
    };
    if to.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(wrong(""));
    }
    let destination = target(to).map_err(|e| {
        let kind = if source.starts_with('/') {
            "bind"
        } else {
            "volume"
        };
        wrong(&format!(
            ": invalid mount config for type \"{kind}\": {}",
            e.message
        ))
    })?;
    let mut wish = if source.starts_with('/') {
        Wish {
            mounted: Mounted {
                kind: "bind".into(),
                source: clean(source),
                destination,
                writable: true,
                propagation: "rprivate".into(),
                ..Mounted::default()
            },
            ..Wish::default()
        }
    } else {
        if !source.is_empty() {
            crate::volumes::check_name(source)?;
        }
        volume_wish(source, destination, driver)
    };
    if !mode.is_empty() {
        mode.clone_into(&mut wish.mounted.mode);
        options(mode, &mut wish.mounted)?;
    }
    Ok(wish)
}

fn options(mode: &str, mounted: &mut Mounted) -> Result<()> {
    for word in mode.split(',') {
        match word {
            "ro" | "readonly" => mounted.writable = false,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if mounted.kind == "volume" => mounted.copy_up = false,
            word if PROPAGATIONS.contains(&word) && mounted.kind == "bind" => {
                word.clone_into(&mut mounted.propagation);
            }
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        }
    }
    Ok(())
}

/// `--mount`. The caller puts the mount's type before an error.
fn long_form(mount: &Mount) -> Result<Wish> {
    if mount.target.is_empty() {
        return Err(Error::invalid("field Target must not be empty"));
    }
    let mounted = Mounted {
        kind: mount.kind.clone(),
        destination: target(&mount.target)?,
        writable: !mount.read_only,
        ..Mounted::default()
    };
    match mount.kind.as_str() {
        "bind" => bind_form(mount, mounted),
        "volume" => volume_form(mount, mounted),
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(Error::invalid("field Source must not be specified"));
            }
            Ok(Wish {
                mounted,
                ..Wish::default()
            })
        }
        _ => Err(Error::invalid("mount type unknown")),
    }
}

fn bind_form(mount: &Mount, mounted: Mounted) -> Result<Wish> {
    if mount.source.is_empty() {
        return Err(Error::invalid("field Source must not be empty"));
    }
    if !mount.source.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let propagation = match options.propagation.as_str() {
        "" => "rprivate".to_owned(),
        known if PROPAGATIONS.contains(&known) => known.to_owned(),
        other => return Err(Error::invalid(format!("invalid propagation: {other}"))),
    };
    Ok(Wish {
        mounted: Mounted {
            source: clean(&mount.source),
            propagation,
            non_recursive: options.non_recursive,
            ..mounted
        },
        must_exist: !options.create_mountpoint,
        ..Wish::default()
    })
}

fn volume_form(mount: &Mount, mounted: Mounted) -> Result<Wish> {
    if !mount.source.is_empty() {
        crate::volumes::check_name(&mount.source)?;
    }
    let options = mount.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    if options.subpath.starts_with('/')
        || Path::new(&options.subpath)
            .components()
            .any(|part| part == Component::ParentDir)
    {
        return Err(Error::invalid(
            "subpath must be a relative path within the volume",
        ));
    }
    Ok(Wish {
        mounted: Mounted {
            name: mount.source.clone(),
            mode: "z".into(),
            anonymous: mount.source.is_empty(),
            copy_up: !options.no_copy && options.subpath.is_empty(),
            subpath: options.subpath,
            ..mounted
        },
        volume_labels: options.labels,
        volume_options: driver.options,
        volume_driver: driver.name,
        must_exist: false,
    })
}

/// A mount's place in the container.
fn target(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    match clean(path) {
        root if root == "/" => Err(Error::invalid(
            "invalid specification: destination can't be '/'",
        )),
        cleaned => Ok(cleaned),
    }
}

/// The path without `.`, `..` and double slashes; always absolute.
pub(super) fn clean(path: &str) -> String {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
    }
    cleaned.to_string_lossy().into_owned()
}

impl Executor {
    /// Makes the volumes of a request and binds them to the container.
    pub(super) fn make_mounts(
        &self,
        container: &str,
        create: &ContainerCreate,
    ) -> Result<Vec<Mounted>> {
        let mut mounts = Vec::new();
        let wishes = parse(create)?;
        for from in &create.host.volumes_from {
            for mount in self.mounts_of(from)? {
                let covered = |wish: &Wish| wish.mounted.destination == mount.destination;
                if !wishes.iter().any(covered) {
                    if mount.kind == "volume" {
                        self.0.volumes.acquire(&mount.name, container)?;
                    }
                    mounts.push(mount);
                }
            }
        }
        for wish in wishes {
            // Another container's mount stands where the image has a volume.
            let covered = |m: &Mounted| m.destination == wish.mounted.destination;
            if !mounts.iter().any(covered) {
                mounts.push(self.make_mount(container, wish)?);
            }
        }
        Ok(mounts)
    }

    fn mounts_of(&self, from: &str) -> Result<Vec<Mounted>> {
        let (name, mode) = from.split_once(':').unwrap_or((from, ""));
        let writable = match mode {
            "" | "rw" | "z" | "Z" => None,
            "ro" => Some(false),
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        };
        let other = self.find(name)?;
        let mut mounts = other.life().record.mounts.clone();
        mounts.retain(|mount| mount.kind != "tmpfs");
        for mount in &mut mounts {
            mount.writable = writable.unwrap_or(mount.writable);
            // Whose they are stays: they go with the first container.
            mount.anonymous = false;
            mount.copy_up = false;
        }
        Ok(mounts)
    }

    fn make_mount(&self, container: &str, wish: Wish) -> Result<Mounted> {
        let mut mounted = wish.mounted;
        match mounted.kind.as_str() {
            "bind" => {
                let exists = Path::new(&mounted.source).exists();
                if !exists && wish.must_exist {
                    return Err(Error::invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        mounted.source
                    )));
                }
            }
            "volume" => {
                if !matches!(wish.volume_driver.as_str(), "" | "local") {
                    return Err(Error::not_found(format!(
                        "error looking up volume plugin {0}: plugin \"{0}\" not found",
                        wish.volume_driver
                    )));
                }
                if mounted.anonymous {
                    mounted.name = random_id()?;
                }
                let is_new = self.0.volumes.get(&mounted.name).is_err();
                self.0.volumes.create(Volume {
                    name: mounted.name.clone(),
                    created: now(),
                    labels: match mounted.anonymous {
                        true => Labels::from([(
                            "com.docker.volume.anonymous".to_owned(),
                            String::new(),
                        )]),
                        false => wish.volume_labels,
                    },
                    options: wish.volume_options,
                    anonymous: mounted.anonymous,
                })?;
                if is_new {
                    self.tell_volume(&mounted.name, "create");
                }
                self.0.volumes.acquire(&mounted.name, container)?;
                let path = self.0.volumes.path(&mounted.name);
                mounted.source = path.to_string_lossy().into_owned();
            }
            _ => {}
        }
        Ok(mounted)
    }

    /// Fills empty volumes from the image, and mounts those that are mounts of
    /// something else. Blocks.
    pub(super) fn populate(&self, mounts: &[Mounted], layers: &[PathBuf]) -> Result<()> {
        let mut view = None;
        for mount in mounts.iter().filter(|mount| mount.kind == "volume") {
            self.0.volumes.mount(&mount.name)?;
            let path = PathBuf::from(&mount.source);
            let is_empty = std::fs::read_dir(&path).is_ok_and(|mut dir| dir.next().is_none());
            if !mount.copy_up || !is_empty {
                continue;
            }
            if view.is_none() {
                view = Some(super::rootfs::of_image(layers)?);
            }
            if let Some(view) = &view
                && let Some(from) = view.folder(Path::new(&mount.destination))
            {
                crate::volumes::copy_up(&from.path(), &path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Config, Empty, HostConfig};

    fn binds(binds: &[&str]) -> Result<Vec<Wish>> {
        parse(&ContainerCreate {
            host: HostConfig {
                binds: binds.iter().map(|bind| (*bind).to_owned()).collect(),
                ..HostConfig::default()
            },
            ..ContainerCreate::default()
        })
    }

    #[test]
    fn short_forms() {
        let wishes = binds(&["/host/../h:/a:ro,rslave", "data:/b", "/c"]).expect("are valid");
        let [bind, named, anonymous] = &wishes[..] else {
            panic!("three, not {}", wishes.len());
        };
        assert_eq!(
            (bind.mounted.kind.as_str(), bind.mounted.source.as_str()),
            ("bind", "/h")
        );
        assert_eq!(
            (bind.mounted.writable, bind.mounted.propagation.as_str()),
            (false, "rslave")
        );
        assert_eq!(
            (named.mounted.name.as_str(), named.mounted.mode.as_str()),
            ("data", "z")
        );
        assert!(anonymous.mounted.anonymous && anonymous.mounted.copy_up);
    }

    #[test]
    fn refusals_are_dockers() {
        let told = |bind| binds(&[bind]).expect_err(bind).message;
        assert_eq!(told("a:b:c:d"), "invalid volume specification: 'a:b:c:d'");
        assert_eq!(told("/a:/b:foo"), "invalid mode: foo");
        assert_eq!(
            told("/a:b"),
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute"
        );
        assert_eq!(
            binds(&["/a:/x", "/b:/x/"]).expect_err("twice").message,
            "Duplicate mount point: /x"
        );
    }

    #[test]
    fn image_volumes_yield_to_the_users() {
        let create = ContainerCreate {
            config: Config {
                volumes: [
                    ("/data".to_owned(), Empty {}),
                    ("/tmp".to_owned(), Empty {}),
                ]
                .into(),
                ..Config::default()
            },
            host: HostConfig {
                binds: vec!["mine:/data".into()],
                tmpfs: [("/tmp/".to_owned(), String::new())].into(),
                ..HostConfig::default()
            },
            ..ContainerCreate::default()
        };
        let wishes = parse(&create).expect("are valid");
        assert_eq!(wishes.len(), 1);
        assert_eq!(wishes[0].mounted.name, "mine");
    }
}
