//! A store that lets others go first at every step, so that calls which run at once meet in the middle.

use std::time::Duration;

use tokio::task::yield_now;

use crate::store::key::{Entry, Key, Page, Revision, Span};
use crate::store::lease::{Lease, LeaseError};
use crate::store::memory::MemoryStore;
use crate::store::txn::{CommitError, Txn};
use crate::store::watch::{Watch, WatchError};
use crate::store::{BoxFuture, Store, Unavailable};

/// A [`MemoryStore`] whose answers take a turn of the runtime.
#[derive(Debug)]
pub(super) struct Yielding(MemoryStore);

impl Yielding {
    pub(super) const fn new(store: MemoryStore) -> Self {
        Self(store)
    }
}

impl Store for Yielding {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Unavailable>> {
        Box::pin(async move {
            yield_now().await;
            self.0.get(key).await
        })
    }

    fn range<'a>(&'a self, span: &'a Span, limit: usize) -> BoxFuture<'a, Result<Page, Unavailable>> {
        Box::pin(async move {
            yield_now().await;
            self.0.range(span, limit).await
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            yield_now().await;
            self.0.commit(txn).await
        })
    }

    fn watch(&self, from: Revision, span: Span) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        self.0.watch(from, span)
    }

    fn acquire<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Lease, LeaseError>> {
        self.0.acquire(name, holder, ttl)
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.0.renew(lease)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Unavailable>> {
        self.0.release(lease)
    }
}
