//! Making the container, and the processes that join it: the only place that
//! calls libcontainer.
//!
//! It runs in a process of its own, forked off the shim and gone when the
//! program runs: libcontainer's memory, its low oom score and its being not
//! dumpable go with it, and the shim stays as small as it was born. What it
//! leaves behind is the shim's child, because the shim is a subreaper.

use super::executor::{Confined, start_failure};
use super::verdict::Verdict;
use super::wire::{ExecSpec, Failure, Launch, Started};
use super::{cgroup, devices, facts, kernel, rootfs};
use crate::error::Error;
use crate::oci::{self, Plan, seccomp};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where a shim keeps what lives as long as its container.
#[derive(Clone, Debug)]
pub(super) struct Bundle(pub(super) PathBuf);

impl Bundle {
    pub(super) fn of(launch: &Launch) -> Self {
        Self(launch.run_dir.join(&launch.id))
    }
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }
    pub(super) fn links(&self) -> PathBuf {
        self.0.join("l")
    }
    /// libcontainer's own state.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }
    pub(super) fn spec(&self) -> PathBuf {
        self.0.join("config.json")
    }
    /// The compiled filter, for those who join; absent when unconfined.
    pub(super) fn filter(&self) -> PathBuf {
        self.0.join("filter")
    }
    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console.sock")
    }
    /// This very binary, bound to a name that outlives its own.
    pub(super) fn init(&self) -> PathBuf {
        self.0.join("init")
    }
}

/// The container's ends of its stdio; none of them with a terminal.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl Ends {
    /// A process that is not root may open /dev/stdout again only if it is its.
    fn give_to(&self, uid: u32, gid: u32) {
        let owner = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(gid),
        );
        for pipe in [&self.stdin, &self.stdout, &self.stderr]
            .into_iter()
            .flatten()
        {
            let regular = rustix::fs::fstat(pipe)
                .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_fifo());
            if regular {
                let _ = rustix::fs::fchown(pipe.as_fd(), Some(owner.0), Some(owner.1));
            }
        }
    }
}

fn refused(error: &Error) -> Failure {
    Failure {
        exit_code: 128,
        message: error.message.clone(),
    }
}

/// Docker's exit codes by the words of the reason, as dockerd decides them.
fn create_failure(tenant: bool, reason: &str) -> Failure {
    let lower = reason.to_lowercase();
    let code = if lower.contains("no such file") || lower.contains("executable file not found") {
        127
    } else if lower.contains("permission denied") || lower.contains("not a directory") {
        126
    } else {
        128
    };
    start_failure(tenant, code, reason)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// Makes and starts the container; tells `verdict` and ends the process.
pub(super) fn make(launch: &Launch, ends: Ends, verdict: &Verdict) -> ! {
    match create(launch, ends, verdict) {
        Ok(started) => verdict.start(started),
        Err(failure) => verdict.fail(&failure),
    }
    kernel::exit_now(0)
}

fn create(launch: &Launch, ends: Ends, verdict: &Verdict) -> Result<Started, Failure> {
    let bundle = Bundle::of(launch);
    let inputs = &launch.inputs;
    let io = |what: &'static str| {
        move |e: std::io::Error| create_failure(false, &format!("{what}: {e}"))
    };
    let facts = facts::gather(inputs, &bundle.root(), bundle.init()).map_err(io("devices"))?;
    let plan = oci::runtime_spec(inputs, &facts).map_err(|e| refused(&e))?;
    let folder = &inputs.create.config.working_dir;
    facts::make_folder(&bundle.root(), Path::new(folder)).map_err(io("working directory"))?;
    let filter = write_plan(&bundle, &plan).map_err(io("bundle"))?;
    ends.give_to(plan.user.uid, plan.user.gid);
    let executor = Confined {
        lent: lent(&plan.spec),
        filter,
        capabilities: plan.capabilities.0,
        tenant: false,
        verdict: verdict.clone(),
    };
    let terminal = inputs.create.config.tty.then(|| bundle.console());
    let mut container = builder(&launch.id, &bundle, executor, terminal, ends)?
        .as_init(&bundle.0)
        .with_systemd(false)
        .build()
        .map_err(|e| create_failure(false, &chain(&e)))?;
    let pid = container.pid().map_or(0, |pid| pid.as_raw());
    let mut warnings = plan.warnings;
    if facts.machine.cgroup_v2 {
        warnings.extend(devices::confine(&inputs.cgroup_path, &plan.spec));
    }
    container
        .start()
        .map_err(|e| create_failure(false, &chain(&e)))?;
    Ok(Started {
        pid,
        warnings,
        ..Started::default()
    })
}

/// Whether the spec's permitted set holds more than the process shall keep.
fn lent(spec: &serde_json::Value) -> bool {
    let set = |name: &str| spec.pointer(&format!("/process/capabilities/{name}"));
    set("permitted") != set("bounding")
}

