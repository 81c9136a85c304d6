//! What a sound slice may say: bounds, and the rules of the language that no signer may break.
//!
//! The parser has refused all of this with line and column; a node checks again, because it trusts bytes, not programs.

use ipnet::IpNet;

use super::{Group, GroupOrNetwork, InvalidSlice, Keep, Slice};
use crate::firewall::{Peers, Rule, Service, Verdict};
use crate::network::{self, InvalidNetwork};

/// The most groups in one slice, and in one policy.
pub const GROUPS_MAX: usize = 512;
/// The most rules in one slice, both directions together: nft loads 5,000 in 0.2 s (facts.md, F).
pub const RULES_MAX: usize = 2_000;
/// The most keeps in one slice; each is a connection that a witness makes, twice, within the guard's time.
pub const KEEPS_MAX: usize = 32;
/// The most groups and networks in one list.
pub const NETWORKS_MAX: usize = 1_000;
/// The most ports and ranges in one rule.
pub const SERVICES_MAX: usize = 256;
/// An origin goes into an nft comment, which holds 128 bytes.
const ORIGIN_BYTES_MAX: usize = 100;

/// What is wrong with one part of a slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A list is longer than any node should load.
    #[error("{got} {what} where at most {max} fit; split the policy over more selectors")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many may be.
        max: usize,
    },
    /// A list that would match nothing.
    #[error("an empty list of {0}; name at least one")]
    Empty(&'static str),
    /// A name that nft or a reader would take for something else.
    #[error("not a group's name; write a lower-case letter, then up to 47 letters, digits, '-' and '_'")]
    GroupName,
    /// An origin that could leave the nft comment it is written into.
    #[error("not a rule's origin; write file:line")]
    Origin,
    /// A network that matches nothing, or more than it shows.
    #[error(transparent)]
    Network(#[from] InvalidNetwork),
    /// Ports out of order, or port 0.
    #[error("ports {first}-{last} are no range; write the lower port first, 1 at least")]
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// A rule or keep names what the slice does not define.
    #[error("group '{0}' is not defined in this slice")]
    UnknownGroup(String),
    /// A member left out of a denied group would be let in.
    #[error("a deny rule names group '{0}'; a deny takes addresses only")]
    DenyOfGroup(String),
    /// Management must not depend on what the hub says of the inventory.
    #[error("a keep names selector group '{0}'; a keep takes literal groups and addresses only")]
    MovingKeep(String),
}

impl Slice {
    /// Checks everything that [`Slice`] promises.
    pub(crate) fn check(&self) -> Result<(), InvalidSlice> {
        let at = |place: &str, checked: Result<(), Flaw>| {
            checked.map_err(|flaw| InvalidSlice::Unsound {
                selector: self.selector.clone(),
                place: place.chars().take(ORIGIN_BYTES_MAX).collect(),
                flaw,
            })
        };
        at("groups", at_most("groups", self.groups.len(), GROUPS_MAX))?;
        at(
            "rules",
            at_most("rules", self.inbound.len() + self.outbound.len(), RULES_MAX),
        )?;
        at("keep", at_most("keeps", self.keep.len(), KEEPS_MAX))?;
        for (name, group) in &self.groups {
            at(&format!("group '{name}'"), check_group(name, group))?;
        }
        for rule in self.inbound.iter().chain(&self.outbound) {
            at(&format!("rule {}", rule.origin), self.check_rule(rule))?;
        }
        for keep in &self.keep {
            at(&format!("keep of tcp {}", keep.tcp), self.check_keep(keep))?;
        }
        Ok(())
    }

    fn check_rule(&self, rule: &Rule) -> Result<(), Flaw> {
        if !is_origin(&rule.origin) {
            return Err(Flaw::Origin);
        }
        at_most("ports", rule.services.len(), SERVICES_MAX)?;
        for &Service { first, last, .. } in &rule.services {
            if first == 0 || first > last {
                return Err(Flaw::Ports { first, last });
            }
        }
        let Peers::These { groups, networks } = &rule.peers else {
            return Ok(());
        };
        listed("peers", groups.len() + networks.len())?;
        if let (Verdict::Deny, Some(group)) = (rule.verdict, groups.first()) {
            return Err(Flaw::DenyOfGroup(group.clone()));
        }
        for name in groups {
            self.group(name)?;
        }
        check_networks(networks)
    }

    fn check_keep(&self, keep: &Keep) -> Result<(), Flaw> {
        if keep.tcp == 0 {
            return Err(Flaw::Ports { first: 0, last: 0 });
        }
        listed("places to reach it from", keep.from.len())?;
        for entry in &keep.from {
            match entry {
                GroupOrNetwork::Network(network) => network::check(network)?,
                GroupOrNetwork::Group(name) => {
                    if let Group::Selected { .. } = self.group(name)? {
                        return Err(Flaw::MovingKeep(name.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Result<&Group, Flaw> {
        self.groups
            .get(name)
            .ok_or_else(|| Flaw::UnknownGroup(name.chars().take(80).collect()))
    }
}

fn check_group(name: &str, group: &Group) -> Result<(), Flaw> {
    if !is_group_name(name) {
        return Err(Flaw::GroupName);
    }
    let (what, networks) = match group {
        Group::Selected { within, .. } => ("networks under 'within'", within),
        Group::Literal { addresses } => ("addresses", addresses),
    };
    listed(what, networks.len())?;
    check_networks(networks)
}

fn check_networks(networks: &[IpNet]) -> Result<(), Flaw> {
    networks
        .iter()
        .try_for_each(|network| Ok(network::check(network)?))
}

fn listed(what: &'static str, got: usize) -> Result<(), Flaw> {
    if got == 0 {
        return Err(Flaw::Empty(what));
    }
    at_most(what, got, NETWORKS_MAX)
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), Flaw> {
    if got > max {
        return Err(Flaw::TooMany { what, got, max });
    }
    Ok(())
}

/// Whether `text` can name a group: also an nft set's name, and never mistaken for an address or for `any`.
pub(crate) fn is_group_name(text: &str) -> bool {
    text != "any"
        && (1..=48).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// Whether `text` can name a policy file: it becomes part of origins.
pub(crate) fn is_file_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn is_origin(text: &str) -> bool {
    text.len() <= ORIGIN_BYTES_MAX
        && text.split_once(':').is_some_and(|(file, line)| {
            is_file_name(file) && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
        })
}
