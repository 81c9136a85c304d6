//! The store without a disk: for tests of what is built on the store, and the measure for the other engines.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_pki::clock::Clock;

use super::index::{Index, Mutation};
use super::key::{Entry, Key, Page, Revision, Span};
use super::lease::{Lease, LeaseError, Term};
use super::live::{Live, grant};
use super::txn::{CommitError, Txn};
use super::watch::{Watch, WatchError};
use super::{BoxFuture, Store, Unavailable};

/// A [`Store`] that forgets everything when it is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    live: Arc<Live>,
    /// Held by who stages and applies.
    writer: Mutex<()>,
}

impl MemoryStore {
    /// An empty store whose leases run by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            live: Arc::new(Live::new(Index::new(), clock)),
            writer: Mutex::new(()),
        }
    }

    /// Forgets the past before `min`: watches from there on get [`WatchError::Compacted`].
    #[cfg(test)]
    pub(crate) fn compact(&self, min: Revision) {
        self.live.compact(min);
    }

    fn commit_now(&self, txn: Txn) -> Result<Revision, CommitError> {
        txn.validate()?;
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = self.live.stage(|stage| stage.commit(&txn))?;
        self.live.apply([Mutation::Txn(txn)]);
        Ok(revision)
    }

    fn acquire_now(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        let grant = grant(name, holder, ttl)?;
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = self.live.stage(|stage| stage.grant(&grant))?;
        self.live.apply([Mutation::Grant(grant)]);
        Ok(Lease {
            name: name.to_owned(),
            term: Term::new(revision.get()),
            ttl,
        })
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Unavailable>> {
        Box::pin(ready(Ok(self.live.get(key))))
    }

    fn range<'a>(&'a self, span: &'a Span, limit: usize) -> BoxFuture<'a, Result<Page, Unavailable>> {
        Box::pin(ready(Ok(self.live.range(span, limit))))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(ready(self.commit_now(txn)))
    }

    fn watch(&self, from: Revision, span: Span) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        Box::pin(ready(self.live.watch(from, span)))
    }

    fn acquire<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Lease, LeaseError>> {
        Box::pin(ready(self.acquire_now(name, holder, ttl)))
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(ready(self.live.renew(lease)))
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Unavailable>> {
        self.live.release(lease);
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Engine, conformance};
    use holdfast_pki::clock::TestClock;

    struct Memory {
        clock: Arc<TestClock>,
        store: Arc<MemoryStore>,
    }

    fn memory() -> Memory {
        let clock = Arc::new(TestClock::at(1_700_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Memory { clock, store }
    }

    impl Engine for Memory {
        fn store(&self) -> Arc<dyn Store> {
            self.store.clone()
        }
        fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
            self.clock.advance(time);
            Box::pin(ready(()))
        }
        fn compact(&self, min: Revision) -> BoxFuture<'_, ()> {
            self.store.compact(min);
            Box::pin(ready(()))
        }
    }

    conformance!(contract, memory());
}
