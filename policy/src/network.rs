//! Networks as people write them: a bare address or a CIDR without host bits.
//!
//! Reads texts strictly (std's address parser: no leading zeros), and owns how a network is shown and how lists of
//! them are brought into one form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text or a network cannot stand in a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Neither an address nor a CIDR.
    #[error("'{0}' is no address and no network")]
    Syntax(String),
    /// The address has bits beyond the prefix.
    #[error("network '{written}' has host bits set")]
    HostBits {
        /// What was written.
        written: String,
        /// The network that contains it.
        network: IpNet,
    },
    /// An IPv4 address in IPv6 clothes: packets never carry it, so that the rule would match nothing.
    #[error("'{written}' is an IPv4 address mapped into IPv6, which no packet carries")]
    Mapped {
        /// What was written.
        written: String,
        /// The same as IPv4.
        network: IpNet,
    },
}

impl InvalidNetwork {
    /// What to write instead.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Syntax(_) => {
                "write an address such as 10.77.0.1, or a network such as 10.77.0.0/24".to_owned()
            }
            Self::HostBits { written, network } => {
                let address = written.split('/').next().unwrap_or(written);
                format!("write {network} for the network, or {address} for the one address")
            }
            Self::Mapped { network, .. } => format!("write {}", shown(network)),
        }
    }
}

/// Reads a bare address (as a /32 or /128) or a CIDR.
pub(crate) fn parse(text: &str) -> Result<IpNet, InvalidNetwork> {
    let syntax = || InvalidNetwork::Syntax(text.chars().take(80).collect());
    let network = match text.split_once('/') {
        None => IpNet::from(text.parse::<IpAddr>().map_err(|_| syntax())?),
        Some((address, prefix)) => {
            let address = address.parse::<IpAddr>().map_err(|_| syntax())?;
            // u8's parser takes "+8" and "08", which are second spellings.
            let prefix = prefix.parse::<u8>().ok().filter(|n| n.to_string() == prefix);
            IpNet::new(address, prefix.ok_or_else(syntax)?).map_err(|_| syntax())?
        }
    };
    check(&network)?;
    Ok(network)
}

/// Refuses what can match no packet, or would match more than it shows.
pub(crate) fn check(network: &IpNet) -> Result<(), InvalidNetwork> {
    if let IpNet::V6(six) = network
        && six.prefix_len() >= 96
        && let Some(four) = six.addr().to_ipv4_mapped()
    {
        let network =
            Ipv4Net::new(four, six.prefix_len() - 96).map_or_else(|_| four.into(), |net| net.trunc());
        return Err(InvalidNetwork::Mapped {
            written: shown(&IpNet::V6(*six)),
            network: network.into(),
        });
    }
    if *network != network.trunc() {
        return Err(InvalidNetwork::HostBits {
            written: network.to_string(),
            network: network.trunc(),
        });
    }
    Ok(())
}

/// Whether `text` is meant as an address, not as a group's name: names begin with a letter and have no ':' or '/'.
pub(crate) fn looks_like_one(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) || text.contains([':', '/'])
}

/// The network's text; a single address without its /32 or /128.
pub(crate) fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// The fewest networks that cover the same addresses, sorted, IPv4 before IPv6: equal sets get equal lists.
pub(crate) fn aggregate(networks: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    IpNet::aggregate(&networks.into_iter().collect())
}

/// Every address there is.
pub(crate) fn everywhere() -> [IpNet; 2] {
    [
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    ]
}

/// Whether one of `networks` contains all of `part`. With an aggregated list this is the same as "together they do".
pub(crate) fn cover(networks: &[IpNet], part: &IpNet) -> bool {
    networks.iter().any(|network| network.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{addresses, net, networks};
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn addresses_and_networks_are_read() {
        for (text, read) in [
            ("10.77.0.1", "10.77.0.1/32"),
            ("10.77.0.0/24", "10.77.0.0/24"),
            ("fd00::1", "fd00::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), read);
        }
    }

    #[test]
    fn a_network_with_host_bits_is_answered_with_the_right_one() {
        let error = parse("10.77.0.9/24").unwrap_err();
        assert_eq!(error.to_string(), "network '10.77.0.9/24' has host bits set");
        assert_eq!(
            error.help(),
            "write 10.77.0.0/24 for the network, or 10.77.0.9 for the one address"
        );
    }

    #[test]
    fn ipv4_in_ipv6_is_answered_with_ipv4() {
        assert_eq!(parse("::ffff:10.0.0.1").unwrap_err().help(), "write 10.0.0.1");
        assert_eq!(
            parse("::ffff:10.0.0.0/104").unwrap_err().help(),
            "write 10.0.0.0/8"
        );
    }

    #[test]
    fn second_spellings_and_nonsense_are_refused() {
        for bad in [
            "",
            "10",
            "10.0.0.01",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "web/24",
            "fe80::1%eth0",
        ] {
            assert!(matches!(parse(bad), Err(InvalidNetwork::Syntax(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let _ = parse(&text).map_err(|error| error.help());
        }

        #[test]
        fn aggregates_hold_the_same_addresses(networks in vec(networks(), 0..8), address in addresses()) {
            let aggregated = aggregate(networks.clone());
            let holds = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(holds(&networks), holds(&aggregated));
            prop_assert!(networks.iter().all(|network| cover(&aggregated, network)));
            prop_assert!(aggregated.is_sorted());
        }
    }

    #[test]
    fn everywhere_covers_both_families() {
        assert!(
            ["10.0.0.1", "fd00::/8", "0.0.0.0/0"]
                .iter()
                .all(|text| cover(&everywhere(), &net(text)))
        );
    }
}
