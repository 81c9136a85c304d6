//! Address claims: whose an address is, when several nodes report it. Pure: the hub's clock and records are arguments.
//!
//! It belongs to the node that has reported it for the longest time without a break; from every other one it is refused,
//! and counts for no group. So a node that was taken cannot add a peer's address to its own interface and bring it into
//! the groups of its own labels. Interfaces of containers and guests claim nothing: their addresses repeat on every
//! machine. An address that floats between nodes belongs into a policy literally.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holdfast_policy::interface::is_left_out;
use holdfast_proto::ids::NodeId;

use crate::registry::InterfaceRecord;

/// Since when each address on `interfaces` has been claimed, in Unix seconds: what was claimed `before` keeps its time.
#[must_use]
pub fn since(
    before: &BTreeMap<IpAddr, u64>,
    interfaces: &[InterfaceRecord],
    now_secs: u64,
) -> BTreeMap<IpAddr, u64> {
    interfaces
        .iter()
        .filter(|interface| !is_left_out(&interface.name))
        .flat_map(|interface| &interface.addresses)
        .map(|address| (*address, before.get(address).copied().unwrap_or(now_secs)))
        .collect()
}

/// Who holds which address, and who is refused it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    holders: BTreeMap<IpAddr, NodeId>,
    refused: BTreeMap<NodeId, BTreeMap<IpAddr, NodeId>>,
}

impl Claims {
    /// Settles claims: a node, an address, and since when. Between two of the same second the lower id decides, so that
    /// every hub comes to the same.
    #[must_use]
    pub fn settle(claims: &[(NodeId, IpAddr, u64)]) -> Self {
        let mut first: BTreeMap<IpAddr, (u64, NodeId)> = BTreeMap::new();
        for &(node, address, since) in claims {
            let held = first.entry(address).or_insert((since, node));
            *held = (since, node).min(*held);
        }
        let holders: BTreeMap<_, _> = first
            .into_iter()
            .map(|(address, (_, node))| (address, node))
            .collect();
        let mut refused: BTreeMap<NodeId, BTreeMap<IpAddr, NodeId>> = BTreeMap::new();
        for &(node, address, _) in claims {
            if holders[&address] != node {
                refused
                    .entry(node)
                    .or_default()
                    .insert(address, holders[&address]);
            }
        }
        Self { holders, refused }
    }

    /// Whether `address`, which `node` reports, counts as its own: unless another one holds it.
    #[must_use]
    pub fn counts(&self, node: NodeId, address: &IpAddr) -> bool {
        self.holders.get(address).is_none_or(|holder| *holder == node)
    }

    /// What is refused, by the node that claims it, with the holder of each address.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<NodeId, BTreeMap<IpAddr, NodeId>> {
        &self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn node(n: u8) -> NodeId {
        NodeId::of_public_key(&[n])
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn interface(name: &str, addresses: &[u8]) -> InterfaceRecord {
        InterfaceRecord {
            name: name.to_owned(),
            addresses: addresses.iter().map(|n| address(*n)).collect(),
        }
    }

    #[test]
    fn the_first_to_report_an_address_holds_it_and_later_ones_are_refused() {
        let claims = Claims::settle(&[
            (node(1), address(1), 200),
            (node(2), address(1), 100),
            (node(3), address(1), 300),
            (node(3), address(3), 300),
        ]);
        assert!(claims.counts(node(2), &address(1)) && claims.counts(node(3), &address(3)));
        assert!(!claims.counts(node(1), &address(1)) && !claims.counts(node(3), &address(1)));
        let refused = BTreeMap::from([(address(1), node(2))]);
        assert_eq!(
            *claims.refused(),
            BTreeMap::from([(node(1), refused.clone()), (node(3), refused)])
        );
    }

    #[test]
    fn an_address_that_nobody_claims_counts_for_all_who_report_it() {
        let claims = Claims::settle(&[]);
        assert!(claims.counts(node(1), &address(1)) && claims.refused().is_empty());
    }

    #[test]
    fn a_time_lasts_while_the_address_is_reported_and_no_longer() {
        let first = since(&BTreeMap::new(), &[interface("eth0", &[1, 2])], 100);
        assert_eq!(first, [(address(1), 100), (address(2), 100)].into());
        let moved = since(&first, &[interface("eth1", &[1]), interface("eth0", &[3])], 200);
        assert_eq!(moved, [(address(1), 100), (address(3), 200)].into());
        let back = since(&moved, &[interface("eth0", &[1, 2])], 300);
        assert_eq!(back, [(address(1), 100), (address(2), 300)].into());
    }

    #[test]
    fn container_bridges_claim_nothing() {
        let found = since(
            &BTreeMap::new(),
            &[interface("docker0", &[1]), interface("br-lan", &[2])],
            100,
        );
        assert_eq!(found, [(address(2), 100)].into());
    }

    /// Few nodes, addresses and times, so that they meet; each node claims an address once.
    fn claims() -> impl Strategy<Value = Vec<(NodeId, IpAddr, u64)>> {
        let one = (0..5_u8, 0..4_u8, 0..3_u64);
        vec(one, 0..16).prop_map(|all| {
            let once: BTreeMap<_, _> = all.into_iter().map(|(n, a, since)| ((n, a), since)).collect();
            once.into_iter()
                .map(|((n, a), since)| (node(n), address(a), since))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_claimed_address_counts_for_exactly_one_and_the_rest_are_refused(all in claims()) {
            let settled = Claims::settle(&all);
            for &(_, claimed, _) in &all {
                let claimants: Vec<_> = all.iter().filter(|(_, address, _)| *address == claimed).collect();
                let holders: Vec<_> = claimants.iter().filter(|(node, ..)| settled.counts(*node, &claimed)).collect();
                prop_assert_eq!(holders.len(), 1);
                let refused = settled.refused().values().filter(|of_it| of_it.contains_key(&claimed)).count();
                prop_assert_eq!(refused, claimants.len() - 1);
                let held_since = holders[0].2;
                prop_assert!(claimants.iter().all(|(_, _, since)| held_since <= *since));
            }
        }

        #[test]
        fn the_order_of_claims_does_not_matter(all in claims(), turn in 0..16_usize) {
            let mut turned = all.clone();
            turned.rotate_left(turn.min(all.len()));
            turned.reverse();
            prop_assert_eq!(Claims::settle(&all), Claims::settle(&turned));
        }

        #[test]
        fn who_came_first_never_loses_to_a_later_one_while_it_keeps_reporting(
            looks in vec((0..5_usize, vec(0..4_u8, 0..4)), 1..20),
        ) {
            // Nodes report one after another, a second apart; node 9 was first with address 0 and never drops it.
            let mut reported: BTreeMap<NodeId, BTreeMap<IpAddr, u64>> = BTreeMap::new();
            let keeps = [interface("eth0", &[0])];
            reported.insert(node(9), since(&BTreeMap::new(), &keeps, 0));
            for (second, (who, addresses)) in (1..).zip(looks) {
                let who = node(u8::try_from(who).unwrap());
                let before = reported.remove(&who).unwrap_or_default();
                reported.insert(who, since(&before, &[interface("eth0", &addresses)], second));
                let before = reported.remove(&node(9)).unwrap_or_default();
                reported.insert(node(9), since(&before, &keeps, second));
                let all: Vec<_> = reported
                    .iter()
                    .flat_map(|(node, of_it)| of_it.iter().map(|(address, since)| (*node, *address, *since)))
                    .collect();
                prop_assert!(Claims::settle(&all).counts(node(9), &address(0)));
            }
        }
    }
}
