//! Users and groups by name, from the texts of an image's own files.
//!
//! The host's users mean nothing in a container, and the C library's look-up
//! would read the host's: the two files are parsed here, as runc does.

use crate::error::{Error, Result};

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The primary group first, then the supplementary ones.
    pub(crate) groups: Vec<u32>,
    /// `/` when the user has none.
    pub(crate) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// Finds out who `user` (`name|uid[:group|gid]`, empty is root) is. `extra`
/// are further groups by name or number (`--group-add`).
///
/// # Errors
/// A name that the image does not have, in Docker's words.
pub(crate) fn resolve(user: &str, extra: &[String], passwd: &str, group: &str) -> Result<Identity> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let account = accounts(passwd).find(|a| a.name == name || Some(a.uid) == number);
    let mut identity = match (&account, number) {
        (Some(account), _) => Identity {
            uid: account.uid,
            gid: account.gid,
            groups: Vec::new(),
            home: account.home.to_owned(),
        },
        (None, Some(uid)) => Identity {
            uid,
            ..Identity::default()
        },
        (None, None) => {
            return Err(Error::invalid(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    if identity.home.is_empty() {
        identity.home = "/".to_owned();
    }
    match group_name {
        Some(wanted) => {
            identity.gid = find_group(wanted, group)?;
            identity.groups.push(identity.gid);
        }
        None => {
            identity.groups.push(identity.gid);
            if let Some(account) = &account {
                let member = groups(group).filter(|g| g.members.contains(&account.name));
                identity.groups.extend(member.map(|g| g.gid));
            }
        }
    }
    for name in extra {
        identity.groups.push(find_group(name, group)?);
    }
    let mut seen = Vec::new();
    identity.groups.retain(|gid| {
        let new = !seen.contains(gid);
        seen.push(*gid);
        new
    });
    Ok(identity)
}

fn find_group(name: &str, text: &str) -> Result<u32> {
    let number = name.parse::<u32>().ok();
    groups(text)
        .find(|g| g.name == name || Some(g.gid) == number)
        .map(|g| g.gid)
        .or(number)
        .ok_or_else(|| {
            Error::invalid(format!(
                "unable to find group {name}: no matching entries in group file"
            ))
        })
}

/// Lines that make no sense are skipped, as every reader of these files does.
fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Account {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default().split(',').collect();
        Some(Group { name, gid, members })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# note\nbroken\n\
                          web:x:33:33:www:/var/www:/bin/false\nnohome:x:40:41::";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nstaff:x:50:web,joe\naudio:x:29:joe,web";

    fn who(user: &str, extra: &[&str]) -> Result<Identity> {
        let extra: Vec<String> = extra.iter().map(|e| (*e).to_owned()).collect();
        resolve(user, &extra, PASSWD, GROUP)
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        }
    }

    #[test]
    fn names_and_numbers_are_found_in_the_images_files() {
        assert_eq!(who("", &[]).unwrap(), identity(0, 0, &[0], "/root"));
        let web = identity(33, 33, &[33, 50, 29], "/var/www");
        assert_eq!(who("web", &[]).unwrap(), web);
        assert_eq!(who("33", &[]).unwrap(), web);
        assert_eq!(
            who("web:staff", &[]).unwrap(),
            identity(33, 50, &[50], "/var/www")
        );
        assert_eq!(
            who("web:7", &[]).unwrap(),
            identity(33, 7, &[7], "/var/www")
        );
        assert_eq!(who("1000", &[]).unwrap(), identity(1000, 0, &[0], "/"));
        assert_eq!(
            who("nohome", &["audio", "99"]).unwrap(),
            identity(40, 41, &[41, 29, 99], "/")
        );
        assert_eq!(resolve("", &[], "", "").unwrap(), identity(0, 0, &[0], "/"));
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        assert_eq!(
            who("ghost", &[]).unwrap_err().message,
            "unable to find user ghost: no matching entries in passwd file"
        );
        assert_eq!(
            who("web:ghosts", &[]).unwrap_err().message,
            "unable to find group ghosts: no matching entries in group file"
        );
    }
}
