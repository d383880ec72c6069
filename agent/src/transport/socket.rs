//! The UDP socket under the endpoint.
//!
//! Without receive offload: with it QUIC keeps three megabytes for bursts,
//! more than a third of what an agent may have in all; without it, 47 kB.
//! Socket buffers stay as the kernel makes them, some 200 kB.

use crate::error::{Error, Result};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, SmolRuntime, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// An endpoint on that address; nobody gets in yet.
pub(super) fn endpoint(listen: SocketAddr) -> Result<Endpoint> {
    let socket = bind(listen).map_err(|e| {
        Error::internal(format!(
            "cannot listen on UDP {listen}: {e}; name another --listen address"
        ))
    })?;
    let config = EndpointConfig::default();
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(SmolRuntime))
        .map_err(|e| Error::internal(format!("UDP {listen}: {e}")))
}

/// Has an endpoint and all its connections use another address.
pub(super) fn rebind(endpoint: &Endpoint, listen: SocketAddr) -> io::Result<()> {
    endpoint.rebind_abstract(bind(listen)?)
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
