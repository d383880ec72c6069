//! Streams to other nodes' APIs.
//!
//! A node that lost power says nothing, and its connection looks well for
//! seconds. That another one leads is known sooner: a request to the leader
//! that was not answered yet ends then, for it never will be.

use super::Swarm;
use crate::backend::Duplex;
use crate::error::{Error, Result};
use crate::transport::Stream;
use skep_control::engine::Contact;
use skep_control::model::NodeId;
use skep_control::wire::Kind;
use smol::Task;
use smol::io::{AsyncRead, AsyncWrite};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Between two looks at who leads, while an answer is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks in a row that show no lead of the node that was asked: one that
/// handed over still answers what it had begun.
const LOOKS_MIN: u32 = 4;

impl Swarm {
    /// A stream to another node's API.
    pub(in super::super) async fn dial(&self, to: &Contact) -> Result<Box<dyn Duplex>> {
        let transport = self.transport();
        let transport = transport
            .ok_or_else(|| Error::unavailable("this node is in no swarm, and reaches no other"))?;
        let stream = transport.open(to, Kind::Api).await?;
        if !self.is_led_by(&to.node).await {
            return Ok(Box::new(stream));
        }
        let watch = smol::spawn(self.clone().deposed(to.node.clone()));
        Ok(Box::new(Asked {
            stream,
            watch: Some(watch),
        }))
    }

    async fn is_led_by(&self, node: &NodeId) -> bool {
        let node = node.clone();
        let leads = move |leader: Contact| leader.node == node;
        self.0
            .spine
            .view(move |view| view.leader().is_some_and(leads))
            .await
    }

    /// Resolves when the node does not lead any more, as far as is known here.
    async fn deposed(self, node: NodeId) {
        let mut looks = 0;
        while looks < LOOKS_MIN {
            smol::Timer::after(LOOK_EVERY).await;
            looks = match self.is_led_by(&node).await {
                true => 0,
                false => looks + 1,
            };
        }
    }
}

/// A stream on which the leader was asked.
struct Asked {
    stream: Stream,
    /// Ends when it is deposed; `None` once it answers.
    watch: Option<Task<()>>,
}

impl AsyncRead for Asked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.watch = None;
            return read;
        }
        match &mut self.watch {
            Some(watch) => Pin::new(watch).poll(context).map(|()| {
                self.watch = None;
                Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the node that was asked does not lead any more",
                ))
            }),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Asked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
