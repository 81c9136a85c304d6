//! What each node should have: the current release, and the members of the groups that its slices name.
//!
//! One task computes the members of every selector group once per change and publishes them; each link picks what concerns
//! its node. Addresses are unsigned: an agent keeps only what lies in the group's signed `within`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_policy::render::AddressSets;
use holdfast_policy::selector::Selector;
use holdfast_proto::labels::Labels;
use holdfast_proto::v1;
use tokio::sync::{Notify, watch};

use crate::members::{self, Member};
use crate::registry::{NodeRecord, NodeStatus, Registry, RegistryError};
use crate::releases::Release;

/// Changes that come together are computed once.
const SETTLE: Duration = Duration::from_millis(50);
/// A store that does not answer is asked again after this.
const RETRY: Duration = Duration::from_secs(2);

/// The current release and the members of its groups, as links follow them.
#[derive(Debug)]
pub struct Director {
    registry: Registry,
    release: watch::Sender<Option<Arc<Release>>>,
    members: watch::Sender<Arc<AddressSets>>,
    fleet_changed: Notify,
}

impl Director {
    /// Begins with the release that is current.
    #[must_use]
    pub fn new(registry: Registry, release: Option<Arc<Release>>) -> Self {
        Self {
            registry,
            release: watch::Sender::new(release),
            members: watch::Sender::new(Arc::default()),
            fleet_changed: Notify::new(),
        }
    }

    /// Makes `release` the one that links offer, unless a newer one already is.
    pub fn publish(&self, release: Arc<Release>) {
        self.release.send_if_modified(|held| {
            let newer = held
                .as_ref()
                .is_none_or(|held| held.manifest.generation() < release.manifest.generation());
            if newer {
                *held = Some(release);
            }
            newer
        });
        self.fleet_changed.notify_one();
    }

    /// Says that a node came, went or changed its addresses.
    pub fn fleet_changed(&self) {
        self.fleet_changed.notify_one();
    }

    /// The release to offer, now and whenever it changes.
    #[must_use]
    pub fn release(&self) -> watch::Receiver<Option<Arc<Release>>> {
        self.release.subscribe()
    }

    /// The members of all groups, now and whenever they change.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Arc<AddressSets>> {
        self.members.subscribe()
    }

    /// Computes members whenever something changed. Runs for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.compute().await {
                Ok(members) => {
                    self.members.send_if_modified(|held| {
                        let changed = **held != members;
                        if changed {
                            *held = Arc::new(members);
                        }
                        changed
                    });
                    self.fleet_changed.notified().await;
                    tokio::time::sleep(SETTLE).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot compute group members"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn compute(&self) -> Result<AddressSets, RegistryError> {
        let release = self.release.borrow().clone();
        let selectors: BTreeSet<Selector> = release
            .iter()
            .flat_map(|release| release.slices.values())
            .flat_map(|slice| slice.member_selectors().cloned())
            .collect();
        if selectors.is_empty() {
            return Ok(AddressSets::new());
        }
        let fleet = self.registry.fleet().await?;
        let addresses: Vec<_> = fleet
            .values()
            .map(|(node, status)| (&node.labels, bounded(node, status.as_ref())))
            .collect();
        let fleet: Vec<_> = addresses
            .iter()
            .map(|(labels, addresses)| Member { labels, addresses })
            .collect();
        Ok(members::resolve(selectors, &fleet))
    }
}

/// A node's addresses, within the bounds of its join grant.
fn bounded(node: &NodeRecord, status: Option<&NodeStatus>) -> Vec<IpAddr> {
    let bounded =
        |address: &IpAddr| node.within.is_empty() || node.within.iter().any(|net| net.contains(address));
    let known = status
        .into_iter()
        .flat_map(|status| status.inventory.addresses.iter().copied());
    known.filter(bounded).collect()
}

/// The part of `members` that a node with these labels needs for `release`, as it goes down its link.
#[must_use]
pub fn sets_for(release: &Release, labels: &Labels, members: &AddressSets) -> v1::AddressSets {
    let wanted: BTreeMap<&Selector, ()> = release
        .manifest
        .select(labels)
        .filter_map(|wanted| release.slices.get(&wanted.digest))
        .flat_map(|slice| slice.member_selectors())
        .map(|selector| (selector, ()))
        .collect();
    let sets = wanted.into_keys().map(|selector| v1::AddressSet {
        selector: selector.to_string(),
        addresses: members
            .get(selector)
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
    });
    v1::AddressSets { sets: sets.collect() }
}
