//! `GET /containers/{id}/stats`: a reading a second.

use crate::api::call::Call;
use crate::api::reply::{self, Reply};
use crate::backend::{Backend, BlockStats, CpuStats, MemoryStats, Stats};
use crate::error::{Kind, Result};
use serde_json::{Map, Value, json};
use skep_control::model::WallTime;
use std::time::Duration;

/// Between two readings, as Docker has it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where a stream of readings stands.
struct Readings<B> {
    node: B,
    id: String,
    name: String,
    previous: Option<Stats>,
}

pub(super) async fn stats<B: Backend>(call: Call<B>) -> Result<Reply> {
    let container = call.node.container(call.param("id"), false).await?;
    let readings = Readings {
        node: call.node.clone(),
        id: container.id.0,
        name: format!("/{}", container.name),
        previous: None,
    };
    if call.query.flag_or("stream", true) {
        let lines = smol::stream::unfold(readings, |mut readings| async {
            if readings.previous.is_some() {
                smol::Timer::after(INTERVAL).await;
            }
            // No such container any more: that is the end.
            let value = readings.next().await.ok()?;
            Some((Ok(value), readings))
        });
        return Ok(reply::ndjson(lines));
    }
    let mut readings = readings;
    let mut value = readings.next().await?;
    if !call.query.flag("one-shot") && container.state.status.is_running() {
        smol::Timer::after(INTERVAL).await;
        value = readings.next().await?;
    }
    Ok(reply::json(&value))
}

impl<B: Backend> Readings<B> {
    async fn next(&mut self) -> Result<Value> {
        let stats = match self.node.container_stats(&self.id).await {
            Ok(stats) => stats,
            // Nothing runs: all is zero, and the client shows dashes.
            Err(error) if error.kind == Kind::Conflict => Stats::default(),
            Err(error) => return Err(error),
        };
        let previous = self.previous.take().unwrap_or_default();
        let value = stats_json(&self.id, &self.name, &stats, &previous);
        self.previous = Some(stats);
        Ok(value)
    }
}

fn stats_json(id: &str, name: &str, stats: &Stats, previous: &Stats) -> Value {
    let mut value = json!({
        "name": name,
        "id": id,
        "read": stats.read,
        "preread": previous.read,
        "pids_stats": pids_json(stats),
        "num_procs": 0,
        "storage_stats": {},
        "blkio_stats": block_json(&stats.block),
        "cpu_stats": cpu_json(&stats.cpu),
        "precpu_stats": cpu_json(&previous.cpu),
        "memory_stats": memory_json(&stats.memory, stats.read),
    });
    let networks: Map<String, Value> = stats
        .networks
        .iter()
        .map(|(name, n)| {
            let counters = json!({
                "rx_bytes": n.rx_bytes, "rx_packets": n.rx_packets,
                "rx_errors": n.rx_errors, "rx_dropped": n.rx_dropped,
                "tx_bytes": n.tx_bytes, "tx_packets": n.tx_packets,
                "tx_errors": n.tx_errors, "tx_dropped": n.tx_dropped,
            });
            (name.clone(), counters)
        })
        .collect();
    if let Some(members) = value.as_object_mut().filter(|_| !networks.is_empty()) {
        members.insert("networks".into(), networks.into());
    }
    value
}

fn pids_json(stats: &Stats) -> Value {
    let value = json!({"current": stats.pids.current, "limit": stats.pids.limit});
    reply::omit_empty(value, &["current", "limit"])
}

fn cpu_json(cpu: &CpuStats) -> Value {
    let usage = json!({
        "total_usage": cpu.total,
        "percpu_usage": cpu.per_cpu,
        "usage_in_kernelmode": cpu.kernel,
        "usage_in_usermode": cpu.user,
    });
    let value = json!({
        "cpu_usage": reply::omit_empty(usage, &["percpu_usage"]),
        "system_cpu_usage": cpu.system,
        "online_cpus": cpu.online,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_time,
        },
    });
    reply::omit_empty(value, &["system_cpu_usage", "online_cpus"])
}

fn memory_json(memory: &MemoryStats, read: WallTime) -> Value {
    if read.is_never() {
        return json!({});
    }
    let value = json!({
        "usage": memory.usage,
        "max_usage": memory.max_usage,
        "stats": memory.details,
        "failcnt": memory.failures,
        "limit": memory.limit,
    });
    reply::omit_empty(value, &["max_usage", "stats", "failcnt", "limit", "usage"])
}

fn block_json(block: &[BlockStats]) -> Value {
    let entries = |values: fn(&BlockStats) -> [(&'static str, u64); 2]| -> Value {
        let all: Vec<Value> = block
            .iter()
            .flat_map(|device| {
                values(device).map(|(op, value)| {
                    json!({"major": device.major, "minor": device.minor, "op": op, "value": value})
                })
            })
            .collect();
        if all.is_empty() {
            Value::Null
        } else {
            Value::Array(all)
        }
    };
    json!({
        "io_service_bytes_recursive": entries(|d| [("read", d.read_bytes), ("write", d.write_bytes)]),
        "io_serviced_recursive":
            entries(|d| [("read", d.read_operations), ("write", d.write_operations)]),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::InterfaceStats;

    #[test]
    fn a_reading_carries_the_one_before() {
        let mut before = Stats {
            read: WallTime(1),
            ..Stats::default()
        };
        before.cpu.total = 5;
        let mut stats = Stats {
            read: WallTime(1_000_000_001),
            ..Stats::default()
        };
        stats.cpu = CpuStats {
            total: 9,
            system: 100,
            online: 2,
            ..CpuStats::default()
        };
        stats.memory.usage = 4096;
        stats.block.push(BlockStats {
            major: 8,
            read_bytes: 7,
            ..BlockStats::default()
        });
        stats.networks.insert(
            "eth0".into(),
            InterfaceStats {
                rx_bytes: 3,
                ..Default::default()
            },
        );
        let value = stats_json("id", "/name", &stats, &before);
        assert_eq!(value["cpu_stats"]["cpu_usage"]["total_usage"], 9);
        assert_eq!(value["precpu_stats"]["cpu_usage"]["total_usage"], 5);
        assert_eq!(value["memory_stats"], json!({"usage": 4096}));
        assert_eq!(value["networks"]["eth0"]["rx_bytes"], 3);
        assert_eq!(
            value["blkio_stats"]["io_service_bytes_recursive"][0]["value"],
            7
        );
    }

    #[test]
    fn what_does_not_run_is_all_zero() {
        let value = stats_json("id", "/name", &Stats::default(), &Stats::default());
        assert_eq!(value["memory_stats"], json!({}));
        assert_eq!(value["pids_stats"], json!({}));
        assert!(value.get("networks").is_none());
    }
}
