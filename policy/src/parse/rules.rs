//! The section `policies:`: for whom, what may come in and go out, and what must stay reachable.

use super::diagnostic::Position;
use super::groups::{Groups, network, selector};
use super::node::{Node, Value};
use super::walk::{Walker, cut};
use crate::firewall::{Peers, Protocol, Rule, Service, Verdict};
use crate::network::{looks_like_one, shown};
use crate::selector::Selector;
use crate::slice::{Group, GroupOrNetwork, Keep, NETWORKS_MAX, SERVICES_MAX};

/// One entry of `policies:`.
pub(super) struct Entry {
    pub(super) selector: Selector,
    pub(super) inbound: Vec<Rule>,
    pub(super) outbound: Vec<Rule>,
    pub(super) outbound_default: Verdict,
    pub(super) keep: Vec<Keep>,
}

/// What the two directions call things.
struct Direction {
    rule: &'static str,
    peers: &'static str,
}
const INBOUND: Direction = Direction {
    rule: "an inbound rule",
    peers: "from",
};
const OUTBOUND: Direction = Direction {
    rule: "an outbound rule",
    peers: "to",
};

/// Reads one entry; none if it does not even say for whom.
pub(super) fn policy(walker: &mut Walker<'_>, groups: &Groups, node: &Node) -> Option<Entry> {
    let keys = ["select", "inbound", "outbound", "outbound_default", "keep"];
    let [select, inbound, outbound, default, keep] = walker.fields(node, "a policy", keys)?;
    let inbound = rules(walker, groups, inbound, "inbound", &INBOUND);
    let outbound = rules(walker, groups, outbound, "outbound", &OUTBOUND);
    let outbound_default = default.map_or(Verdict::Allow, |node| verdict(walker, node));
    let keep = match keep {
        Some(node) => walker
            .list(node, "keep")
            .iter()
            .filter_map(|item| one_keep(walker, groups, item))
            .collect(),
        None => Vec::new(),
    };
    let Some(select) = select else {
        walker.report(
            node.at,
            "the policy does not say for whom it is",
            "add `select: { role: db }`, or `select: all`",
        );
        return None;
    };
    let selector = selector(walker, select)?;
    Some(Entry {
        selector,
        inbound,
        outbound,
        outbound_default,
        keep,
    })
}

fn rules(
    walker: &mut Walker<'_>,
    groups: &Groups,
    node: Option<&Node>,
    what: &str,
    direction: &Direction,
) -> Vec<Rule> {
    let items = node.map(|node| walker.list(node, what)).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| rule(walker, groups, item, direction))
        .collect()
}

fn rule(walker: &mut Walker<'_>, groups: &Groups, node: &Node, direction: &Direction) -> Option<Rule> {
    let (verdict, body) = match walker.fields(node, "a rule", ["allow", "deny"])? {
        [Some(body), None] => (Verdict::Allow, body),
        [None, Some(body)] => (Verdict::Deny, body),
        _ => {
            let help = "write one `- allow: {..}` or `- deny: {..}` for each rule";
            walker.report(node.at, "a rule is exactly one of `allow` and `deny`", help);
            return None;
        }
    };
    let [tcp, udp, peers] = walker.fields(body, direction.rule, ["tcp", "udp", direction.peers])?;
    let mut services = Vec::new();
    for (protocol, name, ports) in [(Protocol::Tcp, "tcp", tcp), (Protocol::Udp, "udp", udp)] {
        let if_empty =
            format!("name ports, or remove `{name}`; a rule without tcp and udp means every protocol");
        let items = ports
            .map(|node| walker.items(node, name, SERVICES_MAX, &if_empty))
            .unwrap_or_default();
        services.extend(items.iter().filter_map(|item| service(walker, protocol, item)));
    }
    let Some(peers) = peers else {
        let message = format!("{} does not say `{}`", direction.rule, direction.peers);
        let help = format!(
            "add `{0}: [..]` with groups or addresses, or `{0}: any`",
            direction.peers
        );
        walker.report(body.at, message, help);
        return None;
    };
    Some(Rule {
        verdict,
        peers: peer_list(walker, groups, peers, verdict, direction.peers),
        services,
        origin: walker.origin(node.at),
    })
}

/// `any`, or a list of groups and networks.
fn peer_list(walker: &mut Walker<'_>, groups: &Groups, node: &Node, verdict: Verdict, key: &str) -> Peers {
    if matches!(&node.value, Value::Text(text) if text == "any") {
        return Peers::Any;
    }
    let (mut named, mut networks) = (Vec::new(), Vec::new());
    let if_empty = format!("name groups or addresses, write `{key}: any`, or remove the rule");
    for item in walker.items(node, key, NETWORKS_MAX, &if_empty) {
        let Some(text) = walker.text(item, "a group or an address") else {
            continue;
        };
        if looks_like_one(text) {
            networks.extend(network(walker, item.at, text));
        } else if verdict == Verdict::Deny {
            refuse_denied_group(walker, groups, item.at, text);
        } else if group(walker, groups, item.at, text, key).is_some() {
            named.push(text.to_owned());
        }
    }
    Peers::These {
        groups: named,
        networks,
    }
}

