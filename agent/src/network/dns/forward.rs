//! Names that are not ours, asked of the node's resolvers.
//!
//! Invariant: a query is answered or given up within [`PATIENCE`], and at once
//! where the network says that nobody is there. The query's bytes go out as
//! they came, under an id of our own.

use super::answer::{Transport, UDP_BYTES_MAX};
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpStream, UdpSocket};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest that a client waits for an answer; its own patience is 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longest that one resolver is waited for before the next is asked.
const ONE_TRY: Duration = Duration::from_millis(1500);
/// Resolvers asked, as libc does.
const UPSTREAMS_MAX: usize = 3;
/// Each is asked so often: a lost datagram is no reason to fail.
const ROUNDS: usize = 2;

/// `None`: nobody answered.
pub(super) async fn forward(
    query: &[u8],
    upstreams: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    let asked = async {
        for _ in 0..ROUNDS {
            for upstream in upstreams.iter().take(UPSTREAMS_MAX) {
                let one = async {
                    match transport {
                        Transport::Udp => over_udp(query, *upstream).await,
                        Transport::Tcp => over_tcp(query, *upstream).await,
                    }
                };
                if let Ok(answer) = one.or(timed_out(ONE_TRY)).await {
                    return Ok(answer);
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    };
    asked.or(timed_out(PATIENCE)).await.ok()
}

async fn timed_out(after: Duration) -> io::Result<Vec<u8>> {
    smol::Timer::after(after).await;
    Err(io::ErrorKind::TimedOut.into())
}

fn with_id(bytes: &[u8], id: [u8; 2]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.get_mut(..2) {
        at.copy_from_slice(&id);
    }
    bytes
}

fn id_of(bytes: &[u8]) -> Option<[u8; 2]> {
    bytes.get(..2)?.try_into().ok()
}

async fn over_udp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: only this resolver is heard, and its absence is told.
    socket.connect(upstream).await?;
    let id = crate::network::random_bytes::<2>();
    socket.send(&with_id(query, id)).await?;
    let mut bytes = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut bytes).await?;
        let answer = bytes.get(..length).unwrap_or_default();
        if id_of(answer) == Some(id) && is_response(answer) {
            return Ok(with_id(answer, id_of(query).unwrap_or_default()));
        }
    }
}

async fn over_tcp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = crate::network::random_bytes::<2>();
    write_message(&mut stream, &with_id(query, id)).await?;
    let answer = read_message(&mut stream).await?;
    if id_of(&answer) != Some(id) || !is_response(&answer) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(with_id(&answer, id_of(query).unwrap_or_default()))
}

fn is_response(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

/// Over TCP each message has its length, two bytes, before it.
pub(super) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await
}

pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn an_upstreams_answer_comes_back_under_the_askers_id() {
        smol::block_on(async {
            let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = upstream.local_addr().unwrap();
            let serve = smol::spawn(async move {
                let mut bytes = [0; 64];
                let (length, from) = upstream.recv_from(&mut bytes).await.unwrap();
                // A forged answer first: it must be passed over.
                upstream.send_to(&[0, 0, 0x80], from).await.unwrap();
                bytes[2] |= 0x80;
                upstream.send_to(&bytes[..length], from).await.unwrap();
            });
            let query = [7, 7, 1, 0, 9];
            let answer = forward(&query, &[address], Transport::Udp).await.unwrap();
            assert_eq!(answer, [7, 7, 0x81, 0, 9]);
            serve.await;
        });
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        // A port that was ours a moment ago, on loopback: refused.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let start = Instant::now();
        let answer = smol::block_on(forward(&[0; 12], &[address], Transport::Udp));
        assert_eq!(answer, None);
        assert!(start.elapsed() < ONE_TRY);
        assert_eq!(smol::block_on(forward(&[0; 12], &[], Transport::Udp)), None);
    }
}
