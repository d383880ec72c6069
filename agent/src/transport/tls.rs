//! Who is believed.
//!
//! **Invariant:** a peer is what its certificate says only if an authority of
//! this cluster signed it, it is of this cluster, its name is its key's id, it
//! has not run out by certificate time, and it was not removed. No session is
//! ever resumed: a ticket would outlive a removal.
//!
//! A certificate that is not valid *yet* shows that the own clock is behind,
//! and moves it: an authority signed that time.

use super::limits;
use crate::error::{Error, Result};
use crate::identity::{self, Certificate, Clock, Membership, NodeKey};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use skep_control::model::{ClusterId, NodeId, NodeRole};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const ALPN: &[u8] = b"skep/1";
/// What a joiner calls a node that it does not know yet.
pub(super) const STRANGER: &str = "manager.skep";

/// What this node shows to others, and whom it believes.
pub(super) struct Standing {
    pub(super) cluster: ClusterId,
    /// The certificate that connections were made with.
    pub(super) leaf: CertificateDer<'static>,
    chain_pem: String,
    ca_certs_pem: Vec<String>,
    pub(super) judge: Arc<Judge>,
    pub(super) client: quinn::ClientConfig,
    pub(super) server: quinn::ServerConfig,
}

impl Standing {
    pub(super) fn new(
        member: &Membership,
        removed: BTreeSet<NodeId>,
        key: &NodeKey,
        clock: &Arc<Clock>,
    ) -> Result<Self> {
        Self::of(
            member.cluster.clone(),
            member.chain_pem.clone(),
            member.ca_certs_pem.clone(),
            removed,
            (key, clock),
        )
    }

    /// The same with other authorities or other removed nodes; `None` when
    /// nothing is different.
    pub(super) fn with(
        &self,
        ca_certs_pem: &[String],
        removed: &BTreeSet<NodeId>,
        key: &NodeKey,
        clock: &Arc<Clock>,
    ) -> Result<Option<Self>> {
        let same = ca_certs_pem.is_empty() || ca_certs_pem == self.ca_certs_pem;
        if same && *removed == self.judge.removed {
            return Ok(None);
        }
        let ca_certs_pem = match same {
            true => self.ca_certs_pem.clone(),
            false => ca_certs_pem.to_vec(),
        };
        let (cluster, chain) = (self.cluster.clone(), self.chain_pem.clone());
        Self::of(cluster, chain, ca_certs_pem, removed.clone(), (key, clock)).map(Some)
    }

    fn of(
        cluster: ClusterId,
        chain_pem: String,
        ca_certs_pem: Vec<String>,
        removed: BTreeSet<NodeId>,
        (key, clock): (&NodeKey, &Arc<Clock>),
    ) -> Result<Self> {
        let chain = identity::certificates(&chain_pem)?;
        let leaf = chain.first().cloned();
        let leaf = leaf.ok_or_else(|| Error::internal("no certificate in the chain"))?;
        let judge = Judge::new(&ca_certs_pem, cluster.clone(), removed, clock)?;
        let judge = Arc::new(judge);
        let client = builder_client(clock)?
            .with_custom_certificate_verifier(judge.clone())
            .with_client_auth_cert(chain.clone(), key.private())
            .map_err(failure)?;
        let server = rustls::ServerConfig::builder_with_details(provider(), clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failure)?
            .with_client_cert_verifier(judge.clone())
            .with_single_cert(chain, key.private())
            .map_err(failure)?;
        Ok(Self {
            cluster,
            leaf,
            chain_pem,
            ca_certs_pem,
            judge,
            client: client_config(client)?,
            server: server_config(server)?,
        })
    }
}

/// Decides about certificates of members.
#[derive(Debug)]
pub(super) struct Judge {
    cluster: ClusterId,
    removed: BTreeSet<NodeId>,
    clock: Arc<Clock>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Judge {
    fn new(
        ca_certs_pem: &[String],
        cluster: ClusterId,
        removed: BTreeSet<NodeId>,
        clock: &Arc<Clock>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for pem in ca_certs_pem {
            for der in identity::certificates(pem)? {
                roots.add(der).map_err(failure)?;
            }
        }
        let roots = Arc::new(roots);
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider());
        Ok(Self {
            cluster,
            removed,
            clock: clock.clone(),
            servers: servers.build().map_err(untrusting)?,
            // Who asks to join has no certificate yet.
            clients: clients
                .clear_root_hint_subjects()
                .allow_unauthenticated()
                .build()
                .map_err(untrusting)?,
        })
    }

    /// Whether a connection that is up would still be made.
    pub(super) fn still(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let certificate = self.read(leaf)?;
        // One that runs out meanwhile is refused at the next handshake.
        let time = UnixTime::since_unix_epoch(Duration::from_secs(certificate.signed_at()));
        self.clients.verify_client_cert(leaf, &[], time).map(drop)
    }

