//! What a container sees of itself and of the node: Docker's safe defaults,
//! checked from the inside.

use skep_tests::{Board, Ran};
use std::fs;

/// Docker's default capabilities, as /proc shows the set.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn sh(board: &Board, flags: &[&str], line: &str) -> Ran {
    let words = [&["run", "--rm"], flags, &["busybox", "sh", "-c", line]].concat();
    board.docker(&words)
}

fn board() -> Board {
    let board = Board::start("one");
    board.load("busybox");
    board
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or("")
}

#[test]
fn defaults_confine_it() {
    let board = board();
    let ran = sh(&board, &[], "cat /proc/self/status");
    let status = ran.ok();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(status, set), DEFAULT_CAPABILITIES, "{set} {ran}");
    }
    assert_eq!(field(status, "CapAmb:"), "0000000000000000", "{ran}");
    assert_eq!(field(status, "Seccomp:"), "2", "{ran}");
    assert_eq!(field(status, "NoNewPrivs:"), "0", "{ran}");
    let ran = sh(
        &board,
        &["--security-opt", "no-new-privileges"],
        "cat /proc/self/status",
    );
    assert_eq!(field(ran.ok(), "NoNewPrivs:"), "1", "{ran}");
    let ran = sh(
        &board,
        &["--cap-drop", "ALL", "--cap-add", "NET_RAW"],
        "cat /proc/self/status",
    );
    assert_eq!(field(ran.ok(), "CapEff:"), "0000000000002000", "{ran}");
    let ran = sh(&board, &["--user", "app"], "cat /proc/self/status");
    assert_eq!(field(ran.ok(), "CapEff:"), "0000000000000000", "{ran}");

    // The filter works, also in what is exec'd later.
    let ran = sh(
        &board,
        &[],
        "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; hostname nope 2>&1; true",
    );
    assert!(
        ran.ok().contains("denied") || ran.out.contains("not permitted"),
        "{ran}"
    );
    board
        .docker(&["run", "-d", "--name", "cc", "busybox", "sleep", "1d"])
        .ok();
    let ran = board.docker(&["exec", "cc", "cat", "/proc/self/status"]);
    assert_eq!(field(ran.ok(), "Seccomp:"), "2", "{ran}");
    assert_eq!(field(&ran.out, "CapEff:"), DEFAULT_CAPABILITIES, "{ran}");
}

#[test]
fn namespaces_are_its_own() {
    let board = board();
    let ran = sh(
        &board,
        &[],
        "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; echo $$; hostname",
    );
    let lines = ran.lines();
    for (name, seen) in ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .iter()
        .zip(&lines)
    {
        // On cgroup v1 Docker shares the cgroup namespace with the host.
        if *name == "cgroup" && !fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
            continue;
        }
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        assert_ne!(own.to_string_lossy(), **seen, "{name}: {ran}");
    }
    assert_eq!(lines[6], "1", "the command is pid 1: {ran}");
    assert_eq!(lines[7].len(), 12, "the hostname is the short id: {ran}");
    let ran = sh(
        &board,
        &["--pid", "host", "--uts", "host", "--network", "host"],
        "echo $$; hostname",
    );
    assert_ne!(ran.lines()[0], "1", "{ran}");
    assert_eq!(ran.lines()[1], "one", "{ran}");
}

#[test]
fn the_kernel_s_files_are_masked() {
    let board = board();
    let ran = sh(
        &board,
        &[],
        "cat /proc/kcore /proc/timer_list /proc/keys 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep . | wc -l; \
         echo 1 2>&1 > /proc/sys/kernel/core_uses_pid; echo x 2>&1 > /proc/irq/x; \
         touch /sys/x 2>&1; true",
    );
    let lines = ran.lines();
    assert_eq!(lines[0], "0", "{ran}");
    assert_eq!(lines[1], "0", "{ran}");
    let said = format!("{}{}", ran.out, ran.err);
    assert_eq!(said.matches("Read-only file system").count(), 2, "{ran}");
}

