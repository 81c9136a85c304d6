//! Slices: the part of a release for one selector, content-addressed.
//!
//! A slice is signed through its digest in the manifest, so its bytes have one spelling: JSON as [`Slice::to_bytes`]
//! writes it, `kind` and `format` first. Invariant: a [`Slice`] is sound (`check` says what that is); both ways to make one,
//! [`crate::parse::load`] and [`Slice::parse`], end there.

mod check;
mod members;

use std::collections::BTreeMap;

use holdfast_proto::SLICE_BYTES_MAX;
use holdfast_proto::ids::Digest;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::firewall::{Peers, Rule, Verdict};
pub use crate::network::InvalidNetwork;
use crate::selector::Selector;
pub use check::{Flaw, GROUPS_MAX, KEEPS_MAX, NETWORKS_MAX, RULES_MAX, SERVICES_MAX};
pub(crate) use check::{is_file_name, is_group_name};
pub use members::{INTERFACES_MAX, Members};

const KIND: &str = "slice";
const FORMAT: u32 = 1;

/// What one selector's nodes are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    kind: String,
    format: u32,
    pub(crate) selector: Selector,
    /// The groups that the rules and keeps name, by name.
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) inbound: Vec<Rule>,
    pub(crate) outbound: Vec<Rule>,
    pub(crate) outbound_default: Verdict,
    pub(crate) keep: Vec<Keep>,
}

/// A named set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Group {
    /// The addresses of the nodes that a selector matches: they move with the inventory, but never out of `within`.
    Selected {
        /// Whose addresses, and on which interfaces.
        members: Members,
        /// The bounds that the operator signed; not empty.
        within: Vec<IpNet>,
    },
    /// Exactly these addresses.
    Literal {
        /// Not empty.
        addresses: Vec<IpNet>,
    },
}

/// A TCP port that must stay reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The port.
    pub tcp: u16,
    /// From where: literal groups and networks; not empty.
    pub from: Vec<GroupOrNetwork>,
}

/// One entry of a list of peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupOrNetwork {
    /// A group's name.
    Group(String),
    /// A network; a single address is a /32 or /128.
    Network(IpNet),
}

/// Why bytes are no slice, or slices make no state. Nothing of them is applied.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSlice {
    /// Too long to be read at all.
    #[error("slice of {0} bytes; at most {SLICE_BYTES_MAX} are read, split the policy over more selectors")]
    TooLarge(usize),
    /// Not JSON, or not of a slice's shape; an unknown field is refused, never skipped.
    #[error("slice cannot be read; its maker may be newer than this program, upgrade it")]
    Syntax(#[source] serde_json::Error),
    /// Another document, or a newer format.
    #[error(
        "document of kind '{kind}', format {format}, where slice, format {FORMAT}, is read; upgrade this program"
    )]
    Unknown {
        /// The kind that was written, cut to 40 characters.
        kind: String,
        /// The format that was written.
        format: u32,
    },
    /// The same content in another spelling: a repeated key, other spacing, another order.
    #[error("slice {0} is not in its canonical form; make it again with `holdfast policy apply`")]
    Spelling(Selector),
    /// It says something that a slice must not say.
    #[error("slice {selector}, {place}: {flaw}")]
    Unsound {
        /// Of which slice.
        selector: Selector,
        /// Which part of it: a group's name, a rule's origin, a keep's port.
        place: String,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Two slices of one node with the same selector.
    #[error("slice {0} is there twice; a release has one slice for each selector")]
    Twice(Selector),
    /// Two slices of one node define a group differently, so that a rule would not mean what was signed.
    #[error("group '{group}' differs between slices {one} and {other}; apply the whole policy anew")]
    GroupDiffers {
        /// The group.
        group: String,
        /// The slice read first.
        one: Selector,
        /// The slice that disagrees.
        other: Selector,
    },
}

/// The first fields, read leniently: a newer format is to be named as such, not as an unknown field.
#[derive(Deserialize)]
struct Head {
    kind: String,
    format: u32,
}

impl Slice {
    /// A slice that asks for nothing but the defaults.
    pub(crate) fn new(selector: Selector) -> Self {
        Self {
            kind: KIND.to_owned(),
            format: FORMAT,
            selector,
            groups: BTreeMap::new(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            outbound_default: Verdict::Allow,
            keep: Vec::new(),
        }
    }

    /// Reads and checks a slice.
    ///
    /// # Errors
    /// [`InvalidSlice`] unless the bytes are exactly those that [`Slice::to_bytes`] writes for a sound slice.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidSlice> {
        if bytes.len() > SLICE_BYTES_MAX {
            return Err(InvalidSlice::TooLarge(bytes.len()));
        }
        let head: Head = serde_json::from_slice(bytes).map_err(InvalidSlice::Syntax)?;
        if (head.kind.as_str(), head.format) != (KIND, FORMAT) {
            return Err(InvalidSlice::Unknown {
                kind: head.kind.chars().take(40).collect(),
                format: head.format,
            });
        }
        let slice: Self = serde_json::from_slice(bytes).map_err(InvalidSlice::Syntax)?;
        slice.check()?;
        if slice.to_bytes() != bytes {
            return Err(InvalidSlice::Spelling(slice.selector));
        }
        Ok(slice)
    }

    /// The bytes that are stored, sent and named by digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a slice has text keys only, which JSON can always write")
    }

    /// The digest of [`Slice::to_bytes`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Which nodes it is for.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The groups that its rules and keeps name, by name.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    /// The ports that must stay reachable.
    #[must_use]
    pub fn keep(&self) -> &[Keep] {
        &self.keep
    }

    /// The members that [`crate::render::render`] needs to know.
    pub fn members(&self) -> impl Iterator<Item = &Members> {
        self.groups.values().filter_map(|group| match group {
            Group::Selected { members, .. } => Some(members),
            Group::Literal { .. } => None,
        })
    }

    /// The names of groups that rules and keeps name, with repetitions.
    pub(crate) fn named_groups(&self) -> impl Iterator<Item = &str> {
        let in_rules = self
            .inbound
            .iter()
            .chain(&self.outbound)
            .flat_map(|rule| match &rule.peers {
                Peers::Any => &[][..],
                Peers::These { groups, .. } => groups,
            });
        let in_keeps = self
            .keep
            .iter()
            .flat_map(|keep| &keep.from)
            .filter_map(|entry| match entry {
                GroupOrNetwork::Group(name) => Some(name),
                GroupOrNetwork::Network(_) => None,
            });
        in_rules.chain(in_keeps).map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
