//! Which addresses count as a node's own: those within its join grant that no other node holds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holdfast_proto::ids::{Name, NodeId};
use holdfast_proto::v1;

use crate::claims::Claims;
use crate::registry::{Fleet, NodeRecord, NodeStatus};

/// The addresses that nodes are refused, each with the name of the node that holds it.
pub type Refusals = BTreeMap<NodeId, BTreeMap<IpAddr, Name>>;

/// Whose each address is. What lies outside a node's join grant is none of its addresses, and claims nothing.
pub(super) fn settle(fleet: &Fleet) -> Claims {
    let claims: Vec<_> = fleet
        .iter()
        .flat_map(|(id, (node, status))| {
            let claimed = status.iter().flat_map(|status| &status.claimed_since_secs);
            let bounded = claimed.filter(|(address, _)| is_granted(node, address));
            bounded.map(|(address, since)| (*id, *address, *since))
        })
        .collect();
    Claims::settle(&claims)
}

/// A node's addresses by interface: those within its join grant that no other node holds.
pub(super) fn own<'a>(
    node: &NodeRecord,
    status: Option<&'a NodeStatus>,
    claims: &Claims,
) -> Vec<(&'a str, IpAddr)> {
    let interfaces = status.into_iter().flat_map(|status| &status.inventory.interfaces);
    interfaces
        .flat_map(|interface| {
            let addresses = interface.addresses.iter();
            addresses.map(|address| (interface.name.as_str(), *address))
        })
        .filter(|(_, address)| is_granted(node, address) && claims.counts(node.id, address))
        .collect()
}

/// Whether an address lies in the networks to which the node's join grant binds it.
fn is_granted(node: &NodeRecord, address: &IpAddr) -> bool {
    node.within.is_empty() || node.within.iter().any(|network| network.contains(address))
}

/// Who is refused what, for people: a holder has a name.
pub(super) fn refusals(fleet: &Fleet, claims: &Claims) -> Refusals {
    let named = |refused: &BTreeMap<IpAddr, NodeId>| {
        let holder = |id: &NodeId| Some(fleet.get(id)?.0.name.clone());
        refused
            .iter()
            .filter_map(|(address, id)| Some((*address, holder(id)?)))
            .collect()
    };
    claims
        .refused()
        .iter()
        .map(|(node, refused)| (*node, named(refused)))
        .collect()
}

/// Says once what is refused whom from now on.
pub(super) fn warn_of_refusals(before: &Refusals, now: &Refusals) {
    for (node, refused) in now {
        let known = before.get(node);
        for (address, holder) in refused {
            if known.and_then(|known| known.get(address)) != Some(holder) {
                tracing::warn!(
                    node.id = %node,
                    %address,
                    %holder,
                    "a node claims an address of another: from it the address counts for no group"
                );
            }
        }
    }
}

/// What one node is refused, as it goes down its link and to operators.
#[must_use]
pub fn refused_on_the_wire(refused: &BTreeMap<IpAddr, Name>) -> Vec<v1::RefusedAddress> {
    let wire = refused.iter().map(|(address, holder)| v1::RefusedAddress {
        address: address.to_string(),
        holder: holder.to_string(),
    });
    wire.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    #[derive(Clone, Copy)]
    struct Known {
        name: &'static str,
        granted: &'static [&'static str],
        interfaces: &'static [(&'static str, &'static str)],
        at_secs: u64,
    }

    fn fleet(nodes: &[Known]) -> Fleet {
        let one = |known: &Known| {
            let node = NodeRecord {
                format: 1,
                id: id(known.name),
                name: known.name.parse().unwrap(),
                labels: crate::testing::labels(&[("role", "db")]),
                labels_version: 1,
                grant: [1; 16].into(),
                within: known.granted.iter().map(|net| net.parse().unwrap()).collect(),
                enrolled_secs: NOW,
                removed_secs: None,
            };
            let interfaces = known.interfaces.iter().map(|(name, address)| v1::Interface {
                name: (*name).to_owned(),
                addresses: vec![(*address).to_owned()],
            });
            let inventory = v1::Inventory {
                interfaces: interfaces.collect(),
                ..v1::Inventory::default()
            };
            let mut status = NodeStatus::new(known.at_secs);
            status.take_inventory(inventory.into(), known.at_secs);
            (node.id, (node, Some(status)))
        };
        nodes.iter().map(one).collect()
    }

    fn id(name: &str) -> NodeId {
        NodeId::of_public_key(name.as_bytes())
    }

    fn own_of(fleet: &Fleet, name: &str) -> Vec<String> {
        let (node, status) = &fleet[&id(name)];
        let own = own(node, status.as_ref(), &settle(fleet));
        own.iter()
            .map(|(interface, address)| format!("{interface} {address}"))
            .collect()
    }

    #[test]
    fn an_address_outside_its_grant_is_none_of_a_nodes_and_claims_nothing() {
        let fleet = fleet(&[
            Known {
                name: "thief",
                granted: &["10.0.1.0/24"],
                interfaces: &[("eth0", "10.0.1.1"), ("eth1", "10.0.0.1"), ("eth2", "10.0.0.2")],
                at_secs: 1,
            },
            Known {
                name: "db",
                granted: &[],
                interfaces: &[("eth0", "10.0.0.1")],
                at_secs: 2,
            },
        ]);
        assert_eq!(own_of(&fleet, "thief"), ["eth0 10.0.1.1"]);
        assert_eq!(own_of(&fleet, "db"), ["eth0 10.0.0.1"]);
        assert!(refusals(&fleet, &settle(&fleet)).is_empty());
    }

    #[test]
    fn an_address_on_a_container_bridge_is_nobodys_until_a_node_claims_it() {
        let bridge = Known {
            name: "web",
            granted: &[],
            interfaces: &[("docker0", "10.0.0.1")],
            at_secs: 1,
        };
        let twin = Known {
            name: "twin",
            ..bridge
        };
        let bridges = fleet(&[bridge, twin]);
        assert_eq!(own_of(&bridges, "web"), ["docker0 10.0.0.1"]);
        assert_eq!(own_of(&bridges, "twin"), ["docker0 10.0.0.1"]);

        let card = Known {
            name: "db",
            interfaces: &[("eth0", "10.0.0.1")],
            at_secs: 2,
            ..bridge
        };
        let with_card = fleet(&[bridge, card]);
        assert!(own_of(&with_card, "web").is_empty());
        assert_eq!(own_of(&with_card, "db"), ["eth0 10.0.0.1"]);
        // The bridge claimed nothing, so nothing is refused: every machine with Docker would be told.
        assert!(refusals(&with_card, &settle(&with_card)).is_empty());
    }

    #[test]
    fn the_holder_is_named_to_who_is_refused() {
        let fleet = fleet(&[
            Known {
                name: "db",
                granted: &[],
                interfaces: &[("eth0", "10.0.0.1")],
                at_secs: 1,
            },
            Known {
                name: "thief",
                granted: &[],
                interfaces: &[("eth0", "10.0.0.2"), ("eth1", "::ffff:10.0.0.1")],
                at_secs: 2,
            },
        ]);
        assert_eq!(own_of(&fleet, "thief"), ["eth0 10.0.0.2"]);
        let refused = [("10.0.0.1".parse().unwrap(), "db".parse().unwrap())].into();
        assert_eq!(refusals(&fleet, &settle(&fleet)), [(id("thief"), refused)].into());
    }
}
