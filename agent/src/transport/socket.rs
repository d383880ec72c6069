//! The endpoint, and the UDP socket under it.
//!
//! What a former life of this node left behind is answered with a stateless
//! reset whose token only this node's key gives: peers of an agent that was
//! killed know so with the first packet that they send to the next one.
//!
//! Without receive offload: with it QUIC keeps three megabytes for bursts,
//! more than a third of what an agent may have in all; without it, 47 kB.
//! Socket buffers stay as the kernel makes them, some 200 kB.

use crate::error::{Error, Result};
use crate::identity::NodeKey;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Runtime,
    SmolRuntime, UdpPoller,
};
use ring::hmac;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of a connection id: enough for chance to tell a thousand connections
/// apart, and few, for each packet has them.
const ID_BYTES: usize = 6;
/// What is signed to get the secret of reset tokens; nobody ever sees the
/// signature.
const RESET_SECRET: &[u8] = b"skep stateless reset 1";

/// An endpoint on that address; nobody gets in yet.
pub(super) fn endpoint(listen: SocketAddr, key: &NodeKey) -> Result<Endpoint> {
    let socket = bind(listen).map_err(|e| {
        Error::internal(format!(
            "cannot listen on UDP {listen}: {e}; name another --listen address"
        ))
    })?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.sign(RESET_SECRET)?);
    let mut config = EndpointConfig::new(Arc::new(secret));
    config.cid_generator(|| Box::new(Ids));
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(SmolRuntime))
        .map_err(|e| Error::internal(format!("UDP {listen}: {e}")))
}

/// Has an endpoint and all its connections use another address.
pub(super) fn rebind(endpoint: &Endpoint, listen: SocketAddr) -> io::Result<()> {
    endpoint.rebind_abstract(bind(listen)?)
}

/// Lets go of the port at once, whoever still holds a closed endpoint: the next
/// one may want it.
pub(super) fn release(endpoint: &Endpoint) {
    // The first time the old socket is kept for late packets.
    for _ in 0..2 {
        let nowhere = (Ipv4Addr::LOCALHOST, 0).into();
        if let Err(e) = rebind(endpoint, nowhere) {
            log::debug!("the port is let go of later: {e}");
        }
    }
}

/// All addresses of the same family, the same port.
pub(super) fn any(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match addr {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    (ip, addr.port()).into()
}

fn bind(addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = UdpSocket::bind(addr)?;
    let same = OwnedFd::from(socket.try_clone()?);
    let inner = SmolRuntime.wrap_udp_socket(socket)?;
    // The library has just turned it on.
    offload_off(&same)?;
    Ok(Arc::new(Small(inner)))
}

fn offload_off(socket: &OwnedFd) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the value is an int of the size
    // that is said.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    let error = io::Error::last_os_error();
    match done {
        0 => Ok(()),
        // Kernels before 5.0 have no such option, and it is off.
        _ if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        _ => Err(error),
    }
}

/// Connection ids of chance: any may be a former life's.
struct Ids;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; ID_BYTES];
        // Without chance ids collide, and the library asks for another.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A socket that takes packets one by one.
#[derive(Debug)]
struct Small(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Small {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        about: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, about)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
