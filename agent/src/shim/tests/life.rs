//! From the launch to the exit record, with and without an agent.

use super::*;

#[test]
fn codes_and_streams_come_through() {
    let Some(lab) = lab(&["sh", "-c", "echo out; echo err >&2; exit 7"]) else {
        return;
    };
    let (record, out) = lab.run();
    assert_eq!(
        (record.code, record.signal, record.oom_killed),
        (7, 0, false)
    );
    assert_eq!(record.error, "");
    assert_eq!((out.as_str(), lab.log(false).as_str()), ("out\n", "err\n"));
    assert_eq!(ExitRecord::read(&lab.launch.task_dir), Some(record));
    let left: Vec<_> = std::fs::read_dir(&lab.launch.run_dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        smol::block_on(connect(
            &lab.launch.id,
            &lab.launch.run_dir,
            &lab.launch.task_dir
        ))
        .is_err()
    );
}

#[test]
fn what_cannot_start_says_why_in_dockers_words() {
    for (command, code, words) in [
        (
            "nosuch",
            127,
            "exec: \"nosuch\": executable file not found in $PATH",
        ),
        (
            "/bin/nosuch",
            127,
            "exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory",
        ),
        ("/bin/text", 126, "exec: \"/bin/text\": permission denied"),
    ] {
        let Some(lab) = lab(&[command]) else { return };
        let failure = smol::block_on(launch(lab.launch.clone())).err().unwrap();
        assert_eq!(failure.exit_code, code);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(
            std::fs::read_dir(&lab.launch.run_dir)
                .unwrap()
                .next()
                .is_none()
        );
    }
    let Some(mut lab) = lab(&["sh"]) else { return };
    lab.launch.inputs.create.config.user = "ghost".to_owned();
    let failure = smol::block_on(launch(lab.launch.clone())).err().unwrap();
    assert_eq!(
        failure.message,
        "unable to find user ghost: no matching entries in passwd file"
    );
}

#[test]
fn a_new_agent_finds_the_container_again() {
    let Some(lab) = lab(&[
        "sh",
        "-c",
        "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    ]) else {
        return;
    };
    smol::block_on(async {
        let first = launch(lab.launch.clone()).await.unwrap().0;
        let again = connect(&lab.launch.id, &lab.launch.run_dir, &lab.launch.task_dir)
            .await
            .unwrap();
        assert_eq!(
            (first.pid(), first.started()),
            (again.pid(), again.started())
        );
        let pids = cgroup::pids(&lab.launch.inputs.cgroup_path).unwrap();
        assert!(pids.contains(&first.pid()), "{pids:?}");
        assert!(
            launch(lab.launch.clone()).await.is_err(),
            "two shims for one container"
        );
        again.signal(libc::SIGTERM, false).await.unwrap();
        assert_eq!(first.wait().await.unwrap().code, 9);
        assert_eq!(again.wait().await.unwrap().code, 9);
    });
}

#[test]
fn a_paused_container_waits_and_can_be_killed() {
    let Some(lab) = lab(&["sh", "-c", "while :; do echo tick; sleep 0.01; done"]) else {
        return;
    };
    let cgroup = lab.launch.inputs.cgroup_path.clone();
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        cgroup::freeze(&cgroup, true).unwrap();
        assert!(cgroup::is_frozen(&cgroup));
        let Err(refused) = shim
            .exec(ExecSpec {
                id: "x".to_owned(),
                args: vec!["id".to_owned()],
                ..ExecSpec::default()
            })
            .await
        else {
            panic!()
        };
        assert!(
            refused
                .message
                .contains("is paused, unpause the container before exec")
        );
        cgroup::freeze(&cgroup, false).unwrap();
        cgroup::freeze(&cgroup, true).unwrap();
        shim.signal(libc::SIGKILL, false).await.unwrap();
        assert_eq!(shim.wait().await.unwrap().code, 137);
    });
}

#[test]
fn no_line_of_a_fast_container_is_lost() {
    let Some(lab) = lab(&["seq", "1", "50000"]) else {
        return;
    };
    let (record, out) = lab.run();
    assert_eq!(record.code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 50_000);
    assert!(
        lines
            .iter()
            .enumerate()
            .all(|(at, line)| *line == (at + 1).to_string())
    );
}

#[test]
fn followers_see_all_and_end_with_the_run() {
    let Some(lab) = lab(&[
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done",
    ]) else {
        return;
    };
    smol::block_on(async {
        let select = logs::Select {
            stdout: true,
            stderr: true,
            ..logs::Select::default()
        };
        let follower =
            smol::spawn(logs::follow(lab.launch.task_dir.clone(), select).collect::<Vec<_>>());
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let entries = follower.await;
        let lines: Vec<_> = entries.into_iter().map(|e| e.unwrap().data).collect();
        assert_eq!(lines, [b"1", b"2", b"3", b"4", b"5"]);
        assert_eq!(shim.wait().await.unwrap().code, 0);
    });
}
