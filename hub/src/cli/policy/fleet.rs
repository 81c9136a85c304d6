//! What a policy comes to on each node: its changes, and what it would cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use holdfast_policy::lockout::{self, Lockout, NodeFacts};
use holdfast_policy::plan::{self, Change};
use holdfast_policy::render::{AddressSets, DesiredState, render};
use holdfast_policy::slice::{Members, Slice};
use holdfast_proto::ids::Generation;
use holdfast_proto::labels::Labels;
use holdfast_proto::v1;

use crate::cli::output;
use crate::members::{self, Candidate};

/// What would change on one node.
#[derive(Debug)]
pub(super) struct NodePlan {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) connected: bool,
    /// Whether any slice is for it.
    pub(super) selected: bool,
    pub(super) changes: Vec<Change>,
    pub(super) lockouts: Vec<Lockout>,
    /// Its keep checks, and who would witness them.
    pub(super) keeps: Vec<String>,
}

/// A node with what matters here read out of its record.
struct Known<'a> {
    node: &'a v1::Node,
    labels: Labels,
    addresses: Vec<(&'a str, IpAddr)>,
}

/// What every node would go through, from the release that is in force there, whose slices are in `held`, to `wanted`.
pub(super) fn plan(
    nodes: &[v1::Node],
    held: &BTreeMap<Generation, Vec<Slice>>,
    wanted: &[Slice],
    hubs: &[(IpAddr, u16)],
) -> anyhow::Result<Vec<NodePlan>> {
    let known: Vec<Known<'_>> = nodes.iter().map(read).collect::<anyhow::Result<_>>()?;
    let fleet: Vec<_> = known
        .iter()
        .map(|node| Candidate {
            labels: &node.labels,
            addresses: &node.addresses,
        })
        .collect();
    let asked: BTreeSet<Members> = held
        .values()
        .flatten()
        .chain(wanted)
        .flat_map(Slice::members)
        .cloned()
        .collect();
    let members = members::resolve(asked, &fleet);
    known
        .iter()
        .map(|node| plan_one(node, &known, held, wanted, &members, hubs))
        .collect()
}

fn read(node: &v1::Node) -> anyhow::Result<Known<'_>> {
    let inventory = node.inventory.as_ref();
    let interfaces = inventory.into_iter().flat_map(|inventory| &inventory.interfaces);
    let addresses = interfaces.flat_map(|interface| {
        let name = interface.name.as_str();
        let addresses = interface.addresses.iter();
        addresses.filter_map(move |address| Some((name, address.parse().ok()?)))
    });
    let refused: Vec<IpAddr> = node
        .refused_addresses
        .iter()
        .filter_map(|refused| refused.address.parse().ok())
        .collect();
    Ok(Known {
        node,
        labels: Labels::try_from(node.labels.clone())?,
        addresses: addresses
            .filter(|(_, address)| !refused.contains(address))
            .collect(),
    })
}

fn plan_one(
    known: &Known<'_>,
    fleet: &[Known<'_>],
    held: &BTreeMap<Generation, Vec<Slice>>,
    wanted: &[Slice],
    members: &AddressSets,
    hubs: &[(IpAddr, u16)],
) -> anyhow::Result<NodePlan> {
    let state = |slices: &[Slice]| -> anyhow::Result<DesiredState> {
        let mine: Vec<_> = slices
            .iter()
            .filter(|slice| slice.selector().matches(&known.labels))
            .cloned()
            .collect();
        Ok(render(&mine, members)?)
    };
    let in_force = known
        .node
        .confirmed
        .and_then(|generation| held.get(&generation.into()));
    let (old, new) = (state(in_force.map_or(&[], Vec::as_slice))?, state(wanted)?);
    Ok(NodePlan {
        id: known.node.id.clone(),
        name: known.node.name.clone(),
        labels: known.labels.clone(),
        connected: known.node.connected,
        selected: new != DesiredState::default(),
        changes: plan::diff(&old, &new),
        lockouts: lockout::find(&new, &facts(known.node, hubs)),
        keeps: new
            .keeps
            .iter()
            .map(|keep| describe_keep(keep, known, fleet))
            .collect(),
    })
}

fn describe_keep(
    keep: &holdfast_policy::render::RenderedKeep,
    known: &Known<'_>,
    fleet: &[Known<'_>],
) -> String {
    let fits = |other: &&Known<'_>| {
        let address = other.node.address.parse::<IpAddr>().ok();
        let inside =
            address.is_some_and(|address| keep.from.iter().any(|network| network.contains(&address)));
        other.node.connected && other.node.id != known.node.id && inside
    };
    let from: Vec<_> = keep.from.iter().map(ToString::to_string).collect();
    let witness = fleet.iter().find(fits).map_or_else(
        || "the hub if its address fits, else unwitnessed".to_owned(),
        |witness| {
            format!(
                "the hub if its address fits, else {}",
                output::clean(&witness.node.name)
            )
        },
    );
    format!("tcp {} from {} (witness: {witness})", keep.tcp, from.join(", "))
}

fn facts(node: &v1::Node, hubs: &[(IpAddr, u16)]) -> NodeFacts {
    // What a node said before it went down is old: an ssh session of then must not hold a policy up for ever.
    let inventory = node
        .inventory
        .clone()
        .filter(|_| node.connected)
        .unwrap_or_default();
    let port = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0);
    NodeFacts {
        ssh_ports: inventory
            .listening_ssh_ports
            .iter()
            .filter_map(|p| port(*p))
            .collect(),
        ssh_peers: inventory
            .ssh_peers
            .iter()
            .filter_map(|peer| Some((peer.address.parse().ok()?, port(peer.local_port)?)))
            .collect(),
        hubs: hubs.to_vec(),
    }
}

/// The addresses behind the hubs' names, as this machine resolves them. A name that does not resolve here is left to the
/// guard.
pub(super) async fn hub_addresses(hubs: &[String]) -> Vec<(IpAddr, u16)> {
    let mut addresses = BTreeMap::new();
    for hub in hubs {
        if let Ok(found) = tokio::net::lookup_host(hub).await {
            addresses.extend(found.map(|address| ((address.ip().to_canonical(), address.port()), ())));
        }
    }
    addresses.into_keys().collect()
}
