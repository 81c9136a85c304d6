//! Who is in a selector group, by the labels and addresses that are known of nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use holdfast_policy::render::AddressSets;
use holdfast_policy::selector::Selector;
use holdfast_proto::labels::Labels;

/// What is known of a node that may be in a group.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
}

/// The addresses of the nodes that each selector matches.
#[must_use]
pub fn resolve<'a>(selectors: BTreeSet<Selector>, fleet: &[Member<'a>]) -> AddressSets {
    let members = |selector: &Selector| {
        let nodes = fleet.iter().filter(|node| selector.matches(node.labels));
        nodes
            .flat_map(|node| node.addresses.iter().copied())
            .collect::<BTreeSet<_>>()
    };
    selectors
        .into_iter()
        .map(|selector| (selector.clone(), members(&selector)))
        .collect()
}
