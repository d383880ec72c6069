//! The harness itself: what it makes, it takes away.

use skep_tests::{Lan, until};
use std::path::Path;

#[test]
fn a_street_is_gone_when_dropped() {
    let lan = Lan::new();
    let netns = lan.netns_path();
    assert!(netns.exists());
    let addresses = lan.run(&["ip", "-brief", "address", "show", "br0"]);
    assert!(addresses.ok().contains("10.77.0.1/24"), "{addresses}");
    drop(lan);
    until("the namespace is gone", || {
        (!Path::new(&netns).exists()).then_some(())
    });
}
