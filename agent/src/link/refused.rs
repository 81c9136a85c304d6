//! Addresses of this node that a hub refuses, because another node reported them first: a word for who reads this log.

use std::net::IpAddr;

use holdfast_proto::ids::Name;
use holdfast_proto::v1;

/// As many as an inventory reports; a hub in an enemy's hand shall not fill the log.
const ADDRESSES_MAX: usize = 64;

/// Tells what a hub said; it says so when it changes.
pub(super) fn tell(refused: &v1::AddressesRefused) {
    let shown = shown(refused);
    if shown.is_empty() {
        tracing::info!("the hub refuses no address of this node any more");
    } else {
        tracing::warn!(
            addresses = shown.join(", "),
            "the hub refuses addresses of this node, for another node had them first: they count for no group. Take them \
             off this machine, or, if they are meant to float, write them into the policy as addresses"
        );
    }
}

/// Only what reads as an address and a name comes into the log.
fn shown(refused: &v1::AddressesRefused) -> Vec<String> {
    let one = |one: &v1::RefusedAddress| {
        let (address, holder) = (
            one.address.parse::<IpAddr>().ok()?,
            one.holder.parse::<Name>().ok()?,
        );
        Some(format!("{address} (of {holder})"))
    };
    refused
        .addresses
        .iter()
        .take(ADDRESSES_MAX)
        .filter_map(one)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_with_their_holders_and_nonsense_is_not() {
        let one = |address: &str, holder: &str| v1::RefusedAddress {
            address: address.to_owned(),
            holder: holder.to_owned(),
        };
        let mut addresses = vec![
            one("10.77.0.12", "db-1"),
            one("\x1b[2J", "db-1"),
            one("10.77.0.13", "a b"),
            one("fd00::1", "web-1"),
        ];
        let said = shown(&v1::AddressesRefused {
            addresses: addresses.clone(),
        });
        assert_eq!(said, ["10.77.0.12 (of db-1)", "fd00::1 (of web-1)"]);
        addresses.resize(1_000, one("10.77.0.12", "db-1"));
        assert!(shown(&v1::AddressesRefused { addresses }).len() <= ADDRESSES_MAX);
    }
}
