//! The state that the history of transactions leads to. Pure: every engine that keeps its state in memory shares it.
//!
//! [`Index`] is what is; [`Stage`] judges what may come next, over changes that are accepted but not yet durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::key::{Entry, Key, PAGE_MAX, Page, Revision, Span, Value};
use super::lease::{Lease, LeaseError, Term};
use super::txn::{CommitError, Fence, Operation, Precondition, Txn};
use super::watch::{Batch, Change, Past};

/// What one revision does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Changes keys.
    Txn(Txn),
    /// Gives a lease to a holder, under the revision's number as its term: so a term never comes twice.
    Grant(Grant),
}

/// A lease as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) lease: String,
    pub(super) holder: String,
    pub(super) ttl: Duration,
}

/// The entries, the leases and the recent past at one revision.
#[derive(Debug)]
pub(super) struct Index {
    revision: Revision,
    entries: BTreeMap<Key, (Value, Revision)>,
    leases: BTreeMap<String, Held>,
    past: Past,
}

#[derive(Debug)]
struct Held {
    holder: String,
    term: Term,
    /// The time since boot at which it has run out.
    until: Duration,
}

impl Index {
    /// The empty store, at revision 0.
    pub(super) const fn new() -> Self {
        Self {
            revision: Revision::new(0),
            entries: BTreeMap::new(),
            leases: BTreeMap::new(),
            past: Past::new(),
        }
    }

    /// The revision applied last.
    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }

    /// What a watch can still be told.
    pub(super) const fn past(&self) -> &Past {
        &self.past
    }

    /// As [`super::Store::get`].
    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        self.entries.get(key).map(|stored| entry((key, stored)))
    }

    /// As [`super::Store::range`].
    pub(super) fn range(&self, span: &Span, limit: usize) -> Page {
        // A BTreeMap panics on a range that ends before it starts.
        let empty = span.end().is_some_and(|end| end <= span.start());
        let bounds = (
            Bound::Included(span.start()),
            span.end().map_or(Bound::Unbounded, Bound::Excluded),
        );
        let mut found = (!empty)
            .then(|| self.entries.range::<[u8], _>(bounds))
            .into_iter()
            .flatten();
        let entries: Vec<_> = found.by_ref().take(limit.min(PAGE_MAX)).map(entry).collect();
        let rest = found.next().map(|_| {
            let read = entries.last();
            read.map_or_else(|| span.clone(), |last| span.after(&last.key))
        });
        Page {
            entries,
            revision: self.revision,
            rest,
        }
    }

    /// Carries out the next revision. What may be carried out, [`Stage`] has judged.
    pub(super) fn apply(&mut self, mutation: Mutation, now: Duration) {
        self.revision = self.revision.next();
        let changes = match mutation {
            Mutation::Txn(txn) => self.change(txn),
            Mutation::Grant(grant) => {
                let held = Held {
                    holder: grant.holder,
                    term: Term::new(self.revision.get()),
                    until: now.saturating_add(grant.ttl),
                };
                self.leases.insert(grant.lease, held);
                Vec::new()
            }
        };
        self.past.push(Batch {
            revision: self.revision,
            changes,
        });
    }

    fn change(&mut self, txn: Txn) -> Vec<Change> {
        let mut changes = Vec::new();
        for operation in txn.into_operations() {
            match operation {
                Operation::Put(key, value) => {
                    self.entries.insert(key.clone(), (value.clone(), self.revision));
                    changes.push(Change {
                        key,
                        value: Some(value),
                    });
                }
                Operation::Delete(key) => {
                    // Deleting what is not there is no change, as in etcd.
                    if self.entries.remove(&key).is_some() {
                        changes.push(Change { key, value: None });
                    }
                }
            }
        }
        changes
    }

    /// Holds `lease` from `now` for its time to live, if it is still held.
    pub(super) fn renew(&mut self, lease: &Lease, now: Duration) -> Result<(), LeaseError> {
        let held = self.leases.get_mut(&lease.name);
        match held.filter(|held| held.term == lease.term && now < held.until) {
            Some(held) => {
                held.until = now.saturating_add(lease.ttl);
                Ok(())
            }
            None => Err(LeaseError::Lost {
                name: lease.name.clone(),
                term: lease.term,
            }),
        }
    }

    /// Ends `lease`, if it is still this term's.
    pub(super) fn release(&mut self, lease: &Lease) {
        if self
            .leases
            .get(&lease.name)
            .is_some_and(|held| held.term == lease.term)
        {
            self.leases.remove(&lease.name);
        }
    }

    /// Ends every lease: the holders are gone.
    pub(super) fn end_leases(&mut self) {
        self.leases.clear();
    }

    /// Forgets the past before `min`, as time and traffic would.
    #[cfg(test)]
    pub(super) fn compact(&mut self, min: Revision) {
        self.past.compact(min);
    }

    fn written(&self, key: &Key) -> Option<Revision> {
        self.entries.get(key).map(|(_, revision)| *revision)
    }

    fn held(&self, lease: &str, now: Duration) -> Option<&Held> {
        self.leases.get(lease).filter(|held| now < held.until)
    }
}

