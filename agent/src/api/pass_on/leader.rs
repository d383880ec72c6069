//! To the swarm's leader, wherever it is.
//!
//! Invariants: what is read here was confirmed by the leader before; what may
//! have been done is never done a second time. A change of leaders takes a
//! second or so: requests wait for it rather than fail.

use super::tunnel::{self, Answered, Failed, Head};
use super::{Asked, Origin};
use crate::api::body::RequestBody;
use crate::api::call::{JSON_BYTES_MAX, whole};
use crate::api::reply::{self, Reply};
use crate::api::router::Handler;
use crate::backend::{Backend, Leadership, SwarmState};
use crate::error::{Error, Result};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;
use skep_control::engine::Contact;
use smol::future::FutureExt as _;
use std::time::{Duration, Instant};

/// A request waits so long for a leader: an election takes 1.5 s at most, and
/// a manager that lost its quorum takes as long to notice.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
/// What this node can do without waits for the leader so long, no longer.
const FETCH_PATIENCE: Duration = Duration::from_millis(500);
/// The answer to that begins by then.
const FETCH_ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks for one.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The leader's answer to anything begins by then; longer it is as good as gone.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Times that a request goes out: once, and once more after a change of
/// leaders.
const SENDS_MAX: u32 = 2;
/// In a refusal of a node that does not lead: nothing was done.
const NOT_LEADING: HeaderName = HeaderName::from_static("skep-not-leading");

const NO_LEADER: &str = "The swarm does not have a leader. It's possible that too few managers \
     are online. Make sure more than half of the managers are online.";
const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used. Please \
     use \"docker swarm unlock\" to unlock it.";

/// Where a request is to go, once that is known.
enum Way {
    /// This node answers: it leads, or is in no swarm and says so.
    Here,
    At(Contact),
}

/// How long a request may wait, for what.
#[derive(Clone, Copy)]
struct Patience {
    leader: Duration,
    answer: Duration,
}

/// Of a request that only the leader can answer.
const LONG: Patience = Patience {
    leader: LEADER_PATIENCE,
    answer: ANSWER_PATIENCE,
};
/// Of one that only adds to what is known here.
const SHORT: Patience = Patience {
    leader: FETCH_PATIENCE,
    answer: FETCH_ANSWER_PATIENCE,
};

/// Looks for a leader until a moment.
struct Search<'a, B> {
    node: &'a B,
    until: Instant,
    /// Whether this node's own lead must be certain.
    confirm: bool,
    /// Others are not asked for another node.
    only_here: bool,
}

impl<'a, B: Backend> Search<'a, B> {
    fn new(node: &'a B, method: &Method, origin: Origin, patience: Patience) -> Self {
        Self {
            node,
            until: Instant::now() + patience.leader,
            confirm: is_safe(method),
            only_here: origin == Origin::Peer,
        }
    }

    /// # Errors
    /// There is no leader in reach, or this node's state is locked.
    async fn way(&self) -> Result<Way> {
        loop {
            match self.node.leader().await {
                Leadership::NoSwarm => {
                    return match self.node.facts().await.swarm.state {
                        SwarmState::Locked => Err(Error::unavailable(LOCKED)),
                        _ => Ok(Way::Here),
                    };
                }
                Leadership::Here if !self.confirm || self.is_confirmed().await => {
                    return Ok(Way::Here);
                }
                Leadership::At(leader) if !self.only_here => return Ok(Way::At(leader)),
                Leadership::Here | Leadership::At(_) | Leadership::Unknown => {}
            }
            if self.only_here || Instant::now() >= self.until {
                return Err(Error::unavailable(NO_LEADER));
            }
            smol::Timer::after(LOOK_PAUSE).await;
        }
    }

    async fn is_confirmed(&self) -> bool {
        let confirmed = async { self.node.barrier().await.is_ok() };
        let late = async {
            smol::Timer::at(self.until).await;
            false
        };
        confirmed.or(late).await
    }

    /// After a failure that allows another try.
    async fn pause(&self, failed: Error) -> Result<()> {
        if Instant::now() >= self.until {
            return Err(failed);
        }
        smol::Timer::after(LOOK_PAUSE).await;
        Ok(())
    }
}

