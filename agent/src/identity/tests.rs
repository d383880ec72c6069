//! A node's identity over restarts, and what is refused.

use super::*;
use skep_control::model::NodeRole;
use std::time::Duration;

const NOW: u64 = 1_800_000_000;
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("skep-identity-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn membership(identity: &Identity, authority: &Authority, role: NodeRole) -> Membership {
    let cluster = ClusterId("c1".into());
    let request = identity.key.request().expect("a request");
    let issued = authority.issue(&request, role, &cluster, NOW, LIFE);
    Membership {
        cluster,
        chain_pem: issued.expect("a certificate").chain_pem,
        ca_certs_pem: vec![authority.certificate_pem().to_owned()],
        addr: "127.0.0.1:2377".parse().expect("an address"),
        managers: Vec::new(),
    }
}

#[test]
fn a_node_is_the_same_after_a_restart_and_after_leaving() {
    let folder = Folder::new("restart");
    let mut first = Identity::open(&folder.0).expect("opens");
    assert_eq!(first.node.as_str().len(), 25);
    assert_eq!(first.member(), None);
    let authority = Authority::create(NOW).expect("an authority");
    let member = membership(&first, &authority, NodeRole::Manager);
    first.enter(member.clone()).expect("enters");

    let mut second = Identity::open(&folder.0).expect("opens again");
    assert_eq!(second.node, first.node);
    assert_eq!(second.member(), Some(&member));
    let engine = second.engine_member().expect("reads").expect("is a member");
    assert_eq!(engine.role, NodeRole::Manager);
    // The certificate is proof of what time it is at least.
    assert!(second.clock.now() >= NOW);

    second.leave().expect("leaves");
    second.leave().expect("leaving twice is leaving");
    let third = Identity::open(&folder.0).expect("opens");
    assert_eq!((&third.node, third.member()), (&first.node, None));
}

#[test]
fn another_nodes_certificate_is_not_taken() {
    let folder = Folder::new("other");
    let mut identity = Identity::open(&folder.0).expect("opens");
    let other = Folder::new("other-2");
    let other = Identity::open(&other.0).expect("opens");
    let authority = Authority::create(NOW).expect("an authority");
    let stolen = membership(&other, &authority, NodeRole::Worker);
    let error = identity.enter(stolen).expect_err("refused");
    assert!(error.message.contains("but this is node"), "{error}");
    let mut wrong = membership(&identity, &authority, NodeRole::Worker);
    wrong.cluster = "c2".into();
    assert!(identity.enter(wrong).is_err());
    assert_eq!(identity.member(), None);
}

#[test]
fn a_damaged_key_is_never_replaced() {
    let folder = Folder::new("damaged");
    drop(Identity::open(&folder.0).expect("opens"));
    let key = folder.0.join("node/key");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&key).expect("is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    fs::write(&key, b"skep-record-1 00000000\n{}").expect("writes");
    assert!(Identity::open(&folder.0).is_err());
    assert!(key.exists());
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let authority = Authority::create(NOW).expect("an authority");
    let key = NodeKey::generate().expect("a key");
    let request = key.request().expect("a request");
    let issued = authority
        .issue(&request, NodeRole::Worker, &"c1".into(), NOW, LIFE)
        .expect("issues");
    let chain = certificates(&issued.chain_pem).expect("PEM");
    assert_eq!(chain.len(), 2);
    assert_eq!(digest(&chain[1]), authority.digest());
    let certificate = Certificate::parse(&chain[0]).expect("parses");
    assert_eq!(certificate.node, node_id(key.public()));
    assert_eq!(Authority::asker(&request).expect("reads"), certificate.node);
    assert_eq!(certificate.role, NodeRole::Worker);
    assert_eq!(certificate.cluster.as_str(), "c1");
    assert_eq!(certificate.signed_at(), NOW);
    assert_eq!(certificate.not_after, NOW + LIFE.as_secs());
    let due = certificate.renew_at() - NOW;
    assert!((LIFE.as_secs() / 2..=LIFE.as_secs() * 2 / 3).contains(&due));

    // Without the key's own signature there is no request.
    let mut forged = request.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let told = authority.issue(&forged, NodeRole::Worker, &"c1".into(), NOW, LIFE);
    assert!(
        told.expect_err("refused")
            .message
            .contains("bad signing request")
    );
    assert!(Authority::asker(&[0; 5000]).is_err());
    // An authority is nobody's identity.
    assert!(Certificate::parse(&chain[1]).is_err());
}

#[test]
fn an_authority_comes_back_with_its_own_key_only() {
    let one = Authority::create(NOW).expect("an authority");
    let two = Authority::create(NOW).expect("another");
    assert_ne!(one.digest(), two.digest());
    let again = Authority::load(one.certificate_pem(), one.key_pem()).expect("loads");
    assert_eq!(again.digest(), one.digest());
    assert!(Authority::load(one.certificate_pem(), two.key_pem()).is_err());
    let both = [two.certificate_pem().into(), one.certificate_pem().into()];
    let info = TlsInfo::of(&both, one.certificate_pem());
    let info = info.expect("reads");
    assert_eq!(info.trust_root.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!info.issuer_subject.is_empty() && !info.issuer_public_key.is_empty());
}

#[test]
fn a_signature_is_the_nodes_whose_key_it_is() {
    let (one, two) = (NodeKey::generate(), NodeKey::generate());
    let (one, two) = (one.expect("a key"), two.expect("a key"));
    let signature = one.sign(b"text").expect("signs");
    let (id, other) = (node_id(one.public()), node_id(two.public()));
    assert!(NodeKey::verify(&id, one.public(), b"text", &signature));
    assert!(!NodeKey::verify(&id, one.public(), b"texts", &signature));
    assert!(!NodeKey::verify(&other, one.public(), b"text", &signature));
    assert!(!NodeKey::verify(&id, two.public(), b"text", &signature));
    assert!(!NodeKey::verify(&id, b"short", b"text", b""));
}

#[test]
fn tokens_are_read_whole_or_not_at_all() {
    let authority = Authority::create(NOW).expect("an authority");
    let text = format!("SWMTKN-1-{}-{}", authority.digest(), "0".repeat(25));
    let token: JoinToken = text.parse().expect("parses");
    assert_eq!(
        (token.digest, token.text),
        (authority.digest(), text.clone())
    );
    for bad in [
        "",
        "SWMTKN-2-a-b",
        &text[1..],
        &text[..text.len() - 1],
        &text.to_uppercase(),
        &format!("{text}-x"),
    ] {
        assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
    }
}

#[test]
fn time_goes_on_from_what_was_signed() {
    let folder = Folder::new("clock");
    let path = folder.0.join("clock");
    let clock = Clock::open(&path);
    let start = clock.now();
    clock.saw(10);
    assert!(clock.now() < start + 60);
    assert!(!path.exists());
    let far = start + 400 * 24 * 3600;
    clock.saw(far);
    assert_eq!(clock.now(), far);
    assert_eq!(Clock::open(&path).now(), far);
    // A card is not worn by seconds.
    clock.saw(far + 10);
    assert_eq!(Clock::open(&path).now(), far);
    // A board in 1970 is at least as late as its own program.
    assert!(Clock::of(|| 0).now() > 1_700_000_000);
}
