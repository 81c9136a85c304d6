//! The rules of one chain, in the order in which they judge.

use std::collections::BTreeMap;

use holdfast_policy::firewall::{Direction, Peers, Protocol, Rule, Service, Verdict};
use nftables::expr::{Expression, Meta, MetaKey, NamedExpression};
use nftables::schema;
use nftables::stmt::{Counter, Statement};
use nftables::types::NfFamily;

use super::terms::{
    Family, comment, ct_state, equals, field, in_set, matches_any, network, port_range, text,
};
use super::{TABLE, chain_name};

/// ICMP types without which paths break silently, and echo, with which people look for the cause (RFC 4890 for ICMPv6).
const ICMP: [&str; 4] = [
    "destination-unreachable",
    "time-exceeded",
    "parameter-problem",
    "echo-request",
];
const ICMPV6: [&str; 14] = [
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
    "echo-request",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "nd-redirect",
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
];
/// By number: nft knows the name only from /etc/protocols, which a minimal Debian lacks (package netbase).
const IGMP: u32 = 2;

/// The rules of one chain in the making.
pub(super) struct ChainRules<'a> {
    direction: Direction,
    sets: &'a BTreeMap<&'a str, usize>,
    rules: Vec<schema::Rule<'a>>,
}

impl<'a> ChainRules<'a> {
    pub(super) const fn new(direction: Direction, sets: &'a BTreeMap<&'a str, usize>) -> Self {
        Self {
            direction,
            sets,
            rules: Vec::new(),
        }
    }

    pub(super) fn all(mut self, rules: &[Rule], default: Verdict) -> Vec<schema::Rule<'a>> {
        self.loopback();
        self.of_policy(rules, Verdict::Deny);
        let known = matches_any(ct_state(), vec![text("established"), text("related")]);
        self.push(vec![known], Verdict::Allow, "established");
        self.essentials();
        self.of_policy(rules, Verdict::Allow);
        if default == Verdict::Deny {
            self.push(vec![], Verdict::Deny, "default");
        }
        self.rules
    }

    fn loopback(&mut self) {
        let key = match self.direction {
            Direction::Inbound => MetaKey::Iif,
            Direction::Outbound => MetaKey::Oif,
        };
        let device = Expression::Named(NamedExpression::Meta(Meta { key }));
        self.push(vec![equals(device, text("lo"))], Verdict::Allow, "loopback");
    }

    /// What a host cannot live without.
    fn essentials(&mut self) {
        let any_of = |types: &[&'static str]| types.iter().map(|&name| text(name)).collect();
        self.push(
            vec![in_set(field("icmp", "type"), any_of(&ICMP))],
            Verdict::Allow,
            "icmp",
        );
        self.push(
            vec![in_set(field("icmpv6", "type"), any_of(&ICMPV6))],
            Verdict::Allow,
            "icmpv6",
        );
        // IPv4's counterpart of MLD: without it a snooping switch stops delivering multicast.
        self.push(
            vec![equals(field("ip", "protocol"), Expression::Number(IGMP))],
            Verdict::Allow,
            "igmp",
        );
        // A lease's first reply belongs to no flow: the request went to everyone.
        for (server, client, name) in [(67, 68, "dhcp"), (547, 546, "dhcpv6")] {
            let (from, to) = match self.direction {
                Direction::Inbound => (server, client),
                Direction::Outbound => (client, server),
            };
            let ports = vec![
                equals(field("udp", "sport"), Expression::Number(from)),
                equals(field("udp", "dport"), Expression::Number(to)),
            ];
            self.push(ports, Verdict::Allow, name);
        }
    }

    fn of_policy(&mut self, rules: &[Rule], verdict: Verdict) {
        for rule in rules.iter().filter(|rule| rule.verdict == verdict) {
            for peers in self.peers(&rule.peers) {
                for service in services(&rule.services) {
                    let matches = peers.iter().chain(&service).cloned().collect();
                    self.push(matches, verdict, &rule.origin);
                }
            }
        }
    }

    /// One list of matches per nft rule that it takes; no list, no peer.
    fn peers(&self, peers: &Peers) -> Vec<Option<Statement<'a>>> {
        let Peers::These { groups, networks } = peers else {
            return vec![None];
        };
        let side = match self.direction {
            Direction::Inbound => "saddr",
            Direction::Outbound => "daddr",
        };
        let address = |family: Family| field(family.header(), side);
        let mut matches = Vec::new();
        for group in groups {
            for family in Family::BOTH {
                let set = self.sets.get(group.as_str());
                let name = set.map_or_else(|| "no_such_group".to_owned(), |&number| family.set_name(number));
                matches.push(Some(equals(
                    address(family),
                    Expression::String(format!("@{name}").into()),
                )));
            }
        }
        for family in Family::BOTH {
            let literal: Vec<_> = family.of(networks).into_iter().map(network).collect();
            if !literal.is_empty() {
                matches.push(Some(in_set(address(family), literal)));
            }
        }
        matches
    }

    fn push(&mut self, matches: Vec<Statement<'a>>, verdict: Verdict, origin: &str) {
        let mut statements = matches;
        statements.push(Statement::Counter(Counter::Anonymous(None)));
        statements.push(match verdict {
            Verdict::Allow => Statement::Accept(None),
            Verdict::Deny => Statement::Drop(None),
        });
        self.rules.push(schema::Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: chain_name(self.direction).into(),
            expr: statements.into(),
            comment: Some(comment(origin).into()),
            ..schema::Rule::default()
        });
    }
}

/// One match per protocol that is named; none at all matches every protocol.
fn services<'a>(services: &[Service]) -> Vec<Option<Statement<'a>>> {
    if services.is_empty() {
        return vec![None];
    }
    [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")]
        .into_iter()
        .map(|(protocol, header)| (header, merged_ports(services, protocol)))
        .filter(|(_, ports)| !ports.is_empty())
        .map(|(header, ports)| {
            let ports = ports
                .into_iter()
                .map(|(first, last)| port_range(first, last))
                .collect();
            Some(in_set(field(header, "dport"), ports))
        })
        .collect()
}

/// The ports of one protocol as ascending ranges that neither overlap nor touch.
fn merged_ports(services: &[Service], protocol: Protocol) -> Vec<(u16, u16)> {
    let mut ranges: Vec<_> = services
        .iter()
        .filter(|s| s.protocol == protocol)
        .map(|s| (s.first, s.last))
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}
