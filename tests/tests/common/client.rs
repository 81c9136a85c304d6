//! Calls of our own to a hub, past the CLI and the agent: as anyone, or with a certificate.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use holdfast_pki::clock::SystemClock;
use holdfast_pki::tls::{self, ClientIdentity};
use holdfast_proto::ids::Digest;
use holdfast_tests::fleet::{Fleet, HUB, PORT, TRUST_DOMAIN};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Whom a call trusts, and whom it shows itself as. Clones share it.
#[derive(Clone)]
pub(crate) struct Caller(TlsConnector);

impl Caller {
    /// Trusts the hubs of `fleet`.
    pub(crate) fn new(fleet: &Fleet, identity: Option<ClientIdentity>) -> Result<Self> {
        let path = fleet.hub_dir().join("ca/node-root.crt");
        let root = CertificateDer::from_pem_file(&path)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        let config = tls::client_config(
            TRUST_DOMAIN.parse()?,
            BTreeSet::from([Digest::of(&root)]),
            identity,
            Arc::new(SystemClock),
            0,
        )?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// TLS and gRPC over a TCP connection, which [`socket`] opens.
    pub(crate) async fn over(&self, socket: TcpStream) -> Result<Channel> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let socket = tokio::net::TcpStream::from_std(socket)?;
        let name = ServerName::try_from("hub").context("no name")?;
        let stream = self
            .0
            .connect(name, socket)
            .await
            .context("no TLS with the hub")?;
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = once.take();
            async { stream.ok_or_else(|| io::Error::other("this connection has ended")) }
        });
        // The address is only a label here: the connection is there already.
        let endpoint = Endpoint::from_static("http://hub");
        endpoint
            .connect_with_connector(connector)
            .await
            .context("no gRPC with the hub")
    }
}

/// A TCP connection to the hub from the network of `host`.
pub(crate) fn socket(fleet: &Fleet, host: &str) -> Result<TcpStream> {
    let hub = (fleet.world.v4(HUB), PORT).into();
    fleet
        .world
        .connect(host, hub)
        .with_context(|| format!("cannot reach the hub from {host}"))
}
