//! Counters and processes of a running container.

use super::Executor;
use crate::backend::{
    BlockStats, CpuStats, InterfaceStats, MemoryStats, PidsStats, Stats as Reading,
};
use crate::error::{Error, Result};
use crate::shim::{cgroup, stats};
use std::path::Path;

impl Executor {
    /// The process ids in a container, in the node's own namespace.
    pub(crate) async fn pids(&self, wanted: &str) -> Result<Vec<u32>> {
        let container = self.find(wanted)?;
        {
            let life = container.life();
            if !life.state.is_running() {
                return Err(Error::conflict(format!(
                    "container {} is not running",
                    container.id
                )));
            }
        }
        let group = self.cgroup(&container.life().record);
        let pids = smol::unblock(move || cgroup::pids(&group)).await?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| u32::try_from(pid).ok())
            .collect())
    }

    /// One reading; all zero when it does not run, as Docker has it.
    pub(crate) async fn stats(&self, wanted: &str) -> Result<Reading> {
        let container = self.find(wanted)?;
        let (group, pid) = {
            let life = container.life();
            (
                self.cgroup(&life.record),
                i32::try_from(life.state.pid).unwrap_or(0),
            )
        };
        let cgroup2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let blank = Reading {
            read: super::now(),
            cgroup2,
            ..Reading::default()
        };
        if pid == 0 {
            return Ok(blank);
        }
        let read = smol::unblock(move || stats::read(&group, pid)).await?;
        Ok(Reading {
            read: super::now(),
            cgroup2,
            ..convert(read)
        })
    }
}

fn convert(read: stats::Stats) -> Reading {
    Reading {
        cpu: CpuStats {
            total: read.cpu_total,
            kernel: read.cpu_kernel,
            user: read.cpu_user,
            per_cpu: read.cpu_per_core,
            system: read.system_cpu,
            online: read.online_cpus,
            periods: read.throttling_periods,
            throttled_periods: read.throttled_periods,
            throttled_time: read.throttled_time,
        },
        memory: MemoryStats {
            usage: read.memory,
            max_usage: read.memory_peak,
            limit: read.memory_max,
            failures: read.memory_failures,
            details: read.memory_detail,
        },
        pids: PidsStats {
            current: read.pids,
            limit: read.pids_max,
        },
        block: read
            .blkio
            .into_iter()
            .map(|device| BlockStats {
                major: device.major,
                minor: device.minor,
                read_bytes: device.read_bytes,
                write_bytes: device.write_bytes,
                read_operations: device.reads,
                write_operations: device.writes,
            })
            .collect(),
        networks: read
            .networks
            .into_iter()
            .map(|(name, interface)| {
                let counters = InterfaceStats {
                    rx_bytes: interface.rx_bytes,
                    rx_packets: interface.rx_packets,
                    rx_errors: interface.rx_errors,
                    rx_dropped: interface.rx_dropped,
                    tx_bytes: interface.tx_bytes,
                    tx_packets: interface.tx_packets,
                    tx_errors: interface.tx_errors,
                    tx_dropped: interface.tx_dropped,
                };
                (name, counters)
            })
            .collect(),
        ..Reading::default()
    }
}
