//! `holdfast serve`: opens the store, builds the hub, serves until a signal, drains.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_pki::authority::Authority;
use holdfast_pki::challenge::Challenges;
use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;
use holdfast_pki::random::Random;
use holdfast_pki::tls;
use holdfast_proto::ids::Digest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;

use crate::acceptor::{self, Listener};
use crate::api::authz::Authorize;
use crate::api::denials::{self, Denials};
use crate::api::operator::{RENEWAL_EVERY, RENEWALS_BURST};
use crate::api::{self, Hub, Turns, node_link, show};
use crate::authority::Newest;
use crate::ca::{HUB_LEAF_RENEWAL, HubCa, HubLeaf};
use crate::checkpoints::{self, Checkpoints};
use crate::config::{Config, HubDir};
use crate::director::Director;
use crate::links::Links;
use crate::pace::Paces;
use crate::registry::Registry;
use crate::releases;
use crate::store::Store;
use crate::store::audit::{AuditEntry, AuditId, Outcome};
use crate::store::embedded::JournalStore;
use crate::store::lock::DirLock;
use crate::tasks::Tasks;
use crate::witness;

/// How long calls in flight may take once the hub is to stop.
const GRACE: Duration = Duration::from_secs(10);
/// HTTP/2 pings find peers that vanished without a word.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams of one peer at once: a link, a slice, a confirmation and a keep check, with room.
const STREAMS_MAX: u32 = 64;

/// What a hub gets from its machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Disk.
    pub files: Arc<dyn Files>,
}

/// Serves the hub in `dir` until `stop` ends; listens where its settings say, or on `listener` if one is given.
///
/// # Errors
/// What kept it from starting, or what ended it.
pub async fn serve(
    dir: PathBuf,
    machine: Machine,
    listener: Option<Box<dyn Listener>>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    raise_open_files();
    let dir = HubDir::new(dir);
    let config = Config::read(&dir, &*machine.files)?;
    let lock = DirLock::acquire(&dir.store()).context("cannot lock the hub's store")?;
    let store = JournalStore::open(lock, &*machine.files, machine.clock.clone())
        .context("cannot open the hub's store")?;
    let tasks = Tasks::default();
    let (drain, draining) = watch::channel(false);
    let hub = open(
        &dir,
        &config,
        Arc::new(store),
        &machine,
        tasks.clone(),
        draining.clone(),
    )
    .await?;

    let leaf = Arc::new(HubLeaf::new(hub.ca.issue_hub()?));
    let tls = tls::server_config(
        config.trust_domain.clone(),
        hub.ca.node_root(),
        hub.ca.operator_root(),
        leaf.clone(),
        machine.clock.clone(),
    )?;
    let listener = match listener {
        Some(listener) => listener,
        None => listen(config.listen).await?,
    };
    tasks.spawn("director", hub.director.clone().run());
    tasks.spawn("hub leaf", renew_leaf(hub.clone(), leaf));
    tasks.spawn("authority expiry", watch_expiry(hub.clone()));
    tasks.spawn("denials", tell_denials(hub.clone()));
    let connections = acceptor::accept(listener, Arc::new(tls), &tasks);
    tracing::info!(
        listen = %config.listen,
        trust_domain = %config.trust_domain,
        instance = %hub.instance,
        "serving"
    );

    let mut drained = draining;
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS_MAX)
        .layer(Authorize(hub.clone()))
        .add_routes(api::router(&hub))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            let _ = drained.wait_for(|draining| *draining).await;
        });
    tokio::pin!(server);
    let ended = tokio::select! {
        ended = &mut server => ended.context("the server ended"),
        task = tasks.failed() => Err(anyhow::anyhow!("the task '{task}' failed; its panic is in the log")),
        () = stop => {
            tracing::info!("stopping: no new connections, calls in flight end");
            drain.send_replace(true);
            match tokio::time::timeout(GRACE, server).await {
                Ok(ended) => ended.context("the server ended"),
                Err(_) => {
                    tracing::warn!(grace_secs = GRACE.as_secs(), "calls in flight did not end in time");
                    Ok(())
                }
            }
        }
    };
    hub.tell_unwritten_denials().await;
    tasks.abort_all();
    ended
}

