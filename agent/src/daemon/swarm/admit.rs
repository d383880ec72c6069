//! A manager's answer to a node that asks for a certificate.
//!
//! The leader judges and signs. Another manager asks the leader in the asker's
//! stead: the asker needs to reach one manager only, whichever it is.

use super::Swarm;
use super::certify::authority;
use crate::error::{Error, Kind, Result};
use crate::identity::{Authority, certificates, digest};
use crate::transport::{Admitted, JoinAnswer, JoinAsk, JoinReply};
use serde::{Deserialize, Serialize};
use skep_control::engine::{Answer, Contact, Joined, NodeJoin, Request};
use skep_control::model::{NodeDescription, NodeRole};
use std::net::SocketAddr;
use std::time::Duration;

/// What a node says of itself when it asks; [`JoinAsk::description`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) description: NodeDescription,
    /// What a renewed certificate is to say.
    pub(super) wants: NodeRole,
    /// A manager asks in another's stead: nobody passes it on again.
    pub(super) is_relayed: bool,
}

impl About {
    /// # Errors
    /// Never, for what this program says itself.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|e| Error::internal(format!("description: {e}")))
    }
}

/// What this manager comes to.
enum Outcome {
    Answered(JoinAnswer),
    /// That one leads.
    AskLeader(Contact),
}

impl Swarm {
    pub(super) async fn admit(self, from: SocketAddr, ask: JoinAsk, reply: JoinReply) {
        match self.answer(from, ask).await {
            Ok(answer) => reply.answer(answer),
            Err(error) => reply.answer(JoinAnswer::Refused {
                is_passing: error.kind == Kind::Unavailable,
                reason: error.message,
            }),
        }
    }

    async fn answer(&self, from: SocketAddr, mut ask: JoinAsk) -> Result<JoinAnswer> {
        let node = Authority::asker(&ask.request)?;
        let mut about: About = postcard::from_bytes(&ask.description)
            .map_err(|e| Error::invalid(format!("node {node}: its description: {e}")))?;
        let addr = *ask.advertise.get_or_insert(from);
        let join = NodeJoin {
            token: ask.token.clone(),
            node: node.clone(),
            addr,
            description: about.description.clone(),
            availability: ask.availability,
            wants: about.wants,
        };
        match self.judge(join, &ask).await? {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::AskLeader(leader) if !about.is_relayed => {
                about.is_relayed = true;
                ask.description = about.encode()?;
                self.relay(&leader, &ask).await
            }
            Outcome::AskLeader(_) => Err(Error::unavailable(skep_control::refusal::NO_LEADER)),
        }
    }

    /// Judged as a request like any other; signed when it is durable.
    async fn judge(&self, join: NodeJoin, ask: &JoinAsk) -> Result<Outcome> {
        let (node, addr) = (join.node.clone(), join.addr);
        let leads = self.0.spine.view(|view| view.is_leader()).await;
        if !leads {
            let leader = self.0.spine.view(|view| view.leader()).await;
            let leader = leader.ok_or_else(no_leader)?;
            return Ok(Outcome::AskLeader(leader));
        }
        match self
            .0
            .spine
            .request(Request::NodeJoin(Box::new(join)))
            .await?
        {
            Answer::Joined(joined) => {
                log::info!(
                    "node {node} at {addr} gets a certificate as {:?}",
                    joined.role
                );
                let admitted = self.sign(*joined, ask, addr).await?;
                Ok(Outcome::Answered(JoinAnswer::Admitted(Box::new(admitted))))
            }
            other => Err(Error::internal(format!(
                "a join was answered with {other:?}"
            ))),
        }
    }

    async fn sign(&self, joined: Joined, ask: &JoinAsk, addr: SocketAddr) -> Result<Admitted> {
        let authority = authority(&self.0.spine).await?;
        let life = u64::try_from(joined.cert_expiry_nanos).unwrap_or(0);
        let issued = authority.issue(
            &ask.request,
            joined.role,
            &joined.cluster,
            self.clock().now(),
            Duration::from_nanos(life),
        )?;
        Ok(Admitted {
            cluster: joined.cluster,
            chain_pem: issued.chain_pem,
            ca_certs_pem: joined.ca_certs_pem,
            managers: joined.managers,
            addr,
        })
    }

    async fn relay(&self, leader: &Contact, ask: &JoinAsk) -> Result<JoinAnswer> {
        let transport = self.transport().ok_or_else(no_leader)?;
        let member = self.member().ok_or_else(no_leader)?;
        let digests = digests(&member.ca_certs_pem)?;
        transport.join(leader.addr, &digests, ask.clone()).await
    }
}

/// Of authorities that are believed.
pub(super) fn digests(ca_certs_pem: &[String]) -> Result<Vec<String>> {
    let of = |pem: &String| Ok(certificates(pem)?.iter().map(digest).collect::<Vec<_>>());
    let all: Result<Vec<_>> = ca_certs_pem.iter().map(of).collect();
    Ok(all?.concat())
}

fn no_leader() -> Error {
    Error::unavailable(skep_control::refusal::NO_LEADER)
}
