//! Where containers, tasks and execs are.
//!
//! The leader knows where every task runs; each node knows its own containers,
//! and where the execs are that it had made elsewhere. Invariant: what is
//! remembered is bounded; an exec that fell out is `No such exec instance`.

use super::leader::fetch_value;
use crate::api::call::{Call, Origin};
use crate::api::query::escape;
use crate::api::reply::{self, Reply};
use crate::api::router::Router;
use crate::backend::{Backend, Container, Leadership};
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};
use skep_control::engine::Contact;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Execs on other nodes that are remembered: a client starts its own within
/// moments.
const EXECS_MAX: usize = 1024;

/// Which node made which exec, oldest first.
#[derive(Default)]
pub(in crate::api) struct Execs(Mutex<VecDeque<(String, Contact)>>);

impl Execs {
    pub(super) fn remember(&self, exec: String, at: Contact) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == EXECS_MAX {
            known.pop_front();
        }
        known.push_back((exec, at));
    }

    pub(super) fn place(&self, exec: &str) -> Option<Contact> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at) = known.iter().find(|(id, _)| id == exec)?;
        Some(at.clone())
    }
}

/// What other nodes ask the leader. Theirs only: no client needs it.
pub(in crate::api) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/skep/v1/places/{id}", place);
}

/// Where to find a container or task: `{"Here": true}` or the node's contact.
async fn place<B: Backend>(call: Call<B>) -> Result<Reply> {
    let wanted = call.param("id");
    match find(&call.node, call.origin, wanted).await? {
        Found::Here => Ok(reply::json(&json!({"Here": true}))),
        Found::At(contact) => Ok(reply::json(
            &json!({"Node": contact.node, "Addr": contact.addr}),
        )),
        Found::Nowhere => Err(Error::not_found(format!("No such container: {wanted}"))),
    }
}

pub(super) enum Found {
    Here,
    At(Contact),
    Nowhere,
}

/// Looks here first. A short name (`web.2`) is that of a slot's newest task,
/// which may be elsewhere while an older one's container is still here.
///
/// # Errors
/// The name is ambiguous here.
pub(super) async fn find<B: Backend>(node: &B, origin: Origin, wanted: &str) -> Result<Found> {
    let local = match node.container(wanted, false).await {
        Ok(container) if !is_short_name(wanted, &container) => return Ok(Found::Here),
        Ok(_) => Found::Here,
        Err(error) if error.kind == Kind::NotFound => Found::Nowhere,
        Err(error) => return Err(error),
    };
    if let Some(contact) = node.place_of(wanted).await {
        return Ok(Found::At(contact));
    }
    if origin == Origin::Peer {
        return Ok(local);
    }
    Ok(ask(node, wanted).await.map_or(local, Found::At))
}

/// Whether it was found by its slot only.
fn is_short_name(wanted: &str, container: &Container) -> bool {
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    let rest = container.name.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

/// Asks the leader; nothing it does not know, and nothing without one, is
/// anywhere.
async fn ask<B: Backend>(node: &B, wanted: &str) -> Option<Contact> {
    // Nobody waits for an election to hear that there is no such container.
    let Leadership::At(leader) = node.leader().await else {
        return None;
    };
    let uri = format!("/skep/v1/places/{}", escape(wanted));
    let told: Value = match fetch_value(node, &uri).await {
        Ok(told) => told?,
        Err(error) => {
            log::debug!("where {wanted} is: {error}");
            return None;
        }
    };
    if told.get("Here").and_then(Value::as_bool) == Some(true) {
        return Some(leader);
    }
    let contact = Contact {
        node: told.get("Node")?.as_str()?.into(),
        addr: told.get("Addr")?.as_str()?.parse().ok()?,
    };
    let own = node.facts().await.swarm.node_id;
    (contact.node.as_str() != own).then_some(contact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_execs_is_remembered() {
        let execs = Execs::default();
        let at = Contact {
            node: "n1".into(),
            addr: ([10, 0, 0, 1], 2377).into(),
        };
        for number in 0..=EXECS_MAX {
            execs.remember(number.to_string(), at.clone());
        }
        assert_eq!(execs.place("0"), None);
        assert_eq!(execs.place("1"), Some(at));
    }

    #[test]
    fn a_short_name_is_a_slots() {
        let container = Container {
            name: "web.2.abc".into(),
            ..Container::default()
        };
        assert!(is_short_name("web.2", &container) && is_short_name("/web.2", &container));
        assert!(!is_short_name("web.2.abc", &container) && !is_short_name("we", &container));
    }
}
