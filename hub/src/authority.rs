//! The newest authority, as this hub has reached it.
//!
//! Every call of an operator is judged by the newest version, so it is looked for each time: by one read of the versions
//! behind the one held, which are none but after a change. Nothing is verified twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_pki::authority::{Authority, AuthorityPin, Followed, TrustedAuthority};
use holdfast_pki::clock::Clock;
use tokio::sync::watch;

use crate::registry::{Registry, RegistryError};

/// Operators are told this long before the authority ends: time to gather signatures.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(60 * 86_400);
/// ... once a day.
const WARNING_EVERY: Duration = Duration::from_secs(86_400);

/// So many versions are walked at once; more come after a long time away only.
const PAGE: usize = 64;

/// The newest authority in the store.
#[derive(Debug)]
pub struct Newest {
    registry: Registry,
    held: Mutex<Arc<TrustedAuthority>>,
    version: watch::Sender<u64>,
}

impl Newest {
    /// Walks from the version that this hub began with to the newest.
    ///
    /// # Errors
    /// [`RegistryError`] if the chain is missing or does not hold.
    pub async fn reach(registry: Registry, pin: &AuthorityPin) -> Result<Self, RegistryError> {
        let first = registry.record(&Registry::authority_key(pin.version)).await?;
        let first = first.ok_or(RegistryError::NoAuthority)?.value;
        let first = TrustedAuthority::from_pin(&first, pin)?;
        let newest = Self {
            registry,
            version: watch::Sender::new(first.document().version),
            held: Mutex::new(Arc::new(first)),
        };
        newest.look().await?;
        Ok(newest)
    }

    /// The newest version in the store, whoever published it.
    ///
    /// # Errors
    /// [`RegistryError`] if the store does not answer, or a version in it does not follow the one before.
    pub async fn look(&self) -> Result<Arc<TrustedAuthority>, RegistryError> {
        loop {
            let held = self.held().clone();
            let held_version = held.document().version;
            let versions = self.registry.authority_versions(held_version, PAGE).await?;
            let Followed { mut steps, refused } = held.follow(&versions);
            if let Some(refused) = refused {
                return Err(refused.into());
            }
            let Some(reached) = steps.pop() else {
                return Ok(held);
            };
            self.hold(Arc::new(reached));
        }
    }

    /// The version that was reached, now and whenever it rises.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Says in the log, every day, when the authority is about to end. Runs for ever.
    pub async fn watch_expiry(&self, clock: &dyn Clock) {
        loop {
            let held = self.held().clone();
            let authority = held.document();
            let left_secs = authority.expires_secs.saturating_sub(clock.unix_secs());
            if left_secs == 0 {
                tracing::error!(
                    version = authority.version,
                    "the authority has ended: nothing new is accepted until operators publish the next version"
                );
            } else if left_secs < EXPIRY_WARNING.as_secs() {
                tracing::warn!(
                    version = authority.version,
                    days_left = left_secs / 86_400,
                    "the authority ends soon: operators must sign the next version"
                );
            }
            tokio::time::sleep(WARNING_EVERY).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Arc<TrustedAuthority>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `reached`, unless another call has come further meanwhile.
    fn hold(&self, reached: Arc<TrustedAuthority>) {
        let mut held = self.held();
        let version = reached.document().version;
        if version > held.document().version {
            *held = reached;
            self.version.send_replace(version);
        }
    }
}

/// What one version of the authority changed of the one before, in a few words: for whoever made another at the same time.
#[must_use]
pub fn changes(before: &Authority, after: &Authority) -> String {
    let operators = symmetric_difference(&before.keys, &after.keys).map(|key| key.name.to_string());
    let operators: BTreeSet<_> = operators.collect();
    let acts = before.thresholds.keys().chain(after.thresholds.keys());
    let thresholds: BTreeSet<_> = acts
        .filter(|act| before.thresholds.get(act) != after.thresholds.get(act))
        .map(ToString::to_string)
        .collect();
    let mut changes = Vec::new();
    for (what, which) in [("operators", operators), ("thresholds", thresholds)] {
        if !which.is_empty() {
            changes.push(format!("{what}: {}", Vec::from_iter(which).join(", ")));
        }
    }
    let rest = [
        ("revoked keys", before.revoked != after.revoked),
        ("node roots", before.node_roots != after.node_roots),
        ("its end", before.expires_secs != after.expires_secs),
    ];
    changes.extend(
        rest.iter()
            .filter(|(_, changed)| *changed)
            .map(|(what, _)| (*what).to_owned()),
    );
    if changes.is_empty() {
        return "it changed nothing but the number".to_owned();
    }
    format!("it changed {}", changes.join("; "))
}

fn symmetric_difference<'a, T: PartialEq>(one: &'a [T], other: &'a [T]) -> impl Iterator<Item = &'a T> {
    let lone = one.iter().filter(|item| !other.contains(item));
    lone.chain(other.iter().filter(|item| !one.contains(item)))
}
