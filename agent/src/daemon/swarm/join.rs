//! `swarm join`: this node asks managers to be taken in.
//!
//! Docker's way: the asker waits for some seconds, and the node goes on asking
//! after that; a refusal ends it.

use super::place::Place;
use super::{Swarm, already, lock};
use crate::backend::JoinRequest;
use crate::error::{Error, Kind, Result};
use crate::identity::{JoinToken, Membership};
use crate::transport::{Admitted, JoinAnswer, Transport};
use skep_control::engine::{Input, Member};
use skep_control::model::{Availability, NodeRole};
use smol::Task;
use smol::channel::{Sender, bounded};
use smol::future::FutureExt as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Docker's: how long `swarm join` waits.
const PATIENCE: Duration = Duration::from_secs(20);
const TIMEOUT: &str = "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node.";
/// Between two rounds of asking every manager named.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at whether this node has become a manager.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Managers named in one request; each may cost a handshake's time.
const REMOTES_MAX: usize = 16;
/// Said by TLS when the token is another swarm's.
const WRONG_CA: &str = "remote CA does not match fingerprint";

/// A join that is under way, or how the last one ended.
#[derive(Default)]
pub(super) enum Joining {
    #[default]
    No,
    Pending {
        /// Ends with this.
        _task: Task<()>,
        managers: Vec<String>,
    },
    /// The reason, until somebody tries again.
    Failed(String),
}

impl Joining {
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }
}

/// A request that was read.
struct Plan {
    token: JoinToken,
    remotes: Vec<String>,
    availability: Availability,
    request: JoinRequest,
}

impl Plan {
    fn of(request: JoinRequest) -> Result<Self> {
        if request.remote_addrs.is_empty() {
            return Err(Error::invalid("at least 1 RemoteAddr is required to join"));
        }
        if request.remote_addrs.len() > REMOTES_MAX {
            let message = format!("more than {REMOTES_MAX} addresses of managers to join");
            return Err(Error::invalid(message));
        }
        let availability = match request.availability.as_str() {
            "" | "active" => Availability::Active,
            "pause" => Availability::Pause,
            "drain" => Availability::Drain,
            other => return Err(Error::invalid(format!("invalid Availability: {other:?}"))),
        };
        Ok(Self {
            token: request.join_token.parse()?,
            remotes: request.remote_addrs.clone(),
            availability,
            request,
        })
    }
}

impl Swarm {
    /// Resolves when this node is in, was refused, or after Docker's patience.
    pub(in super::super) async fn join(&self, request: JoinRequest) -> Result<()> {
        if self.member().is_some() {
            return Err(already());
        }
        let plan = Plan::of(request)?;
        let (told, outcome) = bounded(1);
        {
            let mut joining = lock(&self.0.joining);
            if joining.is_pending() {
                return Err(already());
            }
            let managers = plan.remotes.clone();
            let task = smol::spawn(self.clone().come_in(plan, told));
            *joining = Joining::Pending {
                _task: task,
                managers,
            };
        }
        let answered = async {
            let canceled = || Error::conflict("the node was told to leave while it joined");
            outcome.recv().await.unwrap_or_else(|_| Err(canceled()))
        };
        let late = async {
            smol::Timer::after(PATIENCE).await;
            Err(Error::unavailable(TIMEOUT))
        };
        answered.or(late).await
    }

    /// Ends a join that is under way. Returns whether there was one.
    pub(super) async fn cancel_join(&self) -> bool {
        let pending = {
            let mut joining = lock(&self.0.joining);
            let was_pending = joining.is_pending();
            let before = std::mem::take(&mut *joining);
            was_pending.then_some(before)
        };
        let Some(Joining::Pending { _task: task, .. }) = pending else {
            return false;
        };
        task.cancel().await;
        if self.member().is_none() {
            self.close().await;
        }
        true
    }

    async fn come_in(self, plan: Plan, told: Sender<Result<()>>) {
        let result = self.knock(&plan).await;
        let next = match &result {
            Ok(_) => Joining::No,
            Err(error) => {
                log::warn!("not in the swarm: {error}");
                self.close().await;
                Joining::Failed(error.message.clone())
            }
        };
        // Its own task is in there: nothing is done after.
        let before = std::mem::replace(&mut *lock(&self.0.joining), next);
        if let Joining::Pending { _task: task, .. } = before {
            task.detach();
        }
        let result = match result {
            Ok(NodeRole::Manager) => {
                self.managing().await;
                Ok(())
            }
            Ok(NodeRole::Worker) => Ok(()),
            Err(error) => Err(error),
        };
        let _ = told.try_send(result);
    }

    /// Asks every manager named, round after round.
    async fn knock(&self, plan: &Plan) -> Result<NodeRole> {
        let mut is_told = false;
        loop {
            for remote in &plan.remotes {
                match self.knock_at(plan, remote).await {
                    Err(error) if error.kind == Kind::Unavailable => {
                        if !is_told {
                            log::warn!("swarm join: {error}; trying again");
                            is_told = true;
                        }
                    }
                    done => return done,
                }
            }
            smol::Timer::after(ROUND_PAUSE).await;
        }
    }

