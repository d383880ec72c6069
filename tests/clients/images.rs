//! Images through the socket: every form of archive goes in, the same bytes
//! come out, dockerd takes them, and refusals are in Docker's words.
//!
//! How: the sample web server is turned into other formats by skopeo and
//! umoci, whose output is what people have. dockerd 20.10 is asked on a store
//! of its own, as it believes layers it has seen before.

use skep_tests::{Board, Client, Peer, Ran, docker, run, run_with_input, sample};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// An offline node answers at once; Swarm waits 20 seconds a task.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A folder of archives, gone with its board.
struct Workshop {
    board: Board,
    folder: PathBuf,
}

impl Workshop {
    fn new() -> Self {
        let board = Board::start("one");
        let folder = board.folder().join("images");
        fs::create_dir_all(&folder).expect("a folder for archives");
        Self { board, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    #[track_caller]
    fn sh(&self, line: &str) -> Ran {
        let ran = run(Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.folder));
        ran.ok();
        ran
    }

    /// The sample as `L`, an OCI layout whose tag is `web`.
    fn layout(&self) {
        let from = sample("web1");
        self.sh(&format!(
            "skopeo copy -q docker-archive:{} oci:L:web",
            from.display()
        ));
    }

    #[track_caller]
    fn docker(&self, words: &[&str]) -> Ran {
        self.board.docker(words)
    }
}

#[test]
fn archives_of_every_form_are_the_same_image() {
    let shop = Workshop::new();
    shop.layout();
    shop.sh("skopeo copy -q oci:L:web docker-archive:old.tar:form/old:1");
    shop.sh("skopeo copy -q oci:L:web oci-archive:gzip.tar:form/gzip:1");
    shop.sh(
        "skopeo copy -q --dest-compress-format zstd oci:L:web oci-archive:zstd.tar:form/zstd:1",
    );
    shop.sh("gzip -k old.tar && tar -C L -cf bare.tar .");
    for (file, said) in [
        ("old.tar", "Loaded image: form/old:1"),
        ("gzip.tar", "Loaded image: form/gzip:1"),
        ("zstd.tar", "Loaded image: form/zstd:1"),
        ("old.tar.gz", "Loaded image: form/old:1"),
        ("bare.tar", "Loaded image ID: sha256:"),
    ] {
        let ran = shop.docker(&["load", "-i", &shop.path(file)]);
        assert!(ran.ok().contains(said), "{file}: {ran}");
    }
    let ids = shop.docker(&["images", "-q", "--no-trunc", "form/*"]);
    let mut ids = ids.lines();
    assert_eq!(ids.len(), 3, "three names: {ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 1, "one image: {ids:?}");
    let layers = fs::read_dir(shop.board.data().join("layers")).expect("the store's layers");
    assert_eq!(layers.count(), 1, "unpacked once");
}

#[test]
fn several_layers_with_whiteouts_look_as_they_should() {
    let shop = Workshop::new();
    shop.layout();
    shop.sh("umoci unpack --image L:web b && mkdir -p b/rootfs/old b/rootfs/kept && touch b/rootfs/old/x b/rootfs/kept/a");
    shop.sh("umoci repack --image L:web b && rm -rf b && umoci unpack --image L:web b");
    shop.sh("rm -rf b/rootfs/old b/rootfs/kept/a && touch b/rootfs/kept/b && umoci repack --image L:web b");
    shop.sh("skopeo copy -q oci:L:web docker-archive:w.tar:layered:1");
    shop.docker(&["load", "-i", &shop.path("w.tar")]).ok();
    let history = shop.docker(&["history", "-q", "layered:1"]);
    assert!(history.lines().len() >= 3, "{history}");
    let seen = shop.docker(&[
        "run",
        "--rm",
        "layered:1",
        "sh",
        "-c",
        "ls -d /old; ls /kept",
    ]);
    assert_eq!(seen.out.trim(), "b", "{seen}");
}

#[test]
fn both_clients_keep_images() {
    for client in Client::BOTH {
        keeps_images(client);
    }
}

fn keeps_images(client: Client) {
    let shop = Workshop::new();
    let say = |words: &[&str]| shop.board.client(client, words);
    let names = |more: &[&str]| {
        let words = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], more].concat();
        let mut lines: Vec<String> = say(&words).lines().into_iter().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    shop.board.load("web1");
    let id = say(&["images", "-q", "--no-trunc", "web"]).ok().to_owned();
    say(&["tag", "web:1", "localhost:5000/team/web"]).ok();
    assert_eq!(names(&[]), ["localhost:5000/team/web:latest", "web:1"]);
    assert_eq!(names(&["-f", "reference=web"]), ["web:1"]);
    say(&["rmi", &id[..19]]).refuses("image is referenced in multiple repositories");

    let tar = shop.path("saved.tar");
    say(&["save", "-o", &tar, "web:1", "localhost:5000/team/web"]).ok();
    say(&["rmi", "-f", &id]).ok();
    assert!(names(&[]).is_empty());
    say(&["load", "-i", &tar]).ok();
    assert_eq!(say(&["images", "-q", "--no-trunc", "web"]).ok(), id);
    assert_eq!(names(&[]), ["localhost:5000/team/web:latest", "web:1"]);

    let root = Command::new("tar")
        .args(["-C", "/etc", "-c", "hostname"])
        .output()
        .expect("tar");
    let words = [
        "import",
        "-c",
        "CMD [\"/x\"]",
        "-c",
        "ENV A=b",
        "-",
        "own/root:1",
    ];
    let imported = shop.board.client_with_input(client, &words, &root.stdout);
    assert!(imported.ok().starts_with("sha256:"), "{imported}");
    let config = say(&[
        "inspect",
        "-f",
        "{{json .Config.Cmd}} {{json .Config.Env}}",
        "own/root:1",
    ]);
    assert_eq!(config.ok(), "[\"/x\"] [\"A=b\"]");

    say(&["tag", "own/root:1", "web:1"]).ok();
    say(&["tag", "own/root:1", "localhost:5000/team/web"]).ok();
    let pruned = say(&["image", "prune", "-f"]);
    assert!(
        pruned.ok().contains(&id),
        "the one without a name: {pruned}"
    );
    let pruned = say(&["image", "prune", "-af"]);
    assert!(pruned.ok().contains("own/root:1"), "{pruned}");
    assert!(names(&["-a"]).is_empty());
    let blobs = fs::read_dir(shop.board.data().join("blobs/sha256")).expect("the store's blobs");
    assert_eq!(blobs.count(), 0, "nothing stays of what was removed");
}

#[test]
fn dockerd_takes_what_is_saved_and_gives_it_back() {
    let shop = Workshop::new();
    shop.layout();
    shop.sh("skopeo copy -q --dest-compress-format zstd oci:L:web oci-archive:z.tar:packed:1");
    shop.docker(&["load", "-i", &shop.path("z.tar")]).ok();
    shop.board.load("busybox");
    let ours = shop.path("ours.tar");
    shop.docker(&["save", "-o", &ours, "packed:1", "busybox"])
        .ok();
    let peer = Peer::start();
    peer.docker(&["load", "-i", &ours]).ok();
    let id = |ran: Ran| ran.ok().to_owned();
    let inspect = [
        "inspect",
        "-f",
        "{{.Id}} {{.Size}} {{.RootFS.Layers}} {{.Config.Cmd}}",
        "packed:1",
    ];
    assert_eq!(id(peer.docker(&inspect)), id(shop.docker(&inspect)));
    let theirs = shop.path("theirs.tar");
    peer.docker(&["save", "-o", &theirs, "packed:1", "busybox:latest"])
        .ok();
    let other = Workshop::new();
    let said = other.docker(&["load", "-i", &theirs]);
    assert!(said.ok().contains("Loaded image: packed:1"), "{said}");
    assert_eq!(id(other.docker(&inspect)), id(shop.docker(&inspect)));
}

#[test]
fn broken_archives_and_names_are_refused_in_words() {
    let shop = Workshop::new();
    let whole = fs::read(sample("web1")).expect("the sample");
    fs::write(shop.path("cut.tar"), &whole[..whole.len() / 2]).expect("a cut archive");
    shop.docker(&["load", "-i", &shop.path("cut.tar")])
        .refuses("unexpected EOF");
    shop.sh("mkdir e && echo x > e/x && tar -C e -cf - --transform 's,^,../../,' -P x > up.tar");
    let ran = shop.docker(&["import", &shop.path("up.tar"), "up:1"]);
    ran.refuses("entry \"../../x\"");
    shop.docker(&["tag", "none", "x"])
        .refuses("No such image: none:latest");
    shop.docker(&["rmi", "none"])
        .refuses("No such image: none:latest");
    shop.docker(&["save", "-o", &shop.path("n.tar"), "none"])
        .refuses("No such image: none");
    shop.docker(&["search", "x"]).refuses("not supported");
    let reply = shop.board.api("GET", "/images/Upper/json", None);
    let words = "invalid reference format: repository name (Upper) must be lowercase";
    assert_eq!(
        (reply.status, reply.json["message"].as_str()),
        (400, Some(words))
    );
    assert!(shop.docker(&["images", "-aq"]).ok().is_empty());
    for folder in ["layers", "blobs/sha256", "blobs/ingest"] {
        let left = fs::read_dir(shop.board.data().join(folder)).expect("the store's folder");
        assert_eq!(left.count(), 0, "{folder} is not clean");
    }
}

#[test]
fn no_network_is_waited_for() {
    let shop = Workshop::new();
    shop.board.load("web1");
    let start = Instant::now();
    shop.docker(&["pull", "absent"])
        .refuses("pull access denied for absent");
    let up_to_date = shop.docker(&["pull", "web:1"]);
    assert!(
        up_to_date.ok().contains("Image is up to date for web:1"),
        "{up_to_date}"
    );
    let told = shop.board.api("GET", "/distribution/web:1/json", None);
    let digest = told.json["Descriptor"]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
    // Pinned as a service pins it.
    let pinned = format!("web:1@{digest}");
    let id = shop.docker(&["inspect", "-f", "{{.Id}}", &pinned]);
    assert_eq!(
        id.ok(),
        shop.docker(&["inspect", "-f", "{{.Id}}", "web:1"]).ok()
    );
}

#[test]
fn a_killed_agent_leaves_the_image_whole_or_absent() {
    let mut shop = Workshop::new();
    let whole = fs::read(sample("web1")).expect("the sample");
    let half = whole.len() / 2;
    // The load is in the middle when the agent dies: its input has not ended.
    let mut load = shop.board.client_command(Client::Docker);
    let mut load = load
        .arg("load")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the docker client");
    let mut input = load.stdin.take().expect("its stdin");
    std::io::Write::write_all(&mut input, &whole[..half]).expect("half an archive");
    skep_tests::until("the load has begun", || {
        let mut drafts = fs::read_dir(shop.board.data().join("blobs/ingest")).ok()?;
        drafts.next().map(drop)
    });
    shop.board.kill_agent();
    drop(input);
    let _ = load.wait();
    shop.board.start_agent();
    assert!(shop.docker(&["images", "-aq"]).ok().is_empty());
    for folder in ["layers", "blobs/sha256", "blobs/ingest"] {
        let left = fs::read_dir(shop.board.data().join(folder)).expect("the store's folder");
        assert_eq!(left.count(), 0, "{folder} is not clean");
    }
    let load = shop
        .board
        .client_with_input(Client::Docker, &["load"], &whole);
    assert!(load.ok().contains("Loaded image: web:1"), "{load}");
    shop.board.kill_agent();
    shop.board.start_agent();
    shop.docker(&["inspect", "web:1"]).ok();
    let saved = run_with_input(
        Command::new("sh").arg("-c").arg(format!(
            "{} -H {} save web:1 | tar -t | grep -c blobs/sha256/.",
            docker().display(),
            shop.board.host()
        )),
        b"",
    );
    assert_eq!(saved.ok(), "3", "config, manifest and layer");
}
