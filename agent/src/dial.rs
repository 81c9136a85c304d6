//! Reaching a hub: TCP, TLS against the roots that the authority lists, gRPC. Each call is a fresh connection.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::spiffe::{self, Identity};
use holdfast_pki::tls::{self, ClientIdentity};
use holdfast_proto::ids::{Digest, TrustDomain, UniqueId};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::host::Chain;

/// How long TCP and TLS may take: over three seconds, so that two lost SYNs are repeated (RFC 6298).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Pings find a hub that vanished without a word; below the hub's own limit of silence.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A byte stream to a hub.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream with the addresses of its two ends.
#[expect(missing_debug_implementations, reason = "a stream has nothing to show")]
pub struct Socket {
    /// The stream.
    pub stream: Box<dyn Stream>,
    /// The hub's address.
    pub peer: SocketAddr,
    /// Ours, towards it.
    pub local: SocketAddr,
}

/// A future that a trait object can return.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where streams come from: TCP, or what a simulation puts in its place.
pub trait Connector: std::fmt::Debug + Send + Sync {
    /// Opens a new stream to `hub`, a `host:port`.
    fn connect<'a>(&'a self, hub: &'a str) -> BoxFuture<'a, io::Result<Socket>>;
}

/// TCP, on this machine's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, hub: &'a str) -> BoxFuture<'a, io::Result<Socket>> {
        Box::pin(async move {
            let stream = TcpStream::connect(hub).await?;
            stream.set_nodelay(true)?;
            let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
            Ok(Socket {
                stream: Box::new(stream),
                peer,
                local,
            })
        })
    }
}

/// Whom to dial and what to show and trust there.
#[derive(Debug)]
pub struct Dialer {
    connector: Arc<dyn Connector>,
    hubs: Vec<String>,
    shown: Shown,
    trust: Mutex<Trust>,
}

/// What stays the same, whichever roots are trusted.
#[derive(Debug)]
struct Shown {
    trust_domain: TrustDomain,
    identity: Option<ClientIdentity>,
    clock: Arc<dyn Clock>,
    floor_secs: u64,
}

/// The roots that hubs must be below, and the TLS settings that say so.
#[derive(Debug, Clone)]
struct Trust {
    roots: Arc<BTreeSet<Digest>>,
    tls: Arc<rustls::ClientConfig>,
}

impl Shown {
    fn trusting(&self, roots: BTreeSet<Digest>) -> Result<Trust, DialError> {
        let identity = self.identity.as_ref().map(|identity| ClientIdentity {
            chain: identity.chain.clone(),
            key: identity.key.clone_key(),
        });
        let tls = tls::client_config(
            self.trust_domain.clone(),
            roots.clone(),
            identity,
            self.clock.clone(),
            self.floor_secs,
        )?;
        Ok(Trust {
            roots: Arc::new(roots),
            tls: Arc::new(tls),
        })
    }
}

/// A fresh connection to a hub.
#[derive(Debug, Clone)]
pub struct Connection {
    /// For calls.
    pub channel: Channel,
    /// The hub's address.
    pub peer: SocketAddr,
    /// Ours, towards it.
    pub local: SocketAddr,
    /// The hub, as its certificate names it.
    pub hub: UniqueId,
    /// The roots that it was judged by.
    roots: Arc<BTreeSet<Digest>>,
}

/// What the handshake tells of a connection.
#[derive(Debug, Clone, Copy)]
struct Met {
    peer: SocketAddr,
    local: SocketAddr,
    hub: UniqueId,
}

impl Connection {
    /// Whether the hub is on this very machine: its path proves nothing about others'.
    #[must_use]
    pub fn stays_on_this_machine(&self) -> bool {
        let (peer, local): (IpAddr, IpAddr) = (self.peer.ip().to_canonical(), self.local.ip().to_canonical());
        peer.is_loopback() || peer == local
    }
}

/// Why no hub was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Certificates that do not fit.
    #[error("this node's certificate cannot be used")]
    Tls(#[from] rustls::Error),
    /// Nobody answered as a hub of ours.
    #[error("no hub was reached: {told}")]
    Hubs {
        /// Each hub and its reason.
        told: String,
    },
}