    /// `Kind::Unavailable`: to be tried again.
    async fn knock_at(&self, plan: &Plan, remote: &str) -> Result<NodeRole> {
        for addr in resolve(remote, self.0.flags.listen.port()).await? {
            let JoinRequest {
                listen_addr,
                advertise_addr,
                ..
            } = &plan.request;
            let place = Place::of(listen_addr, advertise_addr, &self.0.flags, Some(addr))?;
            let transport = self.open(place.listen, None)?;
            match self.ask_to_join(&transport, plan, &place, addr).await {
                Ok(admitted) => return self.join_as(admitted, place).await,
                Err(error) if error.kind == Kind::Unavailable => {
                    log::debug!("swarm join at {addr}: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable(format!(
            "no manager answers at {remote}"
        )))
    }

    async fn ask_to_join(
        &self,
        transport: &Transport,
        plan: &Plan,
        place: &Place,
        addr: SocketAddr,
    ) -> Result<Admitted> {
        let token = &plan.token;
        let wants = NodeRole::Worker;
        let ask = self.ask(
            Some(token.text.clone()),
            place.addr,
            wants,
            plan.availability,
        )?;
        let digests = std::slice::from_ref(&token.digest);
        match transport.join(addr, digests, ask).await {
            Ok(JoinAnswer::Admitted(admitted)) => Ok(*admitted),
            Ok(JoinAnswer::Refused { reason, is_passing }) => Err(match is_passing {
                true => Error::unavailable(reason),
                false => Error::invalid(reason),
            }),
            Err(error) if error.message.contains(WRONG_CA) => Err(Error::invalid(format!(
                "{WRONG_CA}. Expected: {}: the token is another swarm's, or older than its root \
                 certificate",
                token.digest
            ))),
            Err(error) => Err(error),
        }
    }

    async fn join_as(&self, admitted: Admitted, place: Place) -> Result<NodeRole> {
        let _turn = self.0.turn.lock().await;
        let addr = place.addr;
        self.keep_place(place).await?;
        let member = Membership {
            cluster: admitted.cluster,
            chain_pem: admitted.chain_pem,
            ca_certs_pem: admitted.ca_certs_pem,
            addr,
            managers: admitted.managers,
        };
        let role = member.certificate()?.role;
        let joined = Member {
            cluster: member.cluster.clone(),
            node: lock(&self.0.identity).node.clone(),
            role,
            addr,
            managers: member.managers.clone(),
        };
        *lock(&self.0.trust) = None;
        self.enter(member).await?;
        log::info!("this node joined swarm {} as {role:?}", joined.cluster);
        self.tell(Input::Joined(Box::new(joined))).await;
        self.ring();
        Ok(role)
    }

    /// Resolves when this node has the tables that a manager has: who joined
    /// one asks it next.
    async fn managing(&self) {
        while !self.0.spine.view(|view| view.is_manager()).await {
            smol::Timer::after(LOOK_EVERY).await;
        }
    }
}

/// The addresses of `HOST[:PORT]`.
async fn resolve(remote: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let has_port = remote.parse::<SocketAddr>().is_ok()
        || (remote.rsplit_once(':'))
            .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
    let named = match (has_port, remote.parse()) {
        (true, _) => remote.to_owned(),
        (false, Ok(ip)) => SocketAddr::new(ip, port).to_string(),
        (false, Err(_)) => format!("{remote}:{port}"),
    };
    let found = smol::net::resolve(&named).await;
    found.map_err(|e| Error::unavailable(format!("{remote}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_may_be_named_with_a_port_or_without() {
        let of = |remote: &str| {
            let found = smol::block_on(resolve(remote, 2377)).expect(remote);
            found.first().map(ToString::to_string)
        };
        assert_eq!(of("10.1.2.3").as_deref(), Some("10.1.2.3:2377"));
        assert_eq!(of("10.1.2.3:99").as_deref(), Some("10.1.2.3:99"));
        assert_eq!(of("fd00::1").as_deref(), Some("[fd00::1]:2377"));
        assert_eq!(of("[fd00::1]:99").as_deref(), Some("[fd00::1]:99"));
    }

    #[test]
    fn requests_are_read_before_anybody_is_asked() {
        let refused = |request: JoinRequest| Plan::of(request).err().map(|e| e.message);
        assert_eq!(
            refused(JoinRequest::default()).as_deref(),
            Some("at least 1 RemoteAddr is required to join")
        );
        let named = JoinRequest {
            remote_addrs: vec!["10.0.0.1".into()],
            ..JoinRequest::default()
        };
        assert_eq!(refused(named).as_deref(), Some("invalid join token"));
    }
}
