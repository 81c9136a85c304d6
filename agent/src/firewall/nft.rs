//! Renders a [`Firewall`] to the JSON that `nft -j -f -` loads. Nothing outside this file knows the crate nftables.
//!
//! The order of rules is that of [`holdfast_policy::firewall`]: loopback; denies; established flows; what a host cannot
//! live without; allows; the default. One rule of the policy becomes as many as its peers and services need, each with
//! the policy's place (`web.yaml:12`) as its comment.

use std::collections::{BTreeMap, HashSet};

use holdfast_policy::firewall::{Direction, Firewall, Peers, Protocol, Rule, Service, Verdict};
use holdfast_proto::ids::Digest;
use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{
    CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem,
};
use nftables::schema::{self, Chain, NfListObject, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::{Counter, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

/// The name of our table; its family is `inet`.
pub const TABLE: &str = "holdfast";

/// Before the filter hooks of others (priority 0), so that what we drop they need not look at.
const PRIORITY: i32 = -10;

/// The kernel keeps 128 bytes of user data for a comment, a type-length header and a final zero included.
const COMMENT_BYTES_MAX: usize = 120;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    const fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The networks of this family, as few as possible: nft refuses a set whose intervals overlap.
    fn of(self, networks: &[IpNet]) -> Vec<IpNet> {
        let mut own: Vec<_> = networks
            .iter()
            .filter(|network| {
                matches!(
                    (self, network),
                    (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_))
                )
            })
            .map(IpNet::trunc)
            .collect();
        own = IpNet::aggregate(&own);
        own.sort();
        own
    }

    fn set_name(self, number: usize) -> String {
        match self {
            Self::V4 => format!("g_{number}_v4"),
            Self::V6 => format!("g_{number}_v6"),
        }
    }
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

/// The rules of one chain in the making.
struct ChainRules<'a> {
    direction: Direction,
    sets: &'a BTreeMap<&'a str, usize>,
    rules: Vec<schema::Rule<'a>>,
}

impl<'a> ChainRules<'a> {
    const fn new(direction: Direction, sets: &'a BTreeMap<&'a str, usize>) -> Self {
        Self {
            direction,
            sets,
            rules: Vec::new(),
        }
    }

    fn all(mut self, rules: &[Rule], default: Verdict) -> Vec<schema::Rule<'a>> {
        self.loopback();
        self.of_policy(rules, Verdict::Deny);
        let known = equals_any(
            ct_state(),
            vec![text("established"), text("related")],
            Operator::IN,
        );
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
            vec![equals(field("ip", "protocol"), text("igmp"))],
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

fn port_range<'a>(first: u16, last: u16) -> Expression<'a> {
    if first == last {
        return Expression::Number(first.into());
    }
    let range = [Expression::Number(first.into()), Expression::Number(last.into())];
    Expression::Range(Box::new(Range { range }))
}

fn network<'a>(network: IpNet) -> Expression<'a> {
    let addr = Expression::String(network.addr().to_string().into());
    if network.prefix_len() == network.max_prefix_len() {
        return addr;
    }
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(addr),
        len: network.prefix_len().into(),
    }))
}

fn field<'a>(protocol: &'static str, field: &'static str) -> Expression<'a> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

fn ct_state<'a>() -> Expression<'a> {
    Expression::Named(NamedExpression::CT(CT {
        key: "state".into(),
        family: None,
        dir: None,
    }))
}

fn text<'a>(value: &'static str) -> Expression<'a> {
    Expression::String(value.into())
}

fn equals<'a>(left: Expression<'a>, right: Expression<'a>) -> Statement<'a> {
    Statement::Match(Match {
        left,
        right,
        op: Operator::EQ,
    })
}

fn equals_any<'a>(left: Expression<'a>, right: Vec<Expression<'a>>, op: Operator) -> Statement<'a> {
    Statement::Match(Match {
        left,
        right: Expression::List(right),
        op,
    })
}

fn in_set<'a>(left: Expression<'a>, elements: Vec<Expression<'a>>) -> Statement<'a> {
    let set = elements.into_iter().map(SetItem::Element).collect();
    equals(left, Expression::Named(NamedExpression::Set(set)))
}

/// A comment that the kernel has room for and that survives `nft list` into a file and back: nft does not escape quotes.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_graphic() && c != '"' && c != '\\' || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .take(COMMENT_BYTES_MAX)
        .collect()
}

