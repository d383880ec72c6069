//! Becoming a member, and getting another certificate.
//!
//! Who asks shows no certificate, for it has none, or one that ran out: its
//! signing request proves its key. Whom it asks must be a manager whose
//! certificate an expected authority issued. The connection carries the one
//! question and is closed.

use super::accept::Counted;
use super::frame::{self, Fault, soon};
use super::link::{CloseCode, close};
use super::{Event, Shared, dial, limits, tls};
use crate::error::{Error, Result};
use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use skep_control::model::{Availability, ClusterId};
use skep_control::wire::{Contact, Kind};
use smol::Timer;
use smol::channel::Sender;
use smol::future::or;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

/// A question for a certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinAsk {
    /// `None`: another certificate for a node that is a member already.
    pub(crate) token: Option<String>,
    /// DER; says and proves the key, thereby the node.
    pub(crate) request: Vec<u8>,
    /// What the node says of itself, in the words of who asks.
    pub(crate) description: Vec<u8>,
    /// Where others are to reach it. `None`: where it asks from.
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) availability: Availability,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinAnswer {
    Admitted(Box<Admitted>),
    Refused {
        /// Docker's words where it has some.
        reason: String,
        /// Asking again, later or elsewhere, may be answered otherwise.
        is_passing: bool,
    },
}

/// What a member is told at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admitted {
    pub(crate) cluster: ClusterId,
    /// PEM: the node's certificate, then its issuer's.
    pub(crate) chain_pem: String,
    /// PEM: the authorities to believe.
    pub(crate) ca_certs_pem: Vec<String>,
    pub(crate) managers: Vec<Contact>,
    /// Where others will reach it.
    pub(crate) addr: SocketAddr,
}

/// Takes the answer; dropped without one, the asker is told to try elsewhere.
pub(crate) struct JoinReply(Sender<JoinAnswer>);

impl JoinReply {
    pub(crate) fn answer(self, answer: JoinAnswer) {
        // The asker may be gone.
        let _ = self.0.try_send(answer);
    }
}

/// Asks the manager at an address.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    addr: SocketAddr,
    digests: &[String],
    ask: &JoinAsk,
) -> Result<JoinAnswer> {
    let within = |e: &dyn Display| Error::unavailable(format!("manager at {addr}: {e}"));
    let config = tls::stranger(digests, &shared.clock)?;
    let connection = dial::handshake(shared, config, addr, tls::STRANGER).await;
    let connection = connection.map_err(|e| within(&e))?;
    let answer = soon(
        limits::JOIN + limits::FRAME_STALL,
        converse(&connection, ask),
    )
    .await;
    let why = connection.close_reason();
    dial::done(&connection);
    // Why the other end closed it says more than that it did.
    answer.map_err(|fault| match why {
        Some(why) => within(&why),
        None => within(&fault),
    })
}

async fn converse(connection: &Connection, ask: &JoinAsk) -> Result<JoinAnswer, Fault> {
    let streams = connection.open_bi().await;
    let (mut send, mut receive) = streams.map_err(|e| Fault::Gone(e.to_string()))?;
    frame::write_hello(&mut send, Kind::Join).await?;
    let asked = frame::encode(ask).ok_or(Fault::Garbage("question"))?;
    frame::write(&mut send, &asked).await?;
    let _ = send.finish();
    let bytes = frame::read(&mut receive, |_| limits::JOIN_FRAME_MAX).await?;
    frame::decode(&bytes.ok_or(Fault::Half)?, "answer")
}

/// Hears a peer that has proven nothing: one question.
pub(super) async fn stranger(shared: &Arc<Shared>, connection: &Connection) {
    let counted = Counted::new(shared, |shared| &shared.strangers);
    if counted.count() > limits::STRANGERS_MAX {
        return close(connection, CloseCode::Busy, "too many nodes join at once");
    }
    let from = connection.remote_address();
    let heard = soon(limits::JOIN + limits::FRAME_STALL, async {
        let streams = soon(limits::FRAME_STALL, async {
            let streams = connection.accept_bi().await;
            streams.map_err(|e| Fault::Gone(e.to_string()))
        });
        let (mut send, mut receive) = streams.await?;
        match frame::read_hello(&mut receive).await? {
            Kind::Join => serve(shared, from, &mut send, &mut receive).await,
            kind if kind.may_open(None) => Ok(()),
            kind => {
                log::warn!("{from}: {kind:?} without a certificate; connection closed");
                close(
                    connection,
                    CloseCode::Violation,
                    "without a certificate one may only join",
                );
                Ok(())
            }
        }
    })
    .await;
    if let Err(fault) = heard {
        log::info!("{from}: join: {fault}");
        close(connection, CloseCode::Violation, &fault.to_string());
    }
    // The asker closes when it has its answer.
    let gone = async {
        connection.closed().await;
    };
    or(gone, async {
        Timer::after(limits::LINGER).await;
    })
    .await;
    dial::done(connection);
}

/// Answers one question.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    from: SocketAddr,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), Fault> {
    let counted = Counted::new(shared, |shared| &shared.joins);
    let answer = match counted.count() > limits::JOINS_MAX {
        true => passing("too many nodes join at once"),
        false => {
            let asked = frame::read(receive, |_| limits::JOIN_FRAME_MAX);
            let bytes = soon(limits::FRAME_STALL, asked).await?;
            let ask = frame::decode(&bytes.ok_or(Fault::Half)?, "question")?;
            judge(shared, from, ask).await
        }
    };
    let bytes = frame::encode(&answer).ok_or(Fault::Garbage("answer"))?;
    frame::write(send, &bytes).await?;
    let _ = send.finish();
    Ok(())
}

async fn judge(shared: &Shared, from: SocketAddr, ask: JoinAsk) -> JoinAnswer {
    let (reply, answer) = smol::channel::bounded(1);
    let reply = JoinReply(reply);
    shared.tell(Event::Join { from, ask, reply }).await;
    let late = async {
        Timer::after(limits::JOIN).await;
        passing("the managers did not answer in time")
    };
    let answered = async {
        let answer = answer.recv().await;
        answer.unwrap_or_else(|_| passing("this manager cannot answer now"))
    };
    or(answered, late).await
}

fn passing(reason: &str) -> JoinAnswer {
    JoinAnswer::Refused {
        reason: reason.into(),
        is_passing: true,
    }
}
