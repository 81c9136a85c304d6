//! Versions as they are wished for: what is changed, who signs, what is wrong with them.

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Edit, Key};
use super::{KEYS, OPERATORS};
use crate::authority::Role;
use crate::envelope::SIGNATURES_MAX;

/// What is wrong with a version beside its content and who signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    None,
    /// Counts by something else than one.
    Number(u64),
    /// Follows a version that nobody knows.
    Previous,
    OtherFleet,
    /// Signed as another kind of document.
    OtherKind,
    ChangedAfterwards,
    /// Lists an operator's name twice, the second time with a key of nobody's.
    NameTwice,
}

/// A version to be made, on top of one of those that were accepted.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// On top of which; none for the newest.
    pub(super) fork: Option<Index>,
    pub(super) edits: Vec<Edit>,
    /// Keys that sign, each once for every time it is named.
    pub(super) signers: Vec<Key>,
    pub(super) flaw: Flaw,
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        4 => Just(Role::Admin),
        1 => Just(Role::Operator),
        1 => Just(Role::Proposer),
        1 => Just(Role::Viewer),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (0..OPERATORS, 0..KEYS, role()).prop_map(|(operator, key, role)| Edit::Put(operator, key, role)),
        2 => (0..OPERATORS).prop_map(Edit::Remove),
        3 => (0..=3_usize).prop_map(Edit::Threshold),
        1 => (0..KEYS).prop_map(Edit::Revoke),
        1 => (0..KEYS).prop_map(Edit::TakeBack),
    ]
}

fn flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        24 => Just(Flaw::None),
        1 => Just(Flaw::Number(0)),
        1 => Just(Flaw::Number(2)),
        1 => Just(Flaw::Previous),
        1 => Just(Flaw::OtherFleet),
        1 => Just(Flaw::OtherKind),
        1 => Just(Flaw::ChangedAfterwards),
        1 => Just(Flaw::NameTwice),
    ]
}

/// Most keys sign most versions, listed or not: few signatures alone would hardly ever be enough.
pub(super) fn signers() -> impl Strategy<Value = Vec<Key>> {
    proptest::collection::vec(prop_oneof![5 => Just(1_usize), 2 => Just(0), 1 => Just(2)], KEYS).prop_map(
        |times| {
            let often = times.into_iter().enumerate();
            let named = often.flat_map(|(key, times)| std::iter::repeat_n(key, times));
            named.take(SIGNATURES_MAX).collect()
        },
    )
}

fn wish() -> impl Strategy<Value = Wish> {
    let fork = prop_oneof![4 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (fork, proptest::collection::vec(edit(), 0..3), signers(), flaw()).prop_map(
        |(fork, edits, signers, flaw)| Wish {
            fork,
            edits,
            signers,
            flaw,
        },
    )
}

pub(super) fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    proptest::collection::vec(wish(), 1..14)
}
