//! Boards' binaries: under user-mode emulation, and on a booted ARM kernel.
//!
//! Wants what `tests/run cross` prepares: `cross/build aarch64 armv7` and
//! `tests/cross/arm-kernel`.

mod booted;
mod emulated;
