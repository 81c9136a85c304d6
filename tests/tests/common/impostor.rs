//! An enemy between agent and hub: a well-formed chain of its own, TLS as far as the other side lets it, and a count of
//! what it hears.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::issue::Ca;
use holdfast_pki::random::SystemRandom;
use holdfast_proto::ids::{Digest, TrustDomain};
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::hub_tls;

/// How long it listens to somebody who says nothing: one that speaks does so at once.
const SILENCE: Duration = Duration::from_secs(1);

/// A TLS server that counts. Ends when dropped.
pub(crate) struct Impostor {
    root: Digest,
    count: Arc<Count>,
    /// Runs the server.
    _runtime: Runtime,
}

#[derive(Default)]
struct Count {
    handshakes: AtomicUsize,
    bytes: AtomicUsize,
}

impl Impostor {
    /// Serves `socket` as a hub of `trust_domain` under a root of its own; `shown_too` stands behind that.
    pub(crate) fn serve(
        socket: TcpListener,
        trust_domain: &TrustDomain,
        shown_too: &[CertificateDer<'static>],
    ) -> Result<Self> {
        let now = SystemClock.now();
        let root = Ca::new_root(trust_domain, "node root", now, &SystemRandom)?;
        let issuing = root.new_issuing(&format!("{trust_domain} issuing CA"), now, &SystemRandom)?;
        let shown = [&[root.certificate().clone()], shown_too].concat();
        let roots = [root.certificate().clone(), root.certificate().clone()];
        let acceptor = hub_tls::acceptor(trust_domain, &issuing, &roots, &shown)?;
        let runtime = Runtime::new().context("no runtime")?;
        let count = Arc::new(Count::default());
        socket.set_nonblocking(true)?;
        let socket = runtime.block_on(async { tokio::net::TcpListener::from_std(socket) })?;
        runtime.spawn(accept(socket, acceptor, count.clone()));
        Ok(Self {
            root: root.fingerprint(),
            count,
            _runtime: runtime,
        })
    }

    /// The fingerprint of its root.
    pub(crate) const fn root(&self) -> Digest {
        self.root
    }

    /// How many handshakes were tried with it and have ended, well or not.
    pub(crate) fn handshakes(&self) -> usize {
        self.count.handshakes.load(Ordering::SeqCst)
    }

    /// How many bytes of the application it was sent and could read.
    pub(crate) fn bytes(&self) -> usize {
        self.count.bytes.load(Ordering::SeqCst)
    }
}

async fn accept(socket: tokio::net::TcpListener, acceptor: TlsAcceptor, count: Arc<Count>) {
    while let Ok((stream, _)) = socket.accept().await {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            let mut buffer = [0; 4096];
            // It answers nothing, so that what comes is what is said unasked.
            while let Ok(Ok(heard @ 1..)) = tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
                count.bytes.fetch_add(heard, Ordering::SeqCst);
            }
        }
        count.handshakes.fetch_add(1, Ordering::SeqCst);
    }
}
