//! Machines that wait until an operator admits them by hand: what they showed, as records.
//!
//! Keys: `pending/<node id>`. A machine that waits holds one of its grant's uses, so that a stolen token brings no more
//! machines to the queue than it has uses; a rejection gives the use back and refuses the key for good.

use holdfast_proto::ids::{Name, NodeId, UniqueId};
use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

use crate::registry::{InventoryRecord, Registry, RegistryError, Versioned, read_record};
use crate::store::key::Key;

const PREFIX: &str = "pending/";

/// A machine that asked to join by a grant under which operators admit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingRecord {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The grant whose token it showed.
    pub grant: UniqueId,
    /// The use of the grant that it holds.
    pub slot: u32,
    /// What it showed of itself.
    pub candidate: Candidate,
    /// Since when it waits, in Unix seconds.
    pub since_secs: u64,
    /// When what it shows changed last, in Unix seconds.
    pub changed_secs: u64,
    /// Whether an operator rejected its key.
    pub rejected: bool,
}

/// What a machine shows of itself when it asks to join. Only the id is proven: it is the digest of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The digest of its key.
    pub id: NodeId,
    /// What it wants to be called. Other machines may ask for the same name: it is given at the admission.
    pub name: Name,
    /// From where it asked.
    pub address: String,
    /// Its boot.
    pub boot_id: String,
    /// Its machine, as it says.
    pub inventory: InventoryRecord,
}

impl PendingRecord {
    /// A place for `candidate`, which holds the use `slot` of the grant from now on.
    #[must_use]
    pub const fn new(grant: UniqueId, slot: u32, candidate: Candidate, now_secs: u64) -> Self {
        Self {
            format: 1,
            grant,
            slot,
            candidate,
            since_secs: now_secs,
            changed_secs: now_secs,
            rejected: false,
        }
    }
}

/// The key of a waiting machine's record.
#[must_use]
pub fn key(id: &NodeId) -> Key {
    format!("{PREFIX}{id}").into()
}

/// The record of the machine with this key, waiting or rejected.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn read(
    registry: &Registry,
    id: &NodeId,
) -> Result<Option<Versioned<PendingRecord>>, RegistryError> {
    registry.record(&key(id)).await
}

/// Every machine that waits, in the order of their ids.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn waiting(registry: &Registry) -> Result<Vec<PendingRecord>, RegistryError> {
    let mut waiting: Vec<PendingRecord> = Vec::new();
    for entry in registry.all(PREFIX).await? {
        waiting.push(read_record(&entry)?);
    }
    waiting.retain(|machine| !machine.rejected);
    Ok(waiting)
}
