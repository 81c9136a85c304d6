//! A hub that dies under writes: what it acknowledged is there, and every change has its audit entry.

mod common {
    pub(crate) mod client;
    pub(crate) mod credential;
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use common::client::{self, Caller};
use common::credential;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::envelope::Envelope;
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::{Digest, Generation, UniqueId};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use holdfast_proto::v1::operator_client::OperatorClient;
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, TRUST_DOMAIN};
use holdfast_tests::need;
use holdfast_tests::wait::{pause, until};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Code, Status};

const KILLS: u64 = 20;
const WRITERS: usize = 4;
/// The hub is killed within this time after its first acknowledgement: every writer waits for an answer then.
const MOMENT_MS: u64 = 150;

#[test]
fn hub_sigkill_20_times_under_writes_loses_nothing_acknowledged() -> Result<()> {
    need!(namespaces);
    let seed = match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => seed.parse().context("HOLDFAST_SEED is no number")?,
        Err(_) => SystemRandom.below(u64::MAX),
    };
    println!("HOLDFAST_SEED={seed} for the same moments");
    let fleet = Fleet::new("writes")?;
    let operator = Operator::of(&fleet)?;
    let (fleet, written, stop) = (
        Mutex::new(fleet),
        Mutex::new(Written::default()),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| scope.spawn(|| operator.write(&fleet, &written, &stop)))
            .collect();
        let killed = kill_again_and_again(seed, &fleet, &written);
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        killed
    })?;
    let (fleet, written) = (fleet.into_inner()?, written.into_inner()?);
    println!(
        "{} acknowledged of {} tried",
        written.acknowledged.len(),
        written.tried.len()
    );

    let socket = client::socket(&fleet, HUB)?;
    let (there, audited) = Runtime::new()?.block_on(async {
        let mut client = OperatorClient::new(operator.caller.over(socket).await?);
        let audited = audited(&mut client).await?;
        anyhow::Ok((there(&mut client, &written.tried).await?, audited))
    })?;
    let lost: Vec<_> = written.acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // With or without an acknowledgement: a change and its entry are one.
    let entries: Vec<_> = there
        .iter()
        .map(|id| (id, written.tried[id].digest().to_string()))
        .collect();
    let audited: Vec<_> = audited.iter().map(|(id, digest)| (id, digest.clone())).collect();
    assert_eq!(audited, entries);
    Ok(())
}

/// Grants that were sent, and those of them that the hub said it has.
#[derive(Default)]
struct Written {
    tried: BTreeMap<UniqueId, Envelope>,
    acknowledged: BTreeSet<UniqueId>,
}

fn kill_again_and_again(seed: u64, fleet: &Mutex<Fleet>, written: &Mutex<Written>) -> Result<()> {
    for n in 0..KILLS {
        let before = lock(written).acknowledged.len();
        until("an acknowledgement", PATIENCE, || {
            match lock(written).acknowledged.len() {
                now if now > before => Ok(()),
                now => Err(format!("{now} after {n} kills")),
            }
        })?;
        let chance = Digest::of(format!("{seed} {n}").as_bytes());
        let chance = chance
            .as_bytes()
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        pause(Duration::from_millis(chance % MOMENT_MS));
        let mut fleet = lock(fleet);
        fleet.kill_hub();
        fleet.start_hub()?;
    }
    Ok(())
}

/// An operator who makes join grants without end.
struct Operator {
    caller: Caller,
    key: SigningKey,
}

impl Operator {
    fn of(fleet: &Fleet) -> Result<Self> {
        let dir = fleet.context_dir();
        let file = std::fs::read(dir.join("signing.key")).context("cannot read the signing key")?;
        Ok(Self {
            caller: Caller::new(fleet, Some(credential::operator(&dir)?))?,
            key: SigningKey::from_file(&file, None)?,
        })
    }

    /// Writes until told to stop, and comes back whenever the hub was away.
    fn write(&self, fleet: &Mutex<Fleet>, written: &Mutex<Written>, stop: &AtomicBool) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        while !stop.load(Ordering::SeqCst) {
            // Refused, or reset in the middle of TLS: the hub is away just now.
            let Ok(socket) = client::socket(&lock(fleet), HUB) else {
                continue;
            };
            runtime.block_on(async {
                let Ok(channel) = self.caller.over(socket).await else {
                    return Ok(());
                };
                let mut client = OperatorClient::new(channel);
                while !stop.load(Ordering::SeqCst) {
                    let (id, grant) = self.grant()?;
                    lock(written).tried.insert(id, grant.clone());
                    match create(&mut client, &grant).await {
                        Ok(()) => drop(lock(written).acknowledged.insert(id)),
                        Err(status) if is_cut(&status) => return Ok(()),
                        Err(status) => return Err(anyhow!("the hub refused a grant: {status:?}")),
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn grant(&self) -> Result<(UniqueId, Envelope)> {
        let grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: JoinGrant::FORMAT,
            trust_domain: TRUST_DOMAIN.parse()?,
            id: SystemRandom.unique_id(),
            uses: 1,
            not_after_secs: SystemClock.unix_secs() + 3600,
            labels: Labels::default(),
            name_pattern: "*".parse()?,
            within: Vec::new(),
            least_generation: Generation::default(),
            admission: Admission::Automatic,
            secret_digest: Digest::of(b"nobody enrols by it"),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&grant)?);
        self.key.sign(JoinGrant::KIND, &mut envelope);
        Ok((grant.id, envelope))
    }
}

async fn create(client: &mut OperatorClient<Channel>, grant: &Envelope) -> Result<(), Status> {
    let grant = Some(grant.into());
    client
        .create_token(v1::CreateTokenRequest { grant })
        .await
        .map(drop)
}

/// Whether the answer is missing because the hub died: then it is not known what became of the change.
fn is_cut(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

/// Which of the grants are there: those that cannot be made once more.
async fn there(
    client: &mut OperatorClient<Channel>,
    tried: &BTreeMap<UniqueId, Envelope>,
) -> Result<BTreeSet<UniqueId>> {
    let mut there = BTreeSet::new();
    for (id, grant) in tried {
        match create(client, grant).await {
            Ok(()) => {}
            Err(status) if status.code() == Code::Aborted => drop(there.insert(*id)),
            Err(status) => return Err(anyhow!("cannot tell whether grant {id} is there: {status:?}")),
        }
    }
    Ok(there)
}

/// The grants that the audit log says were made, each once, with their digests.
async fn audited(client: &mut OperatorClient<Channel>) -> Result<BTreeMap<UniqueId, String>> {
    let mut audited = BTreeMap::new();
    let mut page_after = String::new();
    loop {
        let page = client
            .list_audit(v1::ListAuditRequest {
                page_after,
                page_size: 0,
            })
            .await?
            .into_inner();
        for entry in page
            .entries
            .into_iter()
            .filter(|entry| entry.what == "create token")
        {
            let id = entry
                .on
                .strip_prefix("grant/")
                .context("an entry without a grant")?
                .parse()?;
            ensure!(
                audited.insert(id, entry.digest).is_none(),
                "two entries for grant {id}"
            );
        }
        page_after = page.next_page_after;
        if page_after.is_empty() {
            return Ok(audited);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
