//! Renders a [`Firewall`] to the JSON that `nft -j -f -` loads. Nothing outside this module
//! knows the crate nftables.
//!
//! The order of rules is that of [`holdfast_policy::firewall`]: loopback; denies; established flows; what a host cannot
//! live without; allows; the default. One rule of the policy becomes as many as its peers and services need, each with
//! the policy's place (`web.yaml:12`) as its comment.

mod chain;
mod terms;

use std::collections::{BTreeMap, HashSet};

use holdfast_policy::firewall::{Direction, Firewall, Verdict};
use holdfast_proto::ids::Digest;
use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::schema::{Chain, NfListObject, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use chain::ChainRules;
use terms::{Family, comment, network};

/// The name of our table; its family is `inet`.
pub const TABLE: &str = "holdfast";

/// Before the filter hooks of others (priority 0), so that what we drop they need not look at.
const PRIORITY: i32 = -10;

/// A transaction for nft, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    json: String,
    rules: usize,
}

impl Ruleset {
    /// Replaces whatever our table holds by `firewall`.
    ///
    /// A rule that names a group which the firewall lacks refers to a set that is not there: nft then refuses the whole
    /// transaction and the old table stays, which is safe for an allow and for a deny.
    #[must_use]
    pub fn replace(firewall: &Firewall) -> Self {
        let mut batch = clean_batch();
        batch.add(NfListObject::Table(table()));
        let sets: BTreeMap<&str, usize> = firewall
            .groups
            .keys()
            .enumerate()
            .map(|(number, name)| (name.as_str(), number))
            .collect();
        for (number, (name, members)) in firewall.groups.iter().enumerate() {
            for family in Family::BOTH {
                batch.add(group_set(number, name, family, members));
            }
        }
        let input = ChainRules::new(Direction::Inbound, &sets).all(&firewall.inbound, Verdict::Deny);
        let output =
            ChainRules::new(Direction::Outbound, &sets).all(&firewall.outbound, firewall.outbound_default);
        for (direction, rules) in [(Direction::Inbound, &input), (Direction::Outbound, &output)] {
            batch.add(chain(direction));
            for rule in rules {
                batch.add(NfListObject::Rule(rule.clone()));
            }
        }
        Self::from_batch(batch, input.len() + output.len())
    }

    /// Removes our table, whether it is there or not.
    #[must_use]
    pub fn remove() -> Self {
        Self::from_batch(clean_batch(), 0)
    }

    fn from_batch(batch: Batch<'_>, rules: usize) -> Self {
        let json = serde_json::to_string(&batch.to_nftables())
            .expect("the schema's maps have text keys and its numbers are finite");
        Self { json, rules }
    }

    /// The transaction.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// How many rules it loads.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }

    /// What tells it from every other one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.json.as_bytes())
    }
}

/// `delete` fails on a table that is not there, so it is added first; in one transaction nobody sees that.
fn clean_batch<'a>() -> Batch<'a> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    batch
}

fn table<'a>() -> Table<'a> {
    Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    }
}

const fn chain_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "input",
        Direction::Outbound => "output",
    }
}

fn chain<'a>(direction: Direction) -> NfListObject<'a> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: chain_name(direction).into(),
        _type: Some(NfChainType::Filter),
        hook: Some(match direction {
            Direction::Inbound => NfHook::Input,
            Direction::Outbound => NfHook::Output,
        }),
        prio: Some(PRIORITY),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn group_set<'a>(number: usize, name: &str, family: Family, members: &[IpNet]) -> NfListObject<'a> {
    let elements: Vec<_> = family.of(members).into_iter().map(network).collect();
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: family.set_name(number).into(),
        set_type: SetTypeValue::Single(match family {
            Family::V4 => SetType::Ipv4Addr,
            Family::V6 => SetType::Ipv6Addr,
        }),
        flags: Some(HashSet::from([SetFlag::Interval])),
        elem: (!elements.is_empty()).then(|| elements.into()),
        comment: Some(comment(name).into()),
        ..Set::default()
    }))
}

#[cfg(test)]
mod tests;
