//! Short hands and strategies for this crate's tests: a small universe of addresses and names, so that things meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holdfast_proto::labels::Labels;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::firewall::{Direction, Flow, Peers, Protocol, Rule, Service, Verdict};
use crate::selector::Selector;
use crate::slice::{Group, GroupOrNetwork, Keep, Members, Slice};

pub(crate) fn net(text: &str) -> IpNet {
    crate::network::parse(text).unwrap()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

pub(crate) fn members_of(text: &str) -> Members {
    text.parse().unwrap()
}

pub(crate) fn labels(text: &str) -> Labels {
    selector(text).labels().clone()
}

pub(crate) fn these(groups: &[&str], networks: &[&str]) -> Peers {
    Peers::These {
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        networks: networks.iter().map(|text| net(text)).collect(),
    }
}

pub(crate) fn tcp(first: u16, last: u16) -> Service {
    Service {
        protocol: Protocol::Tcp,
        first,
        last,
    }
}

pub(crate) fn rule(verdict: Verdict, peers: Peers, services: &[Service], origin: &str) -> Rule {
    Rule {
        verdict,
        peers,
        services: services.to_vec(),
        origin: origin.to_owned(),
    }
}

/// The groups that every generated slice may name: two that move, one that does not.
pub(crate) fn groups() -> BTreeMap<String, Group> {
    let selected = |text, within: &[&str]| Group::Selected {
        members: members_of(text),
        within: within.iter().map(|text| net(text)).collect(),
    };
    let admins = vec![net("10.77.0.1"), net("fd00::1")];
    [
        ("admins", Group::Literal { addresses: admins }),
        ("db", selected("role=db on ens*,eth0", &["10.77.0.8/29"])),
        ("web", selected("role=web", &["10.77.0.0/28", "fd00::/125"])),
    ]
    .map(|(name, group)| (name.to_owned(), group))
    .into()
}

/// One of 32 addresses.
pub(crate) fn addresses() -> impl Strategy<Value = IpAddr> {
    (0..16_u8, any::<bool>()).prop_map(|(host, six)| {
        if six {
            address(&format!("fd00::{host:x}"))
        } else {
            address(&format!("10.77.0.{host}"))
        }
    })
}

/// Networks of one to 16 of those addresses.
pub(crate) fn networks() -> impl Strategy<Value = IpNet> {
    (addresses(), 0..=4_u8).prop_map(|(address, wider)| {
        let single = IpNet::from(address);
        IpNet::new(address, single.prefix_len() - wider).unwrap().trunc()
    })
}

fn services() -> impl Strategy<Value = Service> {
    (select(vec![Protocol::Tcp, Protocol::Udp]), 1..6_u16, 0..3_u16).prop_map(|(protocol, first, more)| {
        Service {
            protocol,
            first,
            last: first + more,
        }
    })
}

fn rules(file: &'static str) -> impl Strategy<Value = Rule> {
    let verdicts = select(vec![Verdict::Allow, Verdict::Deny]);
    let names = subsequence(
        vec!["admins".to_owned(), "db".to_owned(), "web".to_owned()],
        0..=3,
    );
    (
        verdicts,
        names,
        vec(networks(), 0..3),
        vec(services(), 0..3),
        1..9_u8,
    )
        .prop_map(move |(verdict, groups, networks, mut services, line)| {
            // As the parser writes them: tcp before udp.
            services.sort_by_key(|service| service.protocol);
            let groups = if verdict == Verdict::Deny {
                Vec::new()
            } else {
                groups
            };
            let peers = if groups.is_empty() && networks.is_empty() {
                Peers::Any
            } else {
                Peers::These { groups, networks }
            };
            rule(verdict, peers, &services, &format!("{file}:{line}"))
        })
}

fn keeps() -> impl Strategy<Value = Keep> {
    (1..6_u16, vec(networks(), 1..3), any::<bool>()).prop_map(|(tcp, networks, admins)| Keep {
        tcp,
        from: admins
            .then(|| GroupOrNetwork::Group("admins".to_owned()))
            .into_iter()
            .chain(networks.into_iter().map(GroupOrNetwork::Network))
            .collect(),
    })
}

/// A sound slice for one selector.
pub(crate) fn slice(of: &'static str) -> impl Strategy<Value = Slice> {
    let default = select(vec![Verdict::Allow, Verdict::Deny]);
    let (inbound, outbound) = (vec(rules("in.yaml"), 0..5), vec(rules("out.yaml"), 0..5));
    (inbound, outbound, default, vec(keeps(), 0..2)).prop_map(move |(inbound, outbound, default, keep)| {
        let mut slice = Slice::new(selector(of));
        slice.inbound = inbound;
        slice.outbound = outbound;
        slice.outbound_default = default;
        slice.keep = keep;
        let names: Vec<_> = slice.named_groups().map(str::to_owned).collect();
        slice.groups = groups()
            .into_iter()
            .filter(|(name, _)| names.contains(name))
            .collect();
        slice.check().unwrap();
        slice
    })
}

/// Sound slices for three selectors; a node labelled role=db,site=home is meant by all of them.
pub(crate) fn slices() -> impl Strategy<Value = Vec<Slice>> {
    (slice("all"), slice("role=db"), slice("site=home")).prop_map(|(all, db, home)| vec![all, db, home])
}

/// Members for the groups, inside and outside their bounds.
pub(crate) fn members() -> impl Strategy<Value = crate::render::AddressSets> {
    let set = || proptest::collection::btree_set(addresses(), 0..12);
    (set(), set()).prop_map(|(db, web)| {
        [
            (members_of("role=db on ens*,eth0"), db),
            (members_of("role=web"), web),
        ]
        .into()
    })
}

/// Flows to ports that rules may or may not name.
pub(crate) fn flows() -> impl Strategy<Value = Flow> {
    let directions = select(vec![Direction::Inbound, Direction::Outbound]);
    let protocols = select(vec![Protocol::Tcp, Protocol::Udp]);
    (directions, addresses(), protocols, 1..9_u16).prop_map(|(direction, peer, protocol, port)| Flow {
        direction,
        peer,
        protocol,
        port,
    })
}
