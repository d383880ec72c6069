//! The peer: Debian's dockerd in a network namespace and folders of its own,
//! to be measured in the same run as skep. Never a dependency of skep.

use crate::lan::{Lan, inside};
use crate::leftovers::{self, Name};
use crate::program::{Ran, run, run_for};
use crate::wait::until;
use std::fs::{self, File};
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
    netns: String,
    _lan: Arc<Lan>,
}

impl Peer {
    /// Starts dockerd (it brings its own containerd) and waits for its API.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start() -> Self {
        let lan = Arc::new(Lan::new());
        let name = leftovers::claim("p");
        let place = lan.join(&name.netns());
        // Asking a registry is refused at once. Where packets vanish instead,
        // every task of Swarm's waits 20 s first, which is another comparison.
        let route = ["-n", &place.netns, "route", "add", "unreachable", "default"];
        run(Command::new("ip").args(["-n", &place.netns, "route", "del", "default"])).ok();
        run(Command::new("ip").args(route)).ok();
        let mut peer = Self {
            netns: place.netns,
            name,
            daemon: None,
            _lan: lan,
        };
        let folder = peer.name.folder();
        let log = File::create(folder.join("log")).expect("a log");
        let mut command = inside(&peer.netns, &["dockerd"]);
        command
            .arg("--host")
            .arg(peer.host())
            .arg("--data-root")
            .arg(folder.join("d"))
            .arg("--exec-root")
            .arg(folder.join("e"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .args(["--cgroup-parent", &peer.name.cgroup()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        peer.daemon = Some(command.spawn().expect("dockerd starts"));
        until("dockerd answers", || {
            (peer.docker(&["version"]).code == 0).then_some(())
        });
        peer
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
        leftovers::remove_netns(&self.netns);
        drop(fs::remove_dir_all(self.name.folder()));
        self.name.release();
    }
}
