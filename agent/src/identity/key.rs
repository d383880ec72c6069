//! The node's key: made once, for life.

use super::base36;
use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use skep_control::gossip::Keys;
use skep_control::model::{ID_LEN, NodeId};
use std::path::Path;
use std::sync::Arc;

/// An Ed25519 key pair.
pub(crate) struct NodeKey(KeyPair);

/// What is on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// PKCS #8, PEM.
    key: String,
}

/// The id of whoever holds that key: the last 25 base-36 digits of the SHA-256
/// of the raw public key, read as a number. Of 2^256 values each id has as many
/// as any other, but for one part in 2^126: no id is likelier than another.
pub(crate) fn node_id(public: &[u8]) -> NodeId {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, public).as_ref());
    let digits = base36::digits(digest);
    NodeId(digits[base36::DIGEST_DIGITS - ID_LEN..].to_owned())
}

impl NodeKey {
    /// The key at `path`; a new one is made and durable when there is none.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if let Some(stored) = disk::read_record::<Stored>(path)? {
            let pair = KeyPair::from_pem(&stored.key).map_err(|e| failure("read it", &e))?;
            if !pair.is_compatible(&rcgen::PKCS_ED25519) {
                return Err(Error::internal(format!(
                    "{}: not an Ed25519 key",
                    path.display()
                )));
            }
            return Ok(Self(pair));
        }
        let key = Self::generate()?;
        let stored = Stored {
            key: key.0.serialize_pem(),
        };
        disk::write_record(path, &stored, Durability::Synced)?;
        Ok(key)
    }

    /// A key that is nowhere but in memory.
    pub(crate) fn generate() -> Result<Self> {
        KeyPair::generate_for(&rcgen::PKCS_ED25519)
            .map(Self)
            .map_err(|e| failure("make it", &e))
    }

    /// 32 bytes.
    pub(crate) fn public(&self) -> &[u8] {
        self.0.der_bytes()
    }

    /// 64 bytes over the message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.0.sign(message).map_err(|e| failure("sign", &e))
    }

    /// Whether `node` signed it: the key must be the node's, and the signature
    /// the key's.
    pub(crate) fn verify(node: &NodeId, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        node_id(public) == *node
            && UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .is_ok()
    }

    /// A signing request, DER. It says the key and proves that its holder
    /// asks; all else in a certificate is the authority's to say.
    pub(crate) fn request(&self) -> Result<Vec<u8>> {
        let params = CertificateParams::default();
        let request = params.serialize_request(&self.0);
        let request = request.map_err(|e| failure("make a signing request", &e))?;
        Ok(request.der().to_vec())
    }

    /// For TLS.
    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

/// The key as gossip uses it.
pub(crate) struct GossipKeys(pub(crate) Arc<NodeKey>);

impl Keys for GossipKeys {
    /// Nothing when it cannot be signed, which nobody will believe.
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes).unwrap_or_else(|e| {
            log::error!("{e}");
            Vec::new()
        })
    }

    fn public(&self) -> Vec<u8> {
        self.0.public().to_vec()
    }

    fn verify(&self, node: &NodeId, public: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
        NodeKey::verify(node, public, bytes, signature)
    }
}

fn failure(action: &str, error: &rcgen::Error) -> Error {
    Error::internal(format!("node key: cannot {action}: {error}"))
}
