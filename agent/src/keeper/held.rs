//! What this node holds, in the few words that a hub is told.

use holdfast_proto::ids::{Digest, Generation};

use crate::ledger::Ledger;

/// What a hub is told of this node when the link comes up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The highest generation accepted.
    pub accepted: Option<Generation>,
    /// The generation in force.
    pub confirmed: Option<Generation>,
    /// The digest of the manifest in force.
    pub confirmed_digest: Option<Digest>,
    /// The version of the labels.
    pub labels_version: u64,
    /// The authority version reached.
    pub authority_version: u64,
    /// The epoch.
    pub epoch: u64,
}

impl Held {
    /// What `ledger` comes to.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let manifest = ledger.confirmed.as_ref().and_then(|held| held.manifest().ok());
        Self {
            accepted: ledger.highest.as_ref().map(|highest| highest.generation),
            confirmed: manifest.map(|manifest| manifest.generation()),
            confirmed_digest: ledger.confirmed.as_ref().map(|held| held.manifest.digest()),
            labels_version: ledger.labels.version,
            authority_version: ledger
                .authority()
                .map_or(0, |authority| authority.document().version),
            epoch: ledger.epoch,
        }
    }
}
