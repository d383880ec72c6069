//! `swarm ca --rotate`: another authority takes over, and nobody notices.
//!
//! Both are believed until every node has said that its certificate is of the
//! new one; then the old one is dropped. A node that is away holds that up, as
//! it does in Swarm, until it is back or removed.

use super::certify::{Tables, tables};
use super::{Swarm, lock};
use crate::error::Result;
use crate::identity::{Authority, TlsInfo};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skep_control::engine::{Answer, CaRotate, Input, Request};
use skep_control::model::{CaConfig, NodeDescription, TlsDescription};

impl Swarm {
    /// `swarm update`, and the rotation that its spec may ask for.
    pub(in super::super) async fn update(&self, mut request: Request) -> Result<Answer> {
        let next = match &mut request {
            Request::SwarmUpdate { spec, .. } => self.next_authority(&mut spec.ca_config).await?,
            _ => None,
        };
        let answer = self.0.spine.request(request).await?;
        if let Some(authority) = next {
            let rotate = CaRotate {
                ca_cert_pem: authority.certificate_pem().to_owned(),
                ca_key_pem: authority.key_pem().to_owned(),
                ca_digest: authority.digest(),
            };
            let request = Request::CaRotate(Box::new(rotate));
            self.0.spine.request(request).await?;
            log::info!("the swarm gets another root certificate");
            self.ring();
        }
        Ok(answer)
    }

    /// The authority that a spec wishes, if that is not the one of now. Its
    /// key does not stay in the spec, which many may read.
    async fn next_authority(&self, wish: &mut CaConfig) -> Result<Option<Authority>> {
        let certificate = std::mem::take(&mut wish.signing_ca_cert);
        let key = std::mem::take(&mut wish.signing_ca_key);
        let Some(Tables { cluster, .. }) = tables(&self.0.spine).await else {
            return Ok(None);
        };
        let is_named = !certificate.is_empty() && certificate.trim() != cluster.ca_cert_pem.trim();
        let is_forced = wish.force_rotate != cluster.spec.ca_config.force_rotate;
        match (is_named, is_forced) {
            (true, _) => Authority::load(&certificate, &key).map(Some),
            (false, true) => Authority::create(self.clock().now()).map(Some),
            (false, false) => Ok(None),
        }
    }

    /// Goes on with a rotation. Returns whether one is under way.
    pub(super) async fn go_on_rotating(&self) -> Result<bool> {
        let Some(tables) = tables(&self.0.spine).await else {
            return Ok(false);
        };
        if !tables.cluster.is_rotating_ca() {
            return Ok(false);
        }
        let wanted = tls(&tables.cluster.ca_certs_pem(), &tables.cluster.ca_cert_pem)?;
        let has_it = |of: &TlsDescription| {
            of.cert_issuer_public_key == wanted.cert_issuer_public_key
                && of.cert_issuer_subject == wanted.cert_issuer_subject
        };
        if tables.leads && tables.certified.iter().all(has_it) {
            self.0.spine.request(Request::CaRetire).await?;
            log::info!("every node has a certificate of the new root");
        }
        Ok(true)
    }

    /// What this node says of itself now.
    pub(in super::super) fn about(&self) -> NodeDescription {
        let mut about = self.0.about.clone();
        if let Some(member) = lock(&self.0.identity).member() {
            match tls(&member.ca_certs_pem, &member.chain_pem) {
                Ok(tls) => about.tls = tls,
                Err(error) => log::error!("this node's certificate: {error}"),
            }
        }
        about
    }

    /// Says it, too.
    pub(super) async fn describe(&self) {
        self.tell(Input::Describe(self.about())).await;
    }
}

/// As Docker shows it. `chain`: any that ends with the issuer.
pub(in super::super) fn tls(ca_certs_pem: &[String], chain: &str) -> Result<TlsDescription> {
    let info = TlsInfo::of(ca_certs_pem, chain)?;
    Ok(TlsDescription {
        trust_root: info.trust_root,
        cert_issuer_subject: STANDARD.encode(info.issuer_subject),
        cert_issuer_public_key: STANDARD.encode(info.issuer_public_key),
    })
}
