//! The network interfaces of this machine that have an address, by the crate sysinfo.
//!
//! All of them, container bridges too: which ones count for a group is the policy's to say. sysinfo takes the names from
//! /sys and the addresses from the kernel: both are those of the agent's own network as long as /sys was mounted in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holdfast_policy::interface::is_left_out;
use holdfast_proto::v1;
use sysinfo::Networks;

/// More interfaces and addresses than these are containers'; the hub has no use for them.
const INTERFACES_MAX: usize = 64;
const ADDRESSES_MAX: usize = 64;

/// Reads them, as an inventory reports them. Nothing, where the system does not say.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "`reported` brings them into order")]
pub fn read() -> Vec<v1::Interface> {
    let Ok(networks) = Networks::new_with_refreshed_list() else {
        return Vec::new();
    };
    reported(networks.iter().map(|(name, data)| {
        // A name is bytes; one that is no text cannot be named by a policy either.
        let addresses = data.ip_networks().iter().map(|network| network.addr);
        (name.to_string_lossy().into_owned(), addresses.collect())
    }))
}

/// Whether an interface of this machine has this address, whichever it is. Where the system does not say, so it is taken.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the order makes no difference")]
pub fn have(address: IpAddr) -> bool {
    let Ok(networks) = Networks::new_with_refreshed_list() else {
        return true;
    };
    let mut held = networks.values().flat_map(|data| data.ip_networks());
    held.any(|network| network.addr == address)
}

/// What is reported of these interfaces: those with an address that others can use, sorted by name, bounded.
fn reported(found: impl IntoIterator<Item = (String, Vec<IpAddr>)>) -> Vec<v1::Interface> {
    let mut sorted: Vec<_> = found
        .into_iter()
        .filter_map(|(name, mut addresses)| {
            addresses.retain(is_usable);
            addresses.sort_unstable();
            addresses.dedup();
            (!addresses.is_empty()).then_some((is_left_out(&name), name, addresses))
        })
        .collect();
    // On a machine full of containers it is their bridges that do not fit.
    sorted.sort_unstable();
    let mut room = ADDRESSES_MAX;
    let fitting = sorted
        .into_iter()
        .take(INTERFACES_MAX)
        .map(|(_, name, mut addresses)| {
            addresses.truncate(room);
            room -= addresses.len();
            (name, addresses)
        });
    let by_name: BTreeMap<_, _> = fitting.filter(|(_, addresses)| !addresses.is_empty()).collect();
    by_name
        .into_iter()
        .map(|(name, addresses)| v1::Interface {
            name,
            addresses: addresses.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

/// Neither the machine's own nor a wire's own.
fn is_usable(address: &IpAddr) -> bool {
    let of_a_wire = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !of_a_wire && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(found: &[(&str, &[&str])]) -> Vec<String> {
        let found = found.iter().map(|(name, addresses)| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            ((*name).to_owned(), addresses)
        });
        let line =
            |interface: &v1::Interface| format!("{} {}", interface.name, interface.addresses.join(" "));
        reported(found).iter().map(line).collect()
    }

    #[test]
    fn interfaces_are_sorted_with_the_addresses_that_others_can_use() {
        let found: [(&str, &[&str]); 6] = [
            ("lo", &["127.0.0.1", "::1", "198.51.100.1"]),
            ("eth1", &["fe80::1", "fd00::2", "10.0.0.2", "fd00::2"]),
            ("docker0", &["172.17.0.1"]),
            ("eth0", &["10.0.0.1", "169.254.7.7"]),
            ("veth1", &["fe80::2"]),
            ("eth2", &[]),
        ];
        assert_eq!(
            said(&found),
            [
                "docker0 172.17.0.1",
                "eth0 10.0.0.1",
                "eth1 10.0.0.2 fd00::2",
                "lo 198.51.100.1"
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_the_containers() {
        let bridges: Vec<_> = (0..100_u8)
            .map(|n| (format!("cni{n}"), vec![IpAddr::from([172, 17, n, 1])]))
            .collect();
        let cards = [
            ("eth0".to_owned(), vec![IpAddr::from([10, 0, 0, 1])]),
            ("zz0".to_owned(), vec![IpAddr::from([10, 0, 0, 2])]),
        ];
        let found = reported(bridges.into_iter().chain(cards));
        assert_eq!(found.len(), INTERFACES_MAX);
        let names: Vec<_> = found.iter().map(|interface| interface.name.as_str()).collect();
        assert!(names.contains(&"eth0") && names.contains(&"zz0") && names.is_sorted());

        let services: Vec<_> = (0..200_u8).map(|n| IpAddr::from([10, 96, 0, n])).collect();
        let card = vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let found = reported([("eth0".to_owned(), card), ("kube-ipvs0".to_owned(), services)]);
        assert_eq!(found[0].addresses, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(found[1].addresses.len(), ADDRESSES_MAX - 2);
    }
}
