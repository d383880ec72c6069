//! Becoming a member, and time.

use super::*;
use skep_control::model::Availability;

fn ask(node: &Node) -> JoinAsk {
    JoinAsk {
        token: Some("SWMTKN-1-x-y".into()),
        request: node.key.request().expect("a request"),
        description: b"board".to_vec(),
        advertise: None,
        availability: Availability::Active,
    }
}

/// Signs whatever is asked for.
fn admit(node: &Node, by: &Authority, role: NodeRole) -> smol::Task<()> {
    let events = node.events.clone();
    let clock = node.clock.clone();
    let by = Authority::load(by.certificate_pem(), by.key_pem()).expect("loads");
    smol::spawn(async move {
        while let Ok(event) = events.recv().await {
            let Event::Join { from, ask, reply } = event else {
                continue;
            };
            let cluster = "c1".into();
            let issued = by.issue(&ask.request, role, &cluster, clock.now(), LIFE);
            reply.answer(JoinAnswer::Admitted(Box::new(Admitted {
                cluster,
                chain_pem: issued.expect("issues").chain_pem,
                ca_certs_pem: vec![by.certificate_pem().to_owned()],
                managers: Vec::new(),
                addr: ask.advertise.unwrap_or(from),
            })));
        }
    })
}

fn admitted(answer: JoinAnswer) -> Membership {
    let JoinAnswer::Admitted(admitted) = answer else {
        panic!("refused: {answer:?}");
    };
    Membership {
        cluster: admitted.cluster,
        chain_pem: admitted.chain_pem,
        ca_certs_pem: admitted.ca_certs_pem,
        addr: admitted.addr,
        managers: admitted.managers,
    }
}

#[test]
fn who_joins_believes_the_pinned_authority_only() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let _admitting = admit(&manager, &authority, NodeRole::Worker);
        let joiner = start(&key(), || NOW, None);

        let wrong = [super::authority().digest()];
        let asked = joiner.transport.join(manager.addr(), &wrong, ask(&joiner));
        let error = within(asked).await.expect_err("refused");
        assert!(
            error
                .message
                .contains("remote CA does not match fingerprint"),
            "{error}"
        );

        let right = [authority.digest()];
        let asked = joiner.transport.join(manager.addr(), &right, ask(&joiner));
        let member = admitted(within(asked).await.expect("answered"));
        assert_eq!(member.addr, joiner.addr());
        joiner.transport.present(Some(&member)).expect("presents");
        let opened = within(joiner.transport.open(&manager.contact(), Kind::Api)).await;
        assert!(opened.is_ok());

        // A worker cannot let anybody in.
        let asked = joiner.transport.join(joiner.addr(), &right, ask(&joiner));
        assert!(within(asked).await.is_err());
    });
}

#[test]
fn a_stranger_may_ask_to_join_and_nothing_else() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let stranger = start(&key(), || NOW, None);
        let config = tls::stranger(&[authority.digest()], &stranger.clock).expect("configures");
        let shared = &stranger.transport.0;
        let made = dial::handshake(shared, config, manager.addr(), tls::STRANGER);
        let connection = made.await.expect("connects");
        let (mut send, _receive) = connection.open_bi().await.expect("opens");
        frame::write_hello(&mut send, Kind::Api)
            .await
            .expect("writes");
        let why = within(connection.closed()).await.to_string();
        assert!(why.contains("one may only join"), "{why}");
        assert!(manager.events.is_empty());
    });
}

#[test]
fn a_question_nobody_answers_is_answered() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let joiner = start(&key(), || NOW, None);
        let events = manager.events.clone();
        let dropping = smol::spawn(async move { drop(events.recv().await) });
        let digests = [authority.digest()];
        let asked = joiner
            .transport
            .join(manager.addr(), &digests, ask(&joiner));
        let answer = within(asked).await.expect("answered");
        assert!(matches!(
            answer,
            JoinAnswer::Refused {
                is_passing: true,
                ..
            }
        ));
        dropping.await;
        // To a node without a cluster nobody gets through at all.
        let loner = start(&key(), || NOW, None);
        let asked = joiner.transport.join(loner.addr(), &digests, ask(&joiner));
        assert!(within(asked).await.is_err());
    });
}

#[test]
fn who_ran_out_is_refused_and_renews_with_its_key() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let _admitting = admit(&manager, &authority, NodeRole::Worker);
        let key = key();
        let old = membership(&authority, &key, NodeRole::Worker, NOW - 2 * LIFE.as_secs());
        let worker = start(&key, || NOW, Some(&old));
        let opened = within(worker.transport.open(&manager.contact(), Kind::Api)).await;
        assert!(opened.is_err());
        let digests = [authority.digest()];
        let asked = worker
            .transport
            .join(manager.addr(), &digests, ask(&worker));
        let member = admitted(within(asked).await.expect("answered"));
        worker.transport.present(Some(&member)).expect("presents");
        let opened = within(worker.transport.open(&manager.contact(), Kind::Api)).await;
        assert!(opened.is_ok());
    });
}

#[test]
fn a_clock_in_1970_is_set_by_what_others_were_signed() {
    smol::block_on(async {
        let authority = authority();
        let manager = Node::new(&authority, NodeRole::Manager);
        let _admitting = admit(&manager, &authority, NodeRole::Worker);
        let board = start(&key(), || 0, None);
        assert!(board.clock.now() < NOW);
        let digests = [authority.digest()];
        let asked = board.transport.join(manager.addr(), &digests, ask(&board));
        let member = admitted(within(asked).await.expect("answered"));
        assert_eq!(board.clock.now(), NOW);
        board.transport.present(Some(&member)).expect("presents");

        // So is that of a member, by whoever connects.
        let key = key();
        let asleep = membership(&authority, &key, NodeRole::Worker, NOW - 24 * 3600);
        let asleep = start(&key, || 0, Some(&asleep));
        assert!(asleep.clock.now() < NOW - LIFE.as_secs());
        let newer = Node::new(&authority, NodeRole::Worker);
        newer.transport.send(&asleep.contact(), &report(1));
        asleep.received().await;
        assert_eq!(asleep.clock.now(), NOW);
    });
}
