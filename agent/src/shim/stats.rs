//! What a container uses: Docker's numbers, read from its cgroup and its
//! network namespace. Blocking, a dozen small reads.
//!
//! A file that is not there (no memory controller) leaves its numbers at zero.

use super::cgroup;
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Nanoseconds in one tick of /proc/stat and of v1's cpuacct.stat: the kernel
/// reports both in hundredths of a second on all our architectures.
const TICK: u64 = 10_000_000;

/// One reading. Times are nanoseconds, sizes bytes; all but `memory`,
/// `memory_max` and `pids` grow only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) cpu_total: u64,
    pub(crate) cpu_user: u64,
    pub(crate) cpu_kernel: u64,
    /// cgroup v1 only; empty on v2, as Docker has it.
    pub(crate) cpu_per_core: Vec<u64>,
    pub(crate) throttling_periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_time: u64,
    /// The machine's CPU time, all cores, and how many there are.
    pub(crate) system_cpu: u64,
    pub(crate) online_cpus: u32,
    pub(crate) memory: u64,
    /// v1 only.
    pub(crate) memory_peak: u64,
    pub(crate) memory_failures: u64,
    /// The limit, or the machine's memory where there is none.
    pub(crate) memory_max: u64,
    /// `memory.stat` as it is.
    pub(crate) memory_detail: BTreeMap<String, u64>,
    pub(crate) pids: u64,
    /// 0: unlimited.
    pub(crate) pids_max: u64,
    pub(crate) blkio: Vec<BlockIo>,
    /// Interface → counters; without `lo`.
    pub(crate) networks: BTreeMap<String, Network>,
}

/// Bytes and operations of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockIo {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

/// One interface's counters, as the container sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) rx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_errors: u64,
    pub(crate) tx_dropped: u64,
}

