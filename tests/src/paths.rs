//! Where things lie: the repository, what was built, the programs under test.

use crate::program::run_for;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Packages are fetched and images packed the first time.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(300);

/// The repository's root.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Where built things go.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A board's binary, made by `cross/build`: `dist("aarch64")`.
///
/// # Panics
/// When it was not built.
pub fn dist(name: &str) -> PathBuf {
    let path = target().join("dist").join(format!("skep-{name}"));
    assert!(
        path.exists(),
        "{} is missing: run cross/build {name}",
        path.display()
    );
    path
}

/// The skep binary under test: `SKEP_BIN`, or what `cross/build` made for this
/// machine.
///
/// # Panics
/// When there is none.
pub fn skep() -> PathBuf {
    env::var_os("SKEP_BIN").map_or_else(|| dist(env::consts::ARCH), PathBuf::from)
}

/// The real docker client, the first in PATH.
pub fn docker() -> PathBuf {
    PathBuf::from("docker")
}

/// The archive of a sample image for this machine; see `cross/samples`.
///
/// # Panics
/// When it cannot be made.
pub fn sample(name: &str) -> PathBuf {
    let arch = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    sample_for(name, arch)
}

/// The same for an architecture in Debian's words.
///
/// # Panics
/// When it cannot be made.
pub fn sample_for(name: &str, arch: &str) -> PathBuf {
    let mut command = Command::new(root().join("cross/samples"));
    command.args(["--arch", arch, name]);
    PathBuf::from(run_for(SAMPLE_PATIENCE, &mut command).ok())
}

/// How many files below a folder were written to since then. Containers' own
/// files lie there too: what they write counts.
pub fn written_since(folder: &Path, since: SystemTime) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let of = |entry: std::fs::DirEntry| {
        let Ok(about) = std::fs::symlink_metadata(entry.path()) else {
            return 0;
        };
        if about.is_dir() {
            return written_since(&entry.path(), since);
        }
        usize::from(about.modified().is_ok_and(|at| at > since))
    };
    entries.flatten().map(of).sum()
}
