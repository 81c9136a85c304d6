//! Who is in a selector group, by the labels and addresses that are known of nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use holdfast_policy::render::AddressSets;
use holdfast_policy::slice::Members;
use holdfast_proto::labels::Labels;

/// What is known of a node that may be in a group.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its addresses that count, with the name of the interface that has each.
    pub addresses: &'a [(&'a str, IpAddr)],
}

/// The addresses of all `wanted` members.
#[must_use]
pub fn resolve(wanted: BTreeSet<Members>, fleet: &[Candidate<'_>]) -> AddressSets {
    let addresses = |members: &Members| {
        let nodes = fleet
            .iter()
            .filter(|node| members.selector().matches(node.labels));
        nodes
            .flat_map(|node| node.addresses)
            .filter(|(interface, _)| members.covers(interface))
            .map(|(_, address)| *address)
            .collect::<BTreeSet<_>>()
    };
    wanted
        .into_iter()
        .map(|members| {
            let addresses = addresses(&members);
            (members, addresses)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    const INTERFACES: [&str; 5] = ["eth0", "eth1", "vmbr0", "docker0", "virbr0"];

    fn labels(role: &str) -> Labels {
        let pairs = [("role".to_owned(), role.to_owned())];
        Labels::try_from(std::collections::BTreeMap::from(pairs)).unwrap()
    }

    fn members(wanted: &str, fleet: &[Candidate<'_>]) -> Vec<String> {
        let wanted: Members = wanted.parse().unwrap();
        let sets = resolve([wanted.clone()].into(), fleet);
        sets[&wanted].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_group_takes_no_container_bridge_unless_it_names_it() {
        let (db, web) = (labels("db"), labels("web"));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let of_db = [
            ("docker0", address("10.0.1.1")),
            ("eth0", address("10.0.0.1")),
            ("eth1", address("10.0.0.2")),
        ];
        let of_web = [("eth0", address("10.0.0.3"))];
        let fleet = [
            Candidate {
                labels: &db,
                addresses: &of_db,
            },
            Candidate {
                labels: &web,
                addresses: &of_web,
            },
        ];
        assert_eq!(members("role=db", &fleet), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(members("role=db on docker0", &fleet), ["10.0.1.1"]);
        assert_eq!(
            members("role=db on docker*,eth1", &fleet),
            ["10.0.0.2", "10.0.1.1"]
        );
        assert_eq!(members("all on eth0", &fleet), ["10.0.0.1", "10.0.0.3"]);
        assert!(members("role=proxy", &fleet).is_empty());
    }

    fn node() -> impl Strategy<Value = (&'static str, Vec<(&'static str, IpAddr)>)> {
        let addresses = (0..8_u8).prop_map(|n| IpAddr::from([10, 0, 0, n]));
        let on = select(INTERFACES.to_vec());
        (select(vec!["db", "web"]), vec((on, addresses), 0..6))
    }

    proptest! {
        #[test]
        fn a_member_is_an_address_of_a_matching_node_on_a_covered_interface(
            fleet in vec(node(), 0..5),
            wanted in select(vec!["all", "role=db", "role=db on eth*", "role=web on docker0", "all on *"]),
        ) {
            let labels = fleet.iter().map(|(role, _)| labels(role)).collect::<Vec<_>>();
            let candidates: Vec<_> = labels
                .iter()
                .zip(&fleet)
                .map(|(labels, (_, addresses))| Candidate { labels, addresses })
                .collect();
            let wanted: Members = wanted.parse().unwrap();
            let found = resolve([wanted.clone()].into(), &candidates);
            let is_member = |address: &IpAddr| {
                candidates.iter().any(|node| {
                    wanted.selector().matches(node.labels)
                        && node.addresses.iter().any(|(on, of_it)| of_it == address && wanted.covers(on))
                })
            };
            for n in 0..8 {
                let address = IpAddr::from([10, 0, 0, n]);
                prop_assert_eq!(found[&wanted].contains(&address), is_member(&address), "{}", address);
            }
        }
    }
}
