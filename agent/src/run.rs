//! `holdfast-agent run`: enrols if need be, then keeps the confirmed state and the link until a signal.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_pki::clock::Clock;
use holdfast_pki::files::{Files, open_lock};
use holdfast_pki::random::Random;
use holdfast_pki::token::{JoinToken, TOKEN_BYTES_MAX};
use holdfast_proto::ids::Name;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::ceiling::Ceiling;
use crate::change::Host;
use crate::checkpoints::Checkpoints;
use crate::dial::{Connector, Dialer};
use crate::enroll::Enrolment;
use crate::guard::launch::HostLauncher;
use crate::host::Chain;
use crate::identity::{Identity, IdentityDir};
use crate::inbox::Inbox;
use crate::inventory::HostRoot;
use crate::keeper::Keeper;
use crate::ledger::Ledger;
use crate::link::Link;

/// Reports on their way from the keeper to the link's outbox.
const REPORTS_QUEUE: usize = 8;

/// What an agent is told when it starts.
#[derive(Debug)]
pub struct Settings {
    /// Where this node's state is.
    pub state_dir: PathBuf,
    /// Where the join token is, if this node is not enrolled; `-` is standard input.
    pub token_file: Option<PathBuf>,
    /// The name to enrol under; the host's own if none.
    pub name: Option<Name>,
    /// How long a change may stay unconfirmed.
    pub guard_time: Duration,
    /// Between two looks at the host.
    pub look_every: Duration,
    /// The file in which root says what is allowed here.
    pub ceiling: PathBuf,
}

/// What an agent gets from its machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Disk.
    pub files: Arc<dyn Files>,
    /// Where the host's files begin.
    pub root: HostRoot,
    /// How hubs are reached.
    pub connector: Arc<dyn Connector>,
}

/// Runs until `stop` ends.
///
/// # Errors
/// What kept it from starting.
pub async fn run(settings: Settings, machine: Machine, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let dir = &settings.state_dir;
    machine
        .files
        .create_dir(dir)
        .with_context(|| format!("cannot make the state directory {}", dir.display()))?;
    let _lock = lock(dir)?;
    tokio::pin!(stop);
    let identity = tokio::select! {
        identity = identity(&settings, &machine) => identity?,
        () = &mut stop => return Ok(()),
    };
    let ledger = Ledger::load(dir, &*machine.files)?.with_context(|| {
        format!("{} holds an identity and no ledger; to enrol this node anew, stop the agent, move it away and give a new join token", dir.display())
    })?;
    tracing::info!(node.id = %identity.node_id, name = %identity.name, trust_domain = %identity.trust_domain, "agent");

    let roots = ledger.authority()?.document().node_roots.clone();
    let credential = IdentityDir::new(dir, &*machine.files).credential()?;
    let dialer = Arc::new(Dialer::new(
        machine.connector.clone(),
        identity.hubs.clone(),
        identity.trust_domain.clone(),
        roots,
        Some(credential),
        machine.clock.clone(),
        identity.enrolled_secs,
    )?);
    let host = Host {
        state_dir: dir.clone(),
        files: machine.files.clone(),
        clock: machine.clock.clone(),
        random: machine.random.clone(),
        launcher: HostLauncher::detect()?,
        guard_time: settings.guard_time,
    };
    let (reports, from_keeper) = mpsc::channel(REPORTS_QUEUE);
    let inbox = Arc::new(Inbox::default());
    let ceiling = Ceiling::new(&settings.ceiling);
    match ceiling.read() {
        Ok(allowed) => tracing::info!(file = %settings.ceiling.display(), %allowed, "ceiling"),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "nothing is applied here until root mends its ceiling")
        }
    }
    let keeper = Keeper::new(
        host,
        ceiling,
        ledger,
        dialer.clone(),
        identity.node_id,
        reports,
        settings.look_every,
    );
    let link = Link {
        dialer,
        checkpoints: Checkpoints::load(dir, machine.files),
        clock: machine.clock,
        random: machine.random,
        root: machine.root,
        inbox: inbox.clone(),
        reports: from_keeper,
        held: keeper.held(),
    };
    // One task: both wait nearly always, and neither holds the other up while it does.
    tokio::select! {
        () = keeper.run(&inbox) => bail!("the keeper ended"),
        () = link.run() => bail!("the link ended"),
        () = &mut stop => {
            tracing::info!("stopping; the confirmed state stays in force");
            Ok(())
        }
    }
}

/// Two agents on one state directory would undo each other.
fn lock(dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = dir.join("lock");
    let file = open_lock(&path).with_context(|| format!("cannot open {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another agent runs on {}", dir.display()))?;
    Ok(file)
}

/// Who this node is, by enrolling if it must.
async fn identity(settings: &Settings, machine: &Machine) -> anyhow::Result<Identity> {
    if let Some(identity) = IdentityDir::new(&settings.state_dir, &*machine.files).load()? {
        return Ok(identity);
    }
    let Some(token_file) = &settings.token_file else {
        bail!(
            "this node is not enrolled ({} holds no identity): give --token-file with a join token",
            settings.state_dir.display()
        );
    };
    let token = read_token(token_file)?;
    let name = match &settings.name {
        Some(name) => name.clone(),
        None => own_name()?,
    };
    let enrolment = Enrolment {
        state_dir: &settings.state_dir,
        files: &*machine.files,
        clock: &machine.clock,
        random: &*machine.random,
        root: &machine.root,
        connector: &machine.connector,
    };
    Ok(enrolment.run(&token, &name).await?)
}

fn read_token(path: &Path) -> anyhow::Result<JoinToken> {
    let mut text = Zeroizing::new(String::new());
    let limit = TOKEN_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the join token from {}", path.display()))?;
    text.parse()
        .with_context(|| format!("{} holds no join token", path.display()))
}

fn own_name() -> anyhow::Result<Name> {
    let hostname = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    hostname
        .parse()
        .context("this host's name cannot be a node's: give --name")
}
