//! Transactions: what is to change, under which conditions, with its audit entry.

use std::collections::BTreeSet;

use super::Unavailable;
use super::audit::{AuditEntry, AuditId};
use super::key::{Key, Revision, Value};
use super::lease::{Lease, Term};

/// The most operations and preconditions together: etcd's default limit (`--max-txn-ops`).
pub const OPERATIONS_MAX: usize = 128;
/// The most bytes of keys and values together: below etcd's default limit of 1.5 MiB a request.
pub const BYTES_MAX: usize = 1 << 20;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// A change of the store, carried out whole or not at all.
///
/// [`Txn::new`] is the only way to make one, so that no change goes without its audit entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    fence: Option<Fence>,
    preconditions: Vec<(Key, Precondition)>,
    operations: Vec<Operation>,
}

/// What must be true of a key for the transaction to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing is stored there.
    Absent,
    /// Something is stored there.
    Exists,
    /// What is stored there was written by this revision.
    Revision(Revision),
}

impl Precondition {
    /// Whether it holds for a key that `written` wrote last (None: nothing is stored there).
    #[must_use]
    pub fn holds(self, written: Option<Revision>) -> bool {
        match self {
            Self::Absent => written.is_none(),
            Self::Exists => written.is_some(),
            Self::Revision(wanted) => written == Some(wanted),
        }
    }
}

impl std::fmt::Display for Precondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Exists => f.write_str("present"),
            Self::Revision(revision) => write!(f, "as of revision {revision}"),
        }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Stores a value, replacing what was there.
    Put(Key, Value),
    /// Removes what is stored there, if anything is.
    Delete(Key),
}

impl Operation {
    /// The key it changes.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// The lease under which a transaction is made: it happens only while this term lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease.
    pub lease: String,
    /// The term that must still be current.
    pub term: Term,
}

impl Txn {
    /// A transaction that so far only stores its audit entry, under `audit/pending/<id>`.
    #[must_use]
    pub fn new(id: &AuditId, entry: &AuditEntry) -> Self {
        Self {
            fence: None,
            preconditions: Vec::new(),
            operations: vec![Operation::Put(id.pending_key(), entry.to_bytes().into())],
        }
    }

    /// A transaction read back from where an engine wrote it, its audit entry among the operations.
    pub(super) const fn from_parts(
        fence: Option<Fence>,
        preconditions: Vec<(Key, Precondition)>,
        operations: Vec<Operation>,
    ) -> Self {
        Self {
            fence,
            preconditions,
            operations,
        }
    }

    /// Stores `value` at `key`.
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        self.operations.push(Operation::Put(key.into(), value.into()));
        self
    }

    /// Removes `key`; if it is not there, that is no error.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.operations.push(Operation::Delete(key.into()));
        self
    }

    /// Makes the transaction depend on `key`.
    #[must_use]
    pub fn require(mut self, key: impl Into<Key>, precondition: Precondition) -> Self {
        self.preconditions.push((key.into(), precondition));
        self
    }

    /// Makes the transaction depend on `lease` still being held under its term.
    #[must_use]
    pub fn fenced(mut self, lease: &Lease) -> Self {
        self.fence = Some(Fence {
            lease: lease.name.clone(),
            term: lease.term,
        });
        self
    }

    /// The lease it depends on.
    #[must_use]
    pub const fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// What it depends on, in the order in which it was said.
    #[must_use]
    pub fn preconditions(&self) -> &[(Key, Precondition)] {
        &self.preconditions
    }

    /// What it changes; the first is the audit entry.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What it changes, for who carries it out.
    pub(super) fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// The limits that every engine keeps, so that what fits one fits all.
    ///
    /// # Errors
    /// [`InvalidTxn`] names the limit.
    pub fn validate(&self) -> Result<(), InvalidTxn> {
        let count = self.operations.len() + self.preconditions.len();
        if count > OPERATIONS_MAX {
            return Err(InvalidTxn::Operations { count });
        }
        each_once(self.preconditions.iter().map(|(key, _)| key))?;
        each_once(self.operations.iter().map(Operation::key))?;
        let conditions: usize = self
            .preconditions
            .iter()
            .map(|(key, _)| key.as_bytes().len())
            .sum();
        let changes: usize = self.operations.iter().map(operation_bytes).sum();
        let bytes = conditions + changes;
        if bytes > BYTES_MAX {
            return Err(InvalidTxn::Bytes { bytes });
        }
        Ok(())
    }
}

/// No key twice, and each of a length that can be stored.
fn each_once<'a>(keys: impl Iterator<Item = &'a Key>) -> Result<(), InvalidTxn> {
    let mut seen = BTreeSet::new();
    for key in keys {
        let bytes = key.as_bytes().len();
        if bytes == 0 || bytes > KEY_BYTES_MAX {
            return Err(InvalidTxn::Key { bytes });
        }
        if !seen.insert(key) {
            return Err(InvalidTxn::Twice { key: key.clone() });
        }
    }
    Ok(())
}

fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Put(key, value) => key.as_bytes().len() + value.len(),
        Operation::Delete(key) => key.as_bytes().len(),
    }
}

/// Why no engine takes a transaction: it has to be made smaller, or split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTxn {
    /// Too many steps.
    #[error(
        "{count} operations and preconditions, at most {OPERATIONS_MAX} go into one transaction; split it"
    )]
    Operations {
        /// How many there are, the audit entry included.
        count: usize,
    },
    /// Too large.
    #[error(
        "{bytes} bytes of keys and values, at most {BYTES_MAX} go into one transaction; split it, or store large values in chunks"
    )]
    Bytes {
        /// How many there are.
        bytes: usize,
    },
    /// Two steps for one key.
    #[error("the key {key} is named twice; say only its last state")]
    Twice {
        /// The key.
        key: Key,
    },
    /// A key that cannot be stored.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    Key {
        /// The offending length.
        bytes: usize,
    },
}

/// Why a transaction was not acknowledged. But for [`CommitError::Unknown`] it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition does not hold: somebody was faster. Read again, decide again.
    #[error("the key {key} should be {wanted}, {}", found_text(*.found))]
    Conflict {
        /// The first key in the transaction's order whose precondition does not hold.
        key: Key,
        /// What it required.
        wanted: Precondition,
        /// The revision that wrote what is there; None if nothing is.
        found: Option<Revision>,
    },
    /// The lease is no longer held under this term: whoever acted under it stops.
    #[error("term {term} of the lease {lease} has ended; stop, and acquire it anew")]
    Fenced {
        /// The lease.
        lease: String,
        /// The term that has ended.
        term: Term,
    },
    /// The transaction is larger than the contract allows.
    #[error(transparent)]
    Invalid(#[from] InvalidTxn),
    /// The store takes no writes now. Nothing was changed.
    #[error("nothing was changed: {0}")]
    Unavailable(Unavailable),
    /// The store failed while it wrote: the transaction happened or it did not. Read before trying again.
    #[error("outcome unknown, read before trying again: {0}")]
    Unknown(Unavailable),
}

impl CommitError {
    /// Whether the same transaction, unchanged, may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

fn found_text(found: Option<Revision>) -> String {
    found.map_or_else(
        || "but is absent".to_owned(),
        |revision| format!("but was written by revision {revision}"),
    )
}
