//! `swarm init`: a swarm of this node alone.
//!
//! The engine's tables come first: a node that goes down in between finds
//! itself a manager without a certificate, and issues one at its next start.

use super::place::Place;
use super::{Swarm, already, lock};
use crate::error::Result;
use crate::identity::Authority;
use skep_control::engine::{Answer, Founding, Input, Request, SwarmInit};
use skep_control::model::CaConfig;

impl Swarm {
    /// Begins a swarm, or saves what is left of one.
    pub(in super::super) async fn found(&self, mut init: Box<SwarmInit>) -> Result<Answer> {
        if lock(&self.0.joining).is_pending() {
            return Err(already());
        }
        let place = Place::of(&init.listen_addr, &init.advertise_addr, &self.0.flags, None)?;
        init.advertise_addr = place.addr.to_string();
        let member = self.member();
        if member.is_none() {
            init.founding = self.founding(&init.spec.ca_config)?;
            // Before anything is agreed upon: a port that is taken refuses it.
            self.open(place.listen, None)?;
        } else if !init.force_new_cluster {
            return Err(already());
        }
        let answered = self.0.spine.request(Request::SwarmInit(init)).await;
        if answered.is_err() && member.is_none() {
            self.close().await;
        }
        let answer = answered?;
        self.settle(place).await?;
        Ok(answer)
    }

    /// What a new cluster is made of.
    fn founding(&self, wish: &CaConfig) -> Result<Founding> {
        let authority = match wish.signing_ca_cert.as_str() {
            "" => Authority::create(self.clock().now())?,
            certificate => Authority::load(certificate, &wish.signing_ca_key)?,
        };
        Ok(Founding {
            node: lock(&self.0.identity).node.clone(),
            ca_cert_pem: authority.certificate_pem().to_owned(),
            ca_key_pem: authority.key_pem().to_owned(),
            ca_digest: authority.digest(),
        })
    }

    /// This manager is at `place` from now on.
    async fn settle(&self, place: Place) -> Result<()> {
        let addr = place.addr;
        self.keep_place(place).await?;
        self.certify_itself(addr).await?;
        self.tell(Input::Moved(addr)).await;
        Ok(())
    }

    /// A node that went down between its tables and its certificate.
    pub(super) async fn finish_founding(&self) -> Result<()> {
        let is_manager = self.0.spine.view(|view| view.is_manager()).await;
        if !is_manager || self.member().is_some() {
            return Ok(());
        }
        let place = Place::of("", "", &self.0.flags, None)?;
        self.open(place.listen, None)?;
        self.settle(place).await?;
        log::info!("this node had founded a swarm without its certificate, and has it now");
        Ok(())
    }

    /// Makes it durable where this node is.
    pub(super) async fn keep_place(&self, place: Place) -> Result<()> {
        let data_dir = self.0.flags.data_dir.clone();
        let saved = place.clone();
        smol::unblock(move || saved.save(&data_dir)).await?;
        *lock(&self.0.place) = Some(place);
        Ok(())
    }
}
