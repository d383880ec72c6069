//! Nodes that pass on and nodes that answer, in one process.

mod stub;

use crate::backend::Leadership;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::time::{Duration, Instant};
use stub::{Door, Street, Stub, ask, connect, contact, say};

const PRUNE: &str = "POST /v1.51/skep/v1/nodes/prune";
const NO_LEADER: &str = "The swarm does not have a leader.";

/// A node that asks, and one that leads.
fn two() -> (Street, Stub, Stub) {
    let street = Street::default();
    let one = Stub::new(&street, "n1", Leadership::At(contact("n2")));
    let two = Stub::new(&street, "n2", Leadership::Here);
    two.serve();
    (street, one, two)
}

#[test]
fn the_leaders_answer_is_the_answer() {
    smol::block_on(async {
        let (_, one, two) = two();
        let socket = one.serve();
        let done = ask(&socket, PRUNE, "").await;
        assert!(
            done.starts_with("HTTP/1.1 200") && done.ends_with("{\"NodesDeleted\":[\"n2\"]}\n"),
            "{done}"
        );
        assert_eq!(two.said().done, ["NodePrune"]);
        let refused = ask(&socket, "POST /services/create", "{\"Name\":\"web\"}").await;
        assert!(
            refused.starts_with("HTTP/1.1 409") && refused.contains("refused by its leader"),
            "{refused}"
        );
        let heard = two.said().done.pop().expect("it was asked");
        assert!(heard.contains("web"), "{heard}");
        assert_eq!(one.said().done, Vec::<String>::new());
    });
}

#[test]
fn a_body_that_is_not_json_is_refused_by_who_reads_it() {
    smol::block_on(async {
        let (_, one, _two) = two();
        let refused = ask(&one.serve(), "POST /services/create", "{").await;
        assert!(
            refused.starts_with("HTTP/1.1 400") && refused.contains("invalid JSON"),
            "{refused}"
        );
    });
}

#[test]
fn nothing_is_passed_on_twice() {
    smol::block_on(async {
        let (street, one, two) = two();
        // They believe each other to lead.
        two.said().leader = Some(Leadership::At(contact("n1")));
        let refused = ask(&one.serve(), PRUNE, "").await;
        assert!(
            refused.starts_with("HTTP/1.1 503") && refused.contains(NO_LEADER),
            "{refused}"
        );
        assert!(two.said().done.is_empty() && one.said().done.is_empty());
        drop(street);
    });
}

#[test]
fn a_change_of_leaders_is_waited_for() {
    smol::block_on(async {
        let (street, one, two) = two();
        two.said().leader = Some(Leadership::Unknown);
        let socket = one.serve();
        let elected = async {
            smol::Timer::after(Duration::from_millis(300)).await;
            let three = Stub::new(&street, "n3", Leadership::Here);
            three.serve();
            one.said().leader = Some(Leadership::At(contact("n3")));
        };
        let (done, ()) = smol::future::zip(ask(&socket, PRUNE, ""), elected).await;
        assert!(done.contains("n3"), "{done}");
        assert!(two.said().done.is_empty());
    });
}

#[test]
fn what_may_have_been_done_is_not_done_again() {
    smol::block_on(async {
        let (street, one, two) = two();
        street.lock().unwrap().insert("n2".into(), Door::Cut);
        let socket = one.serve();
        let lost = ask(&socket, PRUNE, "").await;
        assert!(
            lost.starts_with("HTTP/1.1 503") && lost.contains("look before you ask again"),
            "{lost}"
        );
        // A read is asked of the next leader.
        let elected = async {
            smol::Timer::after(Duration::from_millis(20)).await;
            two.serve();
        };
        let (read, ()) = smol::future::zip(ask(&socket, "GET /nodes", ""), elected).await;
        assert!(read.contains("This node is not a swarm manager"), "{read}");
    });
}

#[test]
fn a_leader_that_cannot_be_sure_does_not_answer_reads() {
    smol::block_on(async {
        let (_, one, two) = two();
        two.said().has_quorum = false;
        let began = Instant::now();
        for socket in [one.serve(), two.serve()] {
            let refused = ask(&socket, "GET /services", "").await;
            assert!(
                refused.starts_with("HTTP/1.1 503") && refused.contains(NO_LEADER),
                "{refused}"
            );
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "nobody waits for ever"
        );
        // What is the node's own goes on.
        let own = ask(&one.serve(), "GET /_ping", "").await;
        assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    });
}

