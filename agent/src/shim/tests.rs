//! Real containers on this machine: made from a busybox root, checked from
//! the inside. They need root and a static busybox and are passed over
//! without; `tests/run` sees to it that neither is missing.

use super::*;
use crate::{logs, oci};
use skep_control::model::{Argv, ContainerCreate};
use smol::stream::StreamExt;
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A test binary is its own shim: when it is started as one, it becomes one
/// before the test harness makes a thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BECOME_SHIM: extern "C" fn(c_int, *const *const c_char) = become_shim;

extern "C" fn become_shim(count: c_int, pointers: *const *const c_char) {
    let argument = |at: usize| {
        // SAFETY: the C library passes `count` pointers to strings.
        let text = unsafe { CStr::from_ptr(*pointers.add(at)) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    let args: Vec<OsString> = (0..count as usize).map(argument).collect();
    let name = args.first().and_then(|a| Path::new(a).file_name());
    if name == Some("skep-shim".as_ref()) || name == Some(INIT_NAME.as_ref()) {
        main(&args);
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine of one container, with its own folders and cgroup parent.
struct Lab {
    base: PathBuf,
    launch: Launch,
}

/// `None` where no container can run.
fn lab(command: &[&str]) -> Option<Lab> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|b| Path::new(b).exists())?;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", std::process::id());
    let base = std::env::temp_dir().join(format!("skep-shim-{name}"));
    let layer = base.join("layer");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::copy(busybox, layer.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "echo", "sleep", "id", "env", "grep", "ls", "hostname", "stty", "head", "seq", "mount", "tty", "dd", "pwd", "kill", "sync", "tail", "wc", "mknod", "ps", "touch", "unshare", "readlink"] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n").unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nwww:x:33:\nstaff:x:50:web\n").unwrap();
    std::fs::write(layer.join("bin/text"), "no program").unwrap();
    std::fs::create_dir_all(base.join("run")).unwrap();
    std::fs::create_dir_all(base.join("task")).unwrap();
    let mut create = ContainerCreate::default();
    create.config.cmd = Some(Argv(command.iter().map(|w| (*w).to_owned()).collect()));
    let id = format!("{:0>64}", format!("{:x}", u64::from(std::process::id()) << 16 | u64::from(number)));
    let inputs = oci::Inputs {
        id: id.clone(),
        create,
        cgroup_path: PathBuf::from(format!("/skep-test-{name}/{id}")),
        ..oci::Inputs::default()
    };
    let launch = Launch {
        id,
        task_dir: base.join("task"),
        run_dir: base.join("run"),
        layers: vec![layer],
        inputs,
        log: logs::Options::default(),
        waiting: Vec::new(),
    };
    Some(Lab { base, launch })
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = cgroup::sweep(self.launch.inputs.cgroup_path.parent().unwrap());
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

impl Lab {
    fn start(&self) -> Shim {
        smol::block_on(launch(self.launch.clone())).unwrap().0
    }

    /// Runs to the end; exit record and what was logged.
    fn run(&self) -> (ExitRecord, String) {
        let shim = self.start();
        let record = smol::block_on(shim.wait()).unwrap();
        (record, self.log(true))
    }

    fn log(&self, stdout: bool) -> String {
        let select = logs::Select {
            stdout,
            stderr: !stdout,
            ..logs::Select::default()
        };
        let entries = logs::read(&self.launch.task_dir, &select).unwrap();
        entries.map(|e| String::from_utf8_lossy(&e.data).into_owned() + "\n").collect()
    }
}

fn text(chunks: &[Chunk], source: Source) -> String {
    let chosen = chunks.iter().filter(|c| c.source == source);
    chosen.map(|c| String::from_utf8_lossy(&c.data).into_owned()).collect()
}

const BOTH: Attach = Attach {
    stdin: false,
    stdout: true,
    stderr: true,
};

#[test]
fn codes_and_streams_come_through() {
    let Some(lab) = lab(&["sh", "-c", "echo out; echo err >&2; exit 7"]) else { return };
    let (record, out) = lab.run();
    assert_eq!((record.code, record.signal, record.oom_killed), (7, 0, false));
    assert_eq!(record.error, "");
    assert_eq!((out.as_str(), lab.log(false).as_str()), ("out\n", "err\n"));
    assert_eq!(ExitRecord::read(&lab.launch.task_dir), Some(record));
    let left: Vec<_> = std::fs::read_dir(&lab.launch.run_dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(smol::block_on(connect(&lab.launch.id, &lab.launch.run_dir, &lab.launch.task_dir)).is_err());
}

#[test]
fn what_cannot_start_says_why_in_dockers_words() {
    for (command, code, words) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/bin/nosuch", 127, "exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"),
        ("/bin/text", 126, "exec: \"/bin/text\": permission denied"),
    ] {
        let Some(lab) = lab(&[command]) else { return };
        let failure = smol::block_on(launch(lab.launch.clone())).err().unwrap();
        assert_eq!(failure.exit_code, code);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(std::fs::read_dir(&lab.launch.run_dir).unwrap().next().is_none());
    }
    let Some(mut lab) = lab(&["sh"]) else { return };
    lab.launch.inputs.create.config.user = "ghost".to_owned();
    let failure = smol::block_on(launch(lab.launch.clone())).err().unwrap();
    assert_eq!(failure.message, "unable to find user ghost: no matching entries in passwd file");
}

#[test]
fn the_inside_is_confined() {
    let script = "cat /proc/self/status; cat /proc/self/cgroup; id; pwd; env; hostname; ls /proc/self/fd; mount; \
                  touch /proc/sys/kernel/msgmax; hostname boo; unshare -m true; \
                  mknod /tmp/sda b 8 0 && dd if=/tmp/sda count=1 of=/dev/null; echo end";
    let Some(mut lab) = lab(&["sh", "-c", script]) else { return };
    let create = &mut lab.launch.inputs.create;
    create.config.env = vec!["COLOUR=blue".to_owned()];
    create.config.working_dir = "/made/here".to_owned();
    create.config.hostname = "box".to_owned();
    let (record, out) = lab.run();
    let errors = lab.log(false);
    assert_eq!(record.code, 0, "{errors}");
    let has = |line: &str| assert!(out.lines().any(|l| l.replace('\t', " ") == line), "{line}\n{out}\n{errors}");
    has("CapPrm: 00000000a80425fb");
    has("CapEff: 00000000a80425fb");
    has("CapBnd: 00000000a80425fb");
    has("CapAmb: 0000000000000000");
    has("CapInh: 0000000000000000");
    has("NoNewPrivs: 0");
    has("Seccomp: 2");
    // 32 and 33 are the C library's own and out of reach.
    assert!(out.contains("SigIgn:\t0000000000000000") || out.contains("SigIgn:\t0000000180000000"));
    has("SigBlk: 0000000000000000");
    has("uid=0(root) gid=0(root) groups=0(root)");
    has("/made/here");
    has("COLOUR=blue");
    has("HOME=/root");
    has("box");
    has("HOSTNAME=box");
    has("end");
    // ls has its three and the folder it reads.
    for (fd, there) in [("2", true), ("3", true), ("4", false), ("5", false)] {
        assert_eq!(out.lines().any(|l| l == fd), there, "fd {fd}\n{out}");
    }
    assert!(errors.contains("hostname: sethostname: Operation not permitted"), "{errors}");
    assert!(errors.contains("unshare"), "{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
    has("tmpfs on /proc/acpi type tmpfs (ro,relatime)");
    assert!(errors.contains("dd: can't open '/tmp/sda': Operation not permitted"), "{errors}");
}

#[test]
fn users_limits_and_options_hold() {
    let script = "id; cat /proc/self/status; touch /x; cat /data/file; touch /data/y; \
                  ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; mount";
    let Some(mut lab) = lab(&["sh", "-c", script]) else { return };
    std::fs::create_dir(lab.base.join("data")).unwrap();
    std::fs::write(lab.base.join("data/file"), "from the host\n").unwrap();
    lab.launch.inputs.mounts.push(oci::BindMount {
        source: lab.base.join("data"),
        target: "/data".into(),
        read_only: true,
        ..oci::BindMount::default()
    });
    let create = &mut lab.launch.inputs.create;
    create.config.user = "web".to_owned();
    let host = &mut create.host;
    host.readonly_rootfs = true;
    host.memory = 64 << 20;
    host.pids_limit = Some(20);
    host.nano_cpus = 500_000_000;
    host.security_opt = vec!["no-new-privileges".to_owned()];
    host.tmpfs.insert("/scratch".to_owned(), String::new());
    host.ulimits.push(skep_control::model::Ulimit { name: "nofile".to_owned(), soft: 77, hard: 88 });
    let (record, out) = lab.run();
    let errors = lab.log(false);
    let has = |line: &str| assert!(out.replace('\t', " ").contains(line), "{line}\n{out}\n{errors}");
    has("uid=33(web) gid=33(www) groups=33(www),50(staff)");
    has("CapPrm: 0000000000000000");
    has("NoNewPrivs: 1");
    has("Seccomp: 2");
    has("from the host");
    has("\n77\n");
    has("\n0\n");
    has("tmpfs on /scratch type tmpfs (rw,nosuid,nodev,noexec");
    assert_eq!(errors.matches("Read-only file system").count(), 2, "{errors}");
    assert_eq!(record.code, 0);
}

#[test]
fn memory_kills_are_named() {
    let Some(mut lab) = lab(&["tail", "/dev/zero"]) else { return };
    lab.launch.inputs.create.host.memory = 16 << 20;
    lab.launch.inputs.create.host.memory_swap = 16 << 20;
    let (record, _) = lab.run();
    assert_eq!((record.code, record.signal, record.oom_killed), (137, 9, true));
}

#[test]
fn a_new_agent_finds_the_container_again() {
    let Some(lab) = lab(&["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done"]) else { return };
    smol::block_on(async {
        let first = launch(lab.launch.clone()).await.unwrap().0;
        let again = connect(&lab.launch.id, &lab.launch.run_dir, &lab.launch.task_dir).await.unwrap();
        assert_eq!((first.pid(), first.started()), (again.pid(), again.started()));
        let pids = cgroup::pids(&lab.launch.inputs.cgroup_path).unwrap();
        assert!(pids.contains(&first.pid()), "{pids:?}");
        assert!(launch(lab.launch.clone()).await.is_err(), "two shims for one container");
        again.signal(libc::SIGTERM, false).await.unwrap();
        assert_eq!(first.wait().await.unwrap().code, 9);
        assert_eq!(again.wait().await.unwrap().code, 9);
    });
}

#[test]
fn attach_carries_stdin_and_both_outputs() {
    let Some(mut lab) = lab(&["sh", "-c", "cat; echo done >&2"]) else { return };
    lab.launch.inputs.create.config.open_stdin = true;
    lab.launch.inputs.create.config.stdin_once = true;
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let attached = shim.attach(Attach { stdin: true, ..BOTH }).await.unwrap();
        let mut stdin = attached.stdin.unwrap();
        let big: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let expected = big.len();
        let reader = smol::spawn(attached.output.into_stream().collect::<Vec<Chunk>>());
        stdin.write_all(&big).await.unwrap();
        drop(stdin);
        let chunks = reader.await;
        let out = text(&chunks, Source::Stdout);
        assert_eq!(out.len(), expected);
        assert!(out.ends_with("199999\n"));
        assert_eq!(text(&chunks, Source::Stderr), "done\n");
        assert_eq!(shim.wait().await.unwrap().code, 0);
    });
}

#[test]
fn who_waited_for_the_start_misses_nothing() {
    let Some(mut lab) = lab(&["echo", "first"]) else { return };
    lab.launch.waiting = vec![BOTH, Attach { stderr: true, ..Attach::default() }];
    smol::block_on(async {
        let (shim, waited) = launch(lab.launch.clone()).await.unwrap();
        let mut seen = Vec::new();
        for attached in waited {
            let chunks: Vec<Chunk> = attached.output.into_stream().collect().await;
            seen.push(text(&chunks, Source::Stdout));
        }
        assert_eq!(seen, ["first\n", ""]);
        assert_eq!(shim.wait().await.unwrap().code, 0);
    });
}

#[test]
fn a_terminal_has_a_size_and_one_stream() {
    let Some(mut lab) = lab(&["sh", "-c", "tty; stty size; read line; stty size; echo got $line >&2; exit 5"]) else { return };
    let create = &mut lab.launch.inputs.create;
    create.config.tty = true;
    create.config.open_stdin = true;
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let attached = shim.attach(Attach { stdin: true, ..BOTH }).await.unwrap();
        shim.resize(33, 101).await.unwrap();
        let mut stdin = attached.stdin.unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        let chunks: Vec<Chunk> = attached.output.into_stream().collect().await;
        assert_eq!(shim.wait().await.unwrap().code, 5);
        assert_eq!(text(&chunks, Source::Stderr), "");
        let log = lab.log(true);
        assert!(log.contains("/dev/pts/0"), "{log}");
        assert!(log.contains("33 101"), "{log}");
        assert!(log.contains("got hello"), "{log}");
    });
}

