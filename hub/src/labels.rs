//! The signed documents that say what a node is: its join grant first, then each change of its labels.
//!
//! Keys: `labels/<node id>/<version>` holds the envelope of a change; version 1 is the join grant's and stands under
//! `grant/<id>`. The newest set is in the node's own record as well, written in the same transaction.

use holdfast_pki::authority::RefuseEnvelope;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::{Digest, Name, NodeId};

use crate::registry::{NodeRecord, Registry, RegistryError, read_record};
use crate::store::key::Key;

/// The version of the labels that a join grant gives.
pub const FIRST: u64 = 1;

/// The key of the change that gave a node its labels of `version`.
#[must_use]
pub fn key(node: &NodeId, version: u64) -> Key {
    format!("labels/{node}/{version:020}").into()
}

/// The changes that lead from version `held` of a node's labels to the newest, in the order in which the node follows them.
/// Those before a set that was stated outright are of no use any more, and left out.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn changes_after(
    registry: &Registry,
    node: &NodeId,
    held: u64,
) -> Result<Vec<Envelope>, RegistryError> {
    let mut changes = Vec::new();
    for entry in registry.all(&format!("labels/{node}/")).await? {
        if entry.key <= key(node, held) {
            continue;
        }
        let change: Envelope = read_record(&entry)?;
        let stated_outright =
            parse_payload::<LabelChange>(&change.payload).is_ok_and(|change| change.previous.is_none());
        if stated_outright {
            changes.clear();
        }
        changes.push(change);
    }
    Ok(changes)
}

/// The document that gave `node` its present labels: its join grant, or the newest change.
///
/// # Errors
/// [`RegistryError`] from the store, or if the document is not there.
pub async fn document(registry: &Registry, node: &NodeRecord) -> Result<Envelope, RegistryError> {
    let key = match node.labels_version {
        FIRST => Registry::grant_key(&node.grant),
        version => key(&node.id, version),
    };
    let found = registry.record(&key).await?;
    Ok(found.ok_or(RegistryError::Missing { key })?.value)
}

/// Why a node's labels are not changed.
#[derive(Debug, thiserror::Error)]
pub enum RefuseChange {
    /// Its signatures do not hold.
    #[error(transparent)]
    Envelope(#[from] RefuseEnvelope),
    /// There is no such node.
    #[error("the change of labels is for node {0}, which is not known here, or was removed")]
    Node(NodeId),
    /// Somebody changed them meanwhile.
    #[error(
        "version {offered} of the labels does not follow version {held} of node '{name}', which document {document} gave: somebody changed its labels meanwhile; look at them, then sign anew",
        document = .document.short()
    )]
    NotNext {
        /// The version that was offered.
        offered: u64,
        /// The node's name.
        name: Name,
        /// The version that the node has.
        held: u64,
        /// The document that gave it.
        document: Digest,
    },
}

/// The node with the labels of `change`, if it follows `document`, by which `node` has its present ones, or states the whole
/// set under a higher version.
///
/// # Errors
/// [`RefuseChange::NotNext`] if somebody else changed them meanwhile.
pub fn apply(change: &LabelChange, node: NodeRecord, document: Digest) -> Result<NodeRecord, RefuseChange> {
    let follows = match change.previous {
        None => change.version > node.labels_version,
        Some(previous) => node.labels_version.checked_add(1) == Some(change.version) && previous == document,
    };
    if !follows {
        return Err(RefuseChange::NotNext {
            offered: change.version,
            name: node.name,
            held: node.labels_version,
            document,
        });
    }
    Ok(NodeRecord {
        labels: change.labels.clone(),
        labels_version: change.version,
        ..node
    })
}
