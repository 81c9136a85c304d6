//! Labels: what an operator's signature says a node is. Selectors (in `policy`) match on them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// The most labels one node may carry.
pub const LABELS_MAX: usize = 32;

/// A set of labels, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels as sorted pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every label of `wanted` is in `self` with the same value. The empty set matches all.
    #[must_use]
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

/// Whether `text` can be a label's key or value: 1 to 63 letters, digits, '.', '-', '_' or '/', beginning with a letter or digit.
fn is_label_word(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_/".contains(&b))
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = InvalidId;
    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, InvalidId> {
        if pairs.len() > LABELS_MAX {
            return Err(InvalidId::new(
                "set of labels",
                &format!("{} labels", pairs.len()),
                "at most 32 wanted",
            ));
        }
        if let Some(bad) = pairs
            .iter()
            .flat_map(|(k, v)| [k, v])
            .find(|word| !is_label_word(word))
        {
            return Err(InvalidId::new(
                "label",
                bad,
                "key=value of letters, digits, '.', '-', '_' and '/' wanted",
            ));
        }
        Ok(Self(pairs))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs: BTreeMap<_, _> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        pairs.try_into().unwrap()
    }

    #[test]
    fn a_selector_matches_only_when_every_label_does() {
        let node = labels(&[("role", "db"), ("site", "home")]);
        assert!(node.contains_all(&labels(&[])));
        assert!(node.contains_all(&labels(&[("role", "db")])));
        assert!(!node.contains_all(&labels(&[("role", "web")])));
        assert!(!node.contains_all(&labels(&[("role", "db"), ("tier", "1")])));
    }

    #[test]
    fn odd_words_are_refused() {
        for bad in ["", "=", "a b", "-x", "a,b", "a=b"] {
            assert!(
                Labels::try_from(BTreeMap::from([("k".to_owned(), bad.to_owned())])).is_err(),
                "{bad}"
            );
        }
    }
}