fn is_safe(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Answers a request about the swarm.
pub(super) async fn answer<B: Backend>(
    node: B,
    handler: Handler<B>,
    mut asked: Asked,
) -> Result<Reply> {
    // The largest of them is a config of 1000 KiB.
    let body = Bytes::from(whole(&mut asked.body, JSON_BYTES_MAX).await?);
    let head = Head {
        method: asked.head.method.clone(),
        uri: asked.head.uri.clone(),
        headers: asked.head.headers.clone(),
    };
    let origin = asked.origin;
    match find(&node, origin, &head, &body, LONG).await {
        Ok(Some(answered)) => Ok(answered.into_reply(None)),
        Ok(None) => {
            asked.body = RequestBody::read(body);
            handler(asked.into_call(node)).await
        }
        Err(error) if origin == Origin::Peer => {
            let mut reply = reply::failure(&error);
            reply
                .headers_mut()
                .insert(NOT_LEADING, HeaderValue::from_static("true"));
            Ok(reply)
        }
        Err(error) => Err(error),
    }
}

/// The leader's answer; `None`: it is this node's to give.
async fn find<B: Backend>(
    node: &B,
    origin: Origin,
    head: &Head,
    body: &Bytes,
    patience: Patience,
) -> Result<Option<Answered>> {
    let mut search = Search::new(node, &head.method, origin, patience);
    let mut sends = 0;
    loop {
        let leader = match search.way().await? {
            Way::Here => return Ok(None),
            Way::At(leader) => leader,
        };
        match tunnel::send(node, &leader, head, body, patience.answer).await {
            Ok(answered) if !answered.has_header(NOT_LEADING.as_str()) => {
                return Ok(Some(answered));
            }
            Ok(_) => search.pause(Error::unavailable(NO_LEADER)).await?,
            Err(Failed::Unreached(error)) => {
                log::debug!("the leader: {error}");
                search.pause(Error::unavailable(NO_LEADER)).await?;
            }
            Err(Failed::Lost(error)) => {
                sends += 1;
                if !is_safe(&head.method) {
                    return Err(error.within(
                        "the leader was lost before it answered, and whether it did what was \
                         asked is not known: look before you ask again",
                    ));
                }
                if sends == SENDS_MAX {
                    return Err(error.within(NO_LEADER));
                }
                // It took its time to be lost; the next one has its own.
                search.until = Instant::now() + patience.leader;
                search.pause(error).await?;
            }
        }
    }
}

/// Has the leader do something for a client of this node. `None`: this node
/// leads, or is in no swarm, and does it itself.
///
/// # Errors
/// The leader's refusal, or that there is none in reach.
pub(in crate::api) async fn ask<B: Backend>(
    node: &B,
    method: Method,
    uri: &str,
    body: Option<&Value>,
) -> Result<Option<Vec<u8>>> {
    let mut head = Head::new(method, uri)?;
    let body = body.map_or_else(Bytes::new, |value| {
        head.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(reply::JSON));
        Bytes::from(value.to_string())
    });
    match find(node, Origin::Client, &head, &body, LONG).await? {
        Some(answered) => Ok(Some(answered.into_bytes().await?)),
        None => Ok(None),
    }
}

/// What the leader answers to a GET; `None` as above. It waits for no election.
pub(in crate::api) async fn fetch<B: Backend>(node: &B, uri: &str) -> Result<Option<Answered>> {
    let head = Head::new(Method::GET, uri)?;
    find(node, Origin::Client, &head, &Bytes::new(), SHORT).await
}

/// The same, as a value.
pub(in crate::api) async fn fetch_value<B, T>(node: &B, uri: &str) -> Result<Option<T>>
where
    B: Backend,
    T: serde::de::DeserializeOwned,
{
    let Some(answered) = fetch(node, uri).await? else {
        return Ok(None);
    };
    let bytes = answered.into_bytes().await?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::internal(format!("the leader's answer to {uri}: {e}")))?;
    Ok(Some(value))
}
