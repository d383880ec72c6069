//! What a container sees and what it may do.

use super::*;

#[test]
fn the_inside_is_confined() {
    let script = "cat /proc/self/status; cat /proc/self/cgroup; id; pwd; env; hostname; ls /proc/self/fd; mount; \
                  touch /proc/sys/kernel/msgmax; hostname boo; unshare -m true; \
                  mknod /tmp/sda b 8 0 && dd if=/tmp/sda count=1 of=/dev/null; echo end";
    let Some(mut lab) = lab(&["sh", "-c", script]) else {
        return;
    };
    let create = &mut lab.launch.inputs.create;
    create.config.env = vec!["COLOUR=blue".to_owned()];
    create.config.working_dir = "/made/here".to_owned();
    create.config.hostname = "box".to_owned();
    let (record, out) = lab.run();
    let errors = lab.log(false);
    assert_eq!(record.code, 0, "{errors}");
    let has = |line: &str| {
        assert!(
            out.lines().any(|l| l.replace('\t', " ") == line),
            "{line}\n{out}\n{errors}"
        )
    };
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
    assert!(
        errors.contains("hostname: sethostname: Operation not permitted"),
        "{errors}"
    );
    assert!(errors.contains("unshare"), "{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
    has("tmpfs on /proc/acpi type tmpfs (ro,relatime)");
    assert!(
        errors.contains("dd: can't open '/tmp/sda': Operation not permitted"),
        "{errors}"
    );
}

#[test]
fn users_limits_and_options_hold() {
    let script = "id; cat /proc/self/status; touch /x; cat /data/file; touch /data/y; \
                  ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; mount";
    let Some(mut lab) = lab(&["sh", "-c", script]) else {
        return;
    };
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
    host.ulimits.push(skep_control::model::Ulimit {
        name: "nofile".to_owned(),
        soft: 77,
        hard: 88,
    });
    let (record, out) = lab.run();
    let errors = lab.log(false);
    let has = |line: &str| {
        assert!(
            out.replace('\t', " ").contains(line),
            "{line}\n{out}\n{errors}"
        )
    };
    has("uid=33(web) gid=33(www) groups=33(www),50(staff)");
    has("CapPrm: 0000000000000000");
    has("NoNewPrivs: 1");
    has("Seccomp: 2");
    has("from the host");
    has("\n77\n");
    has("\n0\n");
    has("tmpfs on /scratch type tmpfs (rw,nosuid,nodev,noexec");
    assert_eq!(
        errors.matches("Read-only file system").count(),
        2,
        "{errors}"
    );
    assert_eq!(record.code, 0);
}

#[test]
fn dockers_smallest_memory_is_enough_to_start() {
    let Some(mut lab) = lab(&["echo", "small"]) else {
        return;
    };
    lab.launch.inputs.create.host.memory = 6 << 20;
    let (record, out) = lab.run();
    assert_eq!((record.code, out.as_str()), (0, "small\n"));
}

#[test]
fn memory_kills_are_named() {
    let Some(mut lab) = lab(&["tail", "/dev/zero"]) else {
        return;
    };
    if !cgroup::machine().memory {
        return;
    }
    lab.launch.inputs.create.host.memory = 16 << 20;
    lab.launch.inputs.create.host.memory_swap = 16 << 20;
    let (record, _) = lab.run();
    assert_eq!(
        (record.code, record.signal, record.oom_killed),
        (137, 9, true)
    );
}

#[test]
fn limits_show_change_and_are_counted() {
    let Some(mut lab) = lab(&["sh", "-c", "while :; do sleep 0.05; done"]) else {
        return;
    };
    if !cgroup::machine().memory {
        return;
    }
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
            assert_eq!(
                (after.memory_max, after.pids_max),
                ((megabytes as u64) << 20, megabytes as u64)
            );
        }
        shim.signal(libc::SIGKILL, true).await.unwrap();
        assert_eq!(shim.wait().await.unwrap().code, 137);
        assert!(cgroup::pids(&cgroup).is_err(), "the cgroup is gone");
    });
}

/// On a machine with both versions the containers above ran under version 1.
/// A mount namespace that shows version 2 alone, where the controllers are
/// not, stands for a board without the memory controller.
#[test]
fn version_two_without_controllers_works_too() {
    if cgroup::machine().cgroup_v2 || !rustix::process::geteuid().is_root() {
        return;
    }
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" shim::tests";
    let ran = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}");
}
