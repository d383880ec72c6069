//! A node: an agent in a network namespace, with folders and a cgroup its own.
//!
//! Invariant: dropping it ends every process, mount, cgroup and namespace it
//! brought about; when the test panics, the end of the agent's log is printed.

use crate::lan::{Lan, Place, inside};
use crate::leftovers::{self, Name};
use crate::program::{Ran, run, run_for, run_with_input};
use crate::wait::until;
use crate::{docker, sample, skep};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A load of a large image takes this long at most. Seconds.
const LOAD_PATIENCE: Duration = Duration::from_secs(180);
/// How much of an agent's log a failing test prints.
const LOG_LINES_SHOWN: usize = 60;

/// The table of what a board does not hear.
const DEAF: &str = "skep-test-deaf";

/// Who speaks for the test: the two must be interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The unmodified docker client.
    Docker,
    /// skep's own.
    Skep,
}

impl Client {
    /// Both, for tests that tell one story twice.
    pub const BOTH: [Self; 2] = [Self::Docker, Self::Skep];
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, null when it is no JSON.
    pub json: Value,
    /// The body as it came.
    pub text: String,
}

/// A node under test.
pub struct Board {
    name: Name,
    hostname: String,
    lan: Arc<Lan>,
    place: Place,
    binary: PathBuf,
    flags: Vec<String>,
    agent: Option<Child>,
}

