//! Where the binary becomes a shim, or a container's tiny init: before any
//! thread exists.

use std::ffi::OsString;

/// The tiny init's name in a container; the binary knows itself by it.
pub(crate) const INIT_NAME: &str = "docker-init";

/// The life of a shim. `args` are all of the process's arguments.
pub(crate) fn main(args: &[OsString]) -> ! {
    let _ = args;
    std::process::exit(1)
}