#[test]
fn another_node_gets_only_what_is_the_swarms() {
    smol::block_on(async {
        let (street, _, two) = two();
        let Some(Door::Open(door)) = street.lock().unwrap().get("n2").cloned() else {
            panic!("it serves")
        };
        for (line, status) in [
            ("POST /containers/create", "403"),
            ("DELETE /containers/web.1", "403"),
            ("POST /swarm/leave?force=1", "403"),
            ("POST /skep/v1/nodes/prune", "200"),
        ] {
            let (mut own, other) = smol::net::unix::UnixStream::pair().unwrap();
            door.send(Box::new(other)).await.unwrap();
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            own.write_all(head.as_bytes()).await.unwrap();
            let mut told = String::new();
            own.read_to_string(&mut told).await.unwrap();
            assert!(
                told.starts_with(&format!("HTTP/1.1 {status}")),
                "{line}: {told}"
            );
        }
        assert_eq!(two.said().done, ["NodePrune"]);
    });
}

#[test]
fn a_task_is_found_by_asking_the_leader_where_it_is() {
    smol::block_on(async {
        let (street, one, two) = two();
        let three = Stub::new(&street, "n3", Leadership::At(contact("n2")));
        three.serve();
        three.said().containers.push("web.1".into());
        two.said().places.insert("web.1".into(), contact("n3"));
        two.said().containers.push("web.2".into());
        one.said().containers.push("own".into());
        let socket = one.serve();
        for name in ["web.1", "web.2", "own"] {
            let killed = ask(
                &socket,
                &format!("POST /containers/{name}/kill?signal=HUP"),
                "",
            )
            .await;
            assert!(killed.starts_with("HTTP/1.1 204"), "{name}: {killed}");
        }
        assert_eq!(three.said().done, ["kill web.1 HUP"]);
        assert_eq!(two.said().done, ["kill web.2 HUP"]);
        assert_eq!(one.said().done, ["kill own HUP"]);
        let none = ask(&socket, "POST /containers/none/kill", "").await;
        assert!(
            none.starts_with("HTTP/1.1 404") && none.contains("No such container: none"),
            "{none}"
        );
        street.lock().unwrap().remove("n3");
        let away = ask(&socket, "POST /containers/web.1/kill", "").await;
        assert!(
            away.starts_with("HTTP/1.1 503") && away.contains("node n3 is away"),
            "{away}"
        );
    });
}

#[test]
fn a_body_flows_to_the_other_node() {
    smol::block_on(async {
        let (_, one, two) = two();
        two.said().containers.push("web.1".into());
        let socket = one.serve();
        let line = "PUT /containers/web.1/archive?path=%2Ftmp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        let content = vec![3; 5_000_000];
        let mut known = format!("{line}Content-Length: 5000000\r\n\r\n").into_bytes();
        known.extend_from_slice(&content);
        let mut chunked = format!("{line}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for part in content.chunks(70_000) {
            chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            chunked.extend_from_slice(part);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        for request in [known, chunked] {
            let put = say(&socket, &request).await;
            assert!(put.starts_with("HTTP/1.1 200"), "{put}");
            assert_eq!(
                two.said().done.pop().unwrap(),
                "put web.1 /tmp 5000000 15000000"
            );
        }
    });
}

#[test]
fn a_connection_changes_hands_on_another_node() {
    smol::block_on(async {
        let (_, one, two) = two();
        two.said().containers.push("web.1".into());
        let socket = one.serve();
        let made = ask(
            &socket,
            "POST /containers/web.1/exec",
            "{\"Cmd\":[\"cat\"]}",
        )
        .await;
        assert!(
            made.starts_with("HTTP/1.1 201") && made.ends_with("{\"Id\":\"e1\"}\n"),
            "{made}"
        );
        let mut stream = connect(&socket).await;
        stream
            .write_all(
                b"POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
                  Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Tty\":true}",
            )
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 101") && head.contains("upgrade: tcp"),
            "{head}"
        );
        for word in ["hello", "again"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut back = vec![0; word.len()];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, word.as_bytes());
        }
        // The end of input is passed on, and the last words come back.
        stream.close().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        let none = ask(&socket, "GET /exec/e2/json", "").await;
        assert!(none.contains("No such exec instance: e2"), "{none}");
    });
}
