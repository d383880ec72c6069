//! Where the binary becomes a shim, or a container's tiny init: before any
//! thread exists.

use std::ffi::OsString;

/// The tiny init's name in a container; the binary knows itself by it.
pub(crate) const INIT_NAME: &str = "docker-init";

/// The life of a shim. `args` are all of the process's arguments. The launch
/// on fd 0 is read with `recvmsg`: its first byte may carry the connections of
/// clients that attached before the start ([`super::wire::Launch::waiting`]).
pub(crate) fn main(args: &[OsString]) -> ! {
    let _ = args;
    std::process::exit(1)
}
