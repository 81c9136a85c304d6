//! A wire between agent and hub that loses what the hub answers to an enrolment, until a test mends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use holdfast_tests::world::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The type of a TLS record that holds what is encrypted (RFC 8446, section 5.1).
const ENCRYPTED: u8 = 23;
/// What a client says before it enrols, its questions for the authority, comes in records of 100 bytes at most; the request
/// to enrol, with a CSR and an inventory, in one of more than 300.
const ENROLS: usize = 200;

/// A TCP proxy that carries what a hub says until the client asks to enrol and, until [`Proxy::mend`], nothing after that.
pub(crate) struct Proxy {
    loses_answers: Arc<AtomicBool>,
    /// Told to, all connections end.
    cut: watch::Sender<()>,
    /// Runs the proxy, in the network of its host.
    _runtime: Runtime,
}

impl Proxy {
    /// Carries what comes to `port` of `host` to `hub`.
    pub(crate) fn start(world: &World, host: &str, port: u16, hub: SocketAddr) -> Result<Self> {
        let listener = world.bind(host, port)?;
        listener.set_nonblocking(true)?;
        // Threads stay in the network in which they were started.
        let runtime = world.inside(host, Runtime::new)?.context("no runtime")?;
        let loses_answers = Arc::new(AtomicBool::new(true));
        let (cut, told) = watch::channel(());
        let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
        runtime.spawn(accept(listener, hub, loses_answers.clone(), told));
        Ok(Self {
            loses_answers,
            cut,
            _runtime: runtime,
        })
    }

    /// Ends all connections, and with them what they held back.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Carries everything from now on.
    pub(crate) fn mend(&self) {
        self.loses_answers.store(false, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    hub: SocketAddr,
    loses_answers: Arc<AtomicBool>,
    told: watch::Receiver<()>,
) {
    let mut carried = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (loses_answers, mut told) = (loses_answers.clone(), told.clone());
        told.mark_unchanged();
        carried.spawn(async move {
            tokio::select! {
                // Whichever side ends first: so does the other.
                _ = carry(client, hub, &loses_answers) => {}
                _ = told.changed() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, hub: SocketAddr, loses_answers: &AtomicBool) -> std::io::Result<()> {
    let hub = TcpStream::connect(hub).await?;
    let ((from_client, to_client), (from_hub, to_hub)) = (client.into_split(), hub.into_split());
    let asked = AtomicBool::new(false);
    tokio::try_join!(
        carry_up(from_client, to_hub, &asked),
        carry_down(from_hub, to_client, || {
            asked.load(Ordering::SeqCst) && loses_answers.load(Ordering::SeqCst)
        })
    )?;
    Ok(())
}

/// Carries what the client says. That it asks to enrol is noted before it is passed on: what the hub sends later is the answer.
async fn carry_up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &AtomicBool,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 5];
        from.read_exact(&mut head).await?;
        let bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if head[0] == ENCRYPTED && bytes >= ENROLS {
            asked.store(true, Ordering::SeqCst);
        }
        let mut body = vec![0; bytes];
        from.read_exact(&mut body).await?;
        to.write_all(&[&head[..], &body].concat()).await?;
    }
}

async fn carry_down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    loses: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            _ if loses() => {}
            n => to.write_all(&buffer[..n]).await?,
        }
    }
}
