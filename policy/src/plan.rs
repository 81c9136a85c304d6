//! Plans: what would change on a node, for people.
//!
//! Two states are compared by meaning: the line a rule stands on and the order of rules say nothing about which flow
//! passes (a deny wins wherever it stands), so that moving text is no change. What loads tables compares exactly.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use crate::firewall::{Firewall, Peers, Protocol, Rule, Service, Verdict};
use crate::network::shown;
use crate::render::{AddressSets, DesiredState, RenderedKeep, render};
use crate::slice::{Group, Members, Slice};

/// One difference, shown as a line such as `+ inbound allow tcp 5432 from web  (web.yaml:12)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether it comes or goes.
    pub sign: Sign,
    /// What comes or goes.
    pub item: Item,
}

/// Which way a change goes. Removals are listed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// Only in the old state.
    Removed,
    /// Only in the new state.
    Added,
}

/// A part of a desired state, in the order in which plans list them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The table as such, with its default deny for what comes in.
    Firewall,
    /// The fate of outbound flows that no rule names.
    OutboundDefault(Verdict),
    /// A rule for what comes in.
    Inbound(Rule),
    /// A rule for what goes out.
    Outbound(Rule),
    /// A network that a group comes to.
    Member {
        /// The group's name.
        group: String,
        /// The network.
        network: IpNet,
    },
    /// A group that follows the inventory: whose addresses, and the bounds they stay in.
    Selected {
        /// The group's name.
        group: String,
        /// Whose addresses, and on which interfaces.
        members: Members,
        /// The bounds.
        within: Vec<IpNet>,
    },
    /// A port that must stay reachable.
    Keep(RenderedKeep),
}

/// What `new` removes from and adds to `old`: by kind, removals first, in the order of the policy. Empty for equal states.
#[must_use]
pub fn diff(old: &DesiredState, new: &DesiredState) -> Vec<Change> {
    compare(&items(old), &items(new))
}

/// What `new` removes from and adds to `old`, two slices for the same selector: what whoever signs it reads. Whoever is in
/// a group that follows the inventory is no part of a slice; whom it selects and its bounds are.
#[must_use]
pub fn diff_slices(old: Option<&Slice>, new: Option<&Slice>) -> Vec<Change> {
    let all = |slice: Option<&Slice>| slice.map(slice_items).unwrap_or_default();
    compare(&all(old), &all(new))
}

fn compare(old: &[Item], new: &[Item]) -> Vec<Change> {
    let removed = without(old, new).map(|item| Change {
        sign: Sign::Removed,
        item,
    });
    let added = without(new, old).map(|item| Change {
        sign: Sign::Added,
        item,
    });
    let mut changes: Vec<_> = removed.chain(added).collect();
    changes.sort_by_key(|change| (change.item.rank(), change.sign));
    changes
}

fn slice_items(slice: &Slice) -> Vec<Item> {
    let state = render(std::slice::from_ref(slice), &AddressSets::new())
        .expect("a single slice cannot disagree with another");
    let selected = slice.groups().iter().filter_map(|(name, group)| match group {
        Group::Selected { members, within } => Some(Item::Selected {
            group: name.clone(),
            members: members.clone(),
            within: within.clone(),
        }),
        Group::Literal { .. } => None,
    });
    items(&state).into_iter().chain(selected).collect()
}

fn items(state: &DesiredState) -> Vec<Item> {
    let firewall = state.firewall.iter().flat_map(firewall_items);
    firewall
        .chain(state.keeps.iter().cloned().map(Item::Keep))
        .collect()
}

fn firewall_items(firewall: &Firewall) -> impl Iterator<Item = Item> {
    let members = firewall.groups.iter().flat_map(|(group, networks)| {
        networks.iter().map(|&network| Item::Member {
            group: group.clone(),
            network,
        })
    });
    [Item::Firewall, Item::OutboundDefault(firewall.outbound_default)]
        .into_iter()
        .chain(firewall.inbound.iter().cloned().map(Item::Inbound))
        .chain(firewall.outbound.iter().cloned().map(Item::Outbound))
        .chain(members)
}

/// The items of `all` that have no counterpart in `others`; of three equal ones against two, one is left.
fn without(all: &[Item], others: &[Item]) -> impl Iterator<Item = Item> {
    let mut counterparts: BTreeMap<Item, usize> = BTreeMap::new();
    for other in others {
        *counterparts.entry(other.meaning()).or_default() += 1;
    }
    all.iter()
        .filter(move |item| match counterparts.get_mut(&item.meaning()) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        })
        .cloned()
}

impl Item {
    /// The item without where it stands.
    fn meaning(&self) -> Self {
        let mut meaning = self.clone();
        if let Self::Inbound(rule) | Self::Outbound(rule) = &mut meaning {
            rule.origin.clear();
        }
        meaning
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Firewall => 0,
            Self::OutboundDefault(_) => 1,
            Self::Inbound(_) => 2,
            Self::Outbound(_) => 3,
            Self::Member { .. } => 4,
            Self::Selected { .. } => 5,
            Self::Keep(_) => 6,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.sign {
            Sign::Removed => '-',
            Sign::Added => '+',
        };
        write!(f, "{sign} {}", self.item)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firewall => f.write_str("firewall, inbound denied by default"),
            Self::OutboundDefault(verdict) => write!(f, "outbound default {}", word(*verdict)),
            Self::Inbound(rule) => write_rule(f, "inbound", "from", rule),
            Self::Outbound(rule) => write_rule(f, "outbound", "to", rule),
            Self::Member { group, network } => write!(f, "group {group}: {}", shown(network)),
            Self::Selected {
                group,
                members,
                within,
            } => {
                let within: Vec<_> = within.iter().map(shown).collect();
                write!(f, "group {group}: nodes {members} within {}", within.join(", "))
            }
            Self::Keep(keep) => {
                let from: Vec<_> = keep.from.iter().map(shown).collect();
                write!(f, "keep tcp {} from {}", keep.tcp, from.join(", "))
            }
        }
    }
}

fn write_rule(f: &mut fmt::Formatter<'_>, direction: &str, preposition: &str, rule: &Rule) -> fmt::Result {
    write!(f, "{direction} {}", word(rule.verdict))?;
    for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
        let of_it = rule
            .services
            .iter()
            .filter(|service| service.protocol == protocol);
        let ports: Vec<_> = of_it.map(shown_ports).collect();
        if !ports.is_empty() {
            write!(f, " {name} {}", ports.join(","))?;
        }
    }
    let peers = match &rule.peers {
        Peers::Any => "any".to_owned(),
        Peers::These { groups, networks } => {
            let all: Vec<_> = groups.iter().cloned().chain(networks.iter().map(shown)).collect();
            all.join(", ")
        }
    };
    write!(f, " {preposition} {peers}  ({})", rule.origin)
}

fn shown_ports(service: &Service) -> String {
    if service.first == service.last {
        service.first.to_string()
    } else {
        format!("{}-{}", service.first, service.last)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

#[cfg(test)]
mod tests;
