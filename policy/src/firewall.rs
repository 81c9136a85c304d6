//! The firewall as a desired state: what a node's slices come to, with every group resolved to addresses.
//!
//! Order of judgement, for both directions: loopback; deny rules; established flows; what a host cannot live without
//! (ICMP errors and echo, neighbour discovery, DHCP replies); allow rules; the default. A deny therefore always wins,
//! also over flows that are already open. Inbound is denied by default; outbound is allowed unless said otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
