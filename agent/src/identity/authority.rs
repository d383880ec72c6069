//! A cluster's authority: a certificate that signs the nodes', and its key.
//!
//! Rotation: trust the old and the new one, have all certificates issued anew
//! by the new one, trust the new one only. A join token pins one authority:
//! hand out the new one's once managers have certificates of it, for they show
//! the one that issued theirs.
//!
//! A manager whose own certificate ran out while the whole cluster was off
//! finds the key in its tables and issues itself another: no other manager
//! would talk to it, and none could.

use super::certificate::{self, MANAGER, WORKER, certificates};
use crate::error::{Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use skep_control::model::{ClusterId, NodeId, NodeRole};
use std::time::Duration;

/// Certificates begin before they are made, in seconds: clocks differ, and
/// Swarm's do too.
pub(super) const BACKDATE: u64 = 3600;
/// Life of an authority: Swarm's twenty years, in seconds.
const LIFE: u64 = 20 * 365 * 24 * 3600;
/// Longest life of a node's certificate, in seconds: an authority's.
const NODE_LIFE_MAX: u64 = LIFE;
/// Latest begin, seconds since 1970: leaves room below the year 9999.
const LATEST: u64 = 250_000_000_000;
/// Largest request that is read, in bytes; ours have some 200.
const REQUEST_MAX: usize = 4096;
/// Bytes of a serial number: of chance, so that two managers never agree.
const SERIAL_BYTES: usize = 16;

/// A certificate that signs others.
pub(crate) struct Authority {
    certificate_pem: String,
    key_pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    /// Whose key it is.
    pub(crate) node: NodeId,
    /// PEM: the node's, then the authority's.
    pub(crate) chain_pem: String,
}

impl Authority {
    /// A new one, valid from `now` (seconds since 1970).
    pub(crate) fn create(now: u64) -> Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failure)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&[(DnType::CommonName, "swarm-ca")]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        validity(&mut params, now, LIFE);
        let certificate = params.self_signed(&key).map_err(failure)?;
        Self::load(&certificate.pem(), &key.serialize_pem())
    }

    /// The one that these PEM texts are of.
    ///
    /// # Errors
    /// When they are no authority's, or do not belong together.
    pub(crate) fn load(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let der = match &certificates(certificate_pem)?[..] {
            [one] => one.clone(),
            _ => return Err(Error::invalid("not one certificate for the cluster's CA")),
        };
        let key = KeyPair::from_pem(key_pem)
            .map_err(|e| Error::invalid(format!("the key of the cluster's CA: {e}")))?;
        if !certificate::is_authority(&der)? {
            return Err(Error::invalid("the certificate is not a CA's"));
        }
        if certificate::public_key(&der)? != key.subject_public_key_info() {
            return Err(Error::invalid(
                "certificate key mismatch: the key is not that of the CA's certificate",
            ));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(failure)?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            der,
            issuer,
        })
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What tokens pin.
    pub(crate) fn digest(&self) -> String {
        certificate::digest(&self.der)
    }

    /// Whose key a request asks a certificate for; its holder has signed it.
    pub(crate) fn asker(request: &[u8]) -> Result<NodeId> {
        Ok(super::node_id(read(request)?.public_key.der_bytes()))
    }

    /// A certificate for whoever made the request. Of the request only the key
    /// is taken: name, role, cluster and times are as said here. `now` is
    /// certificate time in seconds since 1970.
    pub(crate) fn issue(
        &self,
        request: &[u8],
        role: NodeRole,
        cluster: &ClusterId,
        now: u64,
        life: Duration,
    ) -> Result<Issued> {
        let mut request = read(request)?;
        let node = super::node_id(request.public_key.der_bytes());
        let unit = match role {
            NodeRole::Worker => WORKER,
            NodeRole::Manager => MANAGER,
        };
        let mut params = CertificateParams::new([node.0.clone()]).map_err(failure)?;
        params.distinguished_name = named(&[
            (DnType::OrganizationName, cluster.as_str()),
            (DnType::OrganizationalUnitName, unit),
            (DnType::CommonName, node.as_str()),
        ]);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        validity(&mut params, now, life.as_secs().min(NODE_LIFE_MAX));
        request.params = params;
        let certificate = request.signed_by(&self.issuer).map_err(failure)?;
        let separator = match self.certificate_pem.ends_with('\n') {
            true => "",
            false => "\n",
        };
        Ok(Issued {
            node,
            chain_pem: format!("{}{}{separator}", certificate.pem(), self.certificate_pem),
        })
    }
}

fn read(request: &[u8]) -> Result<CertificateSigningRequestParams> {
    if request.len() > REQUEST_MAX {
        return Err(Error::invalid(format!(
            "a signing request of {} bytes is larger than {REQUEST_MAX}",
            request.len()
        )));
    }
    let der = CertificateSigningRequestDer::from(request);
    let read = CertificateSigningRequestParams::from_der(&der)
        .map_err(|e| Error::invalid(format!("bad signing request: {e}")))?;
    if *read.public_key.algorithm() != rcgen::PKCS_ED25519 {
        return Err(Error::invalid("bad signing request: not an Ed25519 key"));
    }
    Ok(read)
}

fn named(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}

fn validity(params: &mut CertificateParams, now: u64, life: u64) {
    let now = now.min(LATEST);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATE));
    params.not_after = epoch + Duration::from_secs(now + life);
}

fn serial() -> Result<SerialNumber> {
    let mut bytes = [0_u8; SERIAL_BYTES];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    // Positive, and its length is always the same.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn failure(error: rcgen::Error) -> Error {
    Error::internal(format!("certificate authority: {error}"))
}
