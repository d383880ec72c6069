//! To the node that has a container, and to the one that made an exec.

use super::places::{self, Execs, Found};
use super::tunnel::{self, Head};
use super::{Asked, Origin};
use crate::api::body::RequestBody;
use crate::api::call::{JSON_BYTES_MAX, whole};
use crate::api::reply::{self, Reply};
use crate::api::router::Handler;
use crate::backend::Backend;
use crate::error::{Error, Result};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::Value;
use skep_control::engine::Contact;
use std::time::Duration;

/// An exec is made at once; a node that takes longer is as good as gone.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Answers a request about a container.
pub(super) async fn answer<B: Backend>(
    node: B,
    handler: Handler<B>,
    asked: Asked,
) -> Result<Reply> {
    match elsewhere(&node, &asked).await? {
        Some(contact) => pass(&node, &contact, asked).await,
        None => handler(asked.into_call(node)).await,
    }
}

/// `None`: here, or nowhere, which the handler says.
async fn elsewhere<B: Backend>(node: &B, asked: &Asked) -> Result<Option<Contact>> {
    if asked.origin == Origin::Peer {
        return Ok(None);
    }
    Ok(match places::find(node, asked.origin, asked.id()).await? {
        Found::At(contact) => Some(contact),
        Found::Here | Found::Nowhere => None,
    })
}

/// Makes an exec, and remembers where when that is another node.
pub(super) async fn new_exec<B: Backend>(
    node: B,
    execs: &Execs,
    handler: Handler<B>,
    mut asked: Asked,
) -> Result<Reply> {
    let Some(contact) = elsewhere(&node, &asked).await? else {
        return handler(asked.into_call(node)).await;
    };
    let head = head(&asked);
    let body = Bytes::from(whole(&mut asked.body, JSON_BYTES_MAX).await?);
    let answered = tunnel::send(&node, &contact, &head, &body, ANSWER_PATIENCE).await?;
    if answered.status() != StatusCode::CREATED {
        return Ok(answered.into_reply(None));
    }
    let made: Value = serde_json::from_slice(&answered.into_bytes().await?)
        .map_err(|e| Error::internal(format!("what node {} made: {e}", contact.node)))?;
    if let Some(id) = made.get("Id").and_then(Value::as_str) {
        execs.remember(id.to_owned(), contact);
    }
    Ok(reply::created(&made))
}

/// Answers a request about an exec.
pub(super) async fn exec<B: Backend>(
    node: B,
    execs: &Execs,
    handler: Handler<B>,
    asked: Asked,
) -> Result<Reply> {
    match execs.place(asked.id()) {
        Some(contact) if asked.origin == Origin::Client => pass(&node, &contact, asked).await,
        _ => handler(asked.into_call(node)).await,
    }
}

fn head(asked: &Asked) -> Head {
    Head {
        method: asked.head.method.clone(),
        uri: asked.head.uri.clone(),
        headers: asked.head.headers.clone(),
    }
}

async fn pass<B: Backend>(node: &B, to: &Contact, mut asked: Asked) -> Result<Reply> {
    let head = head(&asked);
    let upgrade = asked.upgrade.take();
    let nothing = || RequestBody::read(Bytes::new());
    let mut body = std::mem::replace(&mut asked.body, nothing());
    // A connection changes hands only when the request before is read whole.
    let body = match upgrade.is_some() || body.is_ended() {
        true => tunnel::whole(Bytes::from(whole(&mut body, JSON_BYTES_MAX).await?)),
        false => tunnel::flowing(body),
    };
    tunnel::pass(node, to, &head, body, upgrade).await
}
