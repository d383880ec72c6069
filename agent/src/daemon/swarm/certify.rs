//! This node's certificates: renewed long before they run out, for the role
//! that is wanted, of the authority that signs now.
//!
//! A leader issues its own; everybody else asks managers, and so does a node
//! whose certificate ran out while it was off. Only a manager whose own ran
//! out, with nobody left whose did not, issues it from its tables, for no
//! other would talk to it.

use super::admit::{About, digests};
use super::{Swarm, lock};
use crate::error::{Error, Result};
use crate::identity::{Authority, Certificate, Clock, Membership, certificates, digest};
use crate::transport::{Admitted, JoinAnswer, JoinAsk};
use skep_control::engine::Input;
use skep_control::model::{Availability, Cluster, NodeRole, TlsDescription};
use smol::future::FutureExt as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::spine::Spine;

/// Longest sleep of who waits for a certificate to come of age: clocks jump.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Between two looks at who has a certificate of the new root.
const ROTATION_LOOK: Duration = Duration::from_millis(500);
/// After the first try that failed; doubles with each.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Half of the managers may be away for long; asking is cheap.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a manager's tables say of its cluster.
pub(super) struct Tables {
    pub(super) cluster: Cluster,
    pub(super) managers: Vec<skep_control::engine::Contact>,
    pub(super) leads: bool,
    /// What every node has.
    pub(super) certified: Vec<TlsDescription>,
}

/// The cluster as this manager's tables have it.
pub(super) async fn tables(spine: &Spine) -> Option<Tables> {
    spine
        .view(|view| {
            Some(Tables {
                cluster: view.managed().ok()?.clone(),
                managers: view.managers(),
                leads: view.is_leader(),
                certified: view
                    .state()
                    .nodes()
                    .map(|node| node.description.tls.clone())
                    .collect(),
            })
        })
        .await
}

/// The one who signs now.
///
/// # Errors
/// When this node's tables have none.
pub(super) async fn authority(spine: &Spine) -> Result<Authority> {
    let tables = tables(spine).await;
    let tables = tables.ok_or_else(|| Error::unavailable("this node manages no swarm"))?;
    Authority::load(&tables.cluster.ca_cert_pem, &tables.cluster.ca_key_pem)
}

impl Swarm {
    pub(super) fn clock(&self) -> Arc<Clock> {
        lock(&self.0.identity).clock.clone()
    }

    /// Runs as long as the agent does.
    pub(super) async fn keep_certified(self) {
        let mut pause = RETRY_MIN;
        loop {
            if let Err(error) = self.believe().await {
                log::error!("{error}");
            }
            let sleep = match self.due() {
                None => SLEEP_MAX,
                Some(Duration::ZERO) => match self.renew().await {
                    Ok(()) => {
                        pause = RETRY_MIN;
                        *lock(&self.0.trouble) = None;
                        continue;
                    }
                    Err(error) => {
                        self.not_renewed(&error);
                        pause = (pause * 2).min(RETRY_MAX);
                        pause
                    }
                },
                Some(left) => left.min(SLEEP_MAX),
            };
            let is_rotating = self.go_on_rotating().await.unwrap_or_else(|error| {
                log::warn!("the rotation of the root certificate: {error}");
                true
            });
            let sleep = if is_rotating {
                sleep.min(ROTATION_LOOK)
            } else {
                sleep
            };
            let news = async {
                let _ = self.0.news.1.recv().await;
            };
            let timer = async {
                smol::Timer::after(sleep).await;
            };
            news.or(timer).await;
        }
    }

