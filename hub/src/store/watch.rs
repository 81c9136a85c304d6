//! Watches: what changed since a revision, and how far back that can be told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::key::{Key, Revision, Span, Value};
use super::{BoxFuture, Unavailable};

/// How many transactions back a watch may begin: some minutes of a busy fleet, so that a reader that lists a span of
/// many pages still finds its revision.
const TRANSACTIONS_MAX: usize = 4096;
/// The most bytes of keys and values that the past holds. Values are shared with the index while they are current, so
/// that this bounds what is kept of replaced ones.
const BYTES_MAX: usize = 16 << 20;

/// A running watch.
///
/// Nothing is queued for it: it reads the shared past at its own pace, and one that falls so far behind that this past
/// is gone learns it as [`WatchError::Compacted`]. After an error it is over.
pub trait Watch: fmt::Debug + Send {
    /// The next transaction that changed something in the span. May be dropped and called again without loss.
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, WatchError>>;
}

/// What one transaction changed, within the watched span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The transaction's revision.
    pub revision: Revision,
    /// Its changes, in its own order.
    pub changes: Vec<Change>,
}

/// The new state of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// What is stored there now; None if it was deleted.
    pub value: Option<Value>,
}

/// Why a watch ended or did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The past before `min` is gone. List the span, then watch from the revision after the list's.
    #[error("changes before revision {min} are no longer kept; list again, and watch from there")]
    Compacted {
        /// The oldest revision that a watch may begin with.
        min: Revision,
    },
    /// The store stopped or cannot answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The latest transactions, one batch for each revision.
#[derive(Debug)]
pub(super) struct Past {
    /// The oldest revision that can still be told, or the next one if none can.
    min: Revision,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

impl Past {
    /// The past of an empty store.
    pub(super) const fn new() -> Self {
        Self {
            min: Revision::new(1),
            batches: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Remembers the next revision's batch, and forgets the oldest beyond the bounds.
    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch_bytes(&batch);
        self.batches.push_back(Arc::new(batch));
        while self.batches.len() > TRANSACTIONS_MAX || self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets what is older than `min`.
    #[cfg(test)]
    pub(super) fn compact(&mut self, min: Revision) {
        while self.min < min && !self.batches.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.bytes -= batch_bytes(&oldest);
            self.min = oldest.revision.next();
        }
    }

    /// The first batch at or after `from` that touches `span`, cut to it; None if there is none yet.
    pub(super) fn first_in(&self, from: Revision, span: &Span) -> Result<Option<Batch>, WatchError> {
        let Some(skipped) = from.get().checked_sub(self.min.get()) else {
            return Err(WatchError::Compacted { min: self.min });
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        Ok(self
            .batches
            .iter()
            .skip(skipped)
            .find_map(|batch| cut(batch, span)))
    }
}

fn cut(batch: &Batch, span: &Span) -> Option<Batch> {
    let changes: Vec<_> = batch
        .changes
        .iter()
        .filter(|change| span.contains(&change.key))
        .cloned()
        .collect();
    (!changes.is_empty()).then_some(Batch {
        revision: batch.revision,
        changes,
    })
}

fn batch_bytes(batch: &Batch) -> usize {
    let change_bytes =
        |change: &Change| change.key.as_bytes().len() + change.value.as_ref().map_or(0, |value| value.len());
    batch.changes.iter().map(change_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: u64, key: &str, value: &[u8]) -> Batch {
        Batch {
            revision: Revision::new(revision),
            changes: vec![Change {
                key: key.into(),
                value: Some(value.into()),
            }],
        }
    }

    #[test]
    fn the_past_is_bounded_in_transactions() {
        let mut past = Past::new();
        let last = TRANSACTIONS_MAX as u64 + 5;
        (1..=last).for_each(|revision| past.push(put(revision, "a", b"")));
        assert_eq!(past.min, Revision::new(6));
        let told = past
            .first_in(Revision::new(6), &Span::prefix(""))
            .unwrap()
            .unwrap();
        assert_eq!(told.revision, Revision::new(6));
    }

    #[test]
    fn the_past_is_bounded_in_bytes() {
        let mut past = Past::new();
        let half = vec![0; BYTES_MAX / 2];
        (1..=3).for_each(|revision| past.push(put(revision, "a", &half)));
        assert_eq!(past.min, Revision::new(3));
        let lost = past.first_in(Revision::new(2), &Span::prefix(""));
        assert_eq!(
            lost,
            Err(WatchError::Compacted {
                min: Revision::new(3)
            })
        );
    }

    #[test]
    fn a_batch_is_cut_to_the_span() {
        let mut past = Past::new();
        past.push(put(1, "a/1", b"x"));
        past.push(put(2, "b/1", b"y"));
        let told = past.first_in(Revision::new(1), &Span::prefix("b/")).unwrap();
        assert_eq!(told, Some(put(2, "b/1", b"y")));
        assert_eq!(past.first_in(Revision::new(3), &Span::prefix("b/")), Ok(None));
    }
}
