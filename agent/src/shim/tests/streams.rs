//! Attach, terminals and exec.

use super::*;

#[test]
fn attach_carries_stdin_and_both_outputs() {
    let Some(mut lab) = lab(&["sh", "-c", "cat; echo done >&2"]) else {
        return;
    };
    lab.launch.inputs.create.config.open_stdin = true;
    lab.launch.inputs.create.config.stdin_once = true;
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let attached = shim
            .attach(Attach {
                stdin: true,
                ..BOTH
            })
            .await
            .unwrap();
        let mut stdin = attached.stdin.unwrap();
        let big: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
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
    let Some(mut lab) = lab(&["echo", "first"]) else {
        return;
    };
    lab.launch.waiting = vec![
        BOTH,
        Attach {
            stderr: true,
            ..Attach::default()
        },
    ];
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
    let Some(mut lab) = lab(&[
        "sh",
        "-c",
        "sleep 0.2; tty; echo mine >/dev/pts/0; stty size; read line; stty size; echo got $line >&2; exit 5",
    ]) else {
        return;
    };
    let create = &mut lab.launch.inputs.create;
    create.config.tty = true;
    create.config.open_stdin = true;
    create.config.user = "web".to_owned();
    smol::block_on(async {
        let shim = launch(lab.launch.clone()).await.unwrap().0;
        let attached = shim
            .attach(Attach {
                stdin: true,
                ..BOTH
            })
            .await
            .unwrap();
        shim.resize(33, 101).await.unwrap();
        let mut stdin = attached.stdin.unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        let chunks: Vec<Chunk> = attached.output.into_stream().collect().await;
        assert_eq!(shim.wait().await.unwrap().code, 5);
        assert_eq!(text(&chunks, Source::Stderr), "");
        let log = lab.log(true);
        assert!(log.contains("/dev/pts/0"), "{log}");
        assert!(log.contains("mine"), "{log}");
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
    let Some(mut lab) = lab(&["sleep", "60"]) else {
        return;
    };
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
        let (code, chunks) = exec(
            &shim,
            spec(
                "one",
                "env; cat /proc/self/status; ls /proc/self/fd; id >&2; exit 3",
            ),
        )
        .await;
        let out = text(&chunks, Source::Stdout).replace('\t', " ");
        assert_eq!(code, 3);
        for line in [
            "A=1",
            "B=2",
            "Seccomp: 2",
            "NoNewPrivs: 0",
            "CapEff: 00000000a80425fb",
            "CapPrm: 00000000a80425fb",
        ] {
            assert!(out.lines().any(|l| l == line), "{line}\n{out}");
        }
        assert!(!out.lines().any(|l| l == "4"), "{out}");
        assert!(text(&chunks, Source::Stderr).starts_with("uid=0(root)"));

        let user = ExecSpec {
            user: "web:staff".to_owned(),
            working_dir: "/tmp".to_owned(),
            ..spec("two", "id; pwd")
        };
        let (code, chunks) = exec(&shim, user).await;
        assert_eq!(
            (code, text(&chunks, Source::Stdout).as_str()),
            (0, "uid=33(web) gid=50(staff) groups=50(staff)\n/tmp\n")
        );

        let privileged = ExecSpec {
            privileged: true,
            ..spec("three", "grep CapEff /proc/self/status")
        };
        let (_, chunks) = exec(&shim, privileged).await;
        let all = format!("CapEff:\t{:016x}\n", cgroup::capabilities().0);
        assert_eq!(text(&chunks, Source::Stdout), all);

        let tty = ExecSpec {
            tty: true,
            height: 11,
            width: 22,
            ..spec("four", "sleep 0.1; tty; stty size")
        };
        let (_, chunks) = exec(&shim, tty).await;
        assert!(
            text(&chunks, Source::Stdout).contains("11 22"),
            "{chunks:?}"
        );

        let missing = ExecSpec {
            id: "five".to_owned(),
            args: vec!["nosuch".to_owned()],
            ..ExecSpec::default()
        };
        let Err(failure) = shim.exec(missing).await else {
            panic!("ran")
        };
        assert_eq!(failure.exit_code, 127);
        assert_eq!(
            failure.message,
            "OCI runtime exec failed: exec failed: unable to start container process: \
             exec: \"nosuch\": executable file not found in $PATH: unknown"
        );

        let stdin = ExecSpec {
            attach: Attach {
                stdin: true,
                ..BOTH
            },
            ..spec("six", "cat")
        };
        let running = shim.exec(stdin).await.unwrap();
        let mut input = running.streams.stdin.unwrap();
        input.write_all(b"through").await.unwrap();
        drop(input);
        let chunks: Vec<Chunk> = running.streams.output.into_stream().collect().await;
        assert_eq!(text(&chunks, Source::Stdout), "through");
        assert!(shim.wait_exec("nosuch").await.is_err());

        shim.signal(libc::SIGKILL, false).await.unwrap();
        let record = shim.wait().await.unwrap();
        assert_eq!(
            (record.code, record.signal, record.oom_killed),
            (137, 9, false)
        );
    });
}