/// A member that the hub leaves out of a denied group would be let in, so that a deny names addresses.
fn refuse_denied_group(walker: &mut Walker<'_>, groups: &Groups, at: Position, name: &str) {
    let help = match groups.addresses(name) {
        Some(addresses) => {
            let addresses: Vec<_> = addresses.iter().take(5).map(shown).collect();
            format!("write its addresses themselves, such as {}", addresses.join(", "))
        }
        None => "write addresses or networks themselves; who is in a group may change without your signature"
            .to_owned(),
    };
    walker.report(at, format!("a deny rule names the group '{}'", cut(name)), help);
}

fn group<'g>(
    walker: &mut Walker<'_>,
    groups: &'g Groups,
    at: Position,
    name: &str,
    key: &str,
) -> Option<&'g Group> {
    if name == "any" {
        walker.report(
            at,
            "'any' stands in a list",
            format!("write `{key}: any` without brackets"),
        );
        return None;
    }
    groups.find(walker, at, name)
}

/// A port, or a range of ports.
fn service(walker: &mut Walker<'_>, protocol: Protocol, node: &Node) -> Option<Service> {
    let range = match &node.value {
        Value::Number(number) => u16::try_from(*number).ok().map(|port| (port, port)),
        Value::Text(text) => match text.split_once('-') {
            Some((first, last)) => port(first).zip(port(last)),
            None => port(text).map(|port| (port, port)),
        },
        _ => None,
    };
    match range.filter(|(first, last)| *first > 0 && *last > 0) {
        Some((first, last)) if first <= last => Some(Service {
            protocol,
            first,
            last,
        }),
        Some((first, last)) => {
            let message = format!("the range {first}-{last} runs backwards");
            walker.report(node.at, message, format!("write \"{last}-{first}\""));
            None
        }
        None => {
            let message = format!("{} is no port and no range of ports", node.described());
            walker.report(
                node.at,
                message,
                "write a number from 1 to 65535, or \"first-last\"",
            );
            None
        }
    }
}

/// A port in its one spelling: u16's parser takes "+22" and "022", too.
fn port(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|port| port.to_string() == text)
}

fn verdict(walker: &mut Walker<'_>, node: &Node) -> Verdict {
    match &node.value {
        Value::Text(text) if text == "allow" => Verdict::Allow,
        Value::Text(text) if text == "deny" => Verdict::Deny,
        _ => {
            let message = format!(
                "outbound_default is allow or deny, but here is {}",
                node.described()
            );
            walker.report(
                node.at,
                message,
                "write `outbound_default: deny`, or remove the line for allow",
            );
            Verdict::Allow
        }
    }
}

/// One port that must stay reachable.
fn one_keep(walker: &mut Walker<'_>, groups: &Groups, node: &Node) -> Option<Keep> {
    let [tcp, from] = walker.fields(node, "a keep", ["tcp", "from"])?;
    let port = match tcp.map(|node| &node.value) {
        Some(Value::Number(number)) => u16::try_from(*number).ok().filter(|port| *port > 0),
        _ => None,
    };
    if port.is_none() {
        let help = "write one port, such as `{ tcp: 22, from: [admins] }`; a keep for each port";
        walker.report(
            tcp.map_or(node.at, |tcp| tcp.at),
            "a keep names one TCP port from 1 to 65535",
            help,
        );
    }
    let Some(from) = from else {
        let help = "add `from: [..]` with the addresses you manage from, or a group of them";
        walker.report(node.at, "a keep does not say `from`", help);
        return None;
    };
    let if_empty = "name the addresses you manage from";
    let items = walker.items(from, "from", NETWORKS_MAX, if_empty);
    let from = items
        .iter()
        .filter_map(|item| keep_source(walker, groups, item))
        .collect();
    Some(Keep { tcp: port?, from })
}

/// An address, or a group of literal ones: management must not depend on what a hub says of the inventory.
fn keep_source(walker: &mut Walker<'_>, groups: &Groups, node: &Node) -> Option<GroupOrNetwork> {
    let text = walker.text(node, "a group or an address")?;
    if looks_like_one(text) {
        return network(walker, node.at, text).map(GroupOrNetwork::Network);
    }
    if text == "any" {
        walker.report(
            node.at,
            "a keep cannot be from 'any'",
            "name the addresses you manage from",
        );
        return None;
    }
    if let Group::Selected { .. } = groups.find(walker, node.at, text)? {
        let help =
            "name addresses, or a group with `addresses:`; a selector group moves without your signature";
        walker.report(node.at, format!("a keep names the selector group '{text}'"), help);
        return None;
    }
    Some(GroupOrNetwork::Group(text.to_owned()))
}
