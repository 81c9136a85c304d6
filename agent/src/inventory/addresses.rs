//! The addresses of all interfaces, from the kernel's own tables: `/proc/net/fib_trie` and `/proc/net/if_inet6`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HostRoot;

/// All but loopback and link-local ones, IPv4 first, ascending.
pub(super) fn all(root: &HostRoot) -> BTreeSet<IpAddr> {
    let mut found = v4(root.lines("proc/net/fib_trie"));
    found.extend(v6(root.lines("proc/net/if_inet6")));
    found
}

/// A local address stands on a line of its own (`|-- 192.0.2.2`), and the next one says `/32 host LOCAL`.
fn v4(fib_trie: impl Iterator<Item = String>) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut before = String::new();
    for line in fib_trie {
        let address = before
            .trim()
            .strip_prefix("|-- ")
            .and_then(|address| address.parse::<Ipv4Addr>().ok());
        if let Some(address) = address
            && line.trim() == "/32 host LOCAL"
            && !address.is_loopback()
            && !address.is_link_local()
        {
            found.insert(address.into());
        }
        before = line;
    }
    found
}

/// Each line begins with 32 hex digits.
fn v6(if_inet6: impl Iterator<Item = String>) -> BTreeSet<IpAddr> {
    if_inet6
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from)
        .filter(|address| !address.is_loopback() && !address.is_unicast_link_local())
        .map(IpAddr::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ipv4_addresses_are_found_once_and_no_others() {
        let fib_trie = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     |-- 169.254.7.7
        /32 host LOCAL
Local:
           |-- 192.0.2.2
              /32 host LOCAL
";
        assert_eq!(
            v4(fib_trie.lines().map(str::to_owned)),
            BTreeSet::from(["192.0.2.2".parse().unwrap()])
        );
    }

    #[test]
    fn global_and_unique_local_ipv6_addresses_are_found() {
        let if_inet6 = "fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
";
        assert_eq!(
            v6(if_inet6.lines().map(str::to_owned)),
            BTreeSet::from(["fd00::2".parse().unwrap()])
        );
    }
}
