//! Messages, datagrams and streams between nodes that may.

use super::*;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn both_know_who_the_other_is() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let worker = Node::new(&authority, NodeRole::Worker);
        manager.transport.send(&worker.contact(), &reported(7));
        let peer = worker.connected().await;
        assert_eq!((&peer.node, peer.role), (&manager.node, NodeRole::Manager));
        assert_eq!(peer.addr, manager.addr());
        let (from, message) = worker.received().await;
        assert_eq!((from, number(&message)), (peer, 7));

        let peer = manager.connected().await;
        assert_eq!((&peer.node, peer.role), (&worker.node, NodeRole::Worker));
        // Back on the same connection.
        for n in 0..10 {
            worker.transport.send(&manager.contact(), &report(n));
        }
        for n in 0..10 {
            let (from, message) = manager.received().await;
            assert_eq!((&from.node, number(&message)), (&worker.node, n));
        }
    });
}

#[test]
fn datagrams_come_whole_and_none_is_too_large() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Worker);
        // Kept while the node is dialed: the newest few.
        for n in 0..10 {
            one.transport
                .datagram(&two.contact(), vec![n; DATAGRAM_MAX]);
        }
        two.connected().await;
        let mut last = 0;
        for _ in 0..limits::DATAGRAMS_KEPT {
            if let Event::Datagram { from, bytes } = two.next().await {
                assert_eq!((&from.node, bytes.len()), (&one.node, DATAGRAM_MAX));
                last = bytes[0];
            }
        }
        assert_eq!(last, 9);
        one.transport
            .datagram(&two.contact(), vec![0; DATAGRAM_MAX + 1]);
        two.transport.datagram(&one.contact(), b"back".to_vec());
        one.connected().await;
        let Event::Datagram { bytes, .. } = one.next().await else {
            panic!("expected a datagram");
        };
        assert_eq!(bytes, b"back");
        assert!(two.events.is_empty());
    });
}

#[test]
fn a_stream_carries_a_conversation() {
    smol::block_on(async {
        let authority = authority();
        let worker = Node::new(&authority, NodeRole::Worker);
        let manager = Node::new(&authority, NodeRole::Manager);
        let (answering, asking) = (manager.events.clone(), worker.transport.clone());
        let server = smol::spawn(async move {
            while let Ok(event) = answering.recv().await {
                if let Event::Api { from, mut stream } = event {
                    let mut asked = String::new();
                    stream.read_to_string(&mut asked).await.expect("reads");
                    let answer = format!("{asked} from {}", from.node);
                    stream.write_all(answer.as_bytes()).await.expect("writes");
                    stream.close().await.expect("closes");
                    return;
                }
            }
        });
        let opened = within(asking.open(&manager.contact(), Kind::Api)).await;
        let mut stream = opened.expect("opens");
        stream.write_all(b"hello").await.expect("writes");
        stream.close().await.expect("closes");
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer))
            .await
            .expect("reads");
        assert_eq!(answer, format!("hello from {}", worker.node));
        server.await;

        let nobody = Contact {
            node: node_id(key().public()),
            addr: "127.0.0.1:9".parse().expect("an address"),
        };
        let error = within(asking.open(&nobody, Kind::Api)).await.err();
        assert!(
            error
                .expect("refused")
                .message
                .contains("cannot be reached")
        );
    });
}

#[test]
fn a_large_message_holds_up_no_small_ones() {
    const LARGE: usize = 20 << 20;
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Manager);
        let (from, to) = (one.transport.clone(), two.contact());
        from.send(&to, &Message::Consensus(vec![1]));
        two.received().await;
        from.send(&to, &Message::Consensus(vec![7; LARGE]));
        for _ in 0..20 {
            from.send(&to, &Message::Consensus(vec![2]));
        }
        let mut before = 0;
        loop {
            match two.received().await.1 {
                Message::Consensus(bytes) if bytes.len() == LARGE => break,
                Message::Consensus(bytes) => before += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(before, 20);
    });
}

#[test]
fn two_dialed_at_once_become_one_and_nothing_is_lost() {
    smol::block_on(async {
        for _ in 0..2 {
            let authority = authority();
            let one = Node::new(&authority, NodeRole::Manager);
            let two = Node::new(&authority, NodeRole::Manager);
            for n in 0..50 {
                one.transport.send(&two.contact(), &reported(n));
                two.transport.send(&one.contact(), &reported(n));
            }
            for n in 0..50 {
                assert_eq!(number(&one.received().await.1), n);
                assert_eq!(number(&two.received().await.1), n);
            }
            until(|| {
                let (a, b) = (one.link_to(&two), two.link_to(&one));
                a.zip(b).is_some_and(|(a, b)| a.dialed != b.dialed)
            })
            .await;
            // The other one goes, and nobody is told of that.
            let endpoints = [&one.transport.0.endpoint, &two.transport.0.endpoint];
            until(|| endpoints.iter().all(|it| it.open_connections() == 1)).await;
            assert!(one.events.is_empty() && two.events.is_empty());
        }
    });
}

#[test]
fn a_full_control_lane_ends_the_connection() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Manager);
        one.transport.send(&two.contact(), &reported(0));
        one.connected().await;
        // Nobody takes the events of `two`: its windows fill up, then the queue.
        let large = Message::Report(Box::new(Report {
            description: Some(skep_control::model::NodeDescription {
                hostname: "h".repeat(200_000),
                ..Default::default()
            }),
            ..Report::default()
        }));
        within(async {
            while one
                .link_to(&two)
                .is_some_and(|link| link.connection.close_reason().is_none())
            {
                one.transport.send(&two.contact(), &large);
                Timer::after(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(one.disconnected().await, two.node);
    });
}