/// Refuses to serve where nobody could reach this hub: agents and operators know the fleet by its authority alone.
fn must_belong_together(config: &Config, ca: &HubCa, authority: &Authority) -> anyhow::Result<()> {
    if config.trust_domain != authority.trust_domain {
        bail!(
            "hub.toml says trust_domain = \"{}\", and the store is that of {}: put one of them back",
            config.trust_domain,
            authority.trust_domain
        );
    }
    let root = Digest::of(ca.node_root());
    if !authority.node_roots.contains(&root) {
        bail!(
            "ca/node-root.crt ({root}) is none of the node roots that authority version {} lists: put the one of this \
             hub back from a copy of its directory",
            authority.version
        );
    }
    Ok(())
}

/// Builds the hub of `dir` over its opened store: all but the door.
///
/// # Errors
/// What in the directory or the store cannot be used.
pub(crate) async fn open(
    dir: &HubDir,
    config: &Config,
    store: Arc<dyn Store>,
    machine: &Machine,
    tasks: Tasks,
    draining: watch::Receiver<bool>,
) -> anyhow::Result<Arc<Hub>> {
    let Machine { clock, random, files } = machine.clone();
    let registry = Registry::new(store);
    let authority = Newest::reach(registry.clone(), &config.authority).await?;
    let ca = HubCa::load(dir, config, &*files, clock.clone(), random.clone())?;
    must_belong_together(config, &ca, authority.look().await?.document())?;
    let key = checkpoints::load_key(dir, &*files)?;
    let instance = random.unique_id();
    let audit = local_audit(config, machine, "start hub", format!("instance/{instance}"));
    let checkpoints =
        Checkpoints::begin(registry.clone(), config, key, instance, (&audit.0, &audit.1)).await?;
    let release = releases::current(&registry)
        .await
        .context("cannot read the current release")?;
    tracing::info!(
        authority = *authority.version().borrow(),
        "the store holds together"
    );
    Ok(Arc::new(Hub {
        ca,
        links: Links::default(),
        director: Arc::new(Director::new(registry.clone(), release)),
        registry,
        authority,
        challenges: Challenges::new(&*random),
        denials: Denials::default(),
        checkpoints,
        shows: Turns::new(show::AT_ONCE),
        witnessing: Turns::new(witness::AT_ONCE),
        changes: Paces::new(node_link::CHANGES_BURST, node_link::CHANGE_EVERY),
        renewals: Paces::new(RENEWALS_BURST, RENEWAL_EVERY),
        instance,
        serving_since_secs: clock.unix_secs(),
        clock,
        random,
        tasks,
        draining,
    }))
}

/// The audit entry of something that is done to the hub in its own directory.
pub(crate) fn local_audit(
    config: &Config,
    machine: &Machine,
    what: &str,
    on: String,
) -> (AuditId, AuditEntry) {
    let Machine { clock, random, .. } = machine;
    let entry = AuditEntry {
        at_secs: clock.unix_secs(),
        who: format!("spiffe://{}/hub/{}", config.trust_domain, config.hub_id),
        what: what.to_owned(),
        on,
        from: "local".to_owned(),
        digest: None,
        outcome: Outcome::Done,
        correlation_id: random.unique_id(),
    };
    (AuditId::new(&**clock, &**random), entry)
}

async fn listen(address: SocketAddr) -> anyhow::Result<Box<dyn Listener>> {
    let bound = TcpListener::bind(address).await;
    Ok(Box::new(bound.with_context(|| {
        format!("cannot listen on {address}: is another hub running, or is the address not this machine's?")
    })?))
}

/// Each link is an open file: as many as this machine allows, rather than the 1,024 that most shells begin with.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files: it bounds how many nodes can be linked");
    }
}

async fn renew_leaf(hub: Arc<Hub>, leaf: Arc<HubLeaf>) {
    loop {
        tokio::time::sleep(HUB_LEAF_RENEWAL).await;
        match hub.ca.issue_hub() {
            Ok(renewed) => leaf.replace(renewed),
            Err(error) => tracing::error!(%error, "cannot renew the hub's own certificate"),
        }
    }
}

async fn watch_expiry(hub: Arc<Hub>) {
    hub.authority.watch_expiry(&*hub.clock).await;
}

async fn tell_denials(hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(denials::TOLD_EVERY).await;
        hub.tell_unwritten_denials().await;
    }
}
