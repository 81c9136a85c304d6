//! Keys, revisions, spans of keys, and what reading returns.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The most entries in one [`Page`], whatever limit was asked for. With the hub's largest value (a slice's chunk,
/// 256 KiB) a page is at most 128 MiB; with its usual ones (under 4 KiB), 2 MiB.
pub const PAGE_MAX: usize = 512;

/// The name of an entry: a byte string, ordered as such. By habit segments of text, as in `node/<id>/labels`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What follows `prefix`, if the key begins with it and the rest is text.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Option<&str> {
        std::str::from_utf8(self.0.strip_prefix(prefix.as_bytes())?).ok()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The contents of an entry. Shared, not copied, between the index, watchers and readers.
pub type Value = Arc<[u8]>;

/// A transaction's place in the history: 1, 2, 3, ...; 0 is the empty store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it: where a reader that listed at `self` begins to watch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys from `start` up to but without `end`.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    start: Vec<u8>,
    /// None: to the last key.
    end: Option<Vec<u8>>,
}

impl Span {
    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let start = prefix.as_ref().to_vec();
        // The first key behind them all: the prefix with its last byte that can rise raised.
        let end = start.iter().rposition(|byte| *byte != u8::MAX).map(|at| {
            let mut end = start[..=at].to_vec();
            end[at] += 1;
            end
        });
        Self { start, end }
    }

    /// The keys from `start` up to but without `end`; none if `end` is not behind `start`.
    #[must_use]
    pub fn between(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Self {
        Self {
            start: start.as_ref().to_vec(),
            end: Some(end.as_ref().to_vec()),
        }
    }

    /// The part of the span behind `key`.
    #[must_use]
    pub fn after(&self, key: &Key) -> Self {
        // No key lies between one and the same with a zero byte behind it.
        let start = [key.as_bytes(), &[0]].concat();
        Self {
            start: start.max(self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.start() <= key.as_bytes() && self.end().is_none_or(|end| key.as_bytes() < end)
    }

    /// The first key that may lie in it.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key behind it; None if there is no end.
    #[must_use]
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end().unwrap_or_default();
        write!(f, "Span({}..{})", self.start.escape_ascii(), end.escape_ascii())
    }
}

/// A key with what is stored there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Value,
    /// Which transaction wrote it: what [`super::txn::Precondition::Revision`] compares with.
    pub revision: Revision,
}

/// A part of a span, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The store's revision when the page was read.
    pub revision: Revision,
    /// The span that is left to read; None if this was all.
    pub rest: Option<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_all_that_begin_with_it_and_nothing_else() {
        let span = Span::prefix("node/");
        for inside in ["node/", "node/a", "node/\u{10ffff}"] {
            assert!(span.contains(&inside.into()), "{inside}");
        }
        for outside in ["node", "node0", "nodf", ""] {
            assert!(!span.contains(&outside.into()), "{outside}");
        }
        assert_eq!(Span::prefix([7, 0xff]).end(), Some(&[8][..]));
        assert_eq!(Span::prefix([0xff, 0xff]).end(), None);
        assert!(Span::prefix("").contains(&"anything".into()));
    }

    #[test]
    fn the_rest_of_a_span_begins_behind_the_key() {
        let rest = Span::prefix("a").after(&"ab".into());
        assert!(!rest.contains(&"ab".into()) && rest.contains(&"ab\0".into()));
        assert!(!rest.contains(&"b".into()));
    }
}