/// Reads all of it. `pid` is a process of the container, for its network.
pub(crate) fn read(cgroup: &Path, pid: i32) -> Result<Stats> {
    let mut stats = Stats::default();
    if cgroup::unified(cgroup).is_some() {
        unified(&Files(cgroup::folder(cgroup, "")), &mut stats);
    } else {
        divided(cgroup, &mut stats);
    }
    let total = machine_memory(&text("/proc/meminfo"));
    if stats.memory_max == 0 || stats.memory_max > total {
        stats.memory_max = total;
    }
    (stats.system_cpu, stats.online_cpus) = machine_cpu(&text("/proc/stat"));
    stats.networks = networks(&text(&format!("/proc/{pid}/net/dev")));
    Ok(stats)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The files of one folder; what is missing reads as nothing.
struct Files(PathBuf);

impl Files {
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
    /// `max` and what is no number are 0.
    fn number(&self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(0)
    }
    fn table(&self, name: &str) -> BTreeMap<String, u64> {
        table(&self.text(name))
    }
}

/// Lines of `name number`.
fn table(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn unified(files: &Files, stats: &mut Stats) {
    let cpu = files.table("cpu.stat");
    let of = |name: &str| cpu.get(name).copied().unwrap_or(0);
    stats.cpu_total = of("usage_usec") * 1000;
    stats.cpu_user = of("user_usec") * 1000;
    stats.cpu_kernel = of("system_usec") * 1000;
    stats.throttling_periods = of("nr_periods");
    stats.throttled_periods = of("nr_throttled");
    stats.throttled_time = of("throttled_usec") * 1000;
    stats.memory = files.number("memory.current");
    stats.memory_max = files.number("memory.max");
    stats.memory_failures = files
        .table("memory.events")
        .get("oom")
        .copied()
        .unwrap_or(0);
    stats.memory_detail = files.table("memory.stat");
    stats.pids = files.number("pids.current");
    stats.pids_max = files.number("pids.max");
    stats.blkio = block_io_unified(&files.text("io.stat"));
}

fn divided(cgroup: &Path, stats: &mut Stats) {
    let files = |controller: &str| Files(cgroup::folder(cgroup, controller));
    let usage = files("cpuacct");
    stats.cpu_total = usage.number("cpuacct.usage");
    let split = usage.table("cpuacct.stat");
    stats.cpu_user = split.get("user").copied().unwrap_or(0) * TICK;
    stats.cpu_kernel = split.get("system").copied().unwrap_or(0) * TICK;
    let cores = usage.text("cpuacct.usage_percpu");
    stats.cpu_per_core = cores
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let throttling = files("cpu").table("cpu.stat");
    let of = |name: &str| throttling.get(name).copied().unwrap_or(0);
    stats.throttling_periods = of("nr_periods");
    stats.throttled_periods = of("nr_throttled");
    stats.throttled_time = of("throttled_time");
    let memory = files("memory");
    stats.memory = memory.number("memory.usage_in_bytes");
    stats.memory_peak = memory.number("memory.max_usage_in_bytes");
    stats.memory_failures = memory.number("memory.failcnt");
    stats.memory_max = memory.number("memory.limit_in_bytes");
    stats.memory_detail = memory.table("memory.stat");
    let pids = files("pids");
    stats.pids = pids.number("pids.current");
    stats.pids_max = pids.number("pids.max");
    let io = files("blkio");
    stats.blkio = block_io_divided(
        &io.text("blkio.throttle.io_service_bytes_recursive"),
        &io.text("blkio.throttle.io_serviced_recursive"),
    );
}

fn device(numbers: &str) -> Option<(u64, u64)> {
    let (major, minor) = numbers.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn block_io_unified(text: &str) -> Vec<BlockIo> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let mut io = BlockIo {
            major,
            minor,
            ..BlockIo::default()
        };
        for (name, number) in words.filter_map(|word| word.split_once('=')) {
            let number = number.parse().unwrap_or(0);
            match name {
                "rbytes" => io.read_bytes = number,
                "wbytes" => io.write_bytes = number,
                "rios" => io.reads = number,
                "wios" => io.writes = number,
                _ => {}
            }
        }
        Some(io)
    };
    text.lines().filter_map(line).collect()
}

/// `8:0 Read 1`, one file of bytes and one of operations.
fn block_io_divided(bytes: &str, operations: &str) -> Vec<BlockIo> {
    let mut devices: BTreeMap<(u64, u64), BlockIo> = BTreeMap::new();
    for (text, counts_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [numbers, kind, count] = words.as_slice() else {
                continue;
            };
            let (Some(at), Ok(count)) = (device(numbers), count.parse()) else {
                continue;
            };
            let io = devices.entry(at).or_default();
            (io.major, io.minor) = at;
            match (*kind, counts_bytes) {
                ("Read", true) => io.read_bytes = count,
                ("Write", true) => io.write_bytes = count,
                ("Read", false) => io.reads = count,
                ("Write", false) => io.writes = count,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

fn machine_memory(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Nanoseconds of all states of all cores, guests apart (they are counted in
/// user time), and the number of cores.
fn machine_cpu(stat: &str) -> (u64, u32) {
    let mut total = 0;
    let mut cores = 0;
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("cpu") => {
                let numbers = words.take(8).filter_map(|n| n.parse::<u64>().ok());
                total = numbers.sum::<u64>() * TICK;
            }
            Some(name) if name.starts_with("cpu") => cores += 1,
            _ => {}
        }
    }
    (total, cores)
}

/// /proc/PID/net/dev.
fn networks(text: &str) -> BTreeMap<String, Network> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let n: Vec<u64> = counters
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let at = |at: usize| n.get(at).copied().unwrap_or(0);
        let network = Network {
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        };
        Some((name.trim().to_owned(), network)).filter(|(name, _)| name != "lo")
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_become_numbers() {
        assert_eq!(
            machine_memory("MemFree: 1 kB\nMemTotal:   2048 kB\n"),
            2 << 20
        );
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2\ncpu1 3 4\nintr 5\n";
        assert_eq!(machine_cpu(stat), (36 * TICK, 2));
        let dev = "Inter-| x\n face |y\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                   eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let networks = networks(dev);
        assert_eq!(networks.len(), 1);
        let eth0 = &networks["eth0"];
        assert_eq!(
            (
                eth0.rx_bytes,
                eth0.rx_dropped,
                eth0.tx_bytes,
                eth0.tx_dropped
            ),
            (10, 4, 50, 8)
        );
        let new = block_io_unified("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n");
        let old = block_io_divided(
            "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n",
            "8:0 Read 3\n8:0 Write 4\nTotal 7\n",
        );
        assert_eq!(new, old);
        assert_eq!((new[0].major, new[0].read_bytes, new[0].writes), (8, 1, 4));
        assert_eq!(table("a 1\nb x\nc 3\n").len(), 2);
    }
}