async fn exec(shim: &Shim, spec: ExecSpec) -> (i32, Vec<Chunk>) {
    let id = spec.id.clone();
    let exec = shim.exec(spec).await.unwrap();
    let chunks = exec.streams.output.into_stream().collect().await;
    (shim.wait_exec(&id).await.unwrap(), chunks)
}

#[test]
fn execs_join_and_are_confined_too() {
    let Some(mut lab) = lab(&["sleep", "60"]) else { return };
    lab.launch.inputs.create.config.env = vec!["A=1".to_owned()];
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let spec = |id: &str, script: &str| ExecSpec {
            id: id.to_owned(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["B=2".to_owned()],
            attach: BOTH,
            ..ExecSpec::default()
        };
        let (code, chunks) =
            exec(&shim, spec("one", "env; cat /proc/self/status; ls /proc/self/fd; id >&2; exit 3")).await;
        let out = text(&chunks, Source::Stdout).replace('\t', " ");
        assert_eq!(code, 3);
        for line in ["A=1", "B=2", "Seccomp: 2", "NoNewPrivs: 0", "CapEff: 00000000a80425fb", "CapPrm: 00000000a80425fb"] {
            assert!(out.lines().any(|l| l == line), "{line}\n{out}");
        }
        assert!(!out.lines().any(|l| l == "4"), "{out}");
        assert!(text(&chunks, Source::Stderr).starts_with("uid=0(root)"));

        let user = ExecSpec { user: "web:staff".to_owned(), working_dir: "/tmp".to_owned(), ..spec("two", "id; pwd") };
        let (code, chunks) = exec(&shim, user).await;
        assert_eq!((code, text(&chunks, Source::Stdout).as_str()), (0, "uid=33(web) gid=50(staff) groups=50(staff)\n/tmp\n"));

        let privileged = ExecSpec { privileged: true, ..spec("three", "grep CapEff /proc/self/status") };
        let (_, chunks) = exec(&shim, privileged).await;
        let all = format!("CapEff:\t{:016x}\n", cgroup::capabilities().0);
        assert_eq!(text(&chunks, Source::Stdout), all);

        let tty = ExecSpec { tty: true, height: 11, width: 22, ..spec("four", "sleep 0.1; tty; stty size") };
        let (_, chunks) = exec(&shim, tty).await;
        assert!(text(&chunks, Source::Stdout).contains("11 22"), "{chunks:?}");

        let missing = ExecSpec { id: "five".to_owned(), args: vec!["nosuch".to_owned()], ..ExecSpec::default() };
        let Err(failure) = shim.exec(missing).await else { panic!("ran") };
        assert_eq!(failure.exit_code, 127);
        assert_eq!(
            failure.message,
            "OCI runtime exec failed: exec failed: unable to start container process: \
             exec: \"nosuch\": executable file not found in $PATH: unknown"
        );

        let stdin = ExecSpec { attach: Attach { stdin: true, ..BOTH }, ..spec("six", "cat") };
        let running = shim.exec(stdin).await.unwrap();
        let mut input = running.streams.stdin.unwrap();
        input.write_all(b"through").await.unwrap();
        drop(input);
        let chunks: Vec<Chunk> = running.streams.output.into_stream().collect().await;
        assert_eq!(text(&chunks, Source::Stdout), "through");
        assert!(shim.wait_exec("nosuch").await.is_err());

        shim.signal(libc::SIGKILL, false).await.unwrap();
        let record = shim.wait().await.unwrap();
        assert_eq!((record.code, record.signal, record.oom_killed), (137, 9, false));
    });
}