impl Board {
    /// A board alone in its street, its agent running.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub fn start(hostname: &str) -> Self {
        Self::start_in(&Arc::new(Lan::new()), hostname)
    }

    /// A board beside others, its agent running.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub fn start_in(lan: &Arc<Lan>, hostname: &str) -> Self {
        let mut board = Self::prepare(lan, hostname);
        board.start_agent();
        board
    }

    /// A board whose agent is not started yet.
    pub fn prepare(lan: &Arc<Lan>, hostname: &str) -> Self {
        let name = leftovers::claim("b");
        let place = lan.join(&name.netns());
        let board = Self {
            hostname: hostname.to_owned(),
            lan: Arc::clone(lan),
            place,
            binary: skep(),
            flags: Vec::new(),
            agent: None,
            name,
        };
        for folder in [board.data(), board.run_dir(), board.folder().join("docker")] {
            fs::create_dir_all(folder).expect("a board's folder can be made");
        }
        board
    }

    /// Another binary for the agent and skep's client, from the next start.
    pub fn use_binary(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// More flags for the agent, from its next start.
    pub fn flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts the agent and waits for its API to answer.
    ///
    /// # Panics
    /// When it ends, or does not answer.
    pub fn start_agent(&mut self) {
        self.spawn_agent();
        until("the agent answers", || {
            let agent = self.agent.as_mut()?;
            if let Ok(Some(status)) = agent.try_wait() {
                panic!(
                    "the agent ended at its start: {status}\n{}",
                    self.log_tail()
                );
            }
            if !self.socket().exists() {
                return None;
            }
            let ping = self.request("GET", "/_ping", None);
            (ping.0 == 0 && ping.1 == 200).then_some(())
        });
    }

    /// Starts the agent and does not wait.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn_agent(&mut self) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("the log file can be opened");
        let (data, run_dir) = (self.data(), self.run_dir());
        let cgroup = self.cgroup();
        // Every exec in this chain keeps the process id: it is the agent's.
        let mut command = inside(&self.place.netns, &["unshare", "--uts", "sh", "-c"]);
        command.args(["hostname \"$0\" && exec \"$@\"", &self.hostname]);
        command.arg(&self.binary).arg("agent");
        command
            .arg("--data-dir")
            .arg(data)
            .arg("--run-dir")
            .arg(run_dir);
        command.arg("--cgroup-parent").arg(cgroup).args(&self.flags);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let agent = command.spawn().expect("the agent can be started");
        self.agent = Some(agent);
    }

    /// `kill -9` of the agent, and of nothing else.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        agent.kill().expect("the agent can be killed");
        agent.wait().expect("the agent can be waited for");
    }

    /// SIGTERM to the agent; its containers go on.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop_agent(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        signal(agent.id(), Signal::TERM);
        let status = until("the agent stops", || agent.try_wait().ok().flatten());
        assert!(
            status.success(),
            "a stopped agent exits with 0: {status}\n{}",
            self.log_tail()
        );
    }

    /// Puts another binary in the place of the running one, and restarts.
    ///
    /// # Panics
    /// When the new one does not answer.
    pub fn upgrade(&mut self, binary: &Path) {
        self.stop_agent();
        self.binary = binary.to_path_buf();
        self.start_agent();
    }

    /// A power cut and a boot, as far as it can be acted; see `power_off`. The
    /// agent is not started.
    pub fn power_cycle(&mut self) {
        self.power_off();
        self.lan.plug_again(&self.place);
    }

    /// A power cut, as far as it can be acted: the board falls silent and every
    /// process dies at once, mounts, cgroups, the run folder and the kernel's
    /// network state go. The data folder stays.
    pub fn power_off(&mut self) {
        self.pull_cable();
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
        self.name.end_everything();
        drop(fs::remove_dir_all(self.run_dir()));
        fs::create_dir_all(self.run_dir()).expect("the run folder can be made");
    }

    /// Power is back: the kernel's network state is made anew, and the agent
    /// is started.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub fn power_on(&mut self) {
        self.lan.plug_again(&self.place);
        self.start_agent();
    }

    /// Nobody hears it and it hears nobody; it goes on otherwise.
    pub fn pull_cable(&self) {
        self.lan.set_cable(&self.place, false);
    }

    /// The cable is back.
    pub fn plug_cable(&self) {
        self.lan.set_cable(&self.place, true);
    }

    /// From now on this board hears nothing that `other` says; the other way
    /// goes on.
    pub fn turn_deaf_to(&self, other: &Self) {
        let address = other.address().to_string();
        self.run(&["nft", "add", "table", "ip", DEAF]).ok();
        let hook = "{ type filter hook prerouting priority -310; }";
        self.run(&["nft", "add", "chain", "ip", DEAF, "in", hook])
            .ok();
        let rule = ["nft", "add", "rule", "ip", DEAF, "in", "ip", "saddr"];
        self.run(&[&rule[..], &[&address, "drop"]].concat()).ok();
    }

    /// It hears everybody again.
    pub fn hear_all(&self) {
        self.run(&["nft", "delete", "table", "ip", DEAF]).ok();
    }

    /// `power_cycle` and a start of the agent.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub fn reboot(&mut self) {
        self.power_cycle();
        self.start_agent();
    }

    /// Runs the docker client.
    #[track_caller]
    pub fn docker(&self, words: &[&str]) -> Ran {
        self.client(Client::Docker, words)
    }

    /// Runs skep's client.
    #[track_caller]
    pub fn skep(&self, words: &[&str]) -> Ran {
        self.client(Client::Skep, words)
    }

    /// Runs either.
    #[track_caller]
    pub fn client(&self, client: Client, words: &[&str]) -> Ran {
        run(self.client_command(client).args(words))
    }

    /// Runs either with something on its standard input.
    #[track_caller]
    pub fn client_with_input(&self, client: Client, words: &[&str], input: &[u8]) -> Ran {
        run_with_input(self.client_command(client).args(words), input)
    }

    /// A client's command, pointed at this board, for whoever wants to drive it.
    pub fn client_command(&self, client: Client) -> Command {
        let mut command = match client {
            Client::Docker => Command::new(docker()),
            Client::Skep => Command::new(&self.binary),
        };
        command
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", self.folder().join("docker"))
            .env("SKEP_HOST", self.host())
            .env("DOCKER_HOST", self.host());
        command
    }

    /// Loads a sample image; see `cross/samples` for the names.
    ///
    /// # Panics
    /// When it is not loaded.
    #[track_caller]
    pub fn load(&self, name: &str) {
        let archive = sample(name);
        let mut command = self.client_command(Client::Docker);
        run_for(
            LOAD_PATIENCE,
            command.args(["load", "-q", "-i"]).arg(archive),
        )
        .ok();
    }

    /// Asks the API: `api("GET", "/containers/json", None)`. The version is the
    /// newest unless the path begins with one.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(Value::to_string);
        self.api_text(method, path, body.as_deref())
    }

    /// The same with a body that need not be JSON.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn api_text(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        let (code, status, text) = self.request(method, path, body);
        assert!(
            code == 0,
            "{method} {path}: curl exited with {code}: {text}"
        );
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status, json, text }
    }

    /// Asks this board's published port from outside.
    #[track_caller]
    pub fn visit(&self, port: u16) -> Ran {
        self.lan
            .get(&format!("http://{}:{port}/", self.place.address))
    }

    /// Runs a program on the board, outside any container.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ran {
        run(&mut inside(&self.place.netns, words))
    }

    /// The street it stands in.
    pub fn lan(&self) -> &Arc<Lan> {
        &self.lan
    }

    /// Its address in the street.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// What `-H` wants.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("skep.sock")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder().join("d")
    }

    /// The run folder.
    pub fn run_dir(&self) -> PathBuf {
        self.folder().join("r")
    }

    /// A folder for the test's own files, gone with the board.
    pub fn folder(&self) -> PathBuf {
        self.name.folder()
    }

    /// The name of its cgroup.
    pub fn cgroup(&self) -> String {
        self.name.cgroup()
    }

    /// What it calls itself.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Whether its agent was started and not ended by the test.
    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// The agent's process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent runs").id()
    }

    /// The process id of a container's first process.
    ///
    /// # Panics
    /// When there is no such container.
    #[track_caller]
    pub fn pid_of(&self, container: &str) -> u32 {
        let reply = self.api("GET", &format!("/containers/{container}/json"), None);
        let pid = reply.json["State"]["Pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_else(|| panic!("{container} has no pid: {}", reply.text))
    }

    /// Bytes it has sent over its cable.
    pub fn sent_bytes(&self) -> u64 {
        self.lan.sent_bytes(&self.place)
    }

    /// The agent's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("agent.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// curl's exit code, the HTTP status and the body.
    #[track_caller]
    fn request(&self, method: &str, path: &str, body: Option<&str>) -> (i32, u16, String) {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "30",
            "-X",
            method,
            "-w",
            "\n%{http_code}",
            "--unix-socket",
        ]);
        command.arg(self.socket());
        if let Some(body) = body {
            let file = self.folder().join("body");
            fs::write(&file, body).expect("the body can be written");
            command.args(["-H", "Content-Type: application/json", "--data-binary"]);
            command.arg(format!("@{}", file.display()));
        }
        command.arg(format!("http://skep{path}"));
        let ran = run(&mut command);
        let (text, status) = ran.out.rsplit_once('\n').unwrap_or((&ran.err, "0"));
        (ran.code, status.parse().unwrap_or(0), text.to_owned())
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "-- the end of {}'s log\n{}\n--",
                self.hostname,
                self.log_tail()
            );
            keep_log(&self.log_path());
        }
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
        self.name.end_everything();
        leftovers::remove_netns(&self.place.netns);
        self.name.release();
    }
}

/// The whole log of a failed test, where the next look finds it.
fn keep_log(log: &Path) {
    let test = std::thread::current()
        .name()
        .unwrap_or("test")
        .replace("::", "-");
    let folder = crate::target().join("tests-run");
    drop(fs::create_dir_all(&folder));
    if let (Ok(mut from), Ok(mut to)) = (
        File::open(log),
        File::create(folder.join(format!("{test}.agent.log"))),
    ) {
        drop(std::io::copy(&mut from, &mut to));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}