fn entry((key, (value, revision)): (&Key, &(Value, Revision))) -> Entry {
    Entry {
        key: key.clone(),
        value: value.clone(),
        revision: *revision,
    }
}

/// Judges transactions one after the other, each over the index and those accepted before it.
///
/// A group commit makes several transactions durable at once: the second must see what the first will have done.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    index: &'a Index,
    now: Duration,
    head: Revision,
    /// What accepted transactions will have written (None: deleted).
    touched: BTreeMap<Key, Option<Revision>>,
    /// Leases whose grant is accepted and not yet known to anybody.
    granted: BTreeMap<String, String>,
}

impl<'a> Stage<'a> {
    /// Begins over `index`, at the time since boot `now`.
    pub(super) const fn new(index: &'a Index, now: Duration) -> Self {
        Self {
            index,
            now,
            head: index.revision,
            touched: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }

    /// Accepts `txn` as the next revision, or says why not.
    pub(super) fn commit(&mut self, txn: &Txn) -> Result<Revision, CommitError> {
        if let Some(fence) = txn.fence() {
            self.check_fence(fence)?;
        }
        self.check(txn.preconditions())?;
        self.head = self.head.next();
        for operation in txn.operations() {
            let written = match operation {
                Operation::Put(..) => Some(self.head),
                Operation::Delete(_) => None,
            };
            self.touched.insert(operation.key().clone(), written);
        }
        Ok(self.head)
    }

    /// Accepts `grant` as the next revision, or says why not.
    pub(super) fn grant(&mut self, grant: &Grant) -> Result<Revision, LeaseError> {
        let coming = self.granted.get(&grant.lease);
        let holder = coming.or_else(|| self.index.held(&grant.lease, self.now).map(|held| &held.holder));
        if let Some(holder) = holder {
            return Err(LeaseError::Held {
                name: grant.lease.clone(),
                holder: holder.clone(),
            });
        }
        self.head = self.head.next();
        self.granted.insert(grant.lease.clone(), grant.holder.clone());
        Ok(self.head)
    }

    /// Whether every precondition holds.
    pub(super) fn check(&self, preconditions: &[(Key, Precondition)]) -> Result<(), CommitError> {
        for (key, wanted) in preconditions {
            let staged = self.touched.get(key).copied();
            let found = staged.unwrap_or_else(|| self.index.written(key));
            if !wanted.holds(found) {
                return Err(CommitError::Conflict {
                    key: key.clone(),
                    wanted: *wanted,
                    found,
                });
            }
        }
        Ok(())
    }

    fn check_fence(&self, fence: &Fence) -> Result<(), CommitError> {
        // A term that is only being granted cannot be the fence's: its holder has not heard of it.
        let current = self
            .index
            .held(&fence.lease, self.now)
            .filter(|_| !self.granted.contains_key(&fence.lease));
        match current {
            Some(held) if held.term == fence.term => Ok(()),
            _ => Err(CommitError::Fenced {
                lease: fence.lease.clone(),
                term: fence.term,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::txn;

    #[test]
    fn a_group_is_judged_as_if_each_came_after_the_other() {
        let index = Index::new();
        let mut stage = Stage::new(&index, Duration::ZERO);
        let create = || txn().put("t/a", *b"").require("t/a", Precondition::Absent);
        let first = stage.commit(&create()).unwrap();
        let second = stage.commit(&create());
        assert!(matches!(second, Err(CommitError::Conflict { found, .. }) if found == Some(first)));
        let remove = txn().delete("t/a").require("t/a", Precondition::Revision(first));
        assert_eq!(stage.commit(&remove), Ok(first.next()));
        assert_eq!(stage.commit(&create()), Ok(first.next().next()));
    }

    #[test]
    fn a_lease_goes_to_one_of_a_group_and_fences_nothing_yet() {
        let index = Index::new();
        let mut stage = Stage::new(&index, Duration::ZERO);
        let grant = |holder: &str| Grant {
            lease: "rollout".to_owned(),
            holder: holder.to_owned(),
            ttl: Duration::from_secs(10),
        };
        let revision = stage.grant(&grant("hub-a")).unwrap();
        let second = stage.grant(&grant("hub-b"));
        assert!(matches!(second, Err(LeaseError::Held { holder, .. }) if holder == "hub-a"));
        let guessed = txn().fenced(&Lease {
            name: "rollout".to_owned(),
            term: Term::new(revision.get()),
            ttl: Duration::from_secs(10),
        });
        assert!(matches!(stage.commit(&guessed), Err(CommitError::Fenced { .. })));
    }
}