#[test]
fn a_paused_container_waits_and_can_be_killed() {
    let Some(lab) = lab(&["sh", "-c", "while :; do echo tick; sleep 0.01; done"]) else { return };
    let cgroup = lab.launch.inputs.cgroup_path.clone();
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        cgroup::freeze(&cgroup, true).unwrap();
        assert!(cgroup::is_frozen(&cgroup));
        let Err(refused) = shim.exec(ExecSpec { id: "x".to_owned(), args: vec!["id".to_owned()], ..ExecSpec::default() }).await else { panic!() };
        assert!(refused.message.contains("is paused, unpause the container before exec"));
        cgroup::freeze(&cgroup, false).unwrap();
        cgroup::freeze(&cgroup, true).unwrap();
        shim.signal(libc::SIGKILL, false).await.unwrap();
        assert_eq!(shim.wait().await.unwrap().code, 137);
    });
}

#[test]
fn no_line_of_a_fast_container_is_lost() {
    let Some(lab) = lab(&["seq", "1", "50000"]) else { return };
    let (record, out) = lab.run();
    assert_eq!(record.code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 50_000);
    assert!(lines.iter().enumerate().all(|(at, line)| *line == (at + 1).to_string()));
}

#[test]
fn followers_see_all_and_end_with_the_run() {
    let Some(lab) = lab(&["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done"]) else { return };
    smol::block_on(async {
        let select = logs::Select { stdout: true, stderr: true, ..logs::Select::default() };
        let follower = smol::spawn(logs::follow(lab.launch.task_dir.clone(), select).collect::<Vec<_>>());
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let entries = follower.await;
        let lines: Vec<_> = entries.into_iter().map(|e| e.unwrap().data).collect();
        assert_eq!(lines, [b"1", b"2", b"3", b"4", b"5"]);
        assert_eq!(shim.wait().await.unwrap().code, 0);
    });
}

