//! The one-node story that Swarm's textbooks tell, told by both clients.

use skep_tests::{Board, Client, Ran, until};

/// The words one client says to one board.
struct Told<'a> {
    board: &'a Board,
    client: Client,
}

impl Told<'_> {
    #[track_caller]
    fn say(&self, words: &[&str]) -> Ran {
        self.board.client(self.client, words)
    }

    /// REPLICAS of `service ls`, `3/3`.
    #[track_caller]
    fn replicas(&self, wanted: &str) {
        until(&format!("x has {wanted} replicas"), || {
            let list = self.say(&["service", "ls", "--format", "{{.Replicas}}"]);
            (list.ok() == wanted).then_some(())
        });
    }

    /// The full ids of the containers that run.
    #[track_caller]
    fn running(&self) -> Vec<String> {
        let list = self.say(&["ps", "-q", "--no-trunc"]);
        list.lines().into_iter().map(str::to_owned).collect()
    }

    fn page(&self, text: &str) {
        until(&format!("the page says {text}"), || {
            let page = self.board.visit(8000);
            (page.code == 0 && page.out.contains(text)).then_some(())
        });
    }
}

#[test]
fn told_by_docker() {
    tell(Client::Docker);
}

#[test]
fn told_by_skep() {
    tell(Client::Skep);
}

fn tell(client: Client) {
    let board = Board::start("one");
    let told = Told {
        board: &board,
        client,
    };
    begins(&told);
    scales_and_heals(&told);
    updates(&told);
    ends(&told);
}

fn begins(told: &Told) {
    let early = told.say(&["service", "ls"]);
    early.refuses("This node is not a swarm manager");
    let init = told.say(&["swarm", "init"]);
    assert!(
        init.ok().contains("Swarm initialized: current node ("),
        "{init}"
    );
    assert!(init.out.contains("swarm join --token SWMTKN-1-"), "{init}");
    told.say(&["swarm", "init"])
        .refuses("This node is already part of a swarm.");
    let nodes = told.say(&["node", "ls"]);
    let row = nodes.lines().get(1).copied().unwrap_or_default().to_owned();
    for word in ["*", "one", "Ready", "Active", "Leader"] {
        assert!(row.contains(word), "{nodes}");
    }

    for sample in ["web1", "web2"] {
        told.board.load(sample);
    }
    let create = told.say(&[
        "service",
        "create",
        "--detach=true",
        "--name",
        "x",
        "-p",
        "8000:8000",
        "web:1",
    ]);
    assert_eq!(create.ok().len(), 25, "{create}");
    assert!(
        !create.err.contains("could not be accessed"),
        "the digest comes from the store: {create}"
    );
    told.replicas("1/1");
    told.page("web 1");
    let ls = told.say(&["service", "ls"]);
    for word in ["replicated", "1/1", "web:1", "*:8000->8000/tcp"] {
        assert!(ls.ok().contains(word), "{ls}");
    }
}

fn scales_and_heals(told: &Told) {
    let scale = told.say(&["service", "scale", "x=3"]);
    assert!(scale.ok().contains("x scaled to 3"), "{scale}");
    told.replicas("3/3");
    let table = told.say(&["ps", "--format", "table {{.ID}}  {{.Image}}  {{.Ports}}"]);
    let lines = table.lines();
    assert!(
        lines
            .first()
            .is_some_and(|head| head.contains("CONTAINER ID")
                && head.contains("IMAGE")
                && head.contains("PORTS")),
        "{table}"
    );
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1..].iter().all(|line| line.contains("web:1")),
        "{table}"
    );

    let before = told.running();
    let victim = before.first().expect("something runs").clone();
    told.say(&["kill", &victim]).ok();
    until("another container takes the killed one's place", || {
        let now = told.running();
        (now.len() == 3 && !now.contains(&victim)).then_some(())
    });
    told.replicas("3/3");
    let tasks = told.say(&["service", "ps", "x", "--no-trunc"]);
    assert!(tasks.ok().contains(r"\_ x."), "{tasks}");
    assert!(tasks.out.contains("task: non-zero exit (137)"), "{tasks}");
    told.page("web 1");
}

fn updates(told: &Told) {
    told.page("web 1");
    until("the visits are in the service's log", || {
        let logs = told.say(&["service", "logs", "x"]);
        let text = format!("{}{}", logs.out, logs.err);
        (logs.code == 0 && text.contains("@one    | ") && text.contains("response:200"))
            .then_some(())
    });
    let update = told.say(&["service", "update", "-d", "--image", "web:2", "x"]);
    assert_eq!(update.ok(), "x", "{update}");
    until("every task has the new image", || {
        let images = told.say(&[
            "service",
            "ps",
            "x",
            "-f",
            "desired-state=running",
            "--format",
            "{{.Image}} {{.CurrentState}}",
        ]);
        let lines = images.lines();
        (lines.len() == 3 && lines.iter().all(|line| line.contains("web:2 Running"))).then_some(())
    });
    told.page("web 2");
    until("the update is complete", || {
        let inspect = told.say(&[
            "service",
            "inspect",
            "x",
            "--format",
            "{{.UpdateStatus.State}}",
        ]);
        (inspect.ok() == "completed").then_some(())
    });
}

fn ends(told: &Told) {
    assert_eq!(told.say(&["service", "rm", "x"]).ok(), "x");
    until("no container is left", || {
        told.say(&["ps", "-aq"]).lines().is_empty().then_some(())
    });
    until("the port is free", || {
        (told.board.visit(8000).code != 0).then_some(())
    });
    told.say(&["service", "ps", "x"])
        .refuses("no such service: x");
    told.say(&["swarm", "leave"]).refuses(
        "You are attempting to leave the swarm on a node that is participating as a manager. \
         Removing the last manager erases all current state of the swarm. \
         Use `--force` to ignore this message.",
    );
    let leave = told.say(&["swarm", "leave", "--force"]);
    assert_eq!(leave.ok(), "Node left the swarm.");
    told.say(&["node", "ls"])
        .refuses("This node is not a swarm manager");
}
