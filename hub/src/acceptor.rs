//! The hub's door: accepts TCP, finishes TLS, and says who is there. What comes out is ready for gRPC.
//!
//! Each handshake runs in a task of its own with a time limit, and only so many run at once: a peer that opens a
//! connection and says nothing holds one of [`HANDSHAKES_MAX`] places for [`HANDSHAKE_TIMEOUT`]. New ones wait meanwhile.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_pki::spiffe::{self, SpiffeId};
use holdfast_pki::tls;
use holdfast_proto::ids::Digest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::store::BoxFuture;
use crate::tasks::Tasks;

/// How long a peer may take over TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at once: at 0.25 ms of CPU each and a second for a slow peer, a storm of 10,000 agents passes in seconds.
const HANDSHAKES_MAX: usize = 512;

/// Peers without a certificate at once, and how long each may stay: they come to enrol, which takes a second.
const ANONYMOUS_MAX: usize = 1024;
const ANONYMOUS_TIME: Duration = Duration::from_secs(60);

/// Handshakes, and as many peers without a certificate, of one address at once: what comes beyond is closed, so that one
/// machine cannot take all places. A site behind one address translator enrols in steps of this.
const PER_ADDRESS_MAX: usize = 128;

/// Who is at the other end of a connection, as TLS proved it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// From where.
    pub address: SocketAddr,
    /// Who; none for a peer without a certificate.
    pub id: Option<SpiffeId>,
    /// The fingerprint of the certificate: SHA-256 of its DER.
    pub certificate: Option<Digest>,
}

/// A byte stream from a peer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where peers come from: TCP, or what a simulation puts in its place.
pub trait Listener: std::fmt::Debug + Send {
    /// The next peer and its address. May be dropped and called again without loss.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, address) = Self::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, address))
        })
    }
}

/// Starts accepting on `listener`; yields connections whose TLS is done.
pub fn accept(
    mut listener: Box<dyn Listener>,
    tls: Arc<rustls::ServerConfig>,
    tasks: &Tasks,
) -> mpsc::Receiver<io::Result<Connection>> {
    // A short queue: the server takes connections as fast as they come.
    let (ready, connections) = mpsc::channel(64);
    let (places, acceptor) = (
        Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        tokio_rustls::TlsAcceptor::from(tls),
    );
    let anonymous = Anonymity::default();
    let sources = Sources::default();
    let handshakes = tasks.clone();
    tasks.spawn("accept", async move {
        loop {
            let place = places
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a peer that left at once: neither may end the hub.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(turn) = sources.enter(address.ip()) else {
                tracing::debug!(peer.addr = %address, "too many handshakes of one address: closed");
                continue;
            };
            let (acceptor, ready, anonymous) = (acceptor.clone(), ready.clone(), anonymous.clone());
            handshakes.spawn("handshake", async move {
                let (_place, _turn) = (place, turn);
                match tokio::time::timeout(
                    HANDSHAKE_TIMEOUT,
                    handshake(&acceptor, stream, address, &anonymous),
                )
                .await
                {
                    Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::info!(peer.addr = %address, %error, "TLS refused"),
                    Err(_) => tracing::info!(peer.addr = %address, "TLS not finished in time"),
                }
            });
        }
    });
    connections
}

async fn handshake(
    acceptor: &tokio_rustls::TlsAcceptor,
    stream: Box<dyn Stream>,
    address: SocketAddr,
    anonymous: &Anonymity,
) -> io::Result<Connection> {
    let tls = acceptor.accept(stream).await.map_err(tls::in_our_words)?;
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    // The verifier has read the same certificate: an identity that TLS accepted parses again.
    let id = leaf
        .map(|leaf| spiffe::of_certificate(leaf))
        .transpose()
        .map_err(io::Error::other)?;
    let certificate = leaf.map(|leaf| Digest::of(leaf));
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let anonymous = match id {
        Some(_) => None,
        None => Some(anonymous.enter(address.ip())?),
    };
    let caller = Caller {
        address,
        id,
        certificate,
    };
    Ok(Connection {
        tls,
        caller,
        anonymous,
    })
}

/// A connection whose TLS is done.
#[expect(missing_debug_implementations, reason = "a stream has nothing to show")]
pub struct Connection {
    tls: TlsStream<Box<dyn Stream>>,
    caller: Caller,
    anonymous: Option<Anonymous>,
}

/// How many of each address are inside.
#[derive(Debug, Clone, Default)]
struct Sources(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One that is inside; leaves when dropped.
#[derive(Debug)]
struct Turn {
    sources: Sources,
    address: IpAddr,
}

impl Sources {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, address: IpAddr) -> Option<Turn> {
        let mut inside = self.lock();
        let count = inside.entry(address).or_default();
        if *count >= PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        let sources = self.clone();
        Some(Turn { sources, address })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inside = self.sources.lock();
        if let Some(count) = inside.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.address);
            }
        }
    }
}

/// The places of peers without a certificate.
#[derive(Debug, Clone)]
struct Anonymity {
    places: Arc<Semaphore>,
    sources: Sources,
}

impl Default for Anonymity {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ANONYMOUS_MAX));
        Self {
            places,
            sources: Sources::default(),
        }
    }
}

impl Anonymity {
    fn enter(&self, address: IpAddr) -> io::Result<Anonymous> {
        let full = || io::Error::other("too many peers without a certificate");
        Ok(Anonymous {
            _turn: self.sources.enter(address).ok_or_else(full)?,
            _place: self.places.clone().try_acquire_owned().map_err(|_| full())?,
            end: Box::pin(tokio::time::sleep(ANONYMOUS_TIME)),
        })
    }
}

/// What bounds a peer without a certificate.
#[derive(Debug)]
struct Anonymous {
    _turn: Turn,
    _place: OwnedSemaphorePermit,
    end: Pin<Box<Sleep>>,
}

impl Anonymous {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.as_mut().poll(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(anonymous) = &mut self.anonymous
            && anonymous.poll_end(cx).is_ready()
        {
            let why = "stayed too long without a certificate";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let sources = Sources::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut inside: Vec<_> = (0..PER_ADDRESS_MAX)
            .map(|_| sources.enter(one).unwrap())
            .collect();
        assert!(sources.enter(one).is_none() && sources.enter(other).is_some());
        inside.pop();
        assert!(sources.enter(one).is_some());
        drop(inside);
        assert!(sources.lock().is_empty());
    }
}
