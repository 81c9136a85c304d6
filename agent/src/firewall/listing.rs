//! Listings of our table: brought to a form that can be compared, and turned into the transaction that puts them back.
//!
//! nft's read-back differs from its input (it collapses sets of one, orders elements as it likes, adds handles and
//! counters), and between versions. So a listing is only ever compared with a listing of the same rules on the same host.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_proto::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::nft::TABLE;

/// What a table holds, without what changes by itself (handles, counters, order within sets). Rules keep their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listing(Vec<Entry>);

/// One object of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rank: Rank,
    /// For people: `input accept web.yaml:12`.
    label: String,
    /// Of all that it says.
    digest: Digest,
}

/// Objects are compared in this order, whatever order the version of nft at hand lists them in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rank {
    Table,
    Set,
    Chain,
    Other,
    Rule,
}

/// How two listings differ, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the wanted one only.
    pub missing: Vec<String>,
    /// In the present one only.
    pub added: Vec<String>,
}

impl Listing {
    /// Brings nft's objects (plain, or under the command `add`) to the form that can be compared.
    #[must_use]
    pub fn of(objects: &[Value]) -> Self {
        let mut entries: Vec<Entry> = objects.iter().filter_map(entry).collect();
        let rules = entries
            .extract_if(.., |entry| entry.rank == Rank::Rule)
            .collect::<Vec<_>>();
        entries.sort();
        entries.extend(rules);
        Self(entries)
    }

    /// Whether both hold the same tables, sets, chains, and rules in the same order, judged by their labels alone: a
    /// listing against what was rendered, which nft words differently.
    #[must_use]
    pub fn has_shape_of(&self, other: &Self) -> bool {
        self.labels().eq(other.labels())
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| entry.label.as_str())
    }

    /// What `present` lacks of this and has beyond it. Empty for two that only differ in the order of rules.
    #[must_use]
    pub fn difference(&self, present: &Self) -> Difference {
        Difference::between(&self.0, &present.0, |entry| {
            (entry.label.as_str(), Some(entry.digest))
        })
    }

    /// The same by labels alone.
    #[must_use]
    pub fn difference_in_shape(&self, present: &Self) -> Difference {
        Difference::between(&self.0, &present.0, |entry| (entry.label.as_str(), None))
    }
}

impl Difference {
    fn between<'a>(
        wanted: &'a [Entry],
        present: &'a [Entry],
        key: impl Fn(&'a Entry) -> (&'a str, Option<Digest>),
    ) -> Self {
        let mut balance: BTreeMap<_, i64> = BTreeMap::new();
        for entry in wanted {
            *balance.entry(key(entry)).or_default() += 1;
        }
        for entry in present {
            *balance.entry(key(entry)).or_default() -= 1;
        }
        let mut difference = Self::default();
        for ((label, _), count) in balance {
            let side = if count > 0 {
                &mut difference.missing
            } else {
                &mut difference.added
            };
            side.extend((0..count.unsigned_abs()).map(|_| label.to_owned()));
        }
        difference
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.added.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|label| ("missing", label));
        let added = self.added.iter().map(|label| ("added", label));
        for (number, (what, label)) in missing.chain(added).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{what}: {label}")?;
        }
        Ok(())
    }
}

/// The transaction that makes our table what `objects` list: absent for `None`. Counters go on from where they were.
#[must_use]
pub fn restore(objects: Option<&[Value]>) -> String {
    let table = json!({"table": {"family": "inet", "name": TABLE}});
    let mut commands = vec![json!({"add": table}), json!({"delete": table})];
    for object in objects.unwrap_or_default() {
        let Some((kind, content)) = named(object) else {
            continue;
        };
        if kind == "metainfo" {
            continue;
        }
        let mut content = content.clone();
        // In a command a handle names something that is there already.
        content.remove("handle");
        commands.push(json!({"add": {kind: content}}));
    }
    json!({"nftables": commands}).to_string()
}

/// `{"rule": {..}}` and `{"add": {"rule": {..}}}` as (kind, content); `None` for anything else, such as a `delete`.
fn named(object: &Value) -> Option<(&str, &Map<String, Value>)> {
    let (kind, content) = object.as_object()?.iter().next()?;
    match kind.as_str() {
        "add" => named(content),
        "delete" => None,
        kind => Some((kind, content.as_object()?)),
    }
}

fn entry(object: &Value) -> Option<Entry> {
    let (kind, content) = named(object)?;
    let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or("?");
    let (rank, label) = match kind {
        "metainfo" => return None,
        "table" => (Rank::Table, format!("table {}", text("name"))),
        "set" => {
            let elements = content.get("elem").and_then(Value::as_array).map_or(0, Vec::len);
            // Not by its comment, which nft 1.0.6 drops from JSON.
            (
                Rank::Set,
                format!("set {} with {elements} elements", text("name")),
            )
        }
        "chain" => (Rank::Chain, chain_label(content)),
        "rule" => (
            Rank::Rule,
            format!("{} {} {}", text("chain"), verdict(content), text("comment")),
        ),
        other => (Rank::Other, format!("{other} {}", text("name"))),
    };
    let mut canonical = Value::Object(content.clone());
    canonicalise(&mut canonical);
    Some(Entry {
        rank,
        label,
        digest: Digest::of(canonical.to_string().as_bytes()),
    })
}

fn chain_label(chain: &Map<String, Value>) -> String {
    let part = |key: &str| {
        chain
            .get(key)
            .map_or_else(String::new, |value| value.to_string().replace('"', ""))
    };
    format!(
        "chain {} hook {} priority {} policy {}",
        part("name"),
        part("hook"),
        part("prio"),
        part("policy")
    )
}

/// The last thing that a rule does: `accept`, `drop`, ...
fn verdict(rule: &Map<String, Value>) -> &str {
    rule.get("expr")
        .and_then(Value::as_array)
        .and_then(|statements| statements.last()?.as_object()?.keys().next())
        .map_or("?", String::as_str)
}

/// Takes out what changes by itself, sorts what has no order, and words alike what means the same.
fn canonicalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("handle");
            if let Some(Value::Object(counter)) = map.get_mut("counter") {
                counter.clear();
            }
            for (key, inner) in map.iter_mut() {
                canonicalise(inner);
                if let ("elem" | "set", Value::Array(elements)) = (key.as_str(), inner) {
                    elements.sort_by_cached_key(Value::to_string);
                }
            }
            // nft lists neighbours in an anonymous set as one range, and a set of one, once loaded, as no set.
            if let Some(Value::Array(elements)) = map.get_mut("set")
                && elements.len() == 1
                && let Some(only) = elements.pop()
            {
                *value = only;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonicalise),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
