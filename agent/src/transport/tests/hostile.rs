//! Peers that break the rules, with a certificate or without.

use super::*;
use frame::Fault;
use quinn::VarInt;
use std::net::UdpSocket;

/// What a connection is closed for after these bytes on a one-way stream.
async fn closed_for(role: NodeRole, bytes: &[u8], end: bool) -> String {
    let authority = authority();
    let honest = Node::new(&authority, NodeRole::Manager);
    let hostile = Node::new(&authority, role);
    let connection = hostile.raw(&honest).await;
    let mut stream = connection.open_uni().await.expect("opens");
    stream.write_all(bytes).await.expect("writes");
    if end {
        stream.finish().expect("finishes");
    }
    let why = within(connection.closed()).await.to_string();
    assert_eq!(honest.connected().await.node, hostile.node);
    assert_eq!(honest.disconnected().await, hostile.node);
    why
}

fn hello(kind: Kind) -> Vec<u8> {
    let hello = skep_control::wire::Hello {
        version: skep_control::wire::VERSION,
        kind,
    };
    frame::encode(&hello).expect("encodes")
}

fn then(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    [&hello(kind), bytes].concat()
}

#[test]
fn a_worker_says_only_what_workers_say() {
    smol::block_on(async {
        let lane = Kind::Messages(Lane::Consensus);
        let why = closed_for(NodeRole::Worker, &hello(lane), false).await;
        assert!(why.contains("Worker may not open"), "{why}");
        let control = Kind::Messages(Lane::Control);
        let forged = frame::encode(&reported(1)).expect("encodes");
        let why = closed_for(NodeRole::Worker, &then(control, &forged), false).await;
        assert!(why.contains("Worker may not say that"), "{why}");
        let gossip = Kind::Messages(Lane::Gossip);
        let why = closed_for(NodeRole::Manager, &then(gossip, &forged), false).await;
        assert!(why.contains("another lane"), "{why}");
    });
}

#[test]
fn frames_that_cannot_be_end_the_connection() {
    smol::block_on(async {
        let control = Kind::Messages(Lane::Control);
        let why = closed_for(NodeRole::Manager, &then(control, &[255; 4]), false).await;
        assert!(why.contains("a frame of 4294967295 bytes"), "{why}");
        let large = u32::try_from(limits::WORKER_FRAME_MAX + 1).expect("fits");
        let claim = then(control, &large.to_le_bytes());
        let why = closed_for(NodeRole::Worker, &claim, false).await;
        assert!(why.contains("bytes, where"), "{why}");
        let half = then(control, &[100, 0, 0, 0, 1, 2, 3]);
        let why = closed_for(NodeRole::Manager, &half, true).await;
        assert!(why.contains("half a frame"), "{why}");
        let garbage = then(control, &[2, 0, 0, 0, 77, 77]);
        let why = closed_for(NodeRole::Manager, &garbage, false).await;
        assert!(why.contains("cannot be read"), "{why}");
        let why = closed_for(NodeRole::Manager, &[65, 0, 0, 0], false).await;
        assert!(why.contains("a frame of 65 bytes, where 64"), "{why}");
    });
}

#[test]
fn a_newer_program_is_told_both_versions_and_stays_connected() {
    smol::block_on(async {
        let authority = authority();
        let old = Node::new(&authority, NodeRole::Manager);
        let new = Node::new(&authority, NodeRole::Manager);
        let connection = new.raw(&old).await;
        for (bytes, told) in [
            (
                &[3_u8, 0, 0, 0, 9, 0, 0][..],
                "speaks version 1, this program 1",
            ),
            (&[2, 0, 0, 0, 1, 9], "does not know this kind of stream"),
        ] {
            let mut one_way = connection.open_uni().await.expect("opens");
            one_way.write_all(bytes).await.expect("writes");
            let code = within(one_way.stopped()).await.expect("is told");
            let meaning = frame::meaning(code.expect("a code"));
            assert!(meaning.contains(told), "{meaning}");
            let (mut send, mut receive) = connection.open_bi().await.expect("opens");
            send.write_all(bytes).await.expect("writes");
            let fault = within(frame::read(&mut receive, |_| 10)).await.err();
            let fault = fault.expect("is told").to_string();
            assert!(fault.contains(told), "{fault}");
        }
        assert!(connection.close_reason().is_none());
        let version = Fault::Version(9).to_string();
        assert_eq!(version, "a stream of version 9; this program speaks 1");
        let kind = Fault::Kind {
            version: 1,
            number: 9,
        };
        assert!(kind.to_string().contains("kind 9, which version 1 has"));
    });
}

#[test]
fn floods_end_where_the_limits_are() {
    smol::block_on(async {
        let authority = authority();
        let honest = Node::new(&authority, NodeRole::Manager);
        let hostile = Node::new(&authority, NodeRole::Worker);
        // Garbage from nobody.
        let noise = UdpSocket::bind("127.0.0.1:0").expect("binds");
        for n in 0..500_u16 {
            let bytes = vec![n.to_le_bytes()[0]; usize::from(n) * 2];
            noise.send_to(&bytes, honest.addr()).expect("sends");
        }
        // Streams that say nothing.
        let connection = hostile.raw(&honest).await;
        let mut streams = Vec::new();
        let opening = async {
            while let Ok(mut stream) = connection.open_uni().await {
                stream.write_all(&[1]).await.expect("writes");
                streams.push(stream);
            }
        };
        or(opening, async {
            Timer::after(Duration::from_millis(500)).await;
        })
        .await;
        assert_eq!(streams.len(), limits::STREAMS_ONE_WAY as usize);
        // And it is still there for others.
        let other = Node::new(&authority, NodeRole::Worker);
        other.transport.send(&honest.contact(), &report(5));
        assert_eq!(number(&honest.received().await.1), 5);
        connection.close(VarInt::from_u32(0), b"");
    });
}

#[test]
fn another_cluster_and_another_node_are_refused() {
    smol::block_on(async {
        let (ours, theirs) = (authority(), authority());
        let one = Node::new(&ours, NodeRole::Manager);
        let stranger = Node::new(&theirs, NodeRole::Manager);
        assert!(
            within(stranger.transport.open(&one.contact(), Kind::Api))
                .await
                .is_err()
        );
        // Somebody else answers where a node is looked for.
        let other = Node::new(&ours, NodeRole::Worker);
        let moved = Contact {
            node: node_id(key().public()),
            addr: other.addr(),
        };
        assert!(within(one.transport.open(&moved, Kind::Api)).await.is_err());
        // The same authority, another cluster.
        let key = key();
        let request = key.request().expect("a request");
        let issued = ours.issue(&request, NodeRole::Manager, &"c2".into(), NOW, LIFE);
        let mut member = membership(&ours, &key, NodeRole::Manager, NOW);
        member.cluster = "c2".into();
        member.chain_pem = issued.expect("issues").chain_pem;
        let foreign = start(&key, || NOW, Some(&member));
        assert!(
            within(foreign.transport.open(&one.contact(), Kind::Api))
                .await
                .is_err()
        );
        assert!(one.events.is_empty());
    });
}
