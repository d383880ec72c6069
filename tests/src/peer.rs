//! The peer: Debian's dockerd in a network namespace and folders of its own,
//! to be measured in the same run as skep. Never a dependency of skep.

use crate::lan::{Lan, Place, inside};
use crate::leftovers::{self, Name};
use crate::program::{Ran, run, run_for};
use crate::wait::until;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Loading an image into it. Seconds.
const LOAD_PATIENCE: Duration = Duration::from_secs(180);

/// A dockerd that runs; gone when dropped.
pub struct Peer {
    name: Name,
    daemon: Option<Child>,
    place: Place,
    lan: Arc<Lan>,
}

impl Peer {
    /// Starts dockerd (it brings its own containerd) and waits for its API.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start() -> Self {
        Self::start_in(&Arc::new(Lan::new()))
    }

    /// The same in a street with others.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_in(lan: &Arc<Lan>) -> Self {
        let name = leftovers::claim("p");
        let place = lan.join(&name.netns());
        // Asking a registry is refused at once. Where packets vanish instead,
        // every task of Swarm's waits 20 s first, which is another comparison.
        let route = ["-n", &place.netns, "route", "add", "unreachable", "default"];
        run(Command::new("ip").args(["-n", &place.netns, "route", "del", "default"])).ok();
        run(Command::new("ip").args(route)).ok();
        let mut peer = Self {
            place,
            name,
            daemon: None,
            lan: lan.clone(),
        };
        peer.spawn();
        peer
    }

    fn spawn(&mut self) {
        let folder = self.name.folder();
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let mut command = inside(&self.place.netns, &["dockerd"]);
        command
            .arg("--host")
            .arg(self.host())
            .arg("--data-root")
            .arg(self.data())
            .arg("--exec-root")
            .arg(folder.join("e"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .args(["--cgroup-parent", &self.name.cgroup()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        self.daemon = Some(command.spawn().expect("dockerd starts"));
        until("dockerd answers", || {
            (self.docker(&["version"]).code == 0).then_some(())
        });
    }

    /// Kills dockerd with SIGKILL; its containerd and containers stay.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }

    /// Starts dockerd again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_again(&mut self) {
        drop(fs::remove_file(self.name.folder().join("pid")));
        self.spawn();
    }

    /// A power cut: it falls silent, and every process dies at once.
    pub fn power_off(&mut self) {
        self.lan.set_cable(&self.place, false);
        self.kill();
        self.name.end_everything();
    }

    /// dockerd and what it started for itself.
    pub fn pids(&self) -> Vec<u32> {
        let Some(daemon) = &self.daemon else {
            return Vec::new();
        };
        let children = run(Command::new("pgrep").args(["-P", &daemon.id().to_string()]));
        let children = children.lines();
        let children = children.iter().filter_map(|pid| pid.parse().ok());
        std::iter::once(daemon.id()).chain(children).collect()
    }

    /// Where it stands in its street.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// Bytes it has sent over its cable.
    pub fn sent_bytes(&self) -> u64 {
        self.lan.sent_bytes(&self.place)
    }

    /// The folder that survives a power cut.
    pub fn data(&self) -> PathBuf {
        self.name.folder().join("d")
    }

    /// What `-H` wants.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.name.folder().join("docker.sock")
    }

    /// Runs the docker client against it.
    pub fn docker(&self, words: &[&str]) -> Ran {
        run(Command::new(crate::docker())
            .env("DOCKER_HOST", self.host())
            .args(words))
    }

    /// Loads a sample image.
    ///
    /// # Panics
    /// When it is not loaded.
    pub fn load(&self, name: &str) {
        let mut command = Command::new(crate::docker());
        command.env("DOCKER_HOST", self.host());
        run_for(
            LOAD_PATIENCE,
            command.args(["load", "-q", "-i"]).arg(crate::sample(name)),
        )
        .ok();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(run(Command::new("kill").arg(daemon.id().to_string())));
            for _ in 0..500 {
                if matches!(daemon.try_wait(), Ok(Some(_)) | Err(_)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(daemon.kill());
            drop(daemon.wait());
        }
        self.name.end_everything();
        leftovers::remove_netns(&self.place.netns);
        drop(fs::remove_dir_all(self.name.folder()));
        self.name.release();
    }
}
