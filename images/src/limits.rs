//! How much one archive may make this node do. Defaults are far above real
//! images and far below what fills a board or its memory; tests lower them.

/// Bounds on one load; reached, the load fails and nothing of it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries in one layer's tar. Large Debian and Node images have 200,000.
    pub(crate) layer_entries_max: u64,
    /// Bytes of files one layer may unpack to.
    pub(crate) layer_bytes_max: u64,
    /// Bytes out for one byte in, once `expansion_free_bytes` are exceeded.
    /// Real layers stay under 20; a gzip bomb is 1,000, zstd's far more.
    pub(crate) expansion_max: u64,
    /// Bytes any stream may decompress to, whatever its ratio: small layers
    /// of zeros (a pre-allocated database) are honest.
    pub(crate) expansion_free_bytes: u64,
    /// Entries of the outer archive: a few for each layer.
    pub(crate) archive_entries_max: u64,
    /// Bytes of the outer archive, uncompressed.
    pub(crate) archive_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_entries_max: 2_000_000,
            layer_bytes_max: 64 << 30,
            expansion_max: 200,
            expansion_free_bytes: 512 << 20,
            archive_entries_max: 20_000,
            archive_bytes_max: 256 << 30,
        }
    }
}

/// Bytes of tar headers before one entry: long names, PAX records. Go's
/// limit for one such record is 1 MiB; an entry may have three.
pub(crate) const HEADER_BYTES_MAX: u64 = 4 << 20;

/// Path components of one entry. Overlay, `rm -r` and we walk a tree with one
/// descriptor a level, and a process often has 1,024 of them.
pub(crate) const DEPTH_MAX: usize = 256;

/// Bytes of one entry's name: the kernel's PATH_MAX.
pub(crate) const NAME_BYTES_MAX: usize = 4096;

/// Bytes of folder names kept until the end of a layer to set their times
/// then; folders beyond keep the time of unpacking.
pub(crate) const DEFERRED_BYTES_MAX: usize = 16 << 20;

/// Bytes copied at a time: large enough for flash, small for a board.
pub(crate) const COPY_BYTES: usize = 128 << 10;
