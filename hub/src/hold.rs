//! The hold: while it is there, this hub serves, offers and takes no release, for its store is known to be behind.
//!
//! Key: `hold`. It is set by a restore from a backup (`hub::restore`), by what nodes and operators show (`hub::api::show`)
//! and by a checkpoint of a history that this store does not know ([`crate::checkpoints`]). Only an operator's signature
//! ends it: raising the epoch.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

use crate::epoch;
use crate::registry::{Registry, RegistryError, Versioned, to_record};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::txn::{CommitError, Precondition, Txn};

/// Where the hold is kept.
pub const KEY: &str = "hold";

/// What tells that the store is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// It was put back from a backup.
    Restored,
    /// A release above the current one was shown.
    Release,
    /// An authority above the newest was shown.
    Authority,
    /// An epoch above the current one was shown.
    Epoch,
    /// A checkpoint of another history was shown.
    Checkpoint,
}

/// Why no release is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// What was found, for people: the first of each kind, since every node of a fleet may find the same.
    pub findings: BTreeMap<Finding, String>,
    /// When the first was found, in Unix seconds.
    pub at_secs: u64,
    /// The epoch that must end.
    pub epoch: u64,
}

impl Hold {
    /// A hold on a store in `epoch`.
    #[must_use]
    pub const fn new(findings: BTreeMap<Finding, String>, epoch: u64, now_secs: u64) -> Self {
        Self {
            format: 1,
            findings,
            at_secs: now_secs,
            epoch,
        }
    }

    /// Everything that was found, in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        let findings: Vec<&str> = self.findings.values().map(String::as_str).collect();
        findings.join("; ")
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        write!(
            f,
            "this hub serves no release: {reason}; raise the epoch: `holdfast epoch raise`"
        )
    }
}

/// The hold, if there is one.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn read(registry: &Registry) -> Result<Option<Hold>, RegistryError> {
    Ok(registry.record(&KEY.into()).await?.map(|found| found.value))
}

/// Holds for what was found, or adds it to the hold that there is. Returns whether something changed: not for what was
/// found before, and not if the epoch in which it was found has ended meanwhile.
///
/// # Errors
/// [`RegistryError`] from the store.
pub async fn set(
    registry: &Registry,
    found: &Hold,
    audit: (&AuditId, &AuditEntry),
) -> Result<bool, RegistryError> {
    // A second round, for another finding that came in between.
    for _ in 0..2 {
        let held: Option<Versioned<Hold>> = registry.record(&KEY.into()).await?;
        let (precondition, next) = match held {
            None => (Precondition::Absent, found.clone()),
            Some(held) => {
                let mut next = held.value.clone();
                for (kind, text) in &found.findings {
                    next.findings.entry(*kind).or_insert_with(|| text.clone());
                }
                if next == held.value {
                    return Ok(false);
                }
                (Precondition::Revision(held.revision), next)
            }
        };
        let txn = Txn::new(audit.0, audit.1)
            .require(KEY, precondition)
            .require(epoch::key(found.epoch.saturating_add(1)), Precondition::Absent)
            .put(KEY, to_record(&next));
        match registry.store().commit(txn).await {
            Ok(_) => return Ok(true),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
