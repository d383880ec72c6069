//! One reading of a container's counters.

use skep_control::model::WallTime;
use std::collections::BTreeMap;

/// All counters since the container's start. Times are nanoseconds, sizes
/// bytes; what the kernel does not count is zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) read: WallTime,
    pub(crate) cpu: CpuStats,
    pub(crate) memory: MemoryStats,
    pub(crate) pids: PidsStats,
    pub(crate) block: Vec<BlockStats>,
    /// Interface → counters.
    pub(crate) networks: BTreeMap<String, InterfaceStats>,
    /// False: cgroup v1 names in `memory.details`.
    pub(crate) cgroup2: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuStats {
    pub(crate) total: u64,
    pub(crate) kernel: u64,
    pub(crate) user: u64,
    /// A value for each CPU; cgroup v1 only.
    pub(crate) per_cpu: Vec<u64>,
    /// CPU time of the whole node, from /proc/stat.
    pub(crate) system: u64,
    pub(crate) online: u32,
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryStats {
    pub(crate) usage: u64,
    /// Highest so far; cgroup v1 only.
    pub(crate) max_usage: u64,
    /// The node's memory where there is no limit.
    pub(crate) limit: u64,
    pub(crate) failures: u64,
    /// The lines of `memory.stat`.
    pub(crate) details: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PidsStats {
    pub(crate) current: u64,
    /// 0: none.
    pub(crate) limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockStats {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) read_operations: u64,
    pub(crate) write_operations: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceStats {
    pub(crate) rx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_errors: u64,
    pub(crate) tx_dropped: u64,
}
