//! What a history of authorities should come to, told without signatures, digests or documents: sets of numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::Role;

/// An operator, by the place of its name.
pub(super) type Operator = usize;
/// A key, by its place in the ring.
pub(super) type Key = usize;

/// One version.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) operators: BTreeMap<Operator, (Key, Role)>,
    /// For changing the authority.
    pub(super) threshold: usize,
    pub(super) revoked: BTreeSet<Key>,
}

/// One change from a version to the next.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// A new operator, or another key or role for an old one.
    Put(Operator, Key, Role),
    Remove(Operator),
    Threshold(usize),
    Revoke(Key),
    /// What no version may do.
    TakeBack(Key),
}

impl Model {
    pub(super) fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Put(operator, key, role) => drop(self.operators.insert(operator, (key, role))),
            Edit::Remove(operator) => drop(self.operators.remove(&operator)),
            Edit::Threshold(threshold) => self.threshold = threshold,
            Edit::Revoke(key) => drop(self.revoked.insert(key)),
            Edit::TakeBack(key) => drop(self.revoked.remove(&key)),
        }
    }

    /// Those of `signed` that count where one of `roles` is needed, as operators: a listed key, not revoked, whoever
    /// else signed and however often.
    pub(super) fn counted(&self, signed: &BTreeSet<Key>, roles: &[Role]) -> BTreeSet<Operator> {
        let counts = |(_, (key, role)): &(&Operator, &(Key, Role))| {
            signed.contains(key) && roles.contains(role) && !self.revoked.contains(key)
        };
        self.operators
            .iter()
            .filter(counts)
            .map(|(operator, _)| *operator)
            .collect()
    }

    /// Whether these signatures are enough to change the authority.
    fn is_content_with(&self, signed: &BTreeSet<Key>) -> bool {
        self.counted(signed, &[Role::Admin]).len() >= self.threshold
    }

    /// Whether it could ever be changed, and lists no key for two.
    fn holds_together(&self) -> bool {
        let keys: BTreeSet<_> = self.operators.values().map(|(key, _)| key).collect();
        let everyone = self.operators.values().map(|(key, _)| *key).collect();
        self.threshold > 0 && keys.len() == self.operators.len() && self.is_content_with(&everyone)
    }

    /// Whether `next`, signed with these keys, follows.
    pub(super) fn accepts(&self, next: &Self, signed: &BTreeSet<Key>) -> bool {
        next.holds_together()
            && self.revoked.is_subset(&next.revoked)
            && self.is_content_with(signed)
            && next.is_content_with(signed)
    }
}
