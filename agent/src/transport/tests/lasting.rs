//! What connections survive, and what they do not.

use super::*;

fn trust(by: &[&Authority], removed: &[&Node]) -> Trust {
    Trust {
        ca_certs_pem: by.iter().map(|a| a.certificate_pem().to_owned()).collect(),
        removed: removed.iter().map(|node| node.node.clone()).collect(),
        role: NodeRole::Worker,
    }
}

#[test]
fn a_removed_node_is_cut_off_and_stays_so() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Manager);
        two.transport.send(&one.contact(), &reported(1));
        one.received().await;
        two.connected().await;
        one.transport.trust(&trust(&[], &[&two])).expect("trusts");
        assert_eq!(two.disconnected().await, one.node);
        assert_eq!(one.disconnected().await, two.node);
        // Neither way.
        assert!(
            within(two.transport.open(&one.contact(), Kind::Api))
                .await
                .is_err()
        );
        assert!(
            within(one.transport.open(&two.contact(), Kind::Api))
                .await
                .is_err()
        );
        assert!(one.events.is_empty() && two.events.is_empty());
        // Until it is taken in again.
        one.transport.trust(&trust(&[], &[])).expect("trusts");
        let opened = within(two.transport.open(&one.contact(), Kind::Api)).await;
        assert!(opened.is_ok());
    });
}

#[test]
fn a_peer_that_restarts_elsewhere_is_the_same_peer() {
    smol::block_on(async {
        let authority = authority();
        let (lower, higher) = keys();
        let stays = Node::with(&authority, NodeRole::Manager, &lower);
        let before = Node::with(&authority, NodeRole::Worker, &higher);
        stays.transport.send(&before.contact(), &reported(1));
        before.received().await;
        stays.connected().await;
        // As after `kill -9`: nobody says good-bye.
        before.deafen();
        Timer::after(limits::AT_ONCE).await;
        let after = Node::with(&authority, NodeRole::Worker, &higher);
        assert_ne!(after.addr(), before.addr());
        after.transport.send(&stays.contact(), &report(2));
        let peer = stays.connected().await;
        assert_eq!((peer.node, peer.addr), (after.node.clone(), after.addr()));
        assert_eq!(number(&stays.received().await.1), 2);
        // What is said goes there, whatever address is named.
        stays.transport.send(&before.contact(), &reported(3));
        assert_eq!(number(&after.received().await.1), 3);
    });
}

#[test]
fn authorities_change_under_traffic_without_a_gap() {
    smol::block_on(async {
        let (old, new) = (authority(), authority());
        let one = Node::new(&old, NodeRole::Manager);
        let two = Node::new(&old, NodeRole::Manager);
        let (sender, to) = (one.transport.clone(), two.contact());
        let saying = smol::spawn(async move {
            for n in 0..1000 {
                sender.send(&to, &reported(n));
                Timer::after(Duration::from_millis(5)).await;
            }
        });
        two.connected().await;
        let both = [&one, &two];
        for node in both {
            node.transport
                .trust(&trust(&[&old, &new], &[]))
                .expect("trusts");
        }
        for node in both {
            let mut member = membership(&new, &node.key, NodeRole::Manager, NOW);
            member.ca_certs_pem = trust(&[&old, &new], &[]).ca_certs_pem;
            node.transport.present(Some(&member)).expect("presents");
        }
        let is_renewed = |a: &Node, b: &Node| {
            let own = a.transport.0.standing().map(|it| it.leaf.clone());
            let link = a.link_to(b);
            link.is_some_and(|link| Some(&link.own) == own.as_ref())
        };
        let counting = smol::spawn({
            let events = two.events.clone();
            async move {
                let mut next = 0;
                while next < 1000 {
                    match events.recv().await {
                        Ok(Event::Received { message, .. }) => {
                            assert_eq!(number(&message), next);
                            next += 1;
                        }
                        Ok(Event::Connected(_)) => {}
                        other => panic!("{}", other.map_or("end".into(), |e| name(&e))),
                    }
                }
            }
        });
        until(|| is_renewed(&one, &two) && is_renewed(&two, &one)).await;
        for node in both {
            node.transport.trust(&trust(&[&new], &[])).expect("trusts");
        }
        saying.await;
        within(counting).await;
        // Who slept through it is not believed any more.
        let late = Node::new(&old, NodeRole::Worker);
        let opened = within(late.transport.open(&one.contact(), Kind::Api)).await;
        assert!(opened.is_err());
    });
}

#[test]
fn another_role_is_known_without_a_restart() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let worker = Node::new(&authority, NodeRole::Worker);
        worker.transport.send(&manager.contact(), &report(1));
        assert_eq!(manager.connected().await.role, NodeRole::Worker);
        manager.received().await;
        let promoted = membership(&authority, &worker.key, NodeRole::Manager, NOW);
        worker.transport.present(Some(&promoted)).expect("presents");
        // It waits for the connection that says so.
        worker
            .transport
            .send(&manager.contact(), &Message::Consensus(vec![1]));
        assert_eq!(manager.connected().await.role, NodeRole::Manager);
        assert_eq!(manager.received().await.1, Message::Consensus(vec![1]));
    });
}

#[test]
fn who_leaves_is_gone_for_all() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Worker);
        two.transport.send(&one.contact(), &report(1));
        one.received().await;
        two.transport.present(None).expect("leaves");
        assert_eq!(one.disconnected().await, two.node);
        assert!(
            within(one.transport.open(&two.contact(), Kind::Api))
                .await
                .is_err()
        );
        let error = within(two.transport.open(&one.contact(), Kind::Api))
            .await
            .err();
        assert!(error.is_some());
    });
}