fn builder(
    id: &str,
    bundle: &Bundle,
    executor: Confined,
    terminal: Option<PathBuf>,
    ends: Ends,
) -> Result<ContainerBuilder, Failure> {
    let tenant = executor.tenant;
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(bundle.state())
        .map_err(|e| create_failure(tenant, &chain(&e)))?
        .with_executor(executor)
        .with_console_socket(terminal);
    if let Some(stdin) = ends.stdin {
        builder = builder.with_stdin(stdin);
    }
    if let Some(stdout) = ends.stdout {
        builder = builder.with_stdout(stdout);
    }
    if let Some(stderr) = ends.stderr {
        builder = builder.with_stderr(stderr);
    }
    Ok(builder)
}

/// The spec for libcontainer, and the filter for those who join later.
fn write_plan(bundle: &Bundle, plan: &Plan) -> std::io::Result<Vec<seccomp::Instruction>> {
    std::fs::create_dir_all(bundle.state())?;
    std::fs::write(bundle.spec(), serde_json::to_vec(&plan.spec)?)?;
    let Some(profile) = plan.seccomp.profile() else {
        return Ok(Vec::new());
    };
    let filter = seccomp::compile(&profile, seccomp::Arch::native());
    let words: Vec<(u16, u8, u8, u32)> = filter.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    let bytes = postcard::to_allocvec(&words).map_err(std::io::Error::other)?;
    std::fs::write(bundle.filter(), bytes)?;
    Ok(filter)
}

fn read_filter(bundle: &Bundle) -> std::io::Result<Vec<seccomp::Instruction>> {
    let bytes = match std::fs::read(bundle.filter()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let words: Vec<(u16, u8, u8, u32)> =
        postcard::from_bytes(&bytes).map_err(std::io::Error::other)?;
    let instruction = |(code, jt, jf, k)| seccomp::Instruction { code, jt, jf, k };
    Ok(words.into_iter().map(instruction).collect())
}

/// A process that joins a running container.
pub(super) struct Joining<'a> {
    pub(super) id: &'a str,
    pub(super) bundle: &'a Bundle,
    /// The container's first process.
    pub(super) init: i32,
    pub(super) spec: &'a ExecSpec,
    /// Names this exec's files in the bundle.
    pub(super) number: u64,
}

impl Joining<'_> {
    pub(super) fn console(&self) -> PathBuf {
        self.bundle.0.join(format!("console-{}.sock", self.number))
    }
}

/// Starts a process in the container; tells `verdict` and ends the process.
pub(super) fn join(joining: &Joining<'_>, ends: Ends, verdict: &Verdict) -> ! {
    match enter(joining, ends, verdict) {
        Ok(pid) => verdict.start(Started {
            pid,
            ..Started::default()
        }),
        Err(failure) => verdict.fail(&failure),
    }
    kernel::exit_now(0)
}

fn enter(joining: &Joining<'_>, ends: Ends, verdict: &Verdict) -> Result<i32, Failure> {
    let bundle = joining.bundle;
    let io = |e: std::io::Error| create_failure(true, &e.to_string());
    let spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.spec()).map_err(io)?)
            .map_err(|e| io(e.into()))?;
    let exec = joining.spec;
    let root = PathBuf::from(format!("/proc/{}/root", joining.init));
    let tenant = oci::Tenant {
        args: &exec.args,
        env: &exec.env,
        tty: exec.tty,
        working_dir: &exec.working_dir,
        user: &exec.user,
        privileged: exec.privileged,
        available: cgroup::capabilities(),
    };
    let (passwd, group) = if exec.user.is_empty() {
        Default::default()
    } else {
        let read = |path| facts::read_inside(&root, path);
        (read("etc/passwd"), read("etc/group"))
    };
    let (process, user, capabilities) =
        oci::tenant_process(&spec, &tenant, &passwd, &group).map_err(|e| refused(&e))?;
    let file = bundle.0.join(format!("exec-{}.json", joining.number));
    std::fs::write(&file, process.to_string()).map_err(io)?;
    ends.give_to(user.uid, user.gid);
    let executor = Confined {
        filter: read_filter(bundle).map_err(io)?,
        capabilities: capabilities.0,
        lent: lent(&serde_json::json!({ "process": process })),
        tenant: true,
        verdict: verdict.clone(),
    };
    let terminal = exec.tty.then(|| joining.console());
    let joined = builder(joining.id, bundle, executor, terminal, ends)?
        .as_tenant()
        .with_process(Some(&file))
        .with_detach(true)
        .build();
    let _ = std::fs::remove_file(&file);
    joined
        .map(|pid| pid.as_raw())
        .map_err(|e| create_failure(true, &chain(&e)))
}

/// Mounts the root; in the shim itself, whose mount namespace it lives in.
pub(super) fn mount_root(launch: &Launch) -> Result<(), Failure> {
    let bundle = Bundle::of(launch);
    let own = rootfs::Own::of(&launch.task_dir);
    let mounted = rootfs::mount(&launch.layers, &own, &bundle.root(), &bundle.links());
    mounted.map_err(|e| create_failure(false, &format!("error mounting the root file system: {e}")))
}
