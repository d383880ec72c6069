//! Requests that another node answers: the swarm's by its leader, a
//! container's by the node that has it.
//!
//! Owns the table of who answers what, the way there and back (status,
//! headers, bodies, connections that change hands), and what a client is told
//! when there is no way. Invariant: a request is passed on once at most. What
//! another node passed on is answered here or refused, so that nodes that
//! believe different things send nothing in circles; and another node gets
//! only what a client anywhere may ask of the whole swarm, never this node's
//! own business. Knows nothing of what the handlers do.

mod container;
mod leader;
mod places;
#[cfg(test)]
mod tests;
mod tunnel;

pub(super) use leader::{ask, fetch, fetch_value};
pub(super) use places::{Execs, routes};
pub(super) use tunnel::get;

use super::body::RequestBody;
use super::call::{Call, Origin};
use super::query::Query;
use super::reply::Reply;
use super::router::{Found, Params};
use crate::backend::Backend;
use crate::error::{Error, Result};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;

/// Where a route's requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the node that was asked, and not for other nodes.
    Here,
    /// On the node that was asked, also when another node asks: the handler
    /// looks at who does.
    Each,
    /// On the swarm's leader.
    Leader,
    /// On the node that has the container or task `{id}`; this one first.
    Container,
    /// The same, and what it makes is an exec, to be found there again.
    NewExec,
    /// On the node where the exec `{id}` was made.
    Exec,
}

/// A request before it is known who answers it.
pub(super) struct Asked {
    pub(super) origin: Origin,
    /// The minor number of the API's version.
    pub(super) version: u16,
    pub(super) params: Params,
    pub(super) head: Parts,
    pub(super) body: RequestBody,
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Asked {
    pub(super) fn into_call<B>(self, node: B) -> Call<B> {
        Call {
            node,
            origin: self.origin,
            query: Query::parse(self.head.uri.query()),
            version: self.version,
            params: self.params,
            body: self.body,
            upgrade: self.upgrade,
        }
    }

    /// What the route's pattern calls `{id}`.
    fn id(&self) -> &str {
        let id = self.params.iter().find(|(name, _)| *name == "id");
        id.map_or("", |(_, value)| value)
    }
}

/// Answers here, or has it answered.
pub(super) async fn answer<B: Backend>(
    node: B,
    execs: &Execs,
    found: Found<B>,
    asked: Asked,
) -> Result<Reply> {
    let Found { handler, place, .. } = found;
    match place {
        Place::Here if asked.origin == Origin::Peer => Err(Error::forbidden(format!(
            "{} {} is answered by the node itself only: ask at its own socket",
            asked.head.method,
            asked.head.uri.path()
        ))),
        Place::Here | Place::Each => handler(asked.into_call(node)).await,
        Place::Leader => leader::answer(node, handler, asked).await,
        Place::Container => container::answer(node, handler, asked).await,
        Place::NewExec => container::new_exec(node, execs, handler, asked).await,
        Place::Exec => container::exec(node, execs, handler, asked).await,
    }
}
