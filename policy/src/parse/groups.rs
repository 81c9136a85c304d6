//! The section `groups:`: names for addresses, each defined once over all files.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_proto::ids::InvalidId;
use holdfast_proto::labels::Labels;
use ipnet::IpNet;

use super::Outline;
use super::diagnostic::{Diagnostic, Position};
use super::nearest::nearest;
use super::node::{Node, Value};
use super::walk::{Walker, cut};
use crate::interface::InterfacePattern;
use crate::network;
use crate::selector::Selector;
use crate::slice::{GROUPS_MAX, Group, INTERFACES_MAX, Members, NETWORKS_MAX, Slice, is_group_name};

/// Every group of a policy, by name.
pub(super) struct Groups {
    definitions: BTreeMap<String, Definition>,
    /// Whether every file was read; otherwise an unknown name is no mistake of who uses it.
    complete: bool,
}

struct Definition {
    /// None if there is a mistake in it; the name is known all the same, so that its uses are no further mistakes.
    group: Option<Group>,
    origin: String,
}

impl Groups {
    /// Reads the groups of these files; `complete` says whether they are all there are.
    pub(super) fn read(outlines: &[Outline<'_>], complete: bool, found: &mut Vec<Diagnostic>) -> Self {
        let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
        for outline in outlines {
            let mut walker = Walker::new(outline.name, found);
            let section = outline
                .groups
                .and_then(|node| walker.entries(node, "groups", "group names and groups"));
            for (key, node) in section.unwrap_or_default() {
                if !is_group_name(&key.text) {
                    let help = "write a lower-case letter, then up to 47 lower-case letters, digits, '-' and '_'; not 'any'";
                    walker.report(key.at, format!("'{}' cannot name a group", cut(&key.text)), help);
                    continue;
                }
                let group = group(&mut walker, node);
                if let Some(first) = definitions.get(&key.text) {
                    let message = format!("group '{}' is already defined at {}", key.text, first.origin);
                    walker.report(key.at, message, "give one of the two another name, or join them");
                    continue;
                }
                if definitions.len() == GROUPS_MAX {
                    let message = format!("more than {GROUPS_MAX} groups");
                    walker.report(
                        key.at,
                        message,
                        "write addresses in the rules, or select by fewer labels",
                    );
                    return Self {
                        definitions,
                        complete: false,
                    };
                }
                let origin = walker.origin(key.at);
                definitions.insert(key.text.clone(), Definition { group, origin });
            }
        }
        Self {
            definitions,
            complete,
        }
    }

    /// The group called `name`, or a report; none as well if its definition is wrong.
    pub(super) fn find(&self, walker: &mut Walker<'_>, at: Position, name: &str) -> Option<&Group> {
        let Some(definition) = self.definitions.get(name) else {
            if self.complete && walker.has_room() {
                let help = match nearest(name, self.definitions.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean '{near}'? otherwise define it under `groups:`"),
                    None => "define it under `groups:`, in this file or another".to_owned(),
                };
                walker.report(at, format!("there is no group '{}'", cut(name)), help);
            }
            return None;
        };
        definition.group.as_ref()
    }

    /// The literal addresses of the group called `name`, for a suggestion.
    pub(super) fn addresses(&self, name: &str) -> Option<&[IpNet]> {
        match self.definitions.get(name)?.group.as_ref()? {
            Group::Literal { addresses } => Some(addresses),
            Group::Selected { .. } => None,
        }
    }

    /// The groups that the rules and keeps of `slice` name.
    pub(super) fn named(&self, slice: &Slice) -> BTreeMap<String, Group> {
        let definition = |name: &str| self.definitions.get(name)?.group.clone();
        slice
            .named_groups()
            .filter_map(|name| Some((name.to_owned(), definition(name)?)))
            .collect()
    }
}

/// One group: either selected or literal.
fn group(walker: &mut Walker<'_>, node: &Node) -> Option<Group> {
    let fields = walker.fields(node, "a group", ["select", "within", "interfaces", "addresses"])?;
    match fields {
        [Some(select), Some(within), interfaces, None] => {
            let within = networks(walker, within, "within");
            let interfaces = interfaces.map(|node| patterns(walker, node));
            let selector = selector(walker, select)?;
            let members = Members::new(selector, interfaces.unwrap_or_default())
                .map_err(|error| walker.report(node.at, error.to_string(), INTERFACES_HELP))
                .ok()?;
            Some(Group::Selected { members, within })
        }
        [Some(select), None, _, None] => {
            let help = "write `within: [10.77.0.0/24]`: the only addresses that members may ever have";
            walker.report(select.at, "a group with `select` needs `within`", help);
            None
        }
        [None, None, None, Some(addresses)] => {
            let addresses = networks(walker, addresses, "addresses");
            Some(Group::Literal { addresses })
        }
        _ => {
            let help = "write either `select` and `within` (addresses of nodes; `interfaces` too), or `addresses` alone";
            walker.report(
                node.at,
                "a group is either selected by labels or a list of addresses",
                help,
            );
            None
        }
    }
}

/// A list of networks.
fn networks(walker: &mut Walker<'_>, node: &Node, what: &str) -> Vec<IpNet> {
    let items = walker.items(
        node,
        what,
        NETWORKS_MAX,
        "write at least one network, or remove the group",
    );
    items
        .iter()
        .filter_map(|item| {
            let text = walker.text(item, "an address")?;
            network(walker, item.at, text)
        })
        .collect()
}

const INTERFACES_HELP: &str =
    "write names as `ip link` shows them, without what follows an '@', or beginnings: [eth0, \"ens*\"]";

/// A list of interfaces.
fn patterns(walker: &mut Walker<'_>, node: &Node) -> BTreeSet<InterfacePattern> {
    let if_empty = "name at least one interface, or remove `interfaces`: then all count but those of containers and guests";
    let items = walker.items(node, "interfaces", INTERFACES_MAX, if_empty);
    items
        .iter()
        .filter_map(|item| {
            let text = walker.text(item, "an interface")?;
            text.parse()
                .map_err(|error: InvalidId| walker.report(item.at, error.to_string(), INTERFACES_HELP))
                .ok()
        })
        .collect()
}

/// One network, or a report.
pub(super) fn network(walker: &mut Walker<'_>, at: Position, text: &str) -> Option<IpNet> {
    network::parse(text)
        .map_err(|error| walker.report(at, error.to_string(), error.help()))
        .ok()
}

/// `all`, or a mapping of labels.
pub(super) fn selector(walker: &mut Walker<'_>, node: &Node) -> Option<Selector> {
    let example = "write `select: { role: db }`, or `select: all`";
    match &node.value {
        Value::Text(text) if text == "all" => return Some(Selector::all()),
        Value::Map(entries) if !entries.is_empty() => {
            let pairs: Vec<_> = entries
                .iter()
                .map(|(key, value)| {
                    Some((
                        key.text.clone(),
                        walker.text(value, "a label's value")?.to_owned(),
                    ))
                })
                .collect();
            let pairs: BTreeMap<_, _> = pairs.into_iter().collect::<Option<_>>()?;
            let selector = Labels::try_from(pairs).and_then(Selector::try_from);
            return selector
                .map_err(|error| walker.report(node.at, error.to_string(), example))
                .ok();
        }
        _ => {}
    }
    let message = format!(
        "a selector is `all` or a mapping of labels, but here is {}",
        node.described()
    );
    walker.report(node.at, message, example);
    None
}
