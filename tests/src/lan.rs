//! A street of boards: a bridge in a network namespace of its own.
//!
//! The bridge does not lie in the machine's own namespace, because what other
//! programs left there (a dropping FORWARD policy, bridge-nf-call-iptables)
//! would swallow frames between boards. The namespace has an address on it and
//! is where a test stands when it is "outside": a client, or the router.

use crate::leftovers::{self, Name};
use crate::program::{Ran, run};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Addresses 10.77.0.2 upwards are boards'; .1 is the namespace itself.
const FIRST_HOST: u8 = 2;

/// A bridge and whoever stands on it.
pub struct Lan {
    name: Name,
    next: AtomicU8,
}

/// A place on the bridge.
pub(crate) struct Place {
    pub(crate) netns: String,
    pub(crate) address: Ipv4Addr,
    number: u8,
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Lan {
    /// Makes the namespace and the bridge.
    pub fn new() -> Self {
        let name = leftovers::claim("lan");
        let netns = name.netns();
        ip(&["netns", "add", &netns]);
        ip(&["-n", &netns, "link", "set", "lo", "up"]);
        ip(&["-n", &netns, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &netns, "addr", "add", "10.77.0.1/24", "dev", "br0"]);
        ip(&["-n", &netns, "link", "set", "br0", "up"]);
        Self {
            name,
            next: AtomicU8::new(FIRST_HOST),
        }
    }

    /// The folder with the path `nsenter --net=` wants.
    pub fn netns_path(&self) -> PathBuf {
        netns_path(&self.name.netns())
    }

    /// Runs a program standing in the street.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ran {
        run(&mut inside(&self.name.netns(), words))
    }

    /// Asks a URL from outside; the page is the output.
    #[track_caller]
    pub fn get(&self, url: &str) -> Ran {
        self.run(&["curl", "-sS", "--fail", "--max-time", "5", url])
    }

    /// A new namespace on the bridge, for a board called `netns`.
    pub(crate) fn join(&self, netns: &str) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            netns: netns.to_owned(),
            address: Ipv4Addr::new(10, 77, 0, number),
            number,
        };
        self.plug(&place);
        place
    }

    /// Pulls the cable of `place`, or puts it back.
    pub(crate) fn set_cable(&self, place: &Place, is_in: bool) {
        let port = format!("p{}", place.number);
        let state = if is_in { "up" } else { "down" };
        ip(&["-n", &self.name.netns(), "link", "set", &port, state]);
    }

    /// Bytes that `place` has sent since its cable was plugged in.
    pub(crate) fn sent_bytes(&self, place: &Place) -> u64 {
        let port = format!("p{}", place.number);
        let street = self.name.netns();
        let show = ["-n", &street, "-s", "-j", "link", "show", &port];
        let shown = run(Command::new("ip").args(show));
        let shown: serde_json::Value = serde_json::from_str(shown.ok()).unwrap_or_default();
        // What the street's end of the cable receives.
        shown[0]["stats64"]["rx"]["bytes"].as_u64().unwrap_or(0)
    }

    /// Makes the namespace of `place` anew, as a reboot does.
    pub(crate) fn plug_again(&self, place: &Place) {
        leftovers::remove_netns(&place.netns);
        // The peer in the street goes with the namespace, but a moment later.
        let port = format!("p{}", place.number);
        crate::until("the old veth is gone", || {
            let street = self.name.netns();
            let show = run(Command::new("ip").args(["-n", &street, "link", "show", &port]));
            (show.code != 0).then_some(())
        });
        self.plug(place);
    }

    fn plug(&self, place: &Place) {
        let street = self.name.netns();
        let port = format!("p{}", place.number);
        let board = &place.netns;
        ip(&["netns", "add", board]);
        ip(&[
            "-n", &street, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            board,
        ]);
        ip(&["-n", &street, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", board, "link", "set", "lo", "up"]);
        ip(&[
            "-n",
            board,
            "addr",
            "add",
            &format!("{}/24", place.address),
            "dev",
            "eth0",
        ]);
        ip(&["-n", board, "link", "set", "eth0", "up"]);
        ip(&["-n", board, "route", "add", "default", "via", "10.77.0.1"]);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        leftovers::remove_netns(&self.name.netns());
        self.name.release();
    }
}

/// A command that runs `words` in a network namespace. Not `ip netns exec`: it
/// mounts a fresh /sys, which hides every cgroup.
pub(crate) fn inside(netns: &str, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns_path(netns).display()))
        .args(words);
    command
}

fn netns_path(netns: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(netns)
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words)).ok();
}
