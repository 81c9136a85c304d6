//! The firewall as a desired state: what a node's slices come to, with every group resolved to addresses.
//!
//! Order of judgement, for both directions: loopback; deny rules; established flows; what a host cannot live without
//! (ICMP errors and echo, neighbour discovery, DHCP replies); allow rules; the default. A deny therefore always wins,
//! also over flows that are already open. Inbound is denied by default; outbound is allowed unless said otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::network;

/// The firewall of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// Groups that rules name, resolved: aggregated networks, sorted; IPv4 before IPv6. An empty one matches nothing.
    pub groups: BTreeMap<String, Vec<IpNet>>,
    /// Rules for flows that come in, in the policy's order.
    pub inbound: Vec<Rule>,
    /// Rules for flows that go out, in the policy's order.
    pub outbound: Vec<Rule>,
    /// What becomes of an outbound flow that no rule names.
    pub outbound_default: Verdict,
}

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes our table; another table may still drop it.
    Allow,
    /// It is dropped.
    Deny,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it decides.
    pub verdict: Verdict,
    /// The other end.
    pub peers: Peers,
    /// Which services at the receiving end; empty: every protocol and port.
    pub services: Vec<Service>,
    /// Where it stands in the policy, such as `web.yaml:12`; shown in plans and in the rule's nft comment.
    pub origin: String,
}

/// The other end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Peers {
    /// Anyone.
    Any,
    /// Members of any of these groups or networks; nobody, if both are empty.
    These {
        /// Names of groups, each in [`Firewall::groups`].
        groups: Vec<String>,
        /// Literal networks; a single address is a /32 or /128.
        networks: Vec<IpNet>,
    },
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A range of ports of one protocol, both ends included; `first <= last`, `first >= 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

/// Which way a new flow is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer opens it to this node.
    Inbound,
    /// This node opens it to the peer.
    Outbound,
}

/// A flow that somebody would open anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub direction: Direction,
    /// The other end's address.
    pub peer: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at the receiving end.
    pub port: u16,
}

/// What the firewall makes of a flow, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Whether it passes.
    pub verdict: Verdict,
    /// The origin of the rule that decided; none when the default did, or the flow never leaves the machine.
    pub by: Option<&'a str>,
}

impl Firewall {
    /// What becomes of a flow that is opened anew: the rules alone, without what a host cannot live without.
    ///
    /// A flow to one of the node's own addresses runs over loopback, too; only 127.0.0.0/8 and ::1 are known as such here.
    #[must_use]
    pub fn judge(&self, flow: &Flow) -> Judgement<'_> {
        // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d; their packets are IPv4.
        let peer = flow.peer.to_canonical();
        if peer.is_loopback() {
            return Judgement {
                verdict: Verdict::Allow,
                by: None,
            };
        }
        let (rules, default) = match flow.direction {
            Direction::Inbound => (&self.inbound, Verdict::Deny),
            Direction::Outbound => (&self.outbound, self.outbound_default),
        };
        let matching = |verdict| {
            rules.iter().find(|rule| {
                rule.verdict == verdict
                    && rule.covers(flow.protocol, flow.port)
                    && self
                        .networks(&rule.peers)
                        .iter()
                        .any(|network| network.contains(&peer))
            })
        };
        let decided = matching(Verdict::Deny).or_else(|| matching(Verdict::Allow));
        Judgement {
            verdict: decided.map_or(default, |rule| rule.verdict),
            by: decided.map(|rule| rule.origin.as_str()),
        }
    }

    /// The networks that `peers` come to; a group that is not there has no members.
    pub(crate) fn networks(&self, peers: &Peers) -> Vec<IpNet> {
        match peers {
            Peers::Any => network::everywhere().to_vec(),
            Peers::These { groups, networks } => groups
                .iter()
                .filter_map(|name| self.groups.get(name))
                .flatten()
                .chain(networks)
                .copied()
                .collect(),
        }
    }
}

impl Rule {
    /// Whether the rule speaks of this service.
    pub(crate) fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.services.is_empty()
            || self
                .services
                .iter()
                .any(|service| service.protocol == protocol && (service.first..=service.last).contains(&port))
    }
}

#[cfg(test)]
mod tests;
