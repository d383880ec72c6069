//! Names, ids, and who may take an image away.

use super::build::*;
use crate::{Digest, Kind, Removed, Store, Use};
use std::collections::BTreeSet;

fn store_with(names: &[&str]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with(folder.path(), small()).unwrap();
    for name in names {
        let own = Tar::new().file("name", name).done();
        load(&store, &layout(name, &[hello(), own]).tar()).unwrap();
    }
    (folder, store)
}

fn using(image: Digest, running: bool) -> Use {
    Use {
        image,
        container: "0123456789abcdef".into(),
        running,
    }
}

#[test]
fn an_image_is_found_by_every_way_to_say_it() {
    let (_folder, store) = store_with(&["web:1", "web:latest"]);
    let image = store.resolve("web", None).unwrap();
    let target = image.target.digest;
    for way in [
        "web:latest".to_owned(),
        "docker.io/library/web".into(),
        image.id.to_string(),
        image.id.hex(),
        image.id.short(),
        format!("sha256:{}", image.id.short()),
        format!("web@{target}"),
        format!("web:1@{target}"),
        target.to_string(),
    ] {
        assert_eq!(store.resolve(&way, None).unwrap().id, image.id, "{way}");
    }
    assert_eq!(image.repo_digests, [format!("web@{target}")]);
    let absent = store.resolve("none", None).unwrap_err();
    assert_eq!(
        (absent.kind, absent.message.as_str()),
        (Kind::NotFound, "No such image: none:latest")
    );
    let wrong = store.resolve("NONE", None).unwrap_err();
    assert_eq!(wrong.kind, Kind::Invalid);
    assert!(store.resolve("", None).is_err());
}

#[test]
fn a_moved_name_leaves_its_image_without_one() {
    let (_folder, store) = store_with(&["a:1"]);
    let old = store.resolve("a:1", None).unwrap();
    let new = Tar::new().file("new", "x").done();
    let loaded = load(&store, &layout("a:1", &[new]).tar()).unwrap();
    assert_eq!(loaded[0].replaced, Some(old.id));
    let old = store.resolve(&old.id.hex(), None).unwrap();
    assert!(old.repo_tags.is_empty());
    // Pinned by digest it is still found: a service may say so.
    let pinned = format!("a:1@{}", old.target.digest);
    assert_eq!(store.resolve(&pinned, None).unwrap().id, old.id);
    let pruned = store.prune(false, &[], &|_| false).unwrap();
    assert!(
        pruned
            .removed
            .contains(&Removed::Deleted(old.id.to_string()))
    );
    assert!(pruned.reclaimed > 0);
    assert!(store.resolve(&pinned, None).is_err());
    assert!(store.resolve("a:1", None).is_ok());
}

#[test]
fn removal_follows_dockers_rules() {
    let (_folder, store) = store_with(&["a:1"]);
    let id = store.resolve("a:1", None).unwrap().id;
    store.tag("a:1", "b").unwrap();
    let conflict =
        |name: &str, force, uses: &[Use]| store.remove(name, force, uses).unwrap_err().message;
    let short = id.short();
    assert_eq!(
        conflict(&short, false, &[]),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    // One of two names goes whoever uses the image.
    let removed = store.remove("b", false, &[using(id, true)]).unwrap();
    assert_eq!(removed.first(), Some(&Removed::Untagged("b:latest".into())));
    assert!(!removed.iter().any(|r| matches!(r, Removed::Deleted(_))));
    assert_eq!(
        conflict("a:1", false, &[using(id, false)]),
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container 0123456789ab is using its referenced image {short}"
        )
    );
    assert_eq!(
        conflict(&short, false, &[using(id, false)]),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container 0123456789ab"
        )
    );
    assert_eq!(
        conflict(&short, true, &[using(id, true)]),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
        )
    );
    // By name and force the name goes, a running container's image stays.
    store.remove("a:1", true, &[using(id, true)]).unwrap();
    assert!(store.resolve(&short, None).unwrap().repo_tags.is_empty());
    let removed = store.remove(&short, false, &[]).unwrap();
    assert_eq!(removed.first(), Some(&Removed::Deleted(id.to_string())));
    assert_eq!(
        removed.len(),
        3,
        "the image and its two layers: {removed:?}"
    );
    assert_eq!(
        store.remove("a:1", false, &[]).unwrap_err().kind,
        Kind::NotFound
    );
}

#[test]
fn what_a_container_uses_outlives_a_forced_removal() {
    let (folder, store) = store_with(&["a:1", "b:1"]);
    let id = store.resolve("a:1", None).unwrap().id;
    store.remove("a:1", true, &[using(id, false)]).unwrap();
    assert!(store.resolve("a:1", None).is_err() && store.resolve(&id.hex(), None).is_err());
    assert!(store.layers(&id).unwrap().iter().all(|dir| dir.is_dir()));
    // Also across a restart, for as long as the container is there.
    drop(store);
    let store = Store::open_with(folder.path(), small()).unwrap();
    store.gc(&BTreeSet::from([id])).unwrap();
    assert!(store.layers(&id).is_ok());
    let hold = store.hold(&id);
    store.gc(&BTreeSet::new()).unwrap();
    assert!(store.layers(&id).is_ok(), "a hold keeps it");
    drop(hold);
    assert!(store.gc(&BTreeSet::new()).unwrap() > 0);
    assert!(store.layers(&id).is_err());
    // The other image shares a layer and is whole.
    let other = store.resolve("b:1", None).unwrap();
    assert!(
        store
            .layers(&other.id)
            .unwrap()
            .iter()
            .all(|dir| dir.is_dir())
    );
    // Loading it again brings it back.
    let own = Tar::new().file("name", "a:1").done();
    load(&store, &layout("a:1", &[hello(), own]).tar()).unwrap();
    assert_eq!(store.resolve("a:1", None).unwrap().id, id);
}

#[test]
fn prune_spares_what_is_used_named_held_or_kept() {
    let (_folder, store) = store_with(&["a:1", "b:1", "c:1", "d:1"]);
    let id = |name: &str| store.resolve(name, None).unwrap().id;
    let (a, b, c) = (id("a:1"), id("b:1"), id("c:1"));
    assert_eq!(store.prune(false, &[], &|_| false).unwrap().removed, []);
    let hold = store.hold(&b);
    let pruned = store
        .prune(true, &[using(a, false)], &|image| image.id == c)
        .unwrap();
    assert_eq!(
        pruned.removed.first(),
        Some(&Removed::Untagged("d:1".into()))
    );
    assert_eq!(store.list().unwrap().len(), 3);
    drop(hold);
    store.prune(true, &[using(a, false)], &|_| false).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn tags_are_checked() {
    let (_folder, store) = store_with(&["a:1"]);
    assert!(
        store
            .tag("a:1", "B")
            .unwrap_err()
            .message
            .contains("lowercase")
    );
    assert!(store.tag("none", "b").is_err());
    assert!(store.tag("a:1", &format!("b@{}", Digest::of(b""))).is_err());
    assert!(store.save(&["none".into()], None, std::io::sink()).is_err());
}
