//! What the hub remembers: ordered keys, compare-and-set transactions, watches from a revision, leases.
//!
//! [`Store`] is the contract, the common ground of every engine: [`memory::MemoryStore`] for tests,
//! [`embedded::JournalStore`] for one hub. `conformance` is the contract as tests, for every engine the same.
//! A change enters as a [`Txn`], which cannot be made without its [`audit`] entry, and takes exactly one [`Revision`].
//!
//! Invariants: nothing outside this module knows an engine; a reader never sees what is not durable; an acknowledged
//! transaction survives SIGKILL and power loss.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use self::key::{Entry, Key, Page, Revision, Span};
use self::lease::{Lease, LeaseError};
use self::txn::{CommitError, Txn};
use self::watch::{Watch, WatchError};

pub mod audit;
#[cfg(test)]
mod conformance;
pub mod embedded;
mod index;
mod journal;
pub mod key;
pub mod lease;
mod live;
pub mod lock;
pub mod memory;
pub mod txn;
pub mod watch;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The store cannot answer now. Reading or writing again may succeed once the reason is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is not available: {reason}")]
pub struct Unavailable {
    /// What failed, where, and how to mend it.
    pub reason: String,
}

/// Ordered byte-string keys with one history of revisions.
///
/// There are no interactive reads: what a transaction depends on is said as preconditions. To follow a span, list it and
/// watch from the revision after the first page's ([`Page::revision`]): what changed between two pages is told again,
/// and ends in the same state.
pub trait Store: fmt::Debug + Send + Sync {
    /// The value at `key` and the revision that wrote it.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Unavailable>>;

    /// The first entries of `span` in the order of their keys: at most `limit`, and never more than
    /// [`key::PAGE_MAX`]; [`Page::rest`] is where to go on.
    fn range<'a>(&'a self, span: &'a Span, limit: usize) -> BoxFuture<'a, Result<Page, Unavailable>>;

    /// Carries out `txn` whole or not at all; returns once it is durable. The revision is the transaction's own.
    ///
    /// A caller that stops waiting does not stop the transaction.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// Every change inside `span` from the revision `from` on, past or future, each transaction once and in order.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] if `from` is older than what the store still tells: list again.
    fn watch(&self, from: Revision, span: Span) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>>;

    /// Takes the lease `name` for `ttl`, under a term higher than any before it. One that is held, even by the same
    /// holder, is refused until it is released or has run out.
    ///
    /// The holder counts `ttl` from before this call and stops before it ends: the store counts from later. A restart of
    /// the embedded engine ends every lease, for its holders lived in the same process.
    fn acquire<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Lease, LeaseError>>;

    /// Holds `lease` for its whole time to live again. One that has run out cannot be renewed, only acquired anew.
    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Gives `lease` back before its time. One that is already lost is no error.
    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Unavailable>>;
}
