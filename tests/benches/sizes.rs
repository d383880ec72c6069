//! What a board has to store.

use crate::report::{Budget, Report};
use std::fs;

/// dockerd's set as Debian packages it.
const PEER: [&str; 5] = [
    "/usr/sbin/dockerd",
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/bin/docker",
    "/usr/sbin/runc",
];

pub(crate) fn measure(report: &mut Report) {
    let mb =
        |path: &std::path::Path| fs::metadata(path).map_or(0.0, |meta| meta.len() as f64 / 1e6);
    let peer: f64 = PEER.iter().map(|path| mb(path.as_ref())).sum();
    for target in ["aarch64", "armv7", "x86_64"] {
        let path = skep_tests::target().join(format!("dist/skep-{target}"));
        if !path.exists() {
            eprintln!("{} is missing: run cross/build {target}", path.display());
            continue;
        }
        let budget = if target == "aarch64" {
            Budget::AtMost(10.0)
        } else {
            Budget::None
        };
        report.row(
            &format!("static binary, {target}"),
            "MB",
            mb(&path),
            Some(peer),
            budget,
        );
    }
}
