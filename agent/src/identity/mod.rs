//! Who this node is, and how it proves it.
//!
//! Owns: the node's one key for life, its certificate and what came with it,
//! the making of authorities and certificates, join tokens, and the time that
//! certificates are held against.
//!
//! **Invariant:** the key is the identity. A [`NodeId`] is computed from the
//! public key, and a certificate whose common name is not its key's id is
//! refused everywhere, whoever signed it. The key is written once and outlives
//! every cluster: a node that joins again is the same node.
//!
//! ```text
//!   DATA/node/key     the key; made at the first start, never changed
//!   DATA/node/member  certificate, authorities, cluster, managers; gone at leave
//!   DATA/node/seal    the key to the consensus log; see `vault`
//!   DATA/node/clock   latest time that a certificate proved
//! ```
//!
//! Does not know: connections, who is a member, what the leader wants.

mod authority;
mod base36;
mod certificate;
mod clock;
mod key;
mod token;
pub(crate) mod vault;

pub(crate) use authority::Authority;
pub(crate) use certificate::{Certificate, TlsInfo, certificates, digest};
pub(crate) use clock::Clock;
pub(crate) use key::{GossipKeys, NodeKey, node_id};
pub(crate) use token::JoinToken;

use crate::disk::{self, Durability};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use skep_control::engine::{Contact, Member};
use skep_control::model::{ClusterId, NodeId};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Beside the node's log.
const FOLDER: &str = "node";
const KEY: &str = "key";
const MEMBER: &str = "member";
const CLOCK: &str = "clock";

/// What a node keeps of its place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) cluster: ClusterId,
    /// PEM: this node's certificate, then its issuer's.
    pub(crate) chain_pem: String,
    /// PEM: the authorities that others may be of.
    pub(crate) ca_certs_pem: Vec<String>,
    /// Where others reach this node.
    pub(crate) addr: SocketAddr,
    /// Whom to ask first.
    pub(crate) managers: Vec<Contact>,
}

impl Membership {
    /// This node's own certificate.
    pub(crate) fn certificate(&self) -> Result<Certificate> {
        let chain = certificates(&self.chain_pem)?;
        let leaf = chain.first();
        Certificate::parse(leaf.ok_or_else(|| Error::internal("no certificate in the chain"))?)
    }
}

/// This node.
pub(crate) struct Identity {
    folder: PathBuf,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) node: NodeId,
    pub(crate) clock: Arc<Clock>,
    member: Option<Membership>,
}

impl Identity {
    /// Reads who this node is, and makes its key when there is none yet.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged. A damaged key is never
    /// replaced silently: that would be another node.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let folder = data_dir.join(FOLDER);
        fs::create_dir_all(&folder).map_err(|e| disk::failure("mkdir", &folder, &e))?;
        let key = NodeKey::open(&folder.join(KEY)).map_err(|e| {
            e.within("this node's key; move it away to become another node of the cluster")
        })?;
        let clock = Clock::open(&folder.join(CLOCK));
        let node = node_id(key.public());
        let mut identity = Self {
            folder,
            key: Arc::new(key),
            node,
            clock: Arc::new(clock),
            member: None,
        };
        let path = identity.folder.join(MEMBER);
        if let Some(member) = disk::read_record::<Membership>(&path)? {
            let certificate = identity
                .check(&member)
                .map_err(|e| e.within(path.display()))?;
            identity.clock.saw(certificate.signed_at());
            identity.member = Some(member);
        }
        Ok(identity)
    }

    pub(crate) fn member(&self) -> Option<&Membership> {
        self.member.as_ref()
    }

    /// The same in the engine's words.
    pub(crate) fn engine_member(&self) -> Result<Option<Member>> {
        let Some(member) = &self.member else {
            return Ok(None);
        };
        Ok(Some(Member {
            cluster: member.cluster.clone(),
            node: self.node.clone(),
            role: member.certificate()?.role,
            addr: member.addr,
            managers: member.managers.clone(),
        }))
    }

    /// Takes a certificate, or other authorities, managers or address;
    /// durable when it returns. Nothing is written when nothing changes.
    ///
    /// # Errors
    /// When the certificate is not for this node's key and that cluster; then
    /// everything is as before.
    pub(crate) fn enter(&mut self, member: Membership) -> Result<()> {
        if self.member.as_ref() == Some(&member) {
            return Ok(());
        }
        let certificate = self.check(&member)?;
        disk::write_record(&self.folder.join(MEMBER), &member, Durability::Synced)?;
        self.clock.saw(certificate.signed_at());
        self.member = Some(member);
        Ok(())
    }

    /// Forgets the cluster, and keeps the key.
    pub(crate) fn leave(&mut self) -> Result<()> {
        let path = self.folder.join(MEMBER);
        match fs::remove_file(&path) {
            Ok(()) => disk::sync_folder(&self.folder)
                .map_err(|e| disk::failure("sync", &self.folder, &e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(disk::failure("remove", &path, &e)),
        }
        self.member = None;
        Ok(())
    }

    fn check(&self, member: &Membership) -> Result<Certificate> {
        let certificate = member.certificate()?;
        if certificate.node != self.node {
            return Err(Error::internal(format!(
                "the certificate is node {}'s, but this is node {}",
                certificate.node, self.node
            )));
        }
        if certificate.cluster != member.cluster {
            return Err(Error::internal(format!(
                "the certificate is of cluster {}, not of {}",
                certificate.cluster, member.cluster
            )));
        }
        Ok(certificate)
    }
}

#[cfg(test)]
mod tests;