#[test]
fn limits_show_change_and_are_counted() {
    let Some(mut lab) = lab(&["sh", "-c", "while :; do sleep 0.05; done"]) else { return };
    lab.launch.inputs.create.host.memory = 64 << 20;
    let cgroup = lab.launch.inputs.cgroup_path.clone();
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let before = stats::read(&cgroup, shim.pid()).unwrap();
        assert_eq!(before.memory_max, 64 << 20);
        assert!(before.memory > 0 && before.pids >= 1 && before.cpu_total > 0);
        assert!(before.system_cpu > 0 && before.online_cpus > 0);
        // Up beyond the swap limit, and down again.
        for megabytes in [300, 32] {
            let host = skep_control::model::HostConfig {
                memory: megabytes << 20,
                pids_limit: Some(megabytes),
                nano_cpus: 250_000_000,
                ..Default::default()
            };
            assert!(cgroup::update(&cgroup, &host).unwrap().is_empty());
            let after = stats::read(&cgroup, shim.pid()).unwrap();
            assert_eq!((after.memory_max, after.pids_max), ((megabytes as u64) << 20, megabytes as u64));
        }
        let top = top::read(&cgroup, "").unwrap();
        assert_eq!(top.titles[7], "CMD");
        assert!(top.processes.iter().any(|row| row[7].starts_with("sh -c while")), "{top:?}");
        shim.signal(libc::SIGKILL, true).await.unwrap();
        assert_eq!(shim.wait().await.unwrap().code, 137);
        assert!(cgroup::pids(&cgroup).is_err(), "the cgroup is gone");
    });
}

/// Not a test of right or wrong: prints what a start costs.
#[test]
#[ignore = "a measurement"]
fn what_a_start_costs() {
    let mut times = Vec::new();
    for _ in 0..30 {
        let Some(lab) = lab(&["echo", "x"]) else { return };
        let begin = std::time::Instant::now();
        let shim = lab.start();
        let started = begin.elapsed();
        smol::block_on(shim.wait()).unwrap();
        times.push((started, begin.elapsed()));
    }
    times.sort();
    println!("start median {:?} min {:?}; to exit {:?}", times[15].0, times[0].0, times[15].1);
}