impl Dialer {
    /// Dials `hubs`, trusting those of `trust_domain` below one of `roots`, and shows `identity` if there is one.
    ///
    /// # Errors
    /// [`DialError::Tls`] if the identity cannot be used.
    pub fn new(
        connector: Arc<dyn Connector>,
        hubs: Vec<String>,
        trust_domain: TrustDomain,
        roots: BTreeSet<Digest>,
        identity: Option<ClientIdentity>,
        clock: Arc<dyn Clock>,
        floor_secs: u64,
    ) -> Result<Self, DialError> {
        let shown = Shown {
            trust_domain,
            identity,
            clock,
            floor_secs,
        };
        let trust = Mutex::new(shown.trusting(roots)?);
        Ok(Self {
            connector,
            hubs,
            shown,
            trust,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trusts hubs below one of `roots` alone, from the next dial on.
    ///
    /// # Errors
    /// [`DialError::Tls`] if the identity cannot be used; the roots of before count then.
    pub fn trust(&self, roots: &BTreeSet<Digest>) -> Result<(), DialError> {
        let mut trust = self.lock();
        if *trust.roots != *roots {
            *trust = self.shown.trusting(roots.clone())?;
        }
        Ok(())
    }

    /// Whether every root that this connection's hub was judged by still counts. Which of them it is below is not asked:
    /// a hub shows what roots it likes, and after a root was dropped a new handshake costs little.
    #[must_use]
    pub fn still_trusts(&self, connection: &Connection) -> bool {
        connection.roots.is_subset(&self.lock().roots)
    }

    /// Connects to the first hub that answers, beginning at the `start`-th.
    ///
    /// # Errors
    /// [`DialError::Hubs`] tells why each of them was not reached.
    pub async fn dial(&self, start: usize) -> Result<Connection, DialError> {
        let mut told = Vec::new();
        for n in 0..self.hubs.len() {
            let hub = &self.hubs[(start + n) % self.hubs.len()];
            match self.dial_one(hub).await {
                Ok(connection) => return Ok(connection),
                Err(error) => told.push(format!("{hub}: {}", Chain(&error))),
            }
        }
        Err(DialError::Hubs {
            told: told.join("; "),
        })
    }

    async fn dial_one(&self, hub: &str) -> Result<Connection, tonic::transport::Error> {
        let trust = self.lock().clone();
        let met = Arc::new(Mutex::new(None));
        let seen = met.clone();
        let (connector, tls, hub) = (
            self.connector.clone(),
            TlsConnector::from(trust.tls),
            hub.to_owned(),
        );
        let service = tower::service_fn(move |_| {
            let (connector, tls, hub, seen) = (connector.clone(), tls.clone(), hub.clone(), seen.clone());
            async move {
                let connecting = async {
                    let Socket { stream, peer, local } = connector.connect(&hub).await?;
                    // Not looked at: the certificate is judged by its SPIFFE ID, and no name is sent.
                    let name = ServerName::try_from("hub").expect("a valid name");
                    let stream = tls.connect(name, stream).await.map_err(tls::in_our_words)?;
                    let hub = hub_of(stream.get_ref().1)?;
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Met { peer, local, hub });
                    Ok::<_, io::Error>(stream)
                };
                let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                    .await
                    .map_err(timed_out)??;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // The address is only a label here: the connector above dials.
        let endpoint = Endpoint::from_static("http://hub")
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .buffer_size(8);
        let channel = endpoint.connect_with_connector(service).await?;
        let met = met.lock().unwrap_or_else(PoisonError::into_inner);
        let Met { peer, local, hub } = met.expect("a connected channel has met somebody");
        Ok(Connection {
            channel,
            peer,
            local,
            hub,
            roots: trust.roots,
        })
    }
}

/// The hub at the other end of a handshake.
fn hub_of(tls: &rustls::ClientConnection) -> io::Result<UniqueId> {
    let leaf = tls.peer_certificates().and_then(<[_]>::first);
    let named = leaf.and_then(|leaf| spiffe::of_certificate(leaf).ok());
    match named.map(|id| id.identity) {
        Some(Identity::Hub(id)) => Ok(id),
        // The verifier lets nobody else through.
        _ => Err(io::Error::other("the other side is no hub")),
    }
}
