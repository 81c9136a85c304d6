//! Selectors: which nodes a slice or a group speaks of.
//!
//! A selector has one spelling (`all`, or `key=value` pairs sorted by key), because it is compared, signed and used as
//! a key by its text.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use holdfast_proto::ids::InvalidId;
use holdfast_proto::labels::Labels;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest canonical text in bytes: 256 selectors of it, with their digests, still fit in one manifest.
pub const SELECTOR_BYTES_MAX: usize = 512;

/// A set of labels that a node must carry; the empty set, `all`, is every node. Ordered by canonical text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    // First, so that the derived order is that of the text.
    text: Box<str>,
    labels: Labels,
}

impl Selector {
    /// The selector that matches every node.
    #[must_use]
    pub fn all() -> Self {
        Self {
            text: "all".into(),
            labels: Labels::default(),
        }
    }

    /// The labels wanted; empty for `all`.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether a node with these labels is meant.
    #[must_use]
    pub fn matches(&self, node: &Labels) -> bool {
        node.contains_all(&self.labels)
    }
}

impl TryFrom<Labels> for Selector {
    type Error = InvalidId;
    fn try_from(labels: Labels) -> Result<Self, InvalidId> {
        if labels.is_empty() {
            return Ok(Self::all());
        }
        let text = labels.to_string();
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(InvalidId::new("selector", &text, "at most 512 bytes wanted"));
        }
        Ok(Self {
            text: text.into(),
            labels,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = |want| InvalidId::new("selector", text, want);
        if text == "all" {
            return Ok(Self::all());
        }
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(refused("at most 512 bytes wanted"));
        }
        let pairs = text
            .split(',')
            .map(|pair| {
                pair.split_once('=')
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect::<Option<BTreeMap<_, _>>>()
            .ok_or_else(|| refused("'all' or key=value,key=value wanted"))?;
        let selector = Self::try_from(Labels::try_from(pairs)?)?;
        if *selector.text != *text {
            return Err(refused("each key once and sorted wanted"));
        }
        Ok(selector)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::labels;
    use proptest::prelude::*;

    #[test]
    fn all_matches_every_node_and_labels_match_together() {
        let node = labels("role=db,site=home");
        for (selector, matches) in [
            ("all", true),
            ("role=db", true),
            ("role=db,site=home", true),
            ("role=web", false),
            ("role=db,tier=1", false),
        ] {
            assert_eq!(
                selector.parse::<Selector>().unwrap().matches(&node),
                matches,
                "{selector}"
            );
        }
        assert!(Selector::all().matches(&Labels::default()));
    }

    #[test]
    fn a_selector_has_one_spelling() {
        for other in [
            "",
            "site=home,role=db",
            "role=db,role=db",
            "role=db,",
            "role = db",
            "ALL",
            "role",
            "a=b=c",
        ] {
            assert!(other.parse::<Selector>().is_err(), "{other}");
        }
    }

    #[test]
    fn long_selectors_are_refused() {
        let pairs: Vec<_> = (10..30).map(|n| format!("key{n}={}", "x".repeat(40))).collect();
        assert!(pairs.join(",").parse::<Selector>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same_way(text in "[a-c]{1,2}(=[a-c.-]{1,3}){0,2}(,[a-c]=[a-c]){0,2}|\\PC{0,20}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string(), text);
            }
        }

        #[test]
        fn selectors_sort_as_their_texts(one in "[a-c]-?=[a-c]", other in "[a-c]-?=[a-c]") {
            let (a, b): (Selector, Selector) = (one.parse().unwrap(), other.parse().unwrap());
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }
    }
}
