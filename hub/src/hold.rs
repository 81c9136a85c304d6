//! The hold: while it is there, this hub serves, offers and takes no release, for its store is known to be behind.
//!
//! Key: `hold`. It is set by a restore from a backup, and when somebody proves that the fleet's history went further than
//! this store knows ([`crate::api`], `show`; [`crate::checkpoints`]). Only an operator's signature ends it: raising the epoch.

use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

use crate::epoch;
use crate::registry::{Registry, RegistryError, to_record};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::txn::{CommitError, Precondition, Txn};

/// Where the hold is kept.
pub const KEY: &str = "hold";

/// Why no release is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// What was found, for people.
    pub reason: String,
    /// When, in Unix seconds.
    pub at_secs: u64,
    /// The epoch that must end.
    pub epoch: u64,
}

/// The hold, if there is one.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn read(registry: &Registry) -> Result<Option<Hold>, RegistryError> {
    Ok(registry.record(&KEY.into()).await?.map(|found| found.value))
}

/// Sets the hold, unless there is one, or the epoch in which the reason was found has ended meanwhile. Returns whether
/// it was set.
///
/// # Errors
/// [`RegistryError`] from the store.
pub async fn set(
    registry: &Registry,
    hold: &Hold,
    audit: (&AuditId, &AuditEntry),
) -> Result<bool, RegistryError> {
    if read(registry).await?.is_some() {
        return Ok(false);
    }
    let txn = Txn::new(audit.0, audit.1)
        .require(KEY, Precondition::Absent)
        .require(epoch::key(hold.epoch.saturating_add(1)), Precondition::Absent)
        .put(KEY, to_record(hold));
    match registry.store().commit(txn).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this hub serves no release: {}; raise the epoch: `holdfast epoch raise`",
            self.reason
        )
    }
}
