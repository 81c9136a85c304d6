//! Lockouts: what a desired state would cut that an operator or the hub needs.
//!
//! Computed from the rules and what the node reported, before anything is sent; the guard on the node is the net below.
//! Who is in a group that follows the inventory changes without a signature and without a guard, so that no such group may
//! carry a keep or the way to the hub: both are judged as if these groups were empty.

use std::collections::BTreeSet;
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

/// A way that would be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lockout {
    /// An operator who is logged in could not come back.
    SshPeer {
        /// Where the session comes from.
        peer: IpAddr,
        /// The port it came to.
        port: u16,
        /// What denies it.
        by: Cause,
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
        by: Cause,
    },
    /// The policy wants a port kept reachable that its own rules close.
    Keep {
        /// The port.
        port: u16,
        /// From where it should be reachable.
        from: IpNet,
        /// What denies it.
        by: Cause,
    },
}

/// What denies a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The deny rule with this origin.
    Rule(String),
    /// The default, as no rule allows the flow.
    Default,
    /// The default, as soon as a group that follows the inventory changes: no other rule allows the flow.
    Moving,
}

/// Every way that `state` would cut on a node with these facts.
#[must_use]
pub fn find(state: &DesiredState, facts: &NodeFacts) -> Vec<Lockout> {
    let Some(firewall) = &state.firewall else {
        return Vec::new();
    };
    let lasting = &lasting(firewall, &state.moving);
    let peers = facts.ssh_peers.iter().filter_map(|&(peer, port)| {
        let by = cut(firewall, Direction::Inbound, peer, port)?;
        Some(Lockout::SshPeer { peer, port, by })
    });
    let closed = facts.ssh_ports.iter().filter(|&&port| is_closed(firewall, port));
    let ports = closed.map(|&port| Lockout::SshPort { port });
    let hubs = facts.hubs.iter().filter_map(|&(address, port)| {
        let by = cut(lasting, Direction::Outbound, address, port)?;
        let open_now = cut(firewall, Direction::Outbound, address, port).is_none();
        let by = if open_now { Cause::Moving } else { by };
        Some(Lockout::Hub { address, port, by })
    });
    let wanted = state
        .keeps
        .iter()
        .flat_map(|keep| keep.from.iter().map(|&from| (keep.tcp, from)));
    let keeps = wanted.filter_map(|(port, from)| {
        let by = cut_off(lasting, port, from)?;
        let open_now = cut_off(firewall, port, from).is_none();
        let by = if open_now { Cause::Moving } else { by };
        Some(Lockout::Keep { port, from, by })
    });
    peers.chain(ports).chain(hubs).chain(keeps).collect()
}

/// What of the firewall lasts whoever is in the `moving` groups. Only allow rules name groups, so this lets less pass.
fn lasting(firewall: &Firewall, moving: &BTreeSet<String>) -> Firewall {
    let mut lasting = firewall.clone();
    lasting.groups.retain(|name, _| !moving.contains(name));
    lasting
}

/// What denies the flow, if anything does.
fn cut(firewall: &Firewall, direction: Direction, peer: IpAddr, port: u16) -> Option<Cause> {
    let judged = firewall.judge(&Flow {
        direction,
        peer,
        protocol: Protocol::Tcp,
        port,
    });
    match judged.verdict {
        Verdict::Allow => None,
        Verdict::Deny => Some(
            judged
                .by
                .map_or(Cause::Default, |origin| Cause::Rule(origin.to_owned())),
        ),
    }
}

/// Whether no address could open a connection to `port`.
fn is_closed(firewall: &Firewall, port: u16) -> bool {
    let denied = reach(firewall, Verdict::Deny, port);
    reach(firewall, Verdict::Allow, port)
        .iter()
        .all(|open| network::cover(&denied, open))
}

/// What keeps `from` out of `port`. A deny of only some of its addresses is the operator's exception; an allow of only
/// some is not what the keep asks for.
fn cut_off(firewall: &Firewall, port: u16, from: IpNet) -> Option<Cause> {
    if network::cover(&reach(firewall, Verdict::Deny, port), &from) {
        let meets = |network: &IpNet| network.contains(&from) || from.contains(network);
        let mut denies = inbound(firewall, Verdict::Deny, port);
        return denies
            .find(|rule| firewall.networks(&rule.peers).iter().any(meets))
            .map(|rule| Cause::Rule(rule.origin.clone()));
    }
    let allowed = network::cover(&reach(firewall, Verdict::Allow, port), &from);
    (!allowed).then_some(Cause::Default)
}

fn inbound(firewall: &Firewall, verdict: Verdict, port: u16) -> impl Iterator<Item = &Rule> {
    let rules = firewall.inbound.iter();
    rules.filter(move |rule| rule.verdict == verdict && rule.covers(Protocol::Tcp, port))
}

/// The addresses of which inbound rules of this verdict speak for `port`, aggregated.
fn reach(firewall: &Firewall, verdict: Verdict, port: u16) -> Vec<IpNet> {
    network::aggregate(inbound(firewall, verdict, port).flat_map(|rule| firewall.networks(&rule.peers)))
}

impl Cause {
    /// What to do about it, where `allow` is the rule that is missing.
    fn mend(&self, allow: &str) -> String {
        match self {
            Self::Rule(origin) => format!("narrow or remove that rule ({origin}); a deny always wins"),
            Self::Default | Self::Moving => format!("add {allow}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(origin) => write!(f, "denied by the rule at {origin}"),
            Self::Default => f.write_str("no rule allows it and the default denies"),
            Self::Moving => {
                f.write_str("no rule allows it but one for a group whose members change without a release")
            }
        }
    }
}

impl fmt::Display for Lockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inbound =
            |port: &u16, from: &str| format!("`allow: {{ tcp: [{port}], from: [{from}] }}` under `inbound`");
        match self {
            Self::SshPeer { peer, port, by } => {
                let mend = by.mend(&inbound(port, &peer.to_string()));
                write!(
                    f,
                    "ssh from {peer} to port {port}, open now, could not be opened again: {by}; {mend}"
                )
            }
            Self::SshPort { port } => {
                let allow = inbound(port, "<your network>");
                write!(
                    f,
                    "sshd listens on port {port} and nobody could reach it; add {allow}"
                )
            }
            Self::Hub { address, port, by } => {
                let allow = format!("`allow: {{ tcp: [{port}], to: [{address}] }}` under `outbound`");
                let mend = by.mend(&allow);
                write!(
                    f,
                    "the way to the hub at {address} port {port} would be cut: {by}; {mend}"
                )
            }
            Self::Keep { port, from, by } => {
                let from = shown(from);
                let mend = by.mend(&inbound(port, &from));
                write!(
                    f,
                    "the policy keeps tcp {port} from {from}, but its own rules close it: {by}; {mend}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
