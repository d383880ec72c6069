//! The agent's flags, as DESIGN 1.3 fixes them.

use clap::Parser;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A node: runs containers and services, answers Docker's API.
#[derive(Clone, Debug, Parser)]
#[command(name = "skep agent", disable_version_flag = true)]
pub(crate) struct Flags {
    /// What survives a reboot: images, volumes, containers, the swarm's log
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// What does not: sockets, pids, namespaces
    #[arg(long, value_name = "DIR", default_value = "/run/skep")]
    pub(crate) run_dir: PathBuf,
    /// Where to serve the API: unix://PATH, or tcp://IP:PORT with TLS; repeatable
    #[arg(long = "host", short = 'H', value_name = "ADDR")]
    pub(crate) hosts: Vec<String>,
    /// Server certificate for tcp:// (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// Clients must present a certificate of this CA (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// The one UDP port between nodes
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:2377")]
    pub(crate) listen: SocketAddr,
    /// Where other nodes reach this one
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_addr: Option<IpAddr>,
    /// UDP port of VXLAN
    #[arg(long, value_name = "PORT", default_value_t = 4789)]
    pub(crate) data_path_port: u16,
    /// Control group under which containers live
    #[arg(long, value_name = "NAME", default_value = "skep")]
    pub(crate) cgroup_parent: String,
    /// An engine label; repeatable
    #[arg(long = "label", value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// What tasks can reserve here beside CPU and memory: a count, or one name
    /// of several; repeatable
    #[arg(long = "node-generic-resource", value_name = "KIND=VALUE")]
    pub(crate) generic_resources: Vec<String>,
    /// Where to serve metrics for Prometheus, to whoever asks; off by default
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: log::LevelFilter,
    /// Stop the containers when the agent is stopped
    #[arg(long)]
    pub(crate) drain_on_exit: bool,
}

impl Flags {
    /// The addresses to serve, the default one if none was given.
    pub(crate) fn api_hosts(&self) -> Vec<String> {
        if self.hosts.is_empty() {
            vec![format!(
                "unix://{}",
                self.run_dir.join("skep.sock").display()
            )]
        } else {
            self.hosts.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_contract() {
        let flags = Flags::try_parse_from(["agent"]).expect("no flag is required");
        assert_eq!(flags.data_dir, PathBuf::from("/var/lib/skep"));
        assert_eq!(flags.api_hosts(), ["unix:///run/skep/skep.sock"]);
        assert_eq!(flags.listen.to_string(), "0.0.0.0:2377");
        assert_eq!(flags.data_path_port, 4789);
        assert_eq!(flags.cgroup_parent, "skep");
        assert!(!flags.drain_on_exit && flags.metrics_addr.is_none());
    }
}
