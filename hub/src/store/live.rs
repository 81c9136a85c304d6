//! The index while it serves: readers, watchers and lease holders at once, one writer.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use tokio::sync::watch as signal;

use super::index::{Grant, Index, Mutation, Stage};
use super::key::{Entry, Key, Page, Revision, Span};
use super::lease::{Lease, LeaseError, NAME_BYTES_MAX};
use super::watch::{Batch, Watch, WatchError};
use super::{BoxFuture, Unavailable};

/// An [`Index`] under a lock, and the signal that wakes watchers when it has moved on.
#[derive(Debug)]
pub(super) struct Live {
    index: RwLock<Index>,
    moved: signal::Sender<Revision>,
    clock: Arc<dyn Clock>,
}

impl Live {
    pub(super) fn new(index: Index, clock: Arc<dyn Clock>) -> Self {
        Self {
            moved: signal::Sender::new(index.revision()),
            index: RwLock::new(index),
            clock,
        }
    }

    /// Judges what may come next. Between this and [`Live::apply`] of what was accepted no other may stage: an engine has
    /// one writer.
    pub(super) fn stage<T>(&self, judge: impl FnOnce(&mut Stage<'_>) -> T) -> T {
        let index = self.read();
        judge(&mut Stage::new(&index, self.clock.since_boot()))
    }

    /// Carries out what is durable, and tells the watchers.
    pub(super) fn apply(&self, mutations: impl IntoIterator<Item = Mutation>) {
        let now = self.clock.since_boot();
        let mut index = self.write();
        for mutation in mutations {
            index.apply(mutation, now);
        }
        self.moved.send_replace(index.revision());
    }

    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        self.read().get(key)
    }

    pub(super) fn range(&self, span: &Span, limit: usize) -> Page {
        self.read().range(span, limit)
    }

    pub(super) fn watch(self: &Arc<Self>, from: Revision, span: Span) -> Result<Box<dyn Watch>, WatchError> {
        let cursor = Cursor {
            moved: self.moved.subscribe(),
            live: Arc::downgrade(self),
            from,
            span,
        };
        // Too old a start is told at once.
        self.read().past().first_in(from, &cursor.span)?;
        Ok(Box::new(cursor))
    }

    pub(super) fn renew(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.write().renew(lease, self.clock.since_boot())
    }

    pub(super) fn release(&self, lease: &Lease) {
        self.write().release(lease);
    }

    #[cfg(test)]
    pub(super) fn compact(&self, min: Revision) {
        self.write().compact(min);
    }

    // A panic in a writer cannot leave the index half changed in a way that matters: `apply` does not panic, and the
    // process stops with its first failed task.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease to ask for, with names that every engine can store.
pub(super) fn grant(name: &str, holder: &str, ttl: Duration) -> Result<Grant, LeaseError> {
    for text in [name, holder] {
        let bytes = text.len();
        if bytes == 0 || bytes > NAME_BYTES_MAX {
            return Err(LeaseError::Name { bytes });
        }
    }
    Ok(Grant {
        lease: name.to_owned(),
        holder: holder.to_owned(),
        ttl,
    })
}

/// A watcher's place in the past.
#[derive(Debug)]
struct Cursor {
    moved: signal::Receiver<Revision>,
    /// Not an owner: watchers do not keep a stopped store alive.
    live: Weak<Live>,
    from: Revision,
    span: Span,
}

impl Cursor {
    /// The next batch, if there is one already.
    fn look(&mut self) -> Result<Option<Batch>, WatchError> {
        let live = self.live.upgrade().ok_or_else(stopped)?;
        let index = live.read();
        let found = index.past().first_in(self.from, &self.span)?;
        // What does not concern the span is passed over, lest a quiet span falls behind the past.
        let seen = found.as_ref().map_or(index.revision(), |batch| batch.revision);
        self.from = self.from.max(seen.next());
        Ok(found)
    }
}

impl Watch for Cursor {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, WatchError>> {
        Box::pin(async {
            loop {
                // Marked as seen before looking, so that what comes while looking wakes us again.
                self.moved.borrow_and_update();
                if let Some(batch) = self.look()? {
                    return Ok(batch);
                }
                self.moved.changed().await.map_err(|_closed| stopped())?;
            }
        })
    }
}

/// The answer of a store that was stopped.
pub(super) fn stopped() -> Unavailable {
    Unavailable {
        reason: "it was stopped with the hub".to_owned(),
    }
}