#[test]
fn an_endpoint_that_moves_takes_its_connections_along() {
    smol::block_on(async {
        let authority = authority();
        let roams = Node::new(&authority, NodeRole::Worker);
        let stays = Node::new(&authority, NodeRole::Manager);
        roams.transport.send(&stays.contact(), &report(1));
        stays.received().await;
        let any = "127.0.0.1:0".parse().expect("an address");
        socket::rebind(&roams.transport.0.endpoint, any).expect("rebinds");
        roams.transport.send(&stays.contact(), &report(2));
        let (from, message) = stays.received().await;
        assert_eq!(number(&message), 2);
        assert_eq!(from.addr, roams.addr());
        stays.transport.send(&roams.contact(), &reported(3));
        assert_eq!(number(&roams.received().await.1), 3);
    });
}

#[test]
fn a_copied_card_is_refused_and_the_first_goes_on() {
    smol::block_on(async {
        let authority = authority();
        let (lower, higher) = keys();
        let manager = Node::with(&authority, NodeRole::Manager, &lower);
        let first = Node::with(&authority, NodeRole::Worker, &higher);
        first.transport.send(&manager.contact(), &report(1));
        manager.received().await;
        Timer::after(limits::AT_ONCE).await;
        let copy = Node::with(&authority, NodeRole::Worker, &higher);
        assert_eq!(copy.node, first.node);
        copy.transport.send(&manager.contact(), &report(2));
        copy.connected().await;
        let link = copy.link_to(&manager).expect("is connected");
        let why = within(link.connection.closed()).await.to_string();
        assert!(why.contains("already, with the same key"), "{why}");
        first.transport.send(&manager.contact(), &report(3));
        let (from, message) = manager.received().await;
        assert_eq!((from.addr, number(&message)), (first.addr(), 3));
    });
}

#[test]
fn a_peer_that_falls_silent_is_noticed() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Worker);
        one.transport.send(&two.contact(), &reported(1));
        two.received().await;
        one.connected().await;
        two.deafen();
        let start = std::time::Instant::now();
        // As probes would.
        one.transport.datagram(&two.contact(), b"ping".to_vec());
        assert_eq!(one.disconnected().await, two.node);
        assert!(start.elapsed() >= limits::SILENCE);
    });
}

#[test]
fn a_restart_at_the_same_address_is_known_with_the_first_packet() {
    smol::block_on(async {
        let authority = authority();
        let stays = Node::new(&authority, NodeRole::Manager);
        let key = key();
        let before = Node::with(&authority, NodeRole::Worker, &key);
        let to = before.contact();
        stays.transport.send(&to, &reported(1));
        before.received().await;
        stays.connected().await;
        Timer::after(limits::AT_ONCE).await;
        // The second time the real socket is let go.
        before.deafen();
        before.deafen();
        let member = membership(&authority, &key, NodeRole::Worker, NOW);
        until(|| std::net::UdpSocket::bind(to.addr).is_ok()).await;
        let after = start_at(to.addr, &key, || NOW, Some(&member));
        let start = std::time::Instant::now();
        stays.transport.datagram(&to, b"probe".to_vec());
        assert_eq!(stays.disconnected().await, to.node);
        stays.transport.send(&to, &reported(2));
        assert_eq!(number(&after.received().await.1), 2);
        assert!(start.elapsed() < limits::SILENCE / 2);
    });
}

#[test]
fn a_member_that_is_nowhere_is_found_on_the_local_link() {
    /// The loopback's: the only one that tests may count on.
    fn loopback() -> Vec<u32> {
        vec![1]
    }
    smol::block_on(async {
        let authority = authority();
        // Where the answer seems to come from is the kernel's choice.
        let any = "0.0.0.0:0".parse().expect("an address");
        let [one, two] = [key(), key()].map(|key| {
            let member = membership(&authority, &key, NodeRole::Manager, NOW);
            start_at(any, &key, || NOW, Some(&member))
        });
        let nowhere = Contact {
            node: two.node.clone(),
            addr: "127.0.0.1:9".parse().expect("an address"),
        };
        one.transport.send(&nowhere, &reported(1));
        for node in [&one, &two] {
            let (lost, losses) = smol::channel::bounded(1);
            let shared = &node.transport.0;
            smol::spawn(mdns::run(Arc::downgrade(shared), losses, loopback)).detach();
            // Asks every now and then, as failing dials would.
            smol::spawn(async move {
                while lost.send(()).await.is_ok() {
                    Timer::after(Duration::from_millis(200)).await;
                }
            })
            .detach();
        }
        within(async {
            while one.link_to(&two).is_none() {
                one.transport.send(&nowhere, &reported(1));
                Timer::after(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_eq!(two.connected().await.node, one.node);
    });
}

#[test]
fn a_stopped_endpoint_lets_go_of_its_port() {
    smol::block_on(async {
        let authority = authority();
        let one = Node::new(&authority, NodeRole::Manager);
        let two = Node::new(&authority, NodeRole::Worker);
        one.transport.send(&two.contact(), &reported(1));
        two.received().await;
        let addr = two.addr();
        two.transport.stop().await;
        // Another test may have been given it for a moment.
        until(|| std::net::UdpSocket::bind(addr).is_ok()).await;
        let again = start_at(addr, &key(), || NOW, None);
        assert_eq!(again.addr(), addr);
        assert_eq!(one.connected().await.node, two.node);
        assert_eq!(one.disconnected().await, two.node);
    });
}
