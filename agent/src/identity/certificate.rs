//! Reading certificates.
//!
//! **Invariant:** what [`Certificate::parse`] gives is a node's certificate:
//! Ed25519, and its name is its key's id. Whether anybody trusted signed it is
//! TLS's question.

use super::authority::BACKDATE;
use super::{base36, node_id};
use crate::error::{Error, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use skep_control::model::{ClusterId, NodeId, NodeRole};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Organizational units, as Swarm's.
pub(super) const WORKER: &str = "swarm-worker";
pub(super) const MANAGER: &str = "swarm-manager";
/// Of Ed25519, RFC 8410.
const ED25519: &str = "1.3.101.112";
/// Certificates in one PEM text: a leaf and its issuer, or the authorities
/// during a rotation. More is nobody's.
const CERTIFICATES_MAX: usize = 8;

/// What a node's certificate says. Times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) node: NodeId,
    pub(crate) role: NodeRole,
    pub(crate) cluster: ClusterId,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    /// Spreads what many nodes would do at once; the same for a certificate
    /// whenever it is read.
    spread: u8,
}

/// What `docker node inspect` and `docker swarm inspect` show as `TLSInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsInfo {
    /// PEM, one after the other.
    pub(crate) trust_root: String,
    /// DER.
    pub(crate) issuer_subject: Vec<u8>,
    /// DER, with its algorithm.
    pub(crate) issuer_public_key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self> {
        let certificate = x509(der)?;
        let key = certificate.public_key();
        if key.algorithm.algorithm.to_id_string() != ED25519 {
            return Err(refused("its key is not Ed25519"));
        }
        let name = certificate.subject();
        let node = one(name.iter_common_name(), "CN")?;
        let public = key.subject_public_key.data.as_ref();
        if node_id(public).as_str() != node {
            return Err(refused(&format!(
                "it says node {node}, but its key is node {}'s",
                node_id(public)
            )));
        }
        let role = match one(name.iter_organizational_unit(), "OU")?.as_str() {
            WORKER => NodeRole::Worker,
            MANAGER => NodeRole::Manager,
            other => return Err(refused(&format!("OU {other:?} is no role"))),
        };
        let validity = certificate.validity();
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        Ok(Self {
            node: node.into(),
            role,
            cluster: one(name.iter_organization(), "O")?.into(),
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
            spread: sha256(der)[0],
        })
    }

    /// When an authority signed it.
    pub(crate) fn signed_at(&self) -> u64 {
        self.not_before.saturating_add(BACKDATE)
    }

    /// When to ask for the next one: between a half and two thirds of its
    /// life, in no two nodes at the same moment.
    pub(crate) fn renew_at(&self) -> u64 {
        let life = self.not_after.saturating_sub(self.signed_at());
        let spread = (life / 6).saturating_mul(u64::from(self.spread)) / 256;
        self.signed_at() + life / 2 + spread
    }
}

impl TlsInfo {
    /// Of somebody who trusts these authorities and has a certificate of
    /// `issuer`, PEM both.
    pub(crate) fn of(ca_certs_pem: &[String], issuer: &str) -> Result<Self> {
        let issuers = certificates(issuer)?;
        // A chain ends with its issuer.
        let issuer = issuers.last().ok_or_else(|| refused("no authority"))?;
        let issuer = x509(issuer)?;
        Ok(Self {
            trust_root: ca_certs_pem.concat(),
            issuer_subject: issuer.subject().as_raw().to_vec(),
            issuer_public_key: issuer.public_key().raw.to_vec(),
        })
    }
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        found.push(der.map_err(|e| refused(&format!("not PEM: {e}")))?);
        if found.len() > CERTIFICATES_MAX {
            return Err(refused("too many in one text"));
        }
    }
    match found.is_empty() {
        true => Err(refused("none in the text")),
        false => Ok(found),
    }
}

/// Names an authority: what a join token pins. 50 base-36 digits of the
/// SHA-256 of its certificate's DER.
pub(crate) fn digest(certificate: &CertificateDer<'_>) -> String {
    base36::digits(sha256(certificate))
}

/// Whether it may sign others'.
pub(super) fn is_authority(der: &CertificateDer<'_>) -> Result<bool> {
    Ok(x509(der)?.is_ca())
}

/// The raw public key with its algorithm.
pub(super) fn public_key(der: &CertificateDer<'_>) -> Result<Vec<u8>> {
    Ok(x509(der)?.public_key().raw.to_vec())
}

fn x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok((&[], certificate)) => Ok(certificate),
        Ok(_) => Err(refused("bytes follow it")),
        Err(e) => Err(refused(&e.to_string())),
    }
}

/// The one value of an attribute; two are one too many to choose from.
fn one<'a, 'b: 'a>(
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'b>>,
    name: &str,
) -> Result<String> {
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refused(&format!("not one {name} in its subject")));
    };
    let text = value.as_str();
    let text = text.map_err(|_| refused(&format!("its {name} is no text")))?;
    Ok(text.to_owned())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

fn refused(why: &str) -> Error {
    Error::invalid(format!("bad certificate: {why}"))
}
