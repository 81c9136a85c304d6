//! What each node should have: the current release, and the members of the groups that its slices name.
//!
//! One task computes the members of every selector group, and which addresses are refused whom, once per change and
//! publishes them; each link picks what concerns its node. Addresses are unsigned: an agent keeps only what lies in the
//! group's signed `within`.

mod addresses;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_policy::render::AddressSets;
use holdfast_policy::slice::Members;
use holdfast_proto::labels::Labels;
use holdfast_proto::v1;
use tokio::sync::{Notify, watch};

pub use self::addresses::{Refusals, refused_on_the_wire};
use crate::claims::Claims;
use crate::epoch;
use crate::members::{self, Candidate};
use crate::registry::{Fleet, Registry, RegistryError};
use crate::releases::Release;

/// Changes that come together are computed once.
const SETTLE: Duration = Duration::from_millis(50);
/// A store that does not answer is asked again after this.
const RETRY: Duration = Duration::from_secs(2);

/// The current release with the members of its groups: what links follow.
#[derive(Debug, Clone, Default)]
pub struct Directions {
    /// The fleet's epoch; 0 until it was looked up.
    pub epoch: u64,
    /// The release to offer; none before the first of the epoch.
    pub release: Option<Arc<Release>>,
    /// The members of every selector group that the release names.
    pub members: Arc<AddressSets>,
    /// Who claims an address of another.
    pub refusals: Arc<Refusals>,
}

/// Publishes [`Directions`]: a release only together with the members of its groups, so that no node loads it with
/// groups that are not filled yet.
#[derive(Debug)]
pub struct Director {
    registry: Registry,
    published: Mutex<Option<Arc<Release>>>,
    directions: watch::Sender<Directions>,
    changed: Notify,
}

impl Director {
    /// Begins with the release that is current.
    #[must_use]
    pub fn new(registry: Registry, release: Option<Arc<Release>>) -> Self {
        Self {
            registry,
            published: Mutex::new(release),
            directions: watch::Sender::new(Directions::default()),
            changed: Notify::new(),
        }
    }

    /// Makes `release` the one that links offer, unless a newer one already is.
    pub fn publish(&self, release: Arc<Release>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if published.as_ref().is_none_or(|held| is_news(&release, held)) {
            *published = Some(release);
        }
        self.changed.notify_one();
    }

    /// Says that a node came, went or changed its addresses or labels, or that the epoch rose.
    pub fn fleet_changed(&self) {
        self.changed.notify_one();
    }

    /// What nodes should have, now and whenever it changes.
    #[must_use]
    pub fn directions(&self) -> watch::Receiver<Directions> {
        self.directions.subscribe()
    }

    /// Computes directions whenever something changed. Runs for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.look().await {
                Ok(directions) => {
                    self.tell(directions);
                    self.changed.notified().await;
                    tokio::time::sleep(SETTLE).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot compute what nodes should have"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn tell(&self, directions: Directions) {
        self.directions.send_if_modified(|held| {
            let same_release = match (&held.release, &directions.release) {
                (Some(held), Some(new)) => Arc::ptr_eq(held, new),
                (None, None) => true,
                _ => false,
            };
            let changed = !same_release
                || held.epoch != directions.epoch
                || held.members != directions.members
                || held.refusals != directions.refusals;
            if changed {
                addresses::warn_of_refusals(&held.refusals, &directions.refusals);
                *held = directions;
            }
            changed
        });
    }

    async fn look(&self) -> Result<Directions, RegistryError> {
        let epoch = epoch::current(&self.registry).await?;
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let release = published.filter(|release| release.manifest.epoch == epoch);
        let fleet = self.registry.fleet().await?;
        let claims = addresses::settle(&fleet);
        Ok(Directions {
            epoch,
            members: Arc::new(group_members(release.as_deref(), &fleet, &claims)),
            refusals: Arc::new(addresses::refusals(&fleet, &claims)),
            release,
        })
    }
}

/// The members of every selector group that the release names.
fn group_members(release: Option<&Release>, fleet: &Fleet, claims: &Claims) -> AddressSets {
    let slices = release.into_iter().flat_map(|release| release.slices.values());
    let wanted: BTreeSet<Members> = slices.flat_map(|slice| slice.members().cloned()).collect();
    let known: Vec<_> = fleet
        .values()
        .map(|(node, status)| (&node.labels, addresses::own(node, status.as_ref(), claims)))
        .collect();
    let candidates: Vec<_> = known
        .iter()
        .map(|(labels, addresses)| Candidate { labels, addresses })
        .collect();
    members::resolve(wanted, &candidates)
}

/// Whether `release` is above `held`, or the same with a signature that `held` lacks.
fn is_news(release: &Release, held: &Release) -> bool {
    let (old, new) = (held.manifest.generation(), release.manifest.generation());
    let lacking = |signature| !held.envelope.signatures.contains(signature);
    new > old || (new == old && release.envelope.signatures.iter().any(lacking))
}

/// The part of `members` that a node with these labels needs for `release`, as it goes down its link.
#[must_use]
pub fn sets_for(release: &Release, labels: &Labels, members: &AddressSets) -> v1::AddressSets {
    let slices = release
        .manifest
        .select(labels)
        .filter_map(|wanted| release.slices.get(&wanted.digest));
    let wanted: BTreeSet<&Members> = slices.flat_map(|slice| slice.members()).collect();
    let sets = wanted.into_iter().map(|wanted| v1::AddressSet {
        members: wanted.to_string(),
        addresses: members
            .get(wanted)
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
    });
    v1::AddressSets { sets: sets.collect() }
}