    /// Takes other authorities over into what is kept.
    async fn believe(&self) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let trusted = lock(&self.0.trust)
            .as_ref()
            .map(|trust| trust.ca_certs_pem.clone())
            .filter(|pems| !pems.is_empty());
        let (Some(ca_certs_pem), Some(member)) = (trusted, self.member()) else {
            return Ok(());
        };
        if ca_certs_pem == member.ca_certs_pem {
            return Ok(());
        }
        self.enter(Membership {
            ca_certs_pem,
            ..member
        })
        .await
    }

    /// How long this node's certificate will do; `None` without one.
    fn due(&self) -> Option<Duration> {
        let member = self.member()?;
        let Ok(certificate) = member.certificate() else {
            return Some(Duration::ZERO);
        };
        let is_other_role = self.wanted(&certificate) != certificate.role;
        if is_other_role || !is_of_signer(&member) {
            return Some(Duration::ZERO);
        }
        let left = certificate.renew_at().saturating_sub(self.clock().now());
        Some(Duration::from_secs(left))
    }

    fn wanted(&self, certificate: &Certificate) -> NodeRole {
        let trust = lock(&self.0.trust);
        trust.as_ref().map_or(certificate.role, |trust| trust.role)
    }

    fn not_renewed(&self, error: &Error) {
        log::warn!("no other certificate: {error}; trying again");
        let has_run_out = self
            .member()
            .and_then(|member| member.certificate().ok())
            .is_some_and(|certificate| certificate.not_after <= self.clock().now());
        if has_run_out {
            let message = format!("this node's certificate has run out: {error}");
            *lock(&self.0.trouble) = Some(message);
        }
    }

    async fn renew(&self) -> Result<()> {
        let member = self.member();
        let member = member.ok_or_else(|| Error::internal("no membership to renew"))?;
        let certificate = member.certificate()?;
        let role = self.wanted(&certificate);
        let has_run_out = certificate.not_after <= self.clock().now();
        let tables = tables(&self.0.spine).await;
        if role == NodeRole::Manager && tables.as_ref().is_some_and(|tables| tables.leads) {
            return self.certify_itself(member.addr).await;
        }
        let asked = self.ask_managers(&member, role).await;
        match asked {
            Ok(admitted) => self.certified(admitted, member.addr).await,
            Err(_) if has_run_out && role == NodeRole::Manager && tables.is_some() => {
                self.certify_itself(member.addr).await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks one manager after the other.
    async fn ask_managers(&self, member: &Membership, wants: NodeRole) -> Result<Admitted> {
        let transport = self.transport();
        let transport = transport.ok_or_else(|| Error::unavailable("the port is not open"))?;
        let digests = digests(&member.ca_certs_pem)?;
        let ask = self.ask(None, member.addr, wants, Availability::Active)?;
        let mut managers = self.0.spine.view(|view| view.managers()).await;
        for manager in &member.managers {
            if !managers.iter().any(|other| other.addr == manager.addr) {
                managers.push(manager.clone());
            }
        }
        let own = lock(&self.0.identity).node.clone();
        managers.retain(|manager| manager.node != own);
        let mut last = Error::unavailable("no manager is known");
        for manager in managers {
            match transport.join(manager.addr, &digests, ask.clone()).await {
                Ok(JoinAnswer::Admitted(admitted)) => return Ok(*admitted),
                Ok(JoinAnswer::Refused { reason, .. }) => last = Error::unavailable(reason),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A question for a certificate.
    pub(super) fn ask(
        &self,
        token: Option<String>,
        addr: SocketAddr,
        wants: NodeRole,
        availability: Availability,
    ) -> Result<JoinAsk> {
        let about = About {
            description: self.about(),
            wants,
            is_relayed: false,
        };
        Ok(JoinAsk {
            token,
            request: lock(&self.0.identity).key.request()?,
            description: about.encode()?,
            advertise: Some(addr),
            availability,
        })
    }

    async fn certified(&self, admitted: Admitted, addr: SocketAddr) -> Result<()> {
        let member = Membership {
            cluster: admitted.cluster,
            chain_pem: admitted.chain_pem,
            ca_certs_pem: admitted.ca_certs_pem,
            addr,
            managers: admitted.managers,
        };
        self.take(member).await
    }

    /// Issues this manager's certificate from its own tables.
    pub(super) async fn certify_itself(&self, addr: SocketAddr) -> Result<()> {
        let tables = tables(&self.0.spine).await;
        let tables = tables.ok_or_else(|| Error::unavailable("this node manages no swarm"))?;
        let cluster = tables.cluster;
        let authority = Authority::load(&cluster.ca_cert_pem, &cluster.ca_key_pem)?;
        let request = lock(&self.0.identity).key.request()?;
        let life = u64::try_from(cluster.spec.ca_config.node_cert_expiry).unwrap_or(0);
        let issued = authority.issue(
            &request,
            NodeRole::Manager,
            &cluster.id,
            self.clock().now(),
            Duration::from_nanos(life),
        )?;
        let member = Membership {
            chain_pem: issued.chain_pem,
            ca_certs_pem: cluster.ca_certs_pem(),
            cluster: cluster.id,
            addr,
            managers: tables.managers,
        };
        self.take(member).await
    }

    async fn take(&self, member: Membership) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let role = member.certificate()?.role;
        if self
            .member()
            .is_some_and(|now| now.cluster != member.cluster)
        {
            return Err(Error::conflict("this node went to another swarm meanwhile"));
        }
        self.enter(member).await?;
        log::info!("this node has another certificate, as {role:?}");
        self.tell(Input::Certified(role)).await;
        Ok(())
    }
}

/// Whether its certificate is of the authority that signs now, the first.
fn is_of_signer(member: &Membership) -> bool {
    let of = |pem: &str, nth: usize| {
        let chain = certificates(pem).ok()?;
        chain.get(nth).map(digest)
    };
    let signer = member.ca_certs_pem.first().and_then(|pem| of(pem, 0));
    // Nobody says who signs: nothing to be done.
    signer.is_none() || of(&member.chain_pem, 1) == signer
}