#[test]
fn limits_are_the_kernel_s() {
    let board = board();
    board
        .docker(&[
            "run",
            "-d",
            "--name",
            "cc",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--cpuset-cpus",
            "0",
            "--ulimit",
            "nofile=99:100",
            "--oom-score-adj",
            "300",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=80",
            "busybox",
            "sleep",
            "1d",
        ])
        .ok();
    let limits = cgroup_of(&board, "cc");
    assert_eq!(
        limits("memory", "memory.limit_in_bytes", "memory.max"),
        "67108864"
    );
    assert_eq!(limits("pids", "pids.max", "pids.max"), "50");
    assert_eq!(limits("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    let cpu = limits("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(cpu == "50000" || cpu == "50000 100000", "{cpu}");
    let ran = board.docker(&[
        "exec", "cc", "sh", "-c",
        "ulimit -n; ulimit -Hn; cat /proc/1/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start",
    ]);
    assert_eq!(ran.lines(), ["99", "100", "300", "80"], "{ran}");

    board
        .docker(&["update", "--memory", "32m", "--memory-swap", "64m", "cc"])
        .ok();
    assert_eq!(
        limits("memory", "memory.limit_in_bytes", "memory.max"),
        "33554432"
    );

    let ran = sh(
        &board,
        &["--name", "hog", "--memory", "16m", "--memory-swap", "16m"],
        "tail /dev/zero",
    );
    ran.exits(137);
    board
        .docker(&[
            "run",
            "-d",
            "--name",
            "hog",
            "--memory",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "tail",
            "/dev/zero",
        ])
        .ok();
    assert_eq!(board.docker(&["wait", "hog"]).ok(), "137");
    let state = board.docker(&["inspect", "hog", "--format", "{{.State.OOMKilled}}"]);
    assert_eq!(state.ok(), "true");
}

/// Reads a limit of a running container where the kernel keeps it, on either
/// cgroup version: controller, file in v1, file in v2.
fn cgroup_of(board: &Board, container: &str) -> impl Fn(&str, &str, &str) -> String {
    let pid = board.pid_of(container);
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    move |controller, v1, v2| {
        let of = |name: &str| {
            let line = groups.lines().find(|line| {
                line.split(':')
                    .nth(1)
                    .is_some_and(|list| list.split(',').any(|one| one == name))
            })?;
            line.splitn(3, ':').nth(2).map(str::to_owned)
        };
        let file = match of(controller) {
            Some(path) => format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
            None => format!("/sys/fs/cgroup{}/{v2}", of("").expect("a unified cgroup")),
        };
        fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{file}: {error}"))
            .trim()
            .to_owned()
    }
}

#[test]
fn who_and_where_it_is() {
    let board = board();
    let ran = sh(
        &board,
        &[
            "--user",
            "app:extra",
            "--workdir",
            "/var/opt/new",
            "--hostname",
            "h",
            "-e",
            "A=1",
            "--env",
            "B=two words",
        ],
        "id -u; id -g; pwd; hostname; echo $A; echo $B; echo $HOME; echo $PATH",
    );
    assert_eq!(
        ran.lines(),
        [
            "1000",
            "500",
            "/var/opt/new",
            "h",
            "1",
            "two words",
            "/tmp",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ],
        "{ran}"
    );
    let ran = sh(
        &board,
        &["--user", "1234:5678", "--group-add", "500"],
        "id -u; id -g; id -G",
    );
    assert_eq!(ran.lines(), ["1234", "5678", "5678 500"], "{ran}");
    sh(&board, &["--user", "nobody-here"], "true")
        .refuses("unable to find user nobody-here: no matching entries in passwd file");
    let ran = sh(
        &board,
        &["--init"],
        "readlink /proc/1/exe; tr '\\0' ' ' < /proc/1/cmdline; ps -o pid,args",
    );
    assert!(ran.ok().contains("docker-init"), "{ran}");
}

#[test]
fn mounts_are_what_was_asked() {
    let board = board();
    let host = board.folder().join("bind");
    fs::create_dir_all(&host).expect("a folder");
    fs::write(host.join("file"), "from the host").expect("a file");
    let bind = format!("{}:/bind:ro", host.display());
    let ran = sh(
        &board,
        &[
            "-v",
            &bind,
            "-v",
            "named:/etc",
            "--tmpfs",
            "/scratch:size=1m,mode=700",
            "--read-only",
        ],
        "cat /bind/file; echo; touch /bind/x 2>&1; touch /x 2>&1; test -s /etc/passwd && echo copied; \
         grep ' /scratch ' /proc/mounts; grep ' / ' /proc/mounts | cut -d' ' -f1,3; touch /scratch/y && echo fine",
    );
    let said = ran.ok();
    assert!(said.contains("from the host"), "{ran}");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{ran}");
    assert!(
        said.contains("copied"),
        "a new volume takes the image's files: {ran}"
    );
    assert!(
        said.contains("size=1024k") && said.contains("mode=700"),
        "{ran}"
    );
    assert!(said.contains("overlay overlay"), "{ran}");
    assert!(said.ends_with("fine"), "{ran}");
    board.docker(&["volume", "rm", "named"]).ok();
    sh(
        &board,
        &[
            "-v",
            "/nowhere/at/all:/x",
            "--mount",
            "type=bind,source=/nowhere/else,target=/y",
        ],
        "true",
    )
    .refuses("bind source path does not exist: /nowhere/else");
}

#[test]
fn nothing_of_the_agent_leaks_in() {
    let board = board();
    let ran = sh(&board, &[], "ls -l /proc/self/fd /proc/1/fd; env");
    for line in ran.ok().lines() {
        assert!(
            !line.contains("skep") && !line.contains("socket:") && !line.contains("anon_inode"),
            "{line}\n{ran}"
        );
    }
    // No pipeline: a shell holds its pipes for a moment.
    let ran = sh(&board, &["-e", "ONLY=this"], "ls /proc/1/fd; true");
    assert_eq!(ran.lines(), ["0", "1", "2"], "{ran}");
}

#[test]
fn privileged_has_it_all() {
    let board = board();
    let ran = sh(
        &board,
        &["--privileged"],
        "cat /proc/self/status; mount -t tmpfs x /tmp && echo mounted; ls /dev | wc -l",
    );
    let status = ran.ok();
    assert_eq!(field(status, "Seccomp:"), "0", "{ran}");
    assert_eq!(
        field(status, "CapEff:"),
        field(
            &fs::read_to_string("/proc/self/status").expect("status"),
            "CapEff:"
        ),
        "{ran}"
    );
    assert!(status.contains("mounted"), "{ran}");
    let ran = sh(
        &board,
        &["--device", "/dev/loop-control:/dev/here"],
        "test -c /dev/here && echo there",
    );
    assert_eq!(ran.ok(), "there", "{ran}");
    let ran = sh(
        &board,
        &[],
        "mknod /tmp/null c 1 3 && echo x > /tmp/null && echo allowed; mknod /tmp/sda b 8 0; cat /tmp/sda 2>&1; true",
    );
    assert!(
        ran.ok().contains("allowed") && ran.out.contains("ermitted"),
        "{ran}"
    );
}
