//! Taking names and images away, by Docker's rules: the last name takes the
//! image with it, a container's use is a conflict, and force goes as far as a
//! stopped container's image but not a running one's.

use crate::{
    digest::Digest,
    error::{Error, Result},
    reference::Reference,
    store::{
        Image, Pruned, Removed, Store, Use, lock,
        query::{choose, find},
        table::Table,
    },
};
use std::collections::BTreeSet;

impl Store {
    /// Takes a name away, and the image when that was its last one.
    pub fn remove(&self, name: &str, force: bool, uses: &[Use]) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        self.inner.commit(|table, _| {
            let mut draft = table.clone();
            let result = remove_one(&mut draft, name, force, uses, &mut removed);
            if result.is_ok() {
                *table = draft;
            }
            result
        })??;
        let (layers, _) = self.inner.collect(&used(uses))?;
        if removed.iter().any(|r| matches!(r, Removed::Deleted(_))) {
            removed.extend(
                layers
                    .iter()
                    .map(|chain| Removed::Deleted(chain.to_string())),
            );
        }
        Ok(removed)
    }

    /// Removes unused images: those without a name, or with `all` every one
    /// that no container uses; `keep` spares further ones.
    pub fn prune(&self, all: bool, uses: &[Use], keep: &dyn Fn(&Image) -> bool) -> Result<Pruned> {
        let used = used(uses);
        let mut removed = Vec::new();
        for summary in self.list()? {
            let image = summary.image;
            let spared = used.contains(&image.id)
                || lock(&self.inner.state).pins.contains_key(&image.id)
                || (!all && !image.repo_tags.is_empty())
                || keep(&image);
            if spared {
                continue;
            }
            self.inner.commit(|table, _| {
                untag_all(table, &image.id, &mut removed);
                delete(table, &image.id, &mut removed);
            })?;
        }
        let (layers, reclaimed) = self.inner.collect(&used)?;
        removed.extend(
            layers
                .iter()
                .map(|chain| Removed::Deleted(chain.to_string())),
        );
        Ok(Pruned { removed, reclaimed })
    }
}

fn used(uses: &[Use]) -> BTreeSet<Digest> {
    uses.iter().map(|one| one.image).collect()
}

fn remove_one(
    table: &mut Table,
    name: &str,
    force: bool,
    uses: &[Use],
    removed: &mut Vec<Removed>,
) -> Result<()> {
    let found = find(table, name)?;
    let id = match &found.variant {
        Some(variant) => variant.id,
        None => choose(&found.record, None).map_or(found.record.target.digest, |v| v.id),
    };
    let names = names_of(table, &id);
    let mut users = uses.iter().filter(|one| one.image == id);
    if found.by_id {
        if is_single_reference(&names) {
            check(&id, force, uses, 0)?;
            untag_all(table, &id, removed);
        }
        let left = names_of(table, &id).len();
        check(&id, force, uses, left)?;
        untag_all(table, &id, removed);
        delete(table, &id, removed);
        return Ok(());
    }
    if let (false, true, Some(user)) = (force, is_single_reference(&names), users.next()) {
        return Err(Error::conflict(format!(
            "conflict: unable to remove repository reference {name:?} (must force) - \
             container {} is using its referenced image {}",
            short(&user.container),
            id.short()
        )));
    }
    let reference: Reference = name.parse()?;
    match &reference.digest {
        // A digest is no tag of its own here: it names whatever has it.
        Some(_) => untag_all(table, &id, removed),
        None => {
            let reference = reference.tagged();
            untag(table, &reference.to_string(), removed);
        }
    }
    if !names_of(table, &id).is_empty() {
        return Ok(());
    }
    // A running container keeps its image, now without a name.
    if check(&id, force, uses, 0).is_ok() {
        delete(table, &id, removed);
    }
    Ok(())
}

/// Docker's conflicts on deleting an image, the hard ones first.
fn check(id: &Digest, force: bool, uses: &[Use], names: usize) -> Result<()> {
    let conflict = |how: &str, why: String| {
        Err(Error::conflict(format!(
            "conflict: unable to delete {} ({how}) - {why}",
            id.short()
        )))
    };
    let users = || uses.iter().filter(|one| one.image == *id);
    if let Some(user) = users().find(|one| one.running) {
        let why = format!(
            "image is being used by running container {}",
            short(&user.container)
        );
        return conflict("cannot be forced", why);
    }
    if force {
        return Ok(());
    }
    if names > 1 {
        return conflict(
            "must be forced",
            "image is referenced in multiple repositories".into(),
        );
    }
    match users().next() {
        None => Ok(()),
        Some(user) => {
            let container = short(&user.container);
            let why = format!("image is being used by stopped container {container}");
            conflict("must be forced", why)
        }
    }
}

/// At most one name, or all in one repository with one tag: Docker then takes
/// an id to mean the name too.
fn is_single_reference(names: &[String]) -> bool {
    names.len() <= 1
}

/// Canonical names that lead to an image, through any record.
fn names_of(table: &Table, id: &Digest) -> Vec<String> {
    let leads = |target: &Digest| {
        let record = table.records.get(target);
        record.is_some_and(|r| choose(r, None).is_some_and(|variant| variant.id == *id))
    };
    table
        .tags
        .iter()
        .filter(|(_, t)| leads(&t.target))
        .map(|(name, _)| name.clone())
        .collect()
}

fn untag_all(table: &mut Table, id: &Digest, removed: &mut Vec<Removed>) {
    for name in names_of(table, id) {
        untag(table, &name, removed);
    }
}

/// Also tells the `name@digest` that goes with the last tag of a repository.
fn untag(table: &mut Table, name: &str, removed: &mut Vec<Removed>) {
    let Some(tagged) = table.tags.remove(name) else {
        return;
    };
    let Ok(reference) = name.parse::<Reference>() else {
        return;
    };
    removed.push(Removed::Untagged(reference.familiar()));
    let repository = reference.repository();
    let mut left = table
        .names_of(&tagged.target)
        .filter_map(|n| n.parse::<Reference>().ok());
    if !left.any(|other| other.repository() == repository) {
        let digest = format!("{}@{}", reference.familiar_repository(), tagged.target);
        removed.push(Removed::Untagged(digest));
    }
}

/// Marks every record of the image as removed; what nobody uses is swept.
fn delete(table: &mut Table, id: &Digest, removed: &mut Vec<Removed>) {
    let mut was_there = false;
    for record in table
        .records
        .values_mut()
        .filter(|record| !record.is_removed)
    {
        if choose(record, None).is_some_and(|variant| variant.id == *id) {
            record.is_removed = true;
            was_there = true;
        }
    }
    if was_there {
        removed.push(Removed::Deleted(id.to_string()));
    }
}

fn short(container: &str) -> String {
    container.chars().take(12).collect()
}