    fn read(&self, leaf: &CertificateDer<'_>) -> Result<Certificate, rustls::Error> {
        let certificate =
            Certificate::parse(leaf).map_err(|e| rustls::Error::General(e.message))?;
        if certificate.cluster != self.cluster {
            return Err(refused(format!(
                "node {} is of cluster {}, not of {}",
                certificate.node, certificate.cluster, self.cluster
            )));
        }
        if self.removed.contains(&certificate.node) {
            log::info!("node {} was removed from the cluster", certificate.node);
            return Err(CertificateError::Revoked.into());
        }
        Ok(certificate)
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = self.read(leaf)?;
        let time = at(now, &certificate);
        // A node is signed by an authority and by nothing in between.
        let verified = self
            .servers
            .verify_server_cert(leaf, &[], name, &[], time)?;
        self.clock.saw(certificate.signed_at());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let certificate = self.read(leaf)?;
        let time = at(now, &certificate);
        let verified = self.clients.verify_client_cert(leaf, &[], time)?;
        self.clock.saw(certificate.signed_at());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Believes a manager whose certificate was issued by the authority that a
/// join token pins.
#[derive(Debug)]
struct Pinned {
    /// Digests of authorities, any of which will do.
    digests: Vec<String>,
    clock: Arc<Clock>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let [issuer] = issuers else {
            return Err(refused("a chain that is not a node and its CA".into()));
        };
        if !self.digests.contains(&identity::digest(issuer)) {
            // Swarm's words.
            return Err(refused("remote CA does not match fingerprint".into()));
        }
        let certificate =
            Certificate::parse(leaf).map_err(|e| rustls::Error::General(e.message))?;
        if certificate.role != NodeRole::Manager {
            return Err(refused(format!("node {} is no manager", certificate.node)));
        }
        let mut roots = RootCertStore::empty();
        roots.add(issuer.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
        let verifier = verifier.build().map_err(|e| refused(e.to_string()))?;
        let name = ServerName::try_from(certificate.node.as_str());
        let name = name.map_err(|e| refused(e.to_string()))?;
        let time = at(now, &certificate);
        let verified = verifier.verify_server_cert(leaf, &[], &name, &[], time)?;
        self.clock.saw(certificate.signed_at());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// How to dial somebody of whom only the authority is known, without showing
/// a certificate.
pub(super) fn stranger(digests: &[String], clock: &Arc<Clock>) -> Result<quinn::ClientConfig> {
    let pinned = Pinned {
        digests: digests.to_vec(),
        clock: clock.clone(),
    };
    let client = builder_client(clock)?
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    client_config(client)
}

/// Who is at the other end; `None` when it has shown nothing.
pub(super) fn peer(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?;
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// The later of now and when it was signed.
fn at(now: UnixTime, certificate: &Certificate) -> UnixTime {
    let signed = certificate.signed_at().min(certificate.not_after);
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(signed)))
}

fn builder_client(
    clock: &Arc<Clock>,
) -> Result<rustls::client::danger::DangerousClientConfigBuilder> {
    let builder = rustls::ClientConfig::builder_with_details(provider(), clock.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    Ok(builder.map_err(failure)?.dangerous())
}

fn client_config(mut tls: rustls::ClientConfig) -> Result<quinn::ClientConfig> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).map_err(|e| Error::internal(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport_config()?));
    Ok(config)
}

fn server_config(mut tls: rustls::ServerConfig) -> Result<quinn::ServerConfig> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|e| Error::internal(e.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport_config()?))
        .max_incoming(limits::HANDSHAKES_MAX)
        .migration(true);
    Ok(config)
}

/// Acknowledgements are left as they are: QUIC sends one for every second
/// packet or after 25 ms, so that an answered probe carries its own, and lets
/// nobody ask for a delay above the round trip.
fn transport_config() -> Result<TransportConfig> {
    let idle = IdleTimeout::try_from(limits::IDLE);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle.map_err(|e| Error::internal(e.to_string()))?))
        .keep_alive_interval(None)
        .initial_rtt(limits::FIRST_ROUND_TRIP)
        .stream_receive_window(limits::STREAM_WINDOW.into())
        .receive_window(limits::CONNECTION_WINDOW.into())
        .send_window(limits::SEND_WINDOW)
        .datagram_receive_buffer_size(Some(limits::DATAGRAMS_IN))
        .datagram_send_buffer_size(limits::DATAGRAMS_OUT)
        .crypto_buffer_size(limits::HANDSHAKE_BYTES)
        // Raised once the peer has proven who it is.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(limits::STREAMS_ANONYMOUS.into());
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn schemes() -> Vec<SignatureScheme> {
    // A node's key is nothing else.
    vec![SignatureScheme::ED25519]
}

fn signed(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn signed_12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider().signature_verification_algorithms;
    verify_tls12_signature(message, certificate, signature, &algorithms)
}

fn refused(why: String) -> rustls::Error {
    log::info!("refused a certificate: {why}");
    rustls::Error::General(why)
}

fn failure(error: rustls::Error) -> Error {
    Error::internal(format!("TLS: {error}"))
}

fn untrusting(error: rustls::server::VerifierBuilderError) -> Error {
    Error::internal(format!("no cluster CA to believe: {error}"))
}
