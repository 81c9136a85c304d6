//! Rendering: a node's slices and the members of its groups come to one desired state.
//!
//! The only place where unsigned data (the address sets a hub sends) meets signed rules. Invariant: no address outside
//! a group's signed `within` gets into it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::firewall::{Firewall, Verdict};
use crate::network;
use crate::slice::{Group, GroupOrNetwork, InvalidSlice, Members, Slice};

/// The addresses of the members of groups, from the inventory. Members that are not there have none.
pub type AddressSets = BTreeMap<Members, BTreeSet<IpAddr>>;

/// What a node is asked to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Its firewall; none when no slice concerns it, and then it has no table.
    pub firewall: Option<Firewall>,
    /// The ports that must stay reachable, sorted, each once.
    pub keeps: Vec<RenderedKeep>,
    /// The groups of the firewall that follow the inventory: who is in them changes without a signature.
    pub moving: BTreeSet<String>,
}

/// A TCP port that must stay reachable, with its groups resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenderedKeep {
    /// The port.
    pub tcp: u16,
    /// From where: aggregated, sorted.
    pub from: Vec<IpNet>,
}

/// Merges the slices, in the order of their selectors, and resolves their groups.
///
/// # Errors
/// [`InvalidSlice`] when a selector is there twice or two slices disagree about a group.
pub fn render(slices: &[Slice], members: &AddressSets) -> Result<DesiredState, InvalidSlice> {
    let mut sorted: Vec<&Slice> = slices.iter().collect();
    sorted.sort_by_key(|slice| slice.selector());
    if let Some(pair) = sorted
        .windows(2)
        .find(|pair| pair[0].selector() == pair[1].selector())
    {
        return Err(InvalidSlice::Twice(pair[0].selector().clone()));
    }
    if sorted.is_empty() {
        return Ok(DesiredState::default());
    }
    let agreed = agreed_groups(&sorted)?;
    let moving = agreed
        .iter()
        .filter(|(_, group)| matches!(group, Group::Selected { .. }))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let groups: BTreeMap<_, _> = agreed
        .into_iter()
        .map(|(name, group)| (name.to_owned(), resolve(group, members)))
        .collect();
    let keeps: BTreeSet<_> = sorted
        .iter()
        .flat_map(|slice| slice.keep())
        .map(|keep| RenderedKeep {
            tcp: keep.tcp,
            from: network::aggregate(keep.from.iter().flat_map(|entry| match entry {
                GroupOrNetwork::Group(name) => groups.get(name).cloned().unwrap_or_default(),
                GroupOrNetwork::Network(network) => vec![*network],
            })),
        })
        .collect();
    let outbound_default = sorted
        .iter()
        .map(|slice| slice.outbound_default)
        .max()
        .unwrap_or(Verdict::Allow);
    Ok(DesiredState {
        firewall: Some(Firewall {
            groups,
            inbound: sorted.iter().flat_map(|slice| slice.inbound.clone()).collect(),
            outbound: sorted.iter().flat_map(|slice| slice.outbound.clone()).collect(),
            outbound_default,
        }),
        keeps: keeps.into_iter().collect(),
        moving,
    })
}

/// Every group of the slices, once; a name means the same in all of them.
fn agreed_groups<'a>(slices: &[&'a Slice]) -> Result<BTreeMap<&'a str, &'a Group>, InvalidSlice> {
    let mut agreed: BTreeMap<&str, (&Group, &Slice)> = BTreeMap::new();
    for &slice in slices {
        for (name, group) in slice.groups() {
            let (first, of) = *agreed.entry(name).or_insert((group, slice));
            if first != group {
                return Err(InvalidSlice::GroupDiffers {
                    group: name.clone(),
                    one: of.selector().clone(),
                    other: slice.selector().clone(),
                });
            }
        }
    }
    Ok(agreed
        .into_iter()
        .map(|(name, (group, _))| (name, group))
        .collect())
}

fn resolve(group: &Group, addresses: &AddressSets) -> Vec<IpNet> {
    match group {
        Group::Literal { addresses } => network::aggregate(addresses.iter().copied()),
        Group::Selected { members, within } => network::aggregate(
            addresses
                .get(members)
                .into_iter()
                .flatten()
                .map(|address| address.to_canonical())
                .filter(|address| within.iter().any(|network| network.contains(address)))
                .map(IpNet::from),
        ),
    }
}

#[cfg(test)]
mod tests;
