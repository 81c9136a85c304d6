//! Lockouts: what a desired state would cut that an operator or the hub needs.
//!
//! Computed from the rules and what the node reported, before anything is sent; the guard on the node is the net below.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::firewall::{Direction, Firewall, Flow, Protocol, Rule, Verdict};
use crate::network::{self, shown};
use crate::render::DesiredState;

/// What a node reported of the ways into and out of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// The ports on which sshd listens.
    pub ssh_ports: Vec<u16>,
    /// Open ssh sessions: the other end, and the port here.
    pub ssh_peers: Vec<(IpAddr, u16)>,
    /// The addresses at which the node reaches its hubs.
    pub hubs: Vec<(IpAddr, u16)>,
}

/// A way that would be cut, by the origin of a deny rule or, if none, by the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lockout {
    /// An operator who is logged in could not come back.
    SshPeer {
        /// Where the session comes from.
        peer: IpAddr,
        /// The port it came to.
        port: u16,
        /// What denies it.
        by: Option<String>,
    },
    /// sshd listens, and nobody at all could reach it.
    SshPort {
        /// The port.
        port: u16,
    },
    /// The node could not reach its hub, and the guard would undo the change.
    Hub {
        /// The hub's address.
        address: IpAddr,
        /// The hub's port.
        port: u16,
        /// What denies it.
        by: Option<String>,
    },
    /// The policy wants a port kept reachable that its own rules close.
    Keep {
        /// The port.
        port: u16,
        /// From where it should be reachable.
        from: IpNet,
        /// What denies it.
        by: Option<String>,
    },
}

/// Every way that `state` would cut on a node with these facts.
#[must_use]
pub fn find(state: &DesiredState, facts: &NodeFacts) -> Vec<Lockout> {
    let Some(firewall) = &state.firewall else {
        return Vec::new();
    };
    let peers = facts.ssh_peers.iter().filter_map(|&(peer, port)| {
        cut(firewall, Direction::Inbound, peer, port).map(|by| Lockout::SshPeer { peer, port, by })
    });
    let ports = facts
        .ssh_ports
        .iter()
        .filter(|&&port| is_closed(firewall, port))
        .map(|&port| Lockout::SshPort { port });
    let hubs = facts.hubs.iter().filter_map(|&(address, port)| {
        cut(firewall, Direction::Outbound, address, port).map(|by| Lockout::Hub { address, port, by })
    });
    let keeps = state.keeps.iter().flat_map(|keep| {
        let from = keep.from.iter();
        from.filter_map(|&from| {
            closed_to(firewall, keep.tcp, from).map(|by| Lockout::Keep {
                port: keep.tcp,
                from,
                by,
            })
        })
    });
    peers.chain(ports).chain(hubs).chain(keeps).collect()
}

/// What cuts the flow: `Some(None)` is the default.
fn cut(firewall: &Firewall, direction: Direction, peer: IpAddr, port: u16) -> Option<Option<String>> {
    let judged = firewall.judge(&Flow {
        direction,
        peer,
        protocol: Protocol::Tcp,
        port,
    });
    (judged.verdict == Verdict::Deny).then(|| judged.by.map(str::to_owned))
}

/// Whether no address could open a connection to `port`.
fn is_closed(firewall: &Firewall, port: u16) -> bool {
    let denied = reach(firewall, Verdict::Deny, port);
    reach(firewall, Verdict::Allow, port)
        .iter()
        .all(|open| network::cover(&denied, open))
}

/// What keeps part of `from` out of `port`; a deny of only some of its addresses is the operator's exception.
fn closed_to(firewall: &Firewall, port: u16, from: IpNet) -> Option<Option<String>> {
    let denies = |rule: &&Rule| network::cover(&network::aggregate(firewall.networks(&rule.peers)), &from);
    if let Some(rule) = inbound(firewall, Verdict::Deny, port).find(denies) {
        return Some(Some(rule.origin.clone()));
    }
    (!network::cover(&reach(firewall, Verdict::Allow, port), &from)).then_some(None)
}

fn inbound(firewall: &Firewall, verdict: Verdict, port: u16) -> impl Iterator<Item = &Rule> {
    let rules = firewall.inbound.iter();
    rules.filter(move |rule| rule.verdict == verdict && rule.covers(Protocol::Tcp, port))
}

/// The addresses of which inbound rules of this verdict speak for `port`, aggregated.
fn reach(firewall: &Firewall, verdict: Verdict, port: u16) -> Vec<IpNet> {
    network::aggregate(inbound(firewall, verdict, port).flat_map(|rule| firewall.networks(&rule.peers)))
}

impl fmt::Display for Lockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SshPeer { peer, port, by } => {
                write!(
                    f,
                    "ssh from {peer} to port {port}, open now, could not be opened again: {}; ",
                    Cause(by)
                )?;
                write_mend(
                    f,
                    by,
                    &format!("`allow: {{ tcp: [{port}], from: [{peer}] }}` under `inbound`"),
                )
            }
            Self::SshPort { port } => write!(
                f,
                "sshd listens on port {port} and nobody could reach it; \
                 add `allow: {{ tcp: [{port}], from: [<your network>] }}` under `inbound`"
            ),
            Self::Hub { address, port, by } => {
                write!(
                    f,
                    "the way to the hub at {address} port {port} would be cut: {}; ",
                    Cause(by)
                )?;
                write_mend(
                    f,
                    by,
                    &format!("`allow: {{ tcp: [{port}], to: [{address}] }}` under `outbound`"),
                )
            }
            Self::Keep { port, from, by } => {
                let from = shown(from);
                write!(
                    f,
                    "the policy keeps tcp {port} from {from}, but its own rules close it: {}; ",
                    Cause(by)
                )?;
                write_mend(
                    f,
                    by,
                    &format!("`allow: {{ tcp: [{port}], from: [{from}] }}` under `inbound`"),
                )
            }
        }
    }
}

/// What decided, in words.
struct Cause<'a>(&'a Option<String>);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(origin) => write!(f, "denied by the rule at {origin}"),
            None => f.write_str("no rule allows it and the default denies"),
        }
    }
}

fn write_mend(f: &mut fmt::Formatter<'_>, by: &Option<String>, allow: &str) -> fmt::Result {
    match by {
        Some(origin) => write!(f, "narrow or remove that rule ({origin}); a deny always wins"),
        None => write!(f, "add {allow}"),
    }
}

#[cfg(test)]
mod tests;
